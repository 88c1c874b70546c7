"""ONNX Runtime GenAI, on the CPU and, through DirectML, on the GPUs of Windows: the folder is checked, the device chosen, the model loaded.

One file for two packages whose calls are the same: onnxruntime-genai (tried with 0.14.1 and 0.18) and onnxruntime-genai-directml (0.14.1,
for Windows only).

Not here: how it is run (onnx_generators.py); the runtime's own tokenizer, which cuts indentation in another way than the models were
trained with (tokenizer.py has theirs).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from phi_backends.engine import Engine, Options, Progress
from phi_backends.errors import BadInput, EngineError, EngineMissing, ModelError, in_one_line
from phi_backends.model_folder import ModelFolder, find, read_json
from phi_backends.options import read_options
from phi_backends.tokenizer import FolderTokenizer

_INSTALL = 'pip install "phi-ls[onnx]"'
_INSTALL_DIRECTML = 'On Windows, in an environment of its own: pip install "phi-ls[directml]"'
try:
    import onnxruntime_genai as og
except ModuleNotFoundError as error:
    raise EngineMissing(
        f"The package onnxruntime-genai is not installed. Install it with: {_INSTALL}. For DirectML, on Windows: "
        'pip install "phi-ls[directml]"'
    ) from error
except ImportError as error:  # its library, or one that this needs
    raise EngineMissing(f"onnxruntime-genai is installed and cannot be loaded ({error}). Install it again: {_INSTALL}") from error

RESCALED_AT = {"phi3": 4096, "phimoe": 4096, "phi3small": 8192}
"""By the model type in genai_config.json: one token later the runtime fills the whole KV cache anew, since the long models of these types
change the scale of all positions there (on DirectML it takes one scale throughout). They are used up to that length."""
KV_BYTES = 4_000_000_000
SEQUENCES = (2, 5)
"""At least one for completions and one for an explanation, at most so many as fit KV_BYTES. Each takes its whole context of memory from
the start: the runtime fills it with zeros (Phi-3-mini, 4,096 tokens: 3.2 GB in the f32 of the CPU, 1.6 GB in the f16 of DirectML)."""


@dataclass(frozen=True)
class OnnxOptions:
    """What `engine_options` may hold. 0 leaves the choice to phi-ls or the runtime."""

    threads: int = 0
    """On the CPU."""
    context_tokens: int = 0
    """Prompt and answer together; at most, and by default, what the model was trained for without rescaling (RESCALED_AT)."""
    sequences: int = 0
    """How many KV caches there may be at once; each takes the memory of a whole context."""


def load(model: str, device: str, options: Options, progress: Progress) -> Engine:
    """The engine for `model`, the path of a folder with genai_config.json, on `device`: CPU, DML (DirectML) or AUTO.

    Raises BadInput for a device or an option that there is not, ModelError for a folder that is no complete model of text.
    """
    chosen = read_options(OnnxOptions, "ONNX", options)
    folder = find(model)
    config = read_config(folder)
    best = choose_device(device, config.providers, bool(og.is_dml_available()))
    try:
        return load_on(folder, config, best, chosen, progress)
    except (EngineError, ModelError) as error:  # the runtime tells a driver that fails from a broken file in its text alone
        if device.upper() not in ("AUTO", "") or best.name == "CPU":
            raise
        progress("DirectML failed, taking the CPU")
        return load_on(folder, config, Device("CPU", f"DirectML failed ({error}), so the CPU is used"), chosen, progress)


@dataclass(frozen=True)
class OnnxConfig:
    """What genai_config.json says, as far as it matters here."""

    providers: tuple[str, ...]
    """What the model was made for, such as `dml`; nothing stands for the CPU."""
    context_tokens: int
    end_ids: frozenset[int]
    """The runtime refuses to go on behind these by itself."""
    token_bytes: int
    """Of KV cache for each token, in f32."""


def read_config(folder: ModelFolder) -> OnnxConfig:
    """Raises ModelError when the folder is not a model of text in one piece."""
    model = (read_json(folder.path / "genai_config.json") or {}).get("model")
    decoder = model.get("decoder") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(decoder, dict):
        raise ModelError(
            f'"{folder.path}" has no genai_config.json that describes a decoder. Give a folder for ONNX Runtime GenAI, such as '
            "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4 of microsoft/Phi-3-mini-4k-instruct-onnx."
        )
    if others := {"vision", "speech", "encoder"} & set(model):
        raise ModelError(f'The model in "{folder.path}" takes {min(others)} as well. Give one that is for text alone, such as Phi-3-mini.')
    name = decoder.get("filename")
    if not isinstance(name, str) or not (folder.path / name).is_file():
        raise ModelError(
            f'There is no {name or "model.onnx"} in "{folder.path}", which its genai_config.json names. Fetch the model whole.'
        )
    listed = decoder.get("session_options", {}).get("provider_options", [])
    ends = model.get("eos_token_id")
    heads, size, layers = (int(decoder.get(key, 0)) for key in ("num_key_value_heads", "head_size", "num_hidden_layers"))
    return OnnxConfig(
        providers=tuple(key.lower() for entry in listed for key in entry),
        context_tokens=min(folder.context_tokens, RESCALED_AT.get(str(model.get("type")), folder.context_tokens)),
        end_ids=frozenset([ends] if isinstance(ends, int) else ends or ()),
        token_bytes=2 * 4 * heads * size * layers,
    )


@dataclass(frozen=True)
class Device:
    name: str
    reason: str
    """A clause that says why it was chosen."""


def choose_device(asked: str, made_for: Sequence[str], has_directml: bool) -> Device:
    """The device to use. `made_for`: the providers that genai_config.json names. Raises BadInput or EngineMissing when it is not there."""
    name = asked.upper() or "AUTO"
    if name == "CPU":
        return Device("CPU", "CPU was asked for")
    if name == "DML":
        if not has_directml:
            raise EngineMissing(
                f"The installed onnxruntime-genai was built without DirectML. {_INSTALL_DIRECTML}. Or choose the device CPU."
            )
        return Device("DML", "DML was asked for")
    if name != "AUTO":
        raise BadInput(f'ONNX Runtime GenAI has no device "{asked}". Choose CPU, DML (DirectML, on Windows) or AUTO.')
    if "dml" in made_for and has_directml:
        return Device("DML", "the model was made for DirectML")
    if "dml" in made_for:
        return Device(
            "CPU", f"the model was made for DirectML, without which this package was built, so the CPU is used. {_INSTALL_DIRECTML}"
        )
    if made_for:
        return Device("CPU", f"the model was made for {made_for[0]}, which phi-ls does not use, so the CPU is used")
    return Device("CPU", "the model was made for the CPU")


def load_on(folder: ModelFolder, config: OnnxConfig, device: Device, options: OnnxOptions, progress: Progress) -> Engine:
    from phi_backends.engines.onnx_generators import OnnxEngine

    tokenizer = FolderTokenizer(folder.path)
    progress("reading the model")
    try:
        model = og.Model(_runtime_config(folder, config, device, options))
    except RuntimeError as error:
        raise ModelError(
            f'ONNX Runtime cannot load the model in "{folder.path}" on {device.name} ({in_one_line(error)}). Fetch it again, whole; '
            "the file .onnx.data belongs to it."
        ) from error
    context_tokens = min(config.context_tokens, options.context_tokens or config.context_tokens)
    info = folder.in_use("onnx", device.name, device.reason, context_tokens)
    fitting = KV_BYTES // max(1, context_tokens * config.token_bytes // (2 if device.name == "DML" else 1))
    sequences = options.sequences or max(SEQUENCES[0], min(SEQUENCES[1], fitting))
    engine = OnnxEngine(model, tokenizer, info, sequences, config.end_ids, grows_only=device.name == "DML")
    progress("warming up")
    engine.warm_up()
    return engine


def _runtime_config(folder: ModelFolder, config: OnnxConfig, device: Device, options: OnnxOptions) -> Any:
    runtime = og.Config(str(folder.path))
    if device.name == "CPU":
        runtime.clear_providers()  # a folder made for DirectML runs on the CPU as well
    elif "dml" not in config.providers:
        runtime.clear_providers()
        runtime.append_provider("dml")
    if options.threads:
        runtime.overlay(f'{{"model": {{"decoder": {{"session_options": {{"intra_op_num_threads": {options.threads}}}}}}}}}')
    return runtime
