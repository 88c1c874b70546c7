"""Intel's NPU Acceleration Library, which runs the matrix multiplications of a transformers model on the NPU and the rest on the CPU.

Upstream has archived it: nothing in it will be mended. The engine `openvino` on the device NPU is its successor, faster and kept up. This
one is for models that only transformers can load, and for machines set up for it. It needs an old OpenVINO and an old transformers, and
so an environment of its own, which `phi-ls runtimes install intel-npu` makes and in which the engine process is started (elsewhere.py).

The library compiles each linear layer for each number of rows that it sees, which takes a second and more: so tokens are run in a few fixed
lengths, filled up with padding that is then cut off the KV cache (DynamicCache.crop). Weights are compressed at each start: loading the
library's own saved models fails since torch 2.6.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from phi_backends.cache_folder import cache_folder
from phi_backends.engine import Engine, EngineInfo, Options, Progress, Token, Tokenizer
from phi_backends.errors import BadInput, EngineError, EngineFull, EngineMissing, ModelError, in_one_line
from phi_backends.model_folder import find, has_original_weights
from phi_backends.options import read_options

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the worker sets it too; nothing here may look up what is not in the folder
try:
    import numpy as np
    import torch
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "NPU is not available", which is told as the reason
        import intel_npu_acceleration_library as npu
        from intel_npu_acceleration_library.backend import npu_available
        from intel_npu_acceleration_library.compiler import CompilerConfig, compile
except ModuleNotFoundError as error:
    raise EngineMissing(
        f"The package intel-npu-acceleration-library is not here ({error.name} is missing). It needs an environment of its own: "
        "phi-ls runtimes install intel-npu"
    ) from error
except (ImportError, OSError) as error:  # its library, or the OpenVINO that it brings
    raise EngineMissing(
        f"intel-npu-acceleration-library is installed and cannot be loaded ({error}). Make its environment again: "
        "phi-ls runtimes remove intel-npu, then phi-ls runtimes install intel-npu"
    ) from error

from phi_backends.sampling import choose
from phi_backends.tokenizer import FolderTokenizer

LENGTHS = (1, 16, 128)
"""Tokens in a pass. A key adds one to three, a chunk of a prompt is 64 and more."""


@dataclass(frozen=True)
class IntelNpuOptions:
    """What `engine_options` may hold. 0 leaves the choice to phi-ls."""

    weights: Literal["int4", "int8", "fp16"] = "int4"
    """To what they are compressed while loading."""
    context_tokens: int = 0
    """Prompt and answer together; at most, and by default, what the model was trained for without rescaling."""
    sequences: int = 4
    """How many KV caches there may be at once; each grows to a whole context."""


def load(model: str, device: str, options: Options, progress: Progress) -> Engine:
    """The engine for `model`, a folder of original weights, on `device`: NPU, CPU (where there is no NPU) or AUTO.

    Raises BadInput for a device or an option that there is not, ModelError for a folder that is no complete model.
    """
    chosen = read_options(IntelNpuOptions, "intel-npu", options)
    where, reason = choose_device(device, bool(npu_available()))
    folder = find(model)
    if not has_original_weights(folder.path):
        raise ModelError(
            f'"{folder.path}" holds no original weights (model.safetensors), which this engine compresses itself. '
            "Give the folder that the others were converted from."
        )
    tokenizer = FolderTokenizer(folder.path)
    kernels = cache_folder() / "intel-npu"  # the library writes what it compiles into `cache` in the folder that it runs in
    kernels.mkdir(parents=True, exist_ok=True)
    os.chdir(kernels)
    progress(f"reading the model and compressing it to {chosen.weights}")
    try:
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder.path), torch_dtype=torch.float16, attn_implementation="sdpa", trust_remote_code=False, local_files_only=True
        )
        _untie(loaded)
        kinds = {"int4": npu.int4, "int8": npu.int8, "fp16": torch.float16}
        compiled = compile(loaded.eval(), CompilerConfig(dtype=kinds[chosen.weights]))
    except MemoryError as error:
        raise EngineError("There is no memory to load it: reading takes two bytes a weight. Give a smaller model.") from error
    except Exception as error:  # transformers, torch, safetensors and the library each raise their own
        raise ModelError(f'"{folder.path}" cannot be loaded ({in_one_line(error)}). Fetch the model again, whole.') from error
    trained = folder.trained_tokens()
    info = folder.in_use("intel-npu", where, reason, min(trained, chosen.context_tokens or trained))
    engine = IntelNpuEngine(compiled, tokenizer, info, chosen.sequences or IntelNpuOptions.sequences)
    progress(f"compiling for the {where}")
    engine.warm_up()
    return engine


def _untie(model: Any) -> None:
    """Gives the last layer weights of its own. Compressing overwrites a layer's weights, and where they are the embedding's as well, as in
    Phi-4-mini, the model then says nothing that makes sense."""
    last, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if last is not None and last.weight is embedding.weight:
        last.weight = torch.nn.Parameter(last.weight.detach().clone())
        model.config.tie_word_embeddings = False


def choose_device(asked: str, has_npu: bool) -> tuple[str, str]:
    """The device that the library will use, and a clause that says why. It takes the NPU wherever there is one, and lets nobody choose."""
    name = asked.upper() or "AUTO"
    if name not in ("AUTO", "NPU", "CPU"):
        raise BadInput(f'intel-npu has no device "{asked}". Choose NPU, or AUTO.')
    if has_npu and name == "CPU":
        raise BadInput("There is an NPU here, and this library then uses nothing else. Choose the device NPU, or the engine openvino.")
    if not has_npu and name == "NPU":
        raise BadInput(
            "The library finds no NPU here. Install the NPU's driver, or choose the device AUTO, with which this library runs on the CPU."
        )
    if has_npu:
        return "NPU", f"{name} was asked for" if name == "NPU" else "the library finds an NPU"
    return "CPU", "CPU was asked for" if name == "CPU" else "the library finds no NPU and has fallen back to the CPU"


class IntelNpuEngine:
    can_choose = True

    def __init__(self, model: Any, tokenizer: FolderTokenizer, info: EngineInfo, sequences: int) -> None:
        self.info = info
        self.tokenizer: Tokenizer = tokenizer
        self.random = np.random.default_rng()
        self.free_sequences = sequences
        self._model = model

    def open(self) -> "IntelNpuSequence":
        if not self.free_sequences:
            raise EngineFull("All KV caches are in use.")
        self.free_sequences -= 1
        return IntelNpuSequence(self)

    def close(self) -> None:
        """Frees nothing that the end of the process does not."""

    def warm_up(self) -> None:
        """Compiles for each length."""
        sequence = self.open()
        for length in LENGTHS:
            sequence.append(self.tokenizer.encode("x")[:1] * min(length, self.info.context_tokens // 4))
        sequence.close()

    def run(self, cache: Any, ids: Sequence[int], length: int) -> Any:
        """The logits behind each of `ids`, which are put behind the cache. In a pass of `length` tokens; the rest of that is padding, which
        the tokens before it do not see."""
        before = cache.get_seq_length()
        try:
            with torch.inference_mode():
                padded = torch.tensor([[*ids, *[ids[-1]] * (length - len(ids))]])
                output = self._model(input_ids=padded, past_key_values=cache, use_cache=True)
        except (RuntimeError, IndexError) as error:
            cache.crop(before)
            raise EngineError(f"The library failed on the {self.info.device} ({in_one_line(error)}). Try the engine openvino.") from error
        cache.crop(before + len(ids))
        return output.logits[0, : len(ids)].float().numpy()


class IntelNpuSequence:
    def __init__(self, engine: IntelNpuEngine) -> None:
        self._engine = engine
        self._cache: Any = transformers.DynamicCache()
        self._rows: Any = None
        """Logits behind each of the tokens that were appended last; None after a rewind."""

    def __len__(self) -> int:
        return int(self._cache.get_seq_length()) if self._cache is not None else 0

    def append(self, ids: Sequence[int]) -> None:
        before, context = len(self), self._engine.info.context_tokens
        if before + len(ids) > context:
            raise EngineError(f"Prompt and answer are longer than the context of {context} tokens. Shorten the prompt or the answer.")
        rows = []
        try:
            for part, length in passes(ids, context - before):
                rows.append(self._engine.run(self._cache, part, length))
        except EngineError:
            self.rewind(before)
            raise
        self._rows = np.concatenate(rows)

    def rewind(self, length: int) -> None:
        if length < len(self):
            # Cropping to nothing would leave tensors without tokens, which not all versions of transformers take.
            self._cache.crop(length) if length else self._begin_again()
            self._rows = None

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        if self._rows is None:
            raise EngineError("The sequence has no token to go on from: append one first.")
        return Token(*choose(self._rows[-1], temperature, allowed, self._engine.random))

    def check(self, ids: Sequence[int]) -> list[Token]:
        self.append(ids)
        return [Token(*choose(row, 0.0, None, self._engine.random)) for row in self._rows]

    def close(self) -> None:
        if self._cache is not None:
            self._cache = self._rows = None
            self._engine.free_sequences += 1

    def _begin_again(self) -> None:
        self._cache = transformers.DynamicCache()


def passes(ids: Sequence[int], room: int) -> list[tuple[Sequence[int], int]]:
    """`ids` in parts, each with the length of the pass that runs it, of which none reaches past the `room` that the context has."""
    parts: list[tuple[Sequence[int], int]] = []
    at = 0
    while at < len(ids):
        left = len(ids) - at
        fitting = [length for length in LENGTHS if length <= room - at]
        length = next((length for length in fitting if length >= left), fitting[-1])
        parts.append((ids[at : at + length], length))
        at += length
    return parts
