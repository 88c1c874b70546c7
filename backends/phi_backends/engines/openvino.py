"""OpenVINO on CPU, GPU and NPU: the folder is checked, the device chosen, the options read; then one of two ways to run it is loaded.

CPU and GPU run the paged-attention form of the model in a loop of ours (openvino_paged.py), the NPU runs openvino_genai's static pipeline
(openvino_npu.py): it takes no model whose shapes change.
"""

import json
from pathlib import Path
from typing import Any

from phi_backends.engine import Engine, Options, Progress
from phi_backends.engines.openvino_device import Device, OpenVinoOptions
from phi_backends.errors import BadInput, EngineError, EngineMissing, ModelError
from phi_backends.model_folder import ModelFolder, find
from phi_backends.options import read_options

try:
    import openvino as ov
except ModuleNotFoundError as error:
    raise EngineMissing('The package openvino is not installed. Install it with: pip install "phi-ls[openvino]"') from error


NPU_CONTEXT_TOKENS = 1024
SMALL_MODEL_BYTES = 100_000_000
"""AUTO leaves a model with fewer bytes of weights on the CPU, which reads them in 3 ms: a GPU has little to gain and has to be woken."""


def load(model: str, device: str, options: Options, progress: Progress) -> Engine:
    """The engine for `model`, `embedded` or the path of an IR folder, on `device`: CPU, GPU, GPU.n, NPU or AUTO.

    Raises BadInput for a device or an option that there is not, ModelError for a folder that is no complete model.
    """
    chosen = read_options(OpenVinoOptions, "OpenVINO", options)
    folder = find(model)
    _check_files(folder)
    core = ov.Core()
    best = choose_device(core, device, _weights_path(folder).stat().st_size)
    try:
        return _load_on(core, folder, best, chosen, progress)
    except EngineError as error:
        if device.upper() not in ("AUTO", "") or best.name == "CPU":
            raise
        progress(f"{best.name} failed, taking the CPU")
        return _load_on(core, folder, Device("CPU", f"{best.name} failed ({error}), so the CPU is used"), chosen, progress)


def choose_device(core: Any, asked: str, weights_bytes: int) -> Device:
    """The device to use, of those there are. Raises BadInput, with a list of them, when the one asked for is not among them."""
    found = list(core.available_devices)
    name = asked.upper() or "AUTO"
    if name != "AUTO":
        # One GPU is listed as "GPU" and answers to "GPU.0" too; with several it is the other way round.
        known = [*found, *(f"{other}.0" for other in found if "." not in other), *(other.split(".")[0] for other in found)]
        if name in known:
            return Device(name, f"{name} was asked for")
        listed = ", ".join(f"{other} ({_full_name(core, other)})" for other in found) or "none"
        hint = " Or install its driver." if name.split(".")[0] in ("GPU", "NPU") else ""
        raise BadInput(f'OpenVINO finds no device "{asked}" here. Choose one that it finds, or AUTO: {listed}.{hint}')
    gpus = [other for other in found if other.startswith("GPU")]
    if not gpus:
        npu = '; the NPU is used where it is asked for (device "NPU"), with a model made for it' if "NPU" in found else ""
        return Device("CPU", f"no GPU was found, so the CPU is used{npu}")
    if weights_bytes < SMALL_MODEL_BYTES:
        return Device("CPU", f"the model is so small ({weights_bytes // 1_000_000} MB) that the CPU is used")
    discrete = [other for other in gpus if "DISCRETE" in str(core.get_property(other, "DEVICE_TYPE"))]
    best = (discrete or gpus)[0]
    return Device(best, f"the fastest device that OpenVINO finds ({_full_name(core, best)})")


def _load_on(core: Any, folder: ModelFolder, device: Device, options: OpenVinoOptions, progress: Progress) -> Engine:
    longest = _context_tokens(folder)
    if device.name == "NPU":
        from phi_backends.engines import openvino_npu

        return openvino_npu.load(folder, min(longest, options.context_tokens or NPU_CONTEXT_TOKENS), device, options, progress)
    from phi_backends.engines import openvino_paged

    return openvino_paged.load(core, folder, min(longest, options.context_tokens or longest), device, options, progress)


def _context_tokens(folder: ModelFolder) -> int:
    """What the model was trained for. Models with a longer, rescaled context change the scale of all positions when they pass the
    original length, which makes a KV cache filled before that worthless: they are used up to that length."""
    config = json.loads((folder.path / "config.json").read_text(encoding="utf-8"))
    return min(folder.context_tokens, config.get("original_max_position_embeddings") or folder.context_tokens)


def _full_name(core: Any, device: str) -> str:
    try:
        return str(core.get_property(device, "FULL_DEVICE_NAME"))
    except RuntimeError:
        return "no name given"


def _check_files(folder: ModelFolder) -> None:
    for path in (_model_path(folder), _weights_path(folder)):
        if not path.is_file():
            raise ModelError(
                f'There is no {path.name} in "{folder.path}". Give the folder that `optimum-cli export openvino` wrote, or fetch a '
                "converted model whole."
            )


def _model_path(folder: ModelFolder) -> Path:
    return folder.path / "openvino_model.xml"


def _weights_path(folder: ModelFolder) -> Path:
    return folder.path / "openvino_model.bin"
