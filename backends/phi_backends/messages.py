"""The messages between the server and the engine process: one JSON object a line. Shared by both sides; standard library only.

- server to worker: Load once, then Generate and Cancel in any order; the end of stdin means: end
- worker to server: Loading …, then Loaded or Failed(request=None); for each Generate: Text …, then one Done or Failed
"""

import json
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, Literal

from phi_backends.engine import EngineInfo
from phi_prompts.prompt import Prompt, from_json, to_json


class Priority(IntEnum):
    """Lower runs first; a request of lower number pre-empts the others between two tokens."""

    COMPLETION = 0
    ANSWER = 1
    """Explanations and edits: somebody waits, but reads more slowly than a model writes."""
    IDLE = 2
    """Work ahead of time; runs only when nothing else does."""


@dataclass(frozen=True)
class Load:
    engine: str
    model: str
    """`auto`, `embedded`, a name of `phi-ls models list` or the path of a model folder."""
    device: str
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    purpose: Literal["completions", "answers"] = "completions"
    """What `auto` chooses for."""


@dataclass(frozen=True)
class Generate:
    request: int
    prompt: Prompt
    max_tokens: int
    """Of the answer; a prompt that is too long is shortened to leave room for so many."""
    max_prompt_tokens: int | None = None
    """None: what the context leaves."""
    priority: Priority = Priority.COMPLETION
    stop: tuple[str, ...] = ()
    """Texts that end the answer; they are not part of it."""
    heal: str = ""
    """The answer must begin with this text: the piece of a word before the cursor, left out of the prompt so that the model sees
    whole tokens. It is not part of the streamed text."""
    temperature: float = 0.0
    deadline_ms: float | None = None
    """The first line should be there by then: where the prompt is in no KV cache and running it would take longer, it is made shorter."""
    prefill_only: bool = False
    """Fills the KV cache with the prompt of an answer that may be asked for later, and ends."""


@dataclass(frozen=True)
class Cancel:
    request: int


@dataclass(frozen=True)
class Loading:
    stage: str
    """What is being done: "reading the model"."""


@dataclass(frozen=True)
class Loaded(EngineInfo):
    """What is in use, how long that took, and how fast it is."""

    load_ms: float
    prefill_token_ms: float = 0.0
    """Measured after loading: for each token of a prompt, and for each of an answer. 0: not known."""
    decode_token_ms: float = 0.0


@dataclass(frozen=True)
class Text:
    request: int
    text: str
    probability: float | None = None
    """The product of the probabilities of this piece's tokens, where the runtime shows them."""


@dataclass(frozen=True)
class Timings:
    """Milliseconds, measured in the worker."""

    queued_ms: float
    """Until the first forward pass, other requests' work included."""
    first_token_ms: float
    """From the arrival of the request to its first token; 0 when there was none."""
    total_ms: float
    prompt_tokens: int
    reused_tokens: int
    """Of the prompt: found in the KV cache."""
    answer_tokens: int
    prefill_token_ms: float = 0.0
    """As in Loaded, with all that was measured since."""
    decode_token_ms: float = 0.0
    peak_memory_bytes: int = 0
    """Of the engine process, since its start; 0: not known."""


@dataclass(frozen=True)
class Done:
    request: int
    reason: Literal["stop", "length", "cancelled"]
    timings: Timings


@dataclass(frozen=True)
class Failed:
    request: int | None
    """None: the load failed, or the worker itself."""
    message: str
    """A sentence for the user."""


ToWorker = Load | Generate | Cancel
FromWorker = Loading | Loaded | Text | Done | Failed
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Load, Generate, Cancel, Loading, Loaded, Text, Done, Failed)}


def encode(message: ToWorker | FromWorker) -> bytes:
    """One line, UTF-8, ending in a line feed. Lone surrogates, which UTF-8 cannot carry, travel as JSON escapes."""
    fields = asdict(message) if not isinstance(message, Generate) else {**message.__dict__, "prompt": to_json(message.prompt)}
    return json.dumps({"kind": type(message).__name__, **fields}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Any:
    """The message in `line`, of the type its sender gave it. Raises ValueError when it is none."""
    fields = json.loads(line)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"Unknown message kind {kind!r} on the pipe: both sides must be of the same version of phi-ls.")
    if kind == "Generate":
        fields |= {"prompt": from_json(fields["prompt"]), "priority": Priority(fields["priority"]), "stop": tuple(fields["stop"])}
    if kind == "Done":
        fields["timings"] = Timings(**fields["timings"])
    return _KINDS[kind](**fields)
