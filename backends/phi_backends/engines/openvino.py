"""OpenVINO on CPU, GPU and NPU: the folder is checked, the device chosen, the options read; then one of two ways to run it is loaded.

CPU and GPU run the paged-attention form of the model in a loop of ours (openvino_paged.py), the NPU runs openvino_genai's static pipeline
(openvino_npu.py): it takes no model whose shapes change.
"""

from pathlib import Path
from typing import Any

from phi_backends.engine import Engine, Options, Progress
from phi_backends.engines.openvino_device import Device, OpenVinoOptions
from phi_backends.errors import BadInput, EngineError, EngineMissing, ModelError
from phi_backends.model_folder import SMALL_MODEL_BYTES, ModelFolder, compression, find
from phi_backends.options import read_options

try:
    import openvino as ov
except ModuleNotFoundError as error:
    raise EngineMissing('The package openvino is not installed. Install it with: pip install "phi-ls[openvino]"') from error


NPU_CONTEXT_TOKENS = 1024


def load(model: str, device: str, options: Options, progress: Progress) -> Engine:
    """The engine for `model`, `embedded` or the path of an IR folder, on `device`: CPU, GPU, GPU.n, NPU or AUTO.

    Raises BadInput for a device or an option that there is not, ModelError for a folder that is no complete model.
    """
    chosen = read_options(OpenVinoOptions, "OpenVINO", options)
    folder = find(model)
    _check_files(folder)
    core = ov.Core()
    best = choose_device(core, device, _weights_path(folder).stat().st_size, compression(folder.path)[1])
    try:
        return _load_on(core, folder, best, chosen, progress)
    except EngineError as error:
        if device.upper() not in ("AUTO", "") or best.name == "CPU":
            raise
        progress(f"{best.name} failed, taking the CPU")
        return _load_on(core, folder, Device("CPU", f"{best.name} failed ({error}), so the CPU is used"), chosen, progress)


def choose_device(core: Any, asked: str, weights_bytes: int, fit_for_npu: bool = False) -> Device:
    """The device to use, of those there are, as long as nothing was measured (auto.py). Raises BadInput, with a list of them, when the one
    asked for is not among them."""
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
    if "NPU" in found and fit_for_npu and weights_bytes >= SMALL_MODEL_BYTES:
        return Device("NPU", f"the model was made for the NPU ({_full_name(core, 'NPU')})")
    gpus = [other for other in found if other.startswith("GPU")]
    if not gpus:
        npu = "; the NPU takes only models that were made for it" if "NPU" in found else ""
        return Device("CPU", f"no GPU was found, so the CPU is used{npu}")
    if weights_bytes < SMALL_MODEL_BYTES:
        return Device("CPU", f"the model is so small ({weights_bytes // 1_000_000} MB) that the CPU is used")
    discrete = [other for other in gpus if "DISCRETE" in str(core.get_property(other, "DEVICE_TYPE"))]
    best = (discrete or gpus)[0]
    return Device(best, f"the fastest device that OpenVINO finds ({_full_name(core, best)})")


def _load_on(core: Any, folder: ModelFolder, device: Device, options: OpenVinoOptions, progress: Progress) -> Engine:
    longest = folder.trained_tokens()
    if device.name == "NPU":
        from phi_backends.engines import openvino_npu

        return openvino_npu.load(folder, min(longest, options.context_tokens or NPU_CONTEXT_TOKENS), device, options, progress)
    from phi_backends.engines import openvino_paged

    return openvino_paged.load(core, folder, min(longest, options.context_tokens or longest), device, options, progress)


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
