"""Real editors: what they all start, and the report of which ones were really driven. These tests run only when asked for by their marker
or their folder (`dev.py editors`): they fetch the editors first.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from editors.install import ROOT, Unavailable

from phi_backends.model_folder import EMBEDDED_FOLDER

SERVER = [sys.executable, "-P", "-m", "phi_server", "serve"]
CLIENTS = ROOT / "editor-clients"
SAMPLE = ROOT / "server" / "phi_server" / "demo_project" / "inventory.py"
WITHIN_S = 60.0
"""For everything that is waited for: a test only takes that long when it fails, and two busy cores are slow."""

_driven: dict[str, int] = {}
_skipped: dict[str, str] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result, which pytest's hook types leave out
    if report.when == "call" and (editor := dict(report.user_properties).get("editor")):
        _driven[str(editor)] = _driven.get(str(editor), 0) + 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _driven or _skipped:
        terminalreporter.section("editors")
        for editor, tests in _driven.items():
            terminalreporter.write_line(f"driven: {editor}, {tests} tests")
        for editor, reason in _skipped.items():
            terminalreporter.write_line(f"skipped: {editor}: {reason}")


def available(name: str, get: Callable[[], Path]) -> Path:
    """What `get` installs; skips, and has the report tell why, when it cannot be had here."""
    try:
        return get()
    except Unavailable as error:
        _skipped[name] = str(error)
        pytest.skip(f"{name}: {error}")


def until(condition: Callable[[], Any], what: str, explain: Callable[[], str] = str) -> Any:
    """Waits for `condition` to be true, and returns what it returned. `explain` says more when that never happens."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {WITHIN_S:.0f} s. {explain()}")
        time.sleep(0.02)  # between two looks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with the demo's sample file."""
    project = tmp_path / "shop"
    project.mkdir()
    shutil.copy(SAMPLE, project)
    return project


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment in which an editor finds none of the user's files and leaves nothing behind."""
    home = tmp_path / "home"
    home.mkdir()
    folders = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    return {**os.environ, "HOME": str(home), **folders, "LANG": "C.UTF-8", "TERM": "xterm-256color"}


@pytest.fixture
def embedded() -> dict[str, Any]:
    """Settings for the model that ships with phi-ls."""
    if not EMBEDDED_FOLDER.is_dir():
        pytest.skip("this checkout has no embedded model")
    return {"engine": "openvino"}


def echo(reply: str, ms_per_token: float = 0) -> dict[str, Any]:
    """Settings for an engine that answers this, in that time."""
    return {"engine": "echo", "engine_options": {"reply": reply, "ms_per_token": ms_per_token, "templates": "phi3"}}


def pasted(readme: Path, language: str, changes: dict[str, str]) -> str:
    """What a README says to paste, with its example paths and settings made real."""
    return changed(readme.read_text(encoding="utf-8").partition(f"```{language}\n")[2].partition("```")[0], changes)


def changed(text: str, changes: dict[str, str]) -> str:
    for example, real in changes.items():
        assert example in text, f"{example} is not in what people paste:\n{text}"
        text = text.replace(example, real)
    return text


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of an installation that has neither a runtime nor a model."""
    folder = tmp_path_factory.mktemp("bare")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--target",
        str(folder / "libs"),
    )
    installed = subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(ROOT)], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"an installation without a runtime: {installed.stderr.strip().splitlines()[-1]}")
    shutil.rmtree(folder / "libs" / "phi_backends" / "models")
    return ["/usr/bin/env", f"PYTHONPATH={folder / 'libs'}", without_phi_ls(folder), "-P", "-m", "phi_server", "serve"]


def without_phi_ls(folder: Path) -> str:
    """A Python of its own that has pip, and neither phi-ls nor a runtime."""
    environment = folder / "empty"
    venv.create(environment, with_pip=True)
    return str(environment / "bin" / "python")


def path_with_phi_ls(folder: Path, command: Sequence[str] = SERVER) -> str:
    """A PATH on which the program `phi-ls` is, as configurations that people paste have it."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    phi_ls = programs / "phi-ls"
    phi_ls.write_text(f'#!/bin/sh\nexec {" ".join(command[:-1])} "$@"\n')
    phi_ls.chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


def children(process: int) -> dict[int, str]:
    """The processes below one: their command lines by id."""
    found: dict[int, str] = {}
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        found |= {int(child): command} | children(int(child))
    return found


def to_lua(value: Any) -> str:
    """A value as an expression that Lua and Vim understand."""
    return f"vim.json.decode({json.dumps(json.dumps(value))})"
