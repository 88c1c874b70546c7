"""An engine whose package is not installed says so, with the command that installs it. Each is imported with that package hidden."""

import subprocess
import sys

import pytest

from phi_backends.engines import ENGINES

COMMANDS = {
    "openvino": ("openvino", 'pip install "phi-ls[openvino]"'),
    "onnx": ("onnxruntime_genai", 'pip install "phi-ls[onnx]"'),
    "optimum": ("optimum", 'pip install "phi-ls[optimum]"'),
    "intel-npu": ("torch", "phi-ls runtimes install intel-npu"),
}
"""By engine: a module of its package, and the command. `remote` and `echo` need none."""


def test_each_engine_is_tested_that_needs_a_package() -> None:
    assert {*COMMANDS, "remote", "echo"} == set(ENGINES)


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_missing_package_is_named_with_the_command_that_installs_it(engine: str) -> None:
    hidden, command = COMMANDS[engine]
    script = f"""
import importlib, sys
sys.modules[{hidden!r}] = None
from phi_backends.errors import EngineMissing
try:
    importlib.import_module({ENGINES[engine]!r})
except EngineMissing as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert command in done.stdout


@pytest.mark.parametrize("engine", ["remote", "echo"])
def test_what_needs_no_package_is_standard_library_alone(engine: str) -> None:
    script = f"import importlib, sys; importlib.import_module({ENGINES[engine]!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-S", "-c", PATHS + script], capture_output=True, text=True, timeout=120, check=True)
    assert not {"numpy", "tokenizers", "openvino", "anyio"} & set(done.stdout.split())


PATHS = f"import sys; sys.path += {[path for path in sys.path if path]!r}; "
"""`-S` leaves the site packages out, and with them those of an editable install."""
