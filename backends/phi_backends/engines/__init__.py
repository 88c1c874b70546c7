"""The table of engines: a new engine is one file here and one line below."""

from typing import Final

ENGINES: Final = {
    "openvino": "phi_backends.engines.openvino",
    "onnx": "phi_backends.engines.onnx",
    "optimum": "phi_backends.engines.optimum",
    "intel-npu": "phi_backends.engines.intel_npu",
    "remote": "phi_backends.engines.remote",
    "echo": "phi_backends.engines.echo",
}
"""Name → module with `load(model, device, options, progress) -> Engine`, imported by the worker when asked for.

`model` is what the user gave: `embedded`, or a path (model_folder.find turns it into a ModelFolder)."""
