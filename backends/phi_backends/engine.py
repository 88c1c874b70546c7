"""The interface of an engine: the smallest that serves every runtime. One file in `engines/` implements it for each.

An engine is used from one thread. Most runtimes cannot be stopped in a call to `append`, so callers append in chunks and look up
between two of them; that is how requests are cancelled and how a completion overtakes an explanation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class EngineInfo:
    """What is in use, and why. Shown to the user as it is."""

    engine: str
    model: str
    device: str
    reason: str
    """One sentence: why this engine and device ("asked for", "the NPU was not found, so the CPU is used")."""
    context_tokens: int
    """Prompt and answer together may not be longer."""
    chat_format: str
    """A name in phi_prompts.chat.FORMATS."""
    templates: str
    """A folder of phi_prompts/templates: `phi3`, or `small` for models that follow no instructions."""


@dataclass(frozen=True)
class Token:
    id: int
    probability: float | None
    """The model's own, before temperature; None where the runtime does not show its logits."""


class Tokenizer(Protocol):
    """Text to token ids and back, as the model was trained."""

    stop_ids: frozenset[int]
    """Tokens that end an answer."""
    space_eaters: frozenset[str]
    """Control tokens behind which the model's own tokenizer drops white space."""

    def encode(self, text: str) -> list[int]:
        """Plain text: special tokens in it are encoded as characters."""
        ...

    def control_id(self, token: str) -> int:
        """The id of a control token such as `<|user|>`. Raises ModelError when the model has none of that name."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; bytes that are no complete character become U+FFFD."""
        ...

    def continuations(self, text: str) -> Sequence[int]:
        """Ids of all tokens that may come next when the answer must begin with `text`: those whose text begins with `text`,
        and those that `text` begins with. Used to heal a token that the cursor cut in two."""
        ...


class TokenSequence(Protocol):
    """Tokens and their KV cache."""

    def __len__(self) -> int:
        """How many tokens are in the cache."""
        ...

    def append(self, ids: Sequence[int]) -> None:
        """Run the model over `ids` (at least one) behind what is there. Raises EngineError; the sequence is then unchanged or closed."""
        ...

    def rewind(self, length: int) -> None:
        """Forget all tokens from `length` on. `append` before the next `next`."""
        ...

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        """The token that the model would put behind the last appended one. Greedy at temperature 0; one of `allowed` if given."""
        ...

    def close(self) -> None:
        """Give the KV cache back. Twice does no harm."""
        ...


@runtime_checkable
class ForkingSequence(TokenSequence, Protocol):
    """Of engines whose sequences can share what they have in common."""

    def fork(self, length: int) -> TokenSequence:
        """A second sequence of the first `length` tokens, which shares their memory. `append` before its first `next`."""
        ...


@runtime_checkable
class CheckingSequence(TokenSequence, Protocol):
    """Of engines that show what the model would have put behind each of several tokens, not only behind the last."""

    def check(self, ids: Sequence[int]) -> list[Token]:
        """`append`, and the greedy token behind each of `ids`."""
        ...


@runtime_checkable
class WaitingSequence(TokenSequence, Protocol):
    """Of engines that wait for somebody else's work, and can look up meanwhile."""

    def is_ready(self, temperature: float, wait_s: float) -> bool:
        """Whether `next` at that temperature would return, or raise, at once. Begins the work, and waits for it at most so long."""
        ...


class Engine(Protocol):
    info: EngineInfo
    tokenizer: Tokenizer
    can_choose: bool
    """Whether `next` obeys `allowed` and `temperature`; a runtime that hides its logits does not."""

    def open(self) -> TokenSequence:
        """A new, empty sequence. Raises EngineFull when its memory is used up: close another one first."""
        ...

    def close(self) -> None: ...


class Interrupted(Exception):
    """The call was stopped from another thread; the sequence is as it was before."""


@runtime_checkable
class InterruptibleEngine(Engine, Protocol):
    """Of runtimes that can be stopped in the middle of a forward pass."""

    can_interrupt: bool
    """Whether that is so on the device in use."""

    def interrupt(self) -> None:
        """From another thread: the `append` or `check` under way raises Interrupted, unless just this one cannot be stopped. Between
        two calls it does nothing."""
        ...


Progress = Callable[[str], None]
"""Called while loading with what is being done: "compiling for the NPU"."""
Options = Mapping[str, str | int | float | bool]
