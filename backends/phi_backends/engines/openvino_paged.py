"""OpenVINO on CPU and GPU: the paged-attention form of the model, driven a forward pass at a time.

The KV cache is one pool of blocks. A sequence holds a list of them and a length; rewinding is setting the length back, and stale rows are
overwritten in place. Sequences that begin the same share blocks, and one is copied before it is written to by either. So a key costs the
tokens it added: with 1,500 tokens of context the first token of an answer takes one decode step, where the prefix cache of
openvino_genai, which works in whole blocks, takes two to four.

Not here: which sequence gives way when the pool is full (scheduler.py).
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13
from openvino._offline_transformations import paged_attention_transformation

from phi_backends.cache_folder import cache_folder
from phi_backends.engine import EngineInfo, Interrupted, Progress, Token, Tokenizer
from phi_backends.engines.openvino_device import Device, OpenVinoOptions, what_it_says
from phi_backends.errors import EngineError, EngineFull, ModelError
from phi_backends.memory import machine_bytes
from phi_backends.model_folder import SMALL_MODEL_BYTES, ModelFolder
from phi_backends.sampling import choose
from phi_backends.tokenizer import FolderTokenizer

KV_CONTEXTS = 5
"""The pool holds this many full contexts where memory allows: a few open files and an explanation."""
KV_SHARE = 8
"""One part in this many of the machine's memory may go to the pool. Blocks that were never used cost nothing on the CPU: the system
hands out pages when they are first written."""
WARM_UP_STEPS = (64, 1, 2, 3, 4, 8, 16)
"""Lengths that are run once after loading. The first pass repacks the weights (1.3 s on a 0.4 B model, against 0.02 s for the
second), and each new length costs up to a decode step more."""

SINGLE_TOKENS = 3
"""On the CPU, up to so many tokens are run as sequences of one token each, on the same blocks: attention over several tokens unpacks the
whole cache first, that over one reads it as it is. On a 3.8 B model with 1,500 tokens of context, a pass of 2 / 3 / 4 tokens takes 1.21 /
1.30 / 1.44 times as long as one of a single token; in one sequence 1.39 / 1.37 / 1.40. Rounding is as coarse either way: on the embedded
model, 0.0008 nats from an f32 cache."""

FIRST_ROW = "first_row"
"""An input added to the model: the first position, from the end, behind which logits are wanted."""


def load(
    core: Any, folder: ModelFolder, context_tokens: int, device: Device, options: OpenVinoOptions, progress: Progress
) -> "PagedEngine":
    """Raises ModelError for a broken model, EngineError when the device cannot run it."""
    tokenizer = FolderTokenizer(folder.path)
    progress("reading the model")
    try:
        model = core.read_model(folder.path / "openvino_model.xml")
    except RuntimeError as error:
        raise ModelError(f'The model in "{folder.path}" is broken ({what_it_says(error)}). Fetch or convert it again.') from error
    try:
        paged_attention_transformation(model)
    except RuntimeError as error:
        raise ModelError(
            f'The model in "{folder.path}" cannot be given a paged KV cache ({what_it_says(error)}). '
            "Convert it with `optimum-cli export openvino --task text-generation-with-past`, without --disable-stateful."
        ) from error
    _only_last_rows(model)
    progress(f"compiling for {device.name}")
    try:
        compiled = core.compile_model(model, device.name, _properties(device.name, options, folder.bytes))
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile the model for {device.name} ({what_it_says(error)}). Try another device.") from error
    info = folder.in_use("openvino", device.name, device.reason, context_tokens)
    engine = PagedEngine(core, compiled, tokenizer, info, options)
    progress("warming up")
    engine.warm_up()
    return engine


class PagedEngine:
    can_choose = True

    def __init__(self, core: Any, compiled: Any, tokenizer: FolderTokenizer, info: EngineInfo, options: OpenVinoOptions) -> None:
        self.info = info
        self.can_interrupt = info.device == "CPU"
        self.tokenizer: Tokenizer = tokenizer
        self.random = np.random.default_rng()
        self._request = compiled.create_infer_request()
        self._chooses_rows = any(FIRST_ROW in port.names for port in compiled.inputs)
        caches = [port for port in compiled.inputs if _is_cache(port)]
        # Keys may have rows for the scales behind those of the tokens, values have exactly one row a token.
        self.block_tokens: int = next(port.partial_shape[2].get_length() for port in caches if "value_cache" in port.any_name)
        self._blocks_total = _pool_blocks(core, info, caches, self.block_tokens, options)
        context = None if info.device == "CPU" else core.get_default_context(info.device)
        self._caches: list[Any] = []
        try:
            for port in caches:
                shape = ov.Shape([self._blocks_total, *(port.partial_shape[axis].get_length() for axis in (1, 2, 3))])
                tensor = ov.Tensor(port.element_type, shape) if context is None else context.create_tensor(port.element_type, shape, {})
                self._request.set_tensor(port.any_name, tensor)
                self._caches.append(tensor)
        except RuntimeError as error:
            raise EngineError(
                f"There is no memory for a KV cache of {self.kv_tokens} tokens ({what_it_says(error)}). Lower the engine option kv_tokens."
            ) from error
        self.free_blocks = list(range(self._blocks_total))
        self._users = [0] * self._blocks_total
        """How many sequences hold each block."""
        self._lock = threading.Lock()
        self._is_interruptible = self._is_interrupted = False
        """The pass under way."""
        self._shape = (0, 0)
        """Tokens and rows of the last pass; zeros where it failed."""

    @property
    def kv_tokens(self) -> int:
        """What the pool holds."""
        return self._blocks_total * self.block_tokens

    def open(self) -> "PagedSequence":
        if not self.free_blocks:
            raise EngineFull("All blocks of the KV cache are in use.")
        return PagedSequence(self)

    def close(self) -> None:
        """Frees nothing that the end of the process does not: the runtime's own destructors do the rest."""

    def take_block(self) -> int:
        block = self.free_blocks.pop()
        self._users[block] = 1
        return block

    def share(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._users[block] += 1

    def is_shared(self, block: int) -> bool:
        return self._users[block] > 1

    def give_back(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._users[block] -= 1
            if not self._users[block]:
                self.free_blocks.append(block)

    def copy_block(self, source: int) -> int:
        """The number of a block of the same content. On a 3.8 B model that is 6 MB, a hundredth of a decode step."""
        target = self.take_block()
        for cache in self._caches:
            rest = list(cache.shape)[1:]
            ends = [(ov.Coordinate([block, 0, 0, 0]), ov.Coordinate([block + 1, *rest])) for block in (source, target)]
            read, written = (type(cache)(cache, *end) for end in ends)
            read.copy_to(written)
        return target

    def interrupt(self) -> None:
        with self._lock:
            if self._is_interruptible:
                self._is_interrupted = True
                self._request.cancel()

    def warm_up(self) -> None:
        sequence = self.open()
        for length in WARM_UP_STEPS:
            sequence.append([0] * min(length, self.info.context_tokens, self.kv_tokens))
            sequence.rewind(0)
        sequence.close()

    def run(self, ids: Sequence[int], past: int, blocks: Sequence[int], rows: int) -> NDArray[np.float32]:
        """One forward pass over `ids`, of which `past` others stand before them in `blocks`. The logits behind the last `rows` of them:
        [rows, vocabulary]."""
        single = self.info.device == "CPU" and len(ids) <= SINGLE_TOKENS
        begins = np.arange(len(ids) + 1) if single else np.array([0, len(ids)])
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": np.array(ids, np.int64),
            "position_ids": np.arange(past, past + len(ids), dtype=np.int64),
            "past_lens": (past + begins[:-1]).astype(np.int32),
            "subsequence_begins": begins.astype(np.int32),
            "block_indices": np.tile(np.array(blocks, np.int32), len(begins) - 1),
            "block_indices_begins": (len(blocks) * np.arange(len(begins))).astype(np.int32),
            "max_context_len": np.array(past + len(ids), np.int32),
        }
        if self._chooses_rows:
            inputs[FIRST_ROW] = np.array([-rows], np.int64)
        for name, values in inputs.items():
            self._request.set_tensor(name, ov.Tensor(values))
        self._infer((len(ids), rows))
        output = self._request.get_output_tensor(0).data
        return np.array(output.reshape(-1, output.shape[-1])[-rows:], np.float32)  # a copy: the next pass writes over it

    def _infer(self, shape: tuple[int, int]) -> None:
        """A pass of so many tokens and rows. It can be interrupted where the one before was of that shape: each node of OpenVINO's graph
        takes the shape that it has run with last for the one that it is prepared for, and where a pass is stopped while shapes change,
        later ones give wrong numbers, or fail (seen in 2026.4)."""
        self._is_interrupted = False
        self._is_interruptible = self.can_interrupt and shape == self._shape
        self._shape = (0, 0)
        try:
            self._request.infer()
            self._shape = shape
        except RuntimeError as error:
            if self._is_interrupted:
                self._shape = shape
                raise Interrupted from error
            raise EngineError(f"OpenVINO failed on {self.info.device} ({what_it_says(error)}). Try another device.") from error
        finally:
            with self._lock:  # an interruption that comes late must not meet the next pass
                self._is_interruptible = False


class PagedSequence:
    def __init__(self, engine: PagedEngine) -> None:
        self._engine = engine
        self._blocks: list[int] = []
        self._length = 0
        self._logits: NDArray[np.float32] | None = None
        """[rows, vocabulary]; the last row is behind the last token. None when that was rewound."""

    def __len__(self) -> int:
        return self._length

    def append(self, ids: Sequence[int]) -> None:
        self._append(ids, rows=1)

    def check(self, ids: Sequence[int]) -> list[Token]:
        rows = self._append(ids, rows=len(ids))
        return [Token(*choose(row, 0.0, None, self._engine.random)) for row in rows]

    def _append(self, ids: Sequence[int], rows: int) -> NDArray[np.float32]:
        engine, length = self._engine, self._length + len(ids)
        if length > engine.info.context_tokens:
            raise EngineError(
                f"Prompt and answer are longer than the context of {engine.info.context_tokens} tokens. Shorten the prompt or the answer."
            )
        written = self._length // engine.block_tokens
        is_shared = written < len(self._blocks) and engine.is_shared(self._blocks[written])
        missing = -(-length // engine.block_tokens) - len(self._blocks)
        if missing + is_shared > len(engine.free_blocks):
            raise EngineFull("The KV cache has no room for more tokens.")
        if is_shared:
            shared, self._blocks[written] = self._blocks[written], engine.copy_block(self._blocks[written])
            engine.give_back([shared])
        self._blocks += [engine.take_block() for _ in range(missing)]
        try:
            self._logits = engine.run(ids, self._length, self._blocks, rows)
        except (EngineError, Interrupted):
            self.rewind(self._length)  # gives the new blocks back
            raise
        self._length = length
        return self._logits

    def rewind(self, length: int) -> None:
        if length < self._length:
            self._length, self._logits = length, None
        kept = -(-self._length // self._engine.block_tokens)
        self._engine.give_back(self._blocks[kept:])
        del self._blocks[kept:]

    def fork(self, length: int) -> "PagedSequence":
        other = PagedSequence(self._engine)
        other._length = min(length, self._length)
        other._blocks = self._blocks[: -(-other._length // self._engine.block_tokens)]
        self._engine.share(other._blocks)
        return other

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        if self._logits is None:
            raise EngineError("The sequence has no token to go on from: append one first.")
        return Token(*choose(self._logits[-1], temperature, allowed, self._engine.random))

    def close(self) -> None:
        self.rewind(0)


def _only_last_rows(model: Any) -> None:
    """Computes the logits of the last positions alone, from the input FIRST_ROW on: the final matrix is the largest, and prefill has no
    use for the others."""
    node = model.get_results()[0].input_value(0).get_node()
    while node.get_type_name() in ("Add", "Multiply", "Divide", "Tanh", "Convert"):  # a bias, scaled or capped logits
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul":
        return  # slower, not wrong: the last row is taken from the output
    first = opset13.parameter([1], np.int64, FIRST_ROW)
    end, step, axis = (opset13.constant(np.array([number], np.int64)) for number in (np.iinfo(np.int64).max, 1, 0))
    last = opset13.slice(node.input_value(0), first, end, step, axis)
    node.input(0).replace_source_output(last.output(0))
    first.output(0).get_tensor().set_names({FIRST_ROW})
    model.add_parameters([first])
    model.validate_nodes_and_infer_types()


def _properties(device: str, options: OpenVinoOptions, weights_bytes: int) -> dict[str, Any]:
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU" and weights_bytes >= SMALL_MODEL_BYTES:
        # Where the CPU has bf16 (AMX), OpenVINO takes it, which is slow for few tokens at a time. With these two, 3.8 B weights in 4 bits
        # give a line of 12 tokens in 1,602 ms in place of 2,098, and 1,000 tokens of prompt take 4 % longer. With f32, the default of
        # other CPUs, groups as large as those of the weights made 64 tokens a fifth faster. Rounding is about as coarse as with bf16:
        # probabilities of the embedded model moved by 0.008 on average, with bf16 by 0.005, with f32 alone by 0.007.
        properties |= {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
    if options.inference_precision:
        properties["INFERENCE_PRECISION_HINT"] = options.inference_precision
    if options.kv_cache_precision:
        properties["KV_CACHE_PRECISION"] = options.kv_cache_precision
    if options.threads:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if device == "CPU":
        # By channel, OpenVINO's default, rounds a block's keys again with each token that joins them, so an answer depends on how its text
        # was typed (probabilities moved by up to 0.006 on the embedded model, in f32). By token nothing moves. The rest is the same:
        # divergence from an f32 cache 0.00008 nats against 0.00007, a step at 1,500 tokens 21.6 ms against 22.8, 7 % less memory.
        properties["KEY_CACHE_QUANT_MODE"] = "BY_TOKEN"
    # Off on the CPU unless asked for: a 0.4 B model compiles in 0.4 s, and in 0.7 s with a cache, of 270 MB, on disk.
    cache = options.cache_dir or ("off" if device == "CPU" else str(cache_folder() / "openvino"))
    if cache != "off":
        properties["CACHE_DIR"] = cache
    return properties


def _is_cache(port: Any) -> bool:
    return str(port.any_name).startswith(("key_cache.", "value_cache."))


def _pool_blocks(core: Any, info: EngineInfo, caches: Sequence[Any], block_tokens: int, options: OpenVinoOptions) -> int:
    block_bytes: int = sum(
        port.element_type.size * int(np.prod([port.partial_shape[axis].get_length() for axis in (1, 2, 3)])) for port in caches
    )
    if options.kv_tokens:
        return max(1, options.kv_tokens // block_tokens)
    memory = machine_bytes() if info.device == "CPU" else int(core.get_property(info.device, "GPU_DEVICE_TOTAL_MEM_SIZE"))
    affordable = memory // KV_SHARE // block_bytes
    a_context = -(-info.context_tokens // block_tokens)
    return max(a_context, min(KV_CONTEXTS * a_context, affordable))
