"""The engine on ONNX Runtime GenAI's generators, which hold tokens and KV cache: two ways to drive one, by what its device can do.

On the CPU a generator can be rewound and appended to, so a key costs the tokens it added (PlainSequence). On DirectML it can only grow by
the tokens that it chooses itself (GrowingSequence).

Not here: which model, which device (onnx.py).
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnxruntime_genai as og
from numpy.typing import NDArray

from phi_backends.engine import EngineInfo, Token, Tokenizer, TokenSequence
from phi_backends.errors import EngineError, EngineFull, in_one_line
from phi_backends.sampling import choose
from phi_backends.tokenizer import FolderTokenizer

GROWN_TOKENS = 32
"""On DirectML, up to so many tokens are added one by one, more by running the whole prompt: published figures put a decode step at 4 to 40
ms and 1,000 tokens of prompt at some 60 of them."""
WARM_UP_TOKENS = (64, 1)


class OnnxEngine:
    can_choose = True

    def __init__(
        self, model: Any, tokenizer: FolderTokenizer, info: EngineInfo, sequences: int, end_ids: Iterable[int], *, grows_only: bool
    ) -> None:
        """`sequences`: how many may be open at once. `grows_only`: the device's generators cannot be appended to, as those of DirectML."""
        self.info = info
        self.tokenizer: Tokenizer = tokenizer
        self.random = np.random.default_rng()
        self.end_ids = frozenset(end_ids)
        self.free_sequences = self._sequences = sequences
        self._model = model
        self.grows_only = grows_only
        self.shows_all_logits = False
        """Whether the model computes them behind each token of an append; newer ones may be built to do so behind the last alone."""

    def open(self) -> TokenSequence:
        if not self.free_sequences:
            raise EngineFull("All KV caches are in use.")
        kind = GrowingSequence if self.grows_only else CheckedSequence if self.shows_all_logits else PlainSequence
        try:
            sequence: TokenSequence = kind(self)
        except EngineError as error:
            if self.free_sequences < self._sequences:  # closing another one gives its memory back
                raise EngineFull(str(error)) from error
            raise
        self.free_sequences -= 1
        return sequence

    def close(self) -> None:
        """Frees nothing that the end of the process does not."""

    def warm_up(self) -> None:
        """The first pass of each kind allocates and, on DirectML, compiles."""
        sequence = self.open()
        for length in WARM_UP_TOKENS:
            # Not token 0: the runtime hides padding in a first append from the model, and where there is nothing else the logits are NaN.
            sequence.append(self.tokenizer.encode("x")[:1] * min(length, self.info.context_tokens // 2))
            sequence.next()
            if isinstance(sequence, PlainSequence) and length > 1:
                with suppress(RuntimeError):  # the model's output has another name
                    self.shows_all_logits = len(sequence.rows()) > 1
        sequence.close()

    def generator(self) -> Any:
        parameters = og.GeneratorParams(self._model)
        # Nothing of the folder's own `search`: what comes next is chosen by phi-ls, from the model's bare logits.
        parameters.set_search_options(
            max_length=self.info.context_tokens, min_length=0, do_sample=False, num_beams=1, repetition_penalty=1.0, batch_size=1
        )
        try:
            return og.Generator(self._model, parameters)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(
                f"There is no memory for a KV cache of {self.info.context_tokens} tokens ({in_one_line(error)}). "
                "Lower the engine option context_tokens or sequences."
            ) from error

    def check(self, length: int) -> None:
        """Raises EngineError when so many tokens are more than the context."""
        if length > self.info.context_tokens:
            raise EngineError(
                f"Prompt and answer are longer than the context of {self.info.context_tokens} tokens. Shorten the prompt or the answer."
            )

    def failed(self, error: Exception) -> EngineError:
        return EngineError(f"ONNX Runtime failed on {self.info.device} ({in_one_line(error)}). Try another device.")


class PlainSequence:
    """A generator that is rewound and appended to."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self._generator: Any = engine.generator()
        self._logits: NDArray[np.float32] | None = None
        """Behind the last token; None when that was rewound: the runtime would then run the first of the forgotten tokens again."""

    def __len__(self) -> int:
        return int(self._generator.token_count()) if self._generator else 0

    def append(self, ids: Sequence[int]) -> None:
        before = len(self)
        self._engine.check(before + len(ids))
        try:
            self._generator.append_tokens(np.array(ids, np.int32))
            self._logits = _last_row(self._generator)
        except RuntimeError as error:
            self._generator.rewind_to(before)  # it counts tokens that it failed to run
            self._logits = None
            raise self._engine.failed(error) from error

    def rewind(self, length: int) -> None:
        if length < len(self):
            self._generator.rewind_to(length)
            self._logits = None

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        if self._logits is None:
            raise EngineError("The sequence has no token to go on from: append one first.")
        return Token(*choose(self._logits, temperature, allowed, self._engine.random))

    def rows(self) -> NDArray[np.float32]:
        """The logits behind each token of the last append, as far as the model computes them: [tokens, vocabulary]."""
        logits: NDArray[Any] = self._generator.get_output("logits")
        return logits.reshape(-1, logits.shape[-1]).astype(np.float32)

    def close(self) -> None:
        if self._generator is not None:
            self._generator = None
            self._engine.free_sequences += 1


class CheckedSequence(PlainSequence):
    """One of a model that computes the logits behind each token."""

    def check(self, ids: Sequence[int]) -> list[Token]:
        self.append(ids)
        return [Token(*choose(row, 0.0, None, self._engine.random)) for row in self.rows()]


class GrowingSequence:
    """A generator that refuses to be appended to ("Continuous decoding is not supported on the selected device type (DML)").

    So `append` only stores, and `next` runs: the few tokens that are new where the generator stands at the beginning of the text, each made
    the only one that it can choose; or else the whole text in a new generator.
    """

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self._ids: list[int] = []
        self._generator: Any = None
        self._ran: list[int] = []
        """What the generator holds, and `_logits` stands behind."""
        self._logits = np.zeros(0, np.float32)
        self._closed = False

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, ids: Sequence[int]) -> None:
        self._engine.check(len(self._ids) + len(ids))
        self._ids += ids

    def rewind(self, length: int) -> None:
        del self._ids[length:]

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        if not self._ids:
            raise EngineError("The sequence has no token to go on from: append one first.")
        if self._ran != self._ids:
            self._run()
        return Token(*choose(self._logits, temperature, allowed, self._engine.random))

    def close(self) -> None:
        self._ids, self._ran, self._generator = [], [], None
        if not self._closed:
            self._closed = True
            self._engine.free_sequences += 1

    def _run(self) -> None:
        new = self._ids[len(self._ran) :]
        grows = self._ran and self._ids[: len(self._ran)] == self._ran and len(new) <= GROWN_TOKENS
        try:
            if grows and not self._engine.end_ids & set(new):
                for id in new:
                    self._force(id)
            else:
                self._ran, self._generator = [], None  # before there is the new one: each holds a whole KV cache
                self._generator = self._engine.generator()
                self._generator.append_tokens(np.array(self._ids, np.int32))
            self._logits = _last_row(self._generator)
        except (RuntimeError, IndexError) as error:  # an index: a token that is not in the vocabulary
            self._ran, self._generator = [], None
            raise self._engine.failed(error) from error
        self._ran = list(self._ids)

    def _force(self, id: int) -> None:
        logits = np.full((1, 1, len(self._logits)), -1e9, np.float32)
        logits[..., id] = 0
        self._generator.get_logits()  # runs the token before; only then may logits be set
        self._generator.set_logits(logits)
        self._generator.generate_next_token()


def _last_row(generator: Any) -> NDArray[np.float32]:
    """The logits behind the last token: [vocabulary]."""
    logits: NDArray[np.float32] = generator.get_logits()
    last: NDArray[np.float32] = logits.reshape(-1, logits.shape[-1])[-1]
    return last
