"""optimum-intel's OVModelForCausalLM, for what transformers alone can load: original weights (safetensors), turned into OpenVINO's form
while they are loaded, and architectures that the engine `openvino` has not been tried with.

For a folder that is in OpenVINO's form already, `openvino` is faster to start and to type with; this engine loads it all the same.

Not here: how the loaded model is run (optimum_sequences.py).
"""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phi_backends.engine import Engine, Options, Progress
from phi_backends.errors import BadInput, EngineError, EngineMissing, ModelError
from phi_backends.model_folder import ModelFolder, find, has_original_weights
from phi_backends.options import read_options

_INSTALL = 'pip install "phi-ls[optimum]"'
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the worker sets it too; nothing here may look up what is not in the folder
try:
    import openvino as ov
    import torch
    from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig
except ModuleNotFoundError as error:
    raise EngineMissing(
        f"The package optimum-intel, or one that it needs, is not installed ({error.name}). Install it, in an environment of its own "
        f"if others there need a newer transformers: {_INSTALL}"
    ) from error
except ImportError as error:  # a transformers that it does not go with
    raise EngineMissing(f"optimum-intel is installed and cannot be loaded ({error}). Install it again: {_INSTALL}") from error


@dataclass(frozen=True)
class OptimumOptions:
    """What `engine_options` may hold. 0 and the empty text leave the choice to phi-ls or OpenVINO."""

    performance_hint: Literal["", "LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"] = ""
    """OpenVINO's PERFORMANCE_HINT; by default LATENCY, since one request runs at a time."""
    num_streams: int = 0
    """OpenVINO's NUM_STREAMS."""
    cache_dir: str = ""
    """OpenVINO's CACHE_DIR, a folder for compiled models: the second start of a model in OpenVINO's form takes 0.6 s for 9.7 s."""
    threads: int = 0
    """On the CPU."""
    weights: Literal["", "fp32", "int8", "int4"] = ""
    """To what original weights are compressed while loading; by default as OpenVINO does it: int8 from a billion on."""
    context_tokens: int = 0
    """Prompt and answer together; at most, and by default, what the model was trained for without rescaling."""
    sequences: int = 4
    """How many KV caches there may be at once; each grows to a whole context."""
    inference_precision: Literal["", "bf16", "f32"] = ""
    kv_cache_precision: Literal["", "u8", "bf16", "f16", "f32"] = ""


def load(model: str, device: str, options: Options, progress: Progress) -> Engine:
    """The engine for `model`, a folder of original weights or of OpenVINO's form, on `device`: CPU, GPU, GPU.n or AUTO.

    Raises BadInput for a device or an option that there is not, ModelError for a folder that is no complete model.
    """
    from phi_backends.engines.openvino import choose_device

    chosen = read_options(OptimumOptions, "optimum", options)
    if device.upper() == "NPU":
        raise BadInput("optimum-intel runs no language models on the NPU. Choose the engine openvino for it, or the device CPU or GPU.")
    folder = find(model)
    is_exported = (folder.path / "openvino_model.xml").is_file()
    if not is_exported and not has_original_weights(folder.path):
        raise ModelError(
            f'"{folder.path}" holds neither original weights (model.safetensors) nor openvino_model.xml. Fetch the model whole.'
        )
    best = choose_device(ov.Core(), device, _weights_bytes(folder.path))
    reason = best.reason if is_exported else f"{best.reason}; the original weights are converted at each start, {_CONVERT_ONCE}"
    progress("reading the model" if is_exported else "converting the original weights, which takes minutes for a large model")
    loaded = _load(folder, best.name, chosen, is_exported)
    if type(loaded) is not OVModelForCausalLM or not loaded.stateful:
        raise ModelError(
            f'The model in "{folder.path}" keeps no KV cache that could be gone back in. Give one with attention throughout, such as '
            "Phi-3, exported with `--task text-generation-with-past`."
        )
    from phi_backends.engines.optimum_sequences import OptimumEngine
    from phi_backends.tokenizer import FolderTokenizer

    trained = folder.trained_tokens()
    info = folder.in_use("optimum", best.name, reason, min(trained, chosen.context_tokens or trained))
    engine = OptimumEngine(loaded, FolderTokenizer(folder.path), info, chosen.sequences or OptimumOptions.sequences)
    progress("warming up")
    engine.warm_up()
    return engine


_CONVERT_ONCE = "which `phi-ls models convert` does once"


def _load(folder: ModelFolder, device: str, options: OptimumOptions, is_exported: bool) -> Any:
    properties = {
        "PERFORMANCE_HINT": options.performance_hint or "LATENCY",
        "CACHE_DIR": options.cache_dir,
        "NUM_STREAMS": str(options.num_streams or ""),
        "INFERENCE_NUM_THREADS": str(options.threads or ""),
        "INFERENCE_PRECISION_HINT": options.inference_precision,
        "KV_CACHE_PRECISION": options.kv_cache_precision,
    }
    compression: dict[str, Any] = {}
    if not is_exported and options.weights == "int4":  # as `phi-ls models convert` does it
        compression["quantization_config"] = OVWeightQuantizationConfig(
            bits=4, sym=True, group_size=128, group_size_fallback="adjust", ratio=0.6
        )
    elif not is_exported and options.weights:
        compression["load_in_8bit"] = options.weights == "int8"
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dozens, about how torch traces the model
            return OVModelForCausalLM.from_pretrained(
                str(folder.path),
                export=not is_exported,
                device=device,
                ov_config={name: value for name, value in properties.items() if value},
                trust_remote_code=False,
                local_files_only=True,
                **compression,
            )
    except MemoryError as error:
        raise EngineError(f"There is no memory to load it: converting takes about four bytes a weight. {_REMEDY}") from error
    except Exception as error:  # transformers, torch, safetensors, optimum and OpenVINO each raise their own
        raise ModelError(f'"{folder.path}" cannot be loaded on {device} ({what_it_says(error)}). {_REMEDY}') from error


_REMEDY = "Fetch the model again, whole, or one in OpenVINO's form: phi-ls models list"


def what_it_says(error: Exception) -> str:
    """The first line that says something: OpenVINO begins with places in its source."""
    from phi_backends.engines import openvino_device

    return openvino_device.what_it_says(error)[:300]


def _weights_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".bin", ".safetensors"))
