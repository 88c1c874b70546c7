"""The ONNX engine with 0.14.1, the last release of DirectML's package: its tests and the contract, in an environment of its own.

onnxruntime-genai-directml has packages for Windows alone. Its calls are those of onnxruntime-genai of the same version, whose CPU package
runs here; that the Windows package has them all is read from its compiled module, where it can be fetched.
"""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from runtime_environments import environment

ROOT = Path(__file__).parents[2]
VERSION = "0.14.1"
PACKAGES = ("pytest", "hypothesis", "anyio", "onnx", "openvino==2026.4.1", "tokenizers>=0.22", "numpy>=2.0")


def test_the_contract_and_the_engines_own_tests() -> None:
    python = environment("onnx-directml-version", f"onnxruntime-genai=={VERSION}", *PACKAGES)
    paths = os.pathsep.join(str(ROOT / name) for name in ("backends", "prompts", "tests"))
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "onnx",
        "tests/test_engines.py",
        "tests/test_engines_onnx.py",
    ]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_the_windows_package_has_the_calls(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--platform", "win_amd64", "--python-version", "3.11"]
    command += ["--only-binary", ":all:", "--dest", str(tmp_path), f"onnxruntime-genai-directml=={VERSION}"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("the package for Windows cannot be fetched here")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".pyd")]
        module = wheel.read(name)
    engines = ROOT / "backends" / "phi_backends" / "engines"
    ours = "".join((engines / name).read_text(encoding="utf-8") for name in ("onnx.py", "onnx_generators.py"))
    calls = set(re.findall(r"\bog\.(\w+)", ours)) | set(re.findall(r"\b(?:generator|_generator|parameters|runtime)\.(\w+)\(", ours))
    assert {"Model", "Config", "Generator", "append_tokens", "rewind_to", "set_logits", "clear_providers", "append_provider"} <= calls
    assert [call for call in sorted(calls) if call.encode() not in module] == []
