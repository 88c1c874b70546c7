"""`intel-npu` for real: `phi-ls runtimes install` makes its environment, and the contract of all engines holds in it.

On a machine without an NPU the library runs on the CPU, and says so. Not here: the same tokens as others (test_engines_agree.py).
"""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from runtime_environments import OTHERS

from phi_backends.client import Client
from phi_backends.elsewhere import is_installed, python_of, runtimes_folder
from phi_backends.errors import EngineError
from phi_backends.messages import Load, Loaded

pytestmark = pytest.mark.deep
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def python() -> Path:
    """Of the environment. PHI_LS_TEST_INTEL_NPU may name a cache folder that has one; else it is made, which takes minutes, and kept."""
    cache = os.environ.get("PHI_LS_TEST_INTEL_NPU") or str(OTHERS / "cache")
    os.environ["XDG_CACHE_HOME" if sys.platform != "win32" else "LOCALAPPDATA"] = cache
    if not is_installed("intel-npu"):
        command = [sys.executable, "-P", "-m", "phi_server", "runtimes", "install", "intel-npu", "--yes"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 2 and "failed (exit code" not in done.stderr:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr[-2000:]
    return python_of(runtimes_folder() / "intel-npu")


def loaded(model: str, device: str, **options: str | int | float | bool) -> Loaded:
    async def load() -> Loaded:
        client = Client(Load("intel-npu", model, device, options))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            try:
                answer = await client.loaded()
            except EngineError as error:
                failures.append(str(error))
            tasks.cancel_scope.cancel()
        if failures:
            raise EngineError(failures[0])
        return answer

    failures: list[str] = []
    return anyio.run(load)


@pytest.mark.parametrize("weights", ["int4", "int8", "fp16"])
def test_it_loads_and_says_what_it_runs_on(python: Path, original: Path, weights: str) -> None:
    told = loaded(str(original), "auto", weights=weights)
    assert told.engine == "intel-npu"
    if told.device != "NPU":
        assert (told.device, told.reason) == ("CPU", "the library finds no NPU and has fallen back to the CPU")


@pytest.mark.parametrize(
    ("model", "device", "options", "message"),
    [
        ("embedded", "auto", {}, r"holds no original weights \(model\.safetensors\)"),
        ("/no/such/folder", "auto", {}, "There is no model folder"),
        ("embedded", "GPU", {}, r'intel-npu has no device "GPU"\. Choose NPU, or AUTO'),
        ("embedded", "auto", {"weights": "int3"}, "weights is one of int4, int8, fp16"),
    ],
)
def test_what_cannot_be_is_said_with_the_remedy(python: Path, model: str, device: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        loaded(model, device, **options)


def test_a_cut_file_is_named(python: Path, original: Path, tmp_path: Path) -> None:
    for file in original.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 1000 if file.name == "model.safetensors" else None])
    with pytest.raises(EngineError, match=r"cannot be loaded \(.+\)\. Fetch the model again"):
        loaded(str(tmp_path), "auto")


def test_the_contract_holds_there(python: Path, original: Path, tmp_path: Path) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--target", tmp_path, "pytest"], check=True)
    paths = os.pathsep.join(map(str, (tmp_path, ROOT / "backends", ROOT / "prompts", ROOT / "tests")))
    contract = ROOT / "tests" / "runtimes" / "test_engines_contract.py"
    command = [
        str(python),
        "-m",
        "pytest",
        str(contract),
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
        "-k",
        "intel-npu",
        "-m",
        "runtimes",
    ]
    environment = {**os.environ, "PYTHONPATH": paths, "PHI_LS_TEST_ORIGINAL": str(original)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
