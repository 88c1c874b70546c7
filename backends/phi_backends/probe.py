"""What this environment can run: `python -P -m phi_backends.probe` prints it as one JSON object. A process of its own, like the worker,
since looking for devices loads runtimes and drivers.

    {"python": "3.11.7", "packages": {"openvino": "2026.4.1", "tokenizers": null, …}, "devices": [{"name": "CPU", "description": "…"}],
     "problem": "a sentence, or empty"}
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
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


def probe() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        packages[name] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    devices, problem = _devices() if packages["openvino"] else ([], "")
    if packages["onnxruntime-genai-directml"]:
        devices.append({"name": "DML", "description": "DirectML, through ONNX Runtime GenAI"})
    if not any(packages[name] for name in ("openvino", "onnxruntime-genai", "onnxruntime-genai-directml")):
        problem = 'No runtime is installed: pip install "phi-ls[openvino]"'
    if packages["onnxruntime-genai"] and packages["onnxruntime-genai-directml"]:
        problem = "onnxruntime-genai and onnxruntime-genai-directml overwrite each other: uninstall both, then install one of them."
    return {"python": platform.python_version(), "packages": packages, "devices": devices, "problem": problem}


def _devices() -> tuple[list[dict[str, str]], str]:
    try:
        import openvino

        core = openvino.Core()
        devices = [{"name": name, "description": str(core.get_property(name, "FULL_DEVICE_NAME"))} for name in core.available_devices]
    except Exception as error:  # whatever a driver throws belongs in the report
        return [], f"OpenVINO is installed but fails ({type(error).__name__}: {error}). Install it again, or update the device's driver."
    return devices, ""


if __name__ == "__main__":
    pipe = os.dup(1)  # native libraries print to file descriptor 1
    os.dup2(2, 1)
    os.write(pipe, json.dumps(probe()).encode())
    sys.exit(0)
