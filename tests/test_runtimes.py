"""`phi-ls runtimes`, without fetching anything: what it asks, refuses, keeps and deletes. For real: runtimes/test_engines_intel_npu.py."""

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from phi_backends.client import Client
from phi_backends.elsewhere import python_of, worker_command
from phi_backends.errors import BadInput, EngineError
from phi_backends.messages import Load, Loaded
from phi_server import runtimes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environments are to be."""
    for module in ("phi_server.runtimes", "phi_backends.elsewhere"):
        monkeypatch.setattr(f"{module}.runtimes_folder", lambda: tmp_path)
    return tmp_path


def yes(about: str) -> bool:
    return True


def test_what_there_is_not_is_refused_by_name(folder: Path) -> None:
    for act in (lambda: runtimes.install("cuda", None, yes), lambda: runtimes.remove("cuda")):
        with pytest.raises(BadInput, match=r'no runtime "cuda".* intel-npu\.'):
            act()
    with pytest.raises(BadInput, match="intel-npu is not installed"):
        runtimes.remove("intel-npu")


@pytest.mark.skipif(sys.platform == "darwin", reason="the library is not for macOS, which is said first")
class TestInstalling:
    def test_nothing_happens_without_a_yes(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtimes, "PYTHONS", (sys.version_info[:2],))
        asked: list[str] = []

        def no(about: str) -> bool:
            asked.append(about)
            return False

        with pytest.raises(BadInput, match="Nothing was installed"):
            runtimes.install("intel-npu", None, no)
        assert list(folder.iterdir()) == []
        assert "archived" in asked[0]
        assert str(folder / "intel-npu") in asked[0]

    def test_a_python_that_the_library_is_not_for(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtimes, "PYTHONS", ())
        with pytest.raises(BadInput, match=r"has no packages\. Name a 3\.11 or 3\.12 with --python"):
            runtimes.install("intel-npu", None, yes)
        with pytest.raises(BadInput, match="cannot be run"):
            runtimes.install("intel-npu", str(folder / "python"), yes)

    @pytest.mark.skipif(sys.platform != "linux", reason="it is compiled on Linux alone")
    def test_without_a_compiler(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtimes, "PYTHONS", (sys.version_info[:2],))
        monkeypatch.setenv("PATH", str(folder))
        with pytest.raises(BadInput, match="no C\\+\\+ compiler"):
            runtimes.install("intel-npu", None, yes)

    def test_one_that_breaks_off_stays_unfinished_and_goes_on(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runtimes, "PYTHONS", (sys.version_info[:2],))
        steps: list[str] = []

        def break_off(name: str, what: str, command: list[str], settings: dict[str, str]) -> None:
            steps.append(what)
            if what == "Making the environment":
                python_of(folder / "intel-npu.part").parent.mkdir(parents=True)
                python_of(folder / "intel-npu.part").touch()
            else:
                raise EngineError("broken off")

        monkeypatch.setattr(runtimes, "_run", break_off)
        for _ in range(2):
            with pytest.raises(EngineError, match="broken off"):
                runtimes.install("intel-npu", None, yes)
        assert steps == ["Making the environment", "Fetching the packages", "Fetching the packages"]
        assert runtimes.listed() == {"intel-npu": "begun and not finished: phi-ls runtimes install intel-npu"}
        assert runtimes.remove("intel-npu") == [folder / "intel-npu.part"]
        assert runtimes.listed() == {"intel-npu": "not installed: phi-ls runtimes install intel-npu"}

    def test_a_step_that_fails_says_how_to_go_on(self, folder: Path) -> None:
        with pytest.raises(EngineError, match=r"Trying it failed \(exit code 3\).* to go on: phi-ls runtimes install intel-npu"):
            runtimes._run("intel-npu", "Trying it", [sys.executable, "-c", "raise SystemExit(3)"], {})


def test_the_engine_process_is_started_in_the_environment(folder: Path) -> None:
    """An empty one: what the worker needs of ours comes from here, and nothing else does."""
    assert worker_command("openvino", None) == worker_command("intel-npu", None) == [sys.executable, "-P", "-m", "phi_backends.worker"]
    python = python_of(folder / "intel-npu")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "intel-npu"], check=True)
    assert worker_command("intel-npu", None)[:2] == [str(python), "-P"]

    async def load(engine: str) -> Loaded:
        client = Client(Load(engine, "embedded", "auto", {}), python=str(python))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            try:
                loaded = await client.loaded()
            finally:
                tasks.cancel_scope.cancel()
        return loaded

    assert anyio.run(load, "echo").engine == "echo"
    with pytest.raises(ExceptionGroup) as caught:  # numpy and tokenizers are installed here, and not found there
        anyio.run(load, "intel-npu")
    assert caught.group_contains(EngineError, match="phi-ls runtimes install intel-npu")
