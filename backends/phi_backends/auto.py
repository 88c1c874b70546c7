"""`auto`: the engine that runs a model. The folder says it by what is in it and, where several could, what is installed does.

Nothing is imported here but names: the worker calls this before it has a runtime.
"""

from importlib.util import find_spec

from phi_backends.errors import ModelError
from phi_backends.model_folder import MADE_FOR, find

_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime_genai"}
"""By engine: the module without which it does not start."""
_FORMATS = {"openvino": "OpenVINO", "onnx": "ONNX Runtime GenAI"}


def choose_engine(model: str) -> tuple[str, str]:
    """Its name, and a clause that says why it. Raises ModelError when there is no such model, or no engine for it."""
    folder = find(model)
    if not folder.engines:
        raise ModelError(
            f'"{folder.path}" is in no format that phi-ls runs: it holds neither of {", ".join(MADE_FOR)}. '
            f"If these are the model's original weights, convert them: phi-ls models convert {folder.path} --for cpu"
        )
    there = [engine for engine in folder.engines if find_spec(_PACKAGES[engine])]
    engine = (there or folder.engines)[0]  # with none there, the engine's own module says how to install it
    reason = f"the model is in the format of {_FORMATS[engine]}"
    if there and engine != folder.engines[0]:
        reason = f"{reason} too, and {_FORMATS[folder.engines[0]]} is not installed"
    return engine, reason
