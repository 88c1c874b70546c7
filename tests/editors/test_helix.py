"""Helix in a terminal, with the configuration that people paste: suggestions in the completion menu, and code actions."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from editors.conftest import CLIENTS, available, echo, until
from editors.install import debian, program
from editors.terminal import Terminal

pytestmark = pytest.mark.deep
Start = Callable[[dict[str, Any]], Terminal]


@pytest.fixture
def start(folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]) -> Iterator[Start]:
    """Starts Helix with the settings given, at the end of the sample file."""
    binary = program(available("Helix", lambda: debian("helix", "hx", suite="sid")), "usr/bin/hx")
    version = subprocess.run([*binary, "--version"], env=home, capture_output=True, text=True, check=True).stdout
    record_property("editor", version.split(" (")[0].strip().capitalize())
    running = ExitStack()

    def run(settings: dict[str, Any]) -> Terminal:
        configuration = (CLIENTS / "helix" / "languages.toml").read_text(encoding="utf-8")
        phi_ls = folder.parent / "phi-ls"
        phi_ls.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m phi_server "$@"\n')
        phi_ls.chmod(0o755)
        values = "\n".join(f"{key} = {_toml(value)}" for key, value in settings.items())
        configuration = configuration.replace('command = "phi-ls"', f'command = "{phi_ls}"').replace('model = "auto"', values)
        folder_of_helix = Path(home["XDG_CONFIG_HOME"]) / "helix"
        folder_of_helix.mkdir(parents=True, exist_ok=True)
        (folder_of_helix / "languages.toml").write_text(re.sub(r"language-servers = .*", 'language-servers = ["phi-ls"]', configuration))
        terminal = Terminal([*binary, str(folder / "inventory.py")], home, folder)
        running.callback(terminal.close)
        until(lambda: b"inventory.py" in terminal.written, "Helix's screen")
        return terminal

    yield run
    running.close()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


def saved(folder: Path) -> str:
    return (folder / "inventory.py").read_text(encoding="utf-8")


def ask(terminal: Terminal, keys: str, answer: str) -> None:
    """Types until the answer is on the screen: the engine may not be ready at first, and Helix does not tell when it is."""

    def answered() -> bool:
        seen = len(terminal.written)
        terminal.keys(keys)
        deadline = time.monotonic() + 3
        while answer.encode() not in terminal.written[seen:] and time.monotonic() < deadline:
            time.sleep(0.02)  # between two looks
        return answer.encode() in terminal.written[seen:]

    until(answered, answer, lambda: repr(terminal.written[-600:]))


def test_a_suggestion_is_taken_from_the_menu(start: Start, folder: Path) -> None:
    terminal = start(echo("price + tax"))
    terminal.keys("geototal = ")
    ask(terminal, "\x18", "price + tax")
    terminal.keys("\x0e\r")
    terminal.keys("\x1b")
    until(lambda: b"NOR" in terminal.written.rpartition(b"INS")[2], "normal mode", lambda: repr(terminal.written[-600:]))
    terminal.keys(":write\r")
    until(lambda: "total = price + tax" in saved(folder), "the saved text", lambda: repr(terminal.written[-600:]))


def test_code_actions_are_offered(start: Start, embedded: dict[str, Any]) -> None:
    terminal = start(embedded)
    terminal.keys("/def add\r")
    ask(terminal, " a", "Write docstring")
