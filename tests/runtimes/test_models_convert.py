"""`phi-ls models convert` for real: the embedded model's original weights, to every format, and each result loads and generates.

For OpenVINO the converter is that of this environment; ONNX Runtime GenAI's model builder needs a newer transformers, and one of its own.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_steps import go_on
from runtime_environments import environment
from test_engines import NPU_ON_CPU

from phi_backends.engine import Engine
from phi_backends.errors import BadInput, EngineError
from phi_backends.model_folder import find, here
from phi_server import models_convert
from phi_server.models import examine

BUILDER = ("onnxruntime-genai==0.18.0", "torch==2.13.0", "transformers==5.5.4", "onnx-ir", "onnx")
CODE = "import os\nimport sys\n\n\ndef main(argv):\n    for path in argv:\n        with open(path) as file:\n            print("


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", str(tmp_path / "cache"))


def generates(engine: Engine) -> str:
    sequence = engine.open()
    sequence.append(engine.tokenizer.encode(CODE))
    text = engine.tokenizer.decode(go_on(sequence, 8))
    sequence.close()
    return text


@pytest.mark.parametrize("target", ["cpu", "gpu"])
@pytest.mark.parametrize("format", ["int4", "int8", "fp16"])
def test_for_cpu_and_gpu(original: Path, format: str, target: str) -> None:
    from phi_backends.engines import openvino

    folder = models_convert.convert(str(original), format, target, None, None, sys.executable)
    assert examine(folder).problems == ()
    assert examine(folder).weights.startswith({"int4": "int4_sym", "int8": "int8", "fp16": ""}[format])
    assert generates(openvino.load(str(folder), "CPU", {}, lambda stage: None)).strip()


def test_for_the_npu(original: Path) -> None:
    from phi_backends.engines.openvino_device import Device, OpenVinoOptions
    from phi_backends.engines.openvino_npu import load

    folder = models_convert.convert(str(original), "int4", "npu", None, "for-the-npu", sys.executable)
    assert examine(folder).fit_for_npu
    engine = load(find(str(folder)), 512, Device("NPU", "a test"), OpenVinoOptions(cache_dir="off"), lambda stage: None, NPU_ON_CPU)
    assert generates(engine).strip()
    engine.close()
    with pytest.raises(BadInput, match="int4"):
        models_convert.convert(str(original), "int8", "npu", None, None, sys.executable)


@pytest.mark.parametrize("format", ["int4", "fp16"])
def test_for_directml(original: Path, format: str) -> None:
    """Its folders run on the CPU as well, which is how they are tried here."""
    from phi_backends.engines import onnx

    python = environment("onnx-builder", *BUILDER)
    folder = models_convert.convert(str(original), format, "directml", None, None, str(python))
    assert examine(folder).problems == ()
    engine: Any = onnx.load(str(folder), "AUTO", {}, lambda stage: None)
    assert engine.info.device == "CPU"
    assert "made for DirectML" in engine.info.reason
    assert generates(engine).strip()


def test_for_intel_npu_nothing_is_converted(original: Path) -> None:
    with pytest.raises(BadInput, match=r"compresses original weights itself.*--engine intel-npu --model .* weights=int8"):
        models_convert.convert(str(original), "int8", "intel-npu", None, None, sys.executable)


def test_weights_that_are_cut_off_leave_nothing(original: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(original, tmp_path / "cut")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(EngineError, match=r"The converter failed \(exit code"):
        models_convert.convert(str(copy), "int8", "cpu", None, "mine", sys.executable)
    assert "mine" not in here()
