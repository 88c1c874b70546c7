"""The engine on OVModelForCausalLM, whose KV cache is the state of an OpenVINO request and can only grow: one request for each sequence,
and two ways of going back in it.

A few tokens are hidden from the model by the attention mask and stay where they are (with 1,500 tokens of a 3.8 B model, a key then costs
0.14 to 0.19 s; a decode step is 0.10). More of them, and hidden ones slow all that comes after (an edit in the middle: 37 s and more), are
cut out of the state, which is copied for that (2 to 4 s; running the prompt again takes 15).

Not here: which model, which device (optimum.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray

from phi_backends.engine import EngineInfo, Token, Tokenizer
from phi_backends.engines.openvino_device import what_it_says
from phi_backends.errors import EngineError, EngineFull
from phi_backends.sampling import choose
from phi_backends.tokenizer import FolderTokenizer

HIDDEN_TOKENS = 64
"""So many may be hidden; more are cut out. About a completion's length: every few keys something is cut."""
WARM_UP_TOKENS = (64, 1)


class OptimumEngine:
    can_choose = True

    def __init__(self, model: Any, tokenizer: FolderTokenizer, info: EngineInfo, sequences: int) -> None:
        self.info = info
        self.tokenizer: Tokenizer = tokenizer
        self.random = np.random.default_rng()
        self.free_sequences = sequences
        self._model = model
        self._compiled = model.request.get_compiled_model()

    def open(self) -> "OptimumSequence":
        if not self.free_sequences:
            raise EngineFull("All KV caches are in use.")
        self.free_sequences -= 1
        return OptimumSequence(self, self._compiled.create_infer_request())

    def close(self) -> None:
        """Frees nothing that the end of the process does not."""

    def warm_up(self) -> None:
        """The first pass of each kind makes the kernels."""
        sequence = self.open()
        for length in WARM_UP_TOKENS:
            sequence.append(self.tokenizer.encode("x")[:1] * min(length, self.info.context_tokens // 2))
        sequence.close()

    def run(self, request: Any, ids: Sequence[int], visible: NDArray[np.int64], first_position: int) -> NDArray[np.float32]:
        """The logits behind each of `ids`: [tokens, vocabulary]. `visible`: 1 for what the model is to see, of the state and of `ids`."""
        self._model.request = request
        begins = len(visible) == len(ids)
        positions = torch.arange(first_position, first_position + len(ids))[None]
        try:
            with torch.no_grad():
                output = self._model(
                    input_ids=torch.tensor([ids]),
                    attention_mask=torch.from_numpy(visible)[None],
                    position_ids=positions,
                    past_key_values=None if begins else ((),),  # None resets the state, anything else goes on from it
                )
        except (RuntimeError, IndexError) as error:
            raise EngineError(f"OpenVINO failed on {self.info.device} ({what_it_says(error)}). Try another device.") from error
        logits: NDArray[np.float32] = output.logits[0].float().numpy()
        return logits


class OptimumSequence:
    def __init__(self, engine: OptimumEngine, request: Any) -> None:
        self._engine = engine
        self._request = request
        self._visible = np.zeros(0, np.int64)
        """For each token in the state: 1, or 0 where it is hidden."""
        self._length = 0
        self._logits: NDArray[np.float32] | None = None
        """Behind each of the tokens that were appended last; None after a rewind."""

    def __len__(self) -> int:
        return self._length

    def append(self, ids: Sequence[int]) -> None:
        context_tokens = self._engine.info.context_tokens
        if self._length + len(ids) > context_tokens:
            raise EngineError(
                f"Prompt and answer are longer than the context of {context_tokens} tokens. Shorten the prompt or the answer."
            )
        if len(self._visible) - self._length > HIDDEN_TOKENS:
            self._cut_out_hidden()
        if not self._length:
            self._visible = np.zeros(0, np.int64)
        visible = np.concatenate([self._visible, np.ones(len(ids), np.int64)])
        try:
            self._logits = self._engine.run(self._request, ids, visible, self._length)
        except EngineError:
            self.close()  # nobody knows how far the state has grown
            raise
        self._visible = visible
        self._length += len(ids)

    def rewind(self, length: int) -> None:
        if length < self._length:
            self._visible[np.flatnonzero(self._visible)[length:]] = 0
            self._length, self._logits = length, None

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        if self._logits is None:
            raise EngineError("The sequence has no token to go on from: append one first.")
        return Token(*choose(self._logits[-1], temperature, allowed, self._engine.random))

    def check(self, ids: Sequence[int]) -> list[Token]:
        self.append(ids)
        assert self._logits is not None
        return [Token(*choose(row, 0.0, None, self._engine.random)) for row in self._logits]

    def close(self) -> None:
        if self._request is not None:
            self._request, self._logits, self._length = None, None, 0
            self._engine.free_sequences += 1

    def _cut_out_hidden(self) -> None:
        kept = np.flatnonzero(self._visible)
        if len(kept):
            for state in self._request.query_state():
                values = state.state.data  # [1, heads, tokens, size]
                state.state = ov.Tensor(np.ascontiguousarray(values[:, :, kept]))
        self._visible = np.ones(len(kept), np.int64)
