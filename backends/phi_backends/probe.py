"""What this environment can run: `python -P -m phi_backends.probe` prints it as one JSON object. A process of its own, like the worker,
since looking for devices loads runtimes and drivers.

    {"python": "3.11.7", "packages": {"openvino": "2026.4.1", "tokenizers": null, …},
     "devices": [{"name": "CPU", "description": "…", "driver": "its version, where it has one"}],
     "npu": "a sentence where there is an NPU that OpenVINO cannot use, or none", "problem": "a sentence, or empty"}
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    "openvino",
    "openvino-genai",
    "openvino-tokenizers",
    "onnxruntime-genai",
    "onnxruntime-genai-directml",
    "tokenizers",
    "numpy",
    "pygls",
    "lsprotocol",
)
_LINUX_NPUS = Path("/dev/accel")


def probe() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        packages[name] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    devices, problem = _devices() if packages["openvino"] else ([], "")
    npu = "" if any(device["name"].startswith("NPU") for device in devices) else missing_npu(sys.platform, _LINUX_NPUS)
    if packages["onnxruntime-genai-directml"]:
        devices.append({"name": "DML", "description": "DirectML, through ONNX Runtime GenAI", "driver": ""})
    if not any(packages[name] for name in ("openvino", "onnxruntime-genai", "onnxruntime-genai-directml")):
        problem = 'No runtime is installed: pip install "phi-ls[openvino]"'
    if packages["onnxruntime-genai"] and packages["onnxruntime-genai-directml"]:
        problem = "onnxruntime-genai and onnxruntime-genai-directml overwrite each other: uninstall both, then install one of them."
    return {"python": platform.python_version(), "packages": packages, "devices": devices, "npu": npu, "problem": problem}


def _devices() -> tuple[list[dict[str, str]], str]:
    try:
        import openvino

        core = openvino.Core()
        devices = [
            {"name": name, "description": str(core.get_property(name, "FULL_DEVICE_NAME")), "driver": _driver(core, name)}
            for name in core.available_devices
        ]
    except Exception as error:  # whatever a driver throws belongs in the report
        return [], f"OpenVINO is installed but fails ({type(error).__name__}: {error}). Install it again, or update the device's driver."
    return devices, ""


def _driver(core: Any, device: str) -> str:
    """The version of its driver, where it tells one: NPU_DRIVER_VERSION and the like."""
    for name in core.get_property(device, "SUPPORTED_PROPERTIES"):
        if str(name).endswith("DRIVER_VERSION"):
            return str(core.get_property(device, str(name)))
    return ""


def missing_npu(system: str, devices: Path) -> str:
    """Why OpenVINO finds none, as far as can be told from here, and what to do."""
    if system == "linux":
        npus = sorted(devices.glob("accel*")) if devices.is_dir() else []
        if not npus:
            return "There is no NPU here, or the kernel does not know it: Intel's need Linux 6.6 or newer (module intel_vpu)."
        if not any(os.access(npu, os.R_OK | os.W_OK) for npu in npus):
            return f"There is an NPU, {npus[0]}, which you may not use. Join its group, most often: sudo usermod -aG render $USER"
        return "There is an NPU, and its driver is missing or too old: install the newest from github.com/intel/linux-npu-driver."
    if system == "win32":
        return "OpenVINO finds no NPU. If the device manager shows an Intel AI Boost, install Intel's newest NPU driver."
    return "OpenVINO finds no NPU here."


if __name__ == "__main__":
    pipe = os.dup(1)  # native libraries print to file descriptor 1
    os.dup2(2, 1)
    os.write(pipe, json.dumps(probe()).encode())
    sys.exit(0)
