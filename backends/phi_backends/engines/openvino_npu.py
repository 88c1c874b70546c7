"""OpenVINO on the NPU: openvino_genai's static pipeline, which is the one way to run a language model there, as an engine.

The pipeline generates whole answers and shows no logits. So `append` only stores, and `next` starts a generation or lets the one that
stands at this very text go on by a token; there is no choice among tokens (`can_choose` is False) and no probability. A prompt cannot
be interrupted on the NPU, but its prefix cache makes that rare: chunks that were seen before are not computed again.

Not here: the check that there is an NPU (openvino.py).
"""

import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov

from phi_backends.cache_folder import cache_folder
from phi_backends.engine import EngineInfo, Progress, Token, Tokenizer
from phi_backends.engines.openvino_device import Device, OpenVinoOptions, what_it_says
from phi_backends.errors import EngineError, EngineMissing
from phi_backends.model_folder import ModelFolder
from phi_backends.tokenizer import FolderTokenizer

try:
    import openvino_genai
except ModuleNotFoundError as error:
    raise EngineMissing('The NPU needs the package openvino-genai. Install it with: pip install "phi-ls[openvino]"') from error

MIN_ANSWER_TOKENS = 128
"""Room behind the longest prompt, without which the last token of a full context could not be generated."""
NO_LIMIT = 1 << 20
"""The pipeline ends an answer by itself when its memory is full, and the scheduler before that."""
PREFILL_CHUNK_TOKENS = 128
"""Also the grain of the prefix cache. A small model's first token, for a prompt seen before plus 3 tokens: 0.12 s with 128, 0.17 s with
256, 0.88 s without the cache."""


def load(
    folder: ModelFolder,
    context_tokens: int,
    device: Device,
    options: OpenVinoOptions,
    progress: Progress,
    properties: Mapping[str, Any] | None = None,
) -> "NpuEngine":
    """`properties` are added to those of the pipeline. Raises EngineError when the NPU or its driver cannot take the model."""
    cache = options.cache_dir or str(cache_folder() / "openvino")
    tokenizer = FolderTokenizer(folder.path)
    progress("compiling for the NPU, which takes minutes the first time")
    try:
        pipeline = openvino_genai.LLMPipeline(
            str(folder.path),
            "NPU",
            MAX_PROMPT_LEN=context_tokens,
            MIN_RESPONSE_LEN=MIN_ANSWER_TOKENS,
            NPUW_LLM_ENABLE_PREFIX_CACHING="YES",
            NPUW_LLM_PREFILL_CHUNK_SIZE=PREFILL_CHUNK_TOKENS,
            **({} if cache == "off" else {"CACHE_DIR": cache}),
            **(properties or {}),
        )
    except RuntimeError as error:
        raise EngineError(
            f"The NPU cannot take the model ({what_it_says(error)}). Give one that was made for it (4 bits, symmetric, such as "
            "OpenVINO/Phi-3.5-mini-instruct-int4-cw-ov), update the NPU's driver, or choose another device."
        ) from error
    engine = NpuEngine(
        pipeline,
        tokenizer,
        folder.in_use("openvino", device.name, device.reason, context_tokens),
    )
    progress("warming up")
    sequence = engine.open()
    sequence.append([0])
    sequence.next()
    sequence.close()
    return engine


class NpuEngine:
    can_choose = False

    def __init__(self, pipeline: Any, tokenizer: FolderTokenizer, info: EngineInfo) -> None:
        self.info = info
        self.tokenizer: Tokenizer = tokenizer
        self._pipeline = pipeline
        self._generation: _Generation | None = None
        """The NPU runs one at a time; it waits at the last token that was asked for."""

    def open(self) -> "NpuSequence":
        return NpuSequence(self)

    def close(self) -> None:
        self.stop()

    def token_after(self, ids: Sequence[int]) -> int:
        if self._generation is None or self._generation.ids != ids:
            self._start(ids)
        token = self._generation.next() if self._generation else None
        if token is None:  # the pipeline's memory is full, of prompt and answer; as a prompt the same text fits
            token = self._start(ids).next()
        if token is None:
            raise EngineError("The NPU ended the answer without a token. Shorten the prompt or the answer.")
        return token

    def stop(self) -> None:
        if self._generation is not None:
            self._generation.stop()
            self._generation = None

    def _start(self, ids: Sequence[int]) -> "_Generation":
        self.stop()
        self._generation = _Generation(self._pipeline, ids)
        return self._generation


class NpuSequence:
    def __init__(self, engine: NpuEngine) -> None:
        self._engine = engine
        self._ids: list[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, ids: Sequence[int]) -> None:
        context_tokens = self._engine.info.context_tokens
        if len(self._ids) + len(ids) > context_tokens:
            raise EngineError(
                f"Prompt and answer are longer than the context of {context_tokens} tokens that the model was compiled for. "
                "Shorten them, or raise the engine option context_tokens."
            )
        self._ids += ids

    def rewind(self, length: int) -> None:
        del self._ids[length:]

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        """Greedy whatever is asked; see `can_choose`."""
        return Token(self._engine.token_after(self._ids), None)

    def close(self) -> None:
        self._ids.clear()


class _Generation(openvino_genai.StreamerBase):  # type: ignore[misc]  # the package has no types
    """An answer that is generated in a thread of its own, token by token as they are asked for."""

    def __init__(self, pipeline: Any, prompt: Sequence[int]) -> None:
        super().__init__()
        self.ids = list(prompt)
        """The prompt and the tokens handed out."""
        self._pipeline = pipeline
        self._tokens: queue.SimpleQueue[int | Exception | None] = queue.SimpleQueue()
        self._asked = threading.Semaphore(0)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, args=(np.array([prompt], np.int64),), daemon=True)
        self._thread.start()

    def next(self) -> int | None:
        """The next token; None when the pipeline has ended the answer. The first call takes as long as the prompt's prefill."""
        self._asked.release()
        token = self._tokens.get()
        if isinstance(token, Exception):
            raise EngineError(f"The NPU failed ({what_it_says(token)}). Update its driver, or choose another device.") from token
        if token is not None:
            self.ids.append(token)
        return token

    def stop(self) -> None:
        self._stopped = True
        self._asked.release()
        self._thread.join()

    def write(self, token: int | Sequence[int]) -> Any:
        """Called by the pipeline, which waits for the answer: the NPU works one token ahead and then rests."""
        for one in [token] if isinstance(token, int) else token:
            self._asked.acquire()
            self._tokens.put(one)
        return openvino_genai.StreamingStatus.CANCEL if self._stopped else openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Part of the pipeline's interface."""

    def _run(self, prompt: Any) -> None:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = NO_LIMIT
        config.ignore_eos = True  # which tokens end an answer is the scheduler's business
        config.apply_chat_template = False
        try:
            self._pipeline.generate(ov.Tensor(prompt), config, self)
        except RuntimeError as error:
            self._tokens.put(error)
        self._tokens.put(None)
