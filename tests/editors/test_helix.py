"""Helix in a terminal, with the configuration that people paste: suggestions in the completion menu, and code actions."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from editors.conftest import CLIENTS, SERVER, available, changed, echo, path_with_phi_ls, until
from editors.install import debian, program
from editors.terminal import Terminal

pytestmark = pytest.mark.deep
Start = Callable[..., Terminal]


@pytest.fixture
def start(folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]) -> Iterator[Start]:
    """Starts Helix with the settings given, at the end of the sample file."""
    binary = program(available("Helix", lambda: debian("helix", "hx", suite="sid")), "usr/bin/hx")
    version = subprocess.run([*binary, "--version"], env=home, capture_output=True, text=True, check=True).stdout
    record_property("editor", version.split(" (")[0].strip().capitalize())
    running = ExitStack()

    def run(settings: dict[str, Any], command: Sequence[str] = SERVER) -> Terminal:
        text = (CLIENTS / "helix" / "languages.toml").read_text(encoding="utf-8")
        values = "\n".join(f"{key} = {_toml(value)}" for key, value in settings.items())
        folder_of_helix = Path(home["XDG_CONFIG_HOME"]) / "helix"
        folder_of_helix.mkdir(parents=True, exist_ok=True)
        (folder_of_helix / "languages.toml").write_text(changed(text, {'model = "auto"': values}))
        env = {**home, "PATH": path_with_phi_ls(folder.parent, command)}
        terminal = Terminal([*binary, str(folder / "inventory.py")], env, folder)
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


def shown(terminal: Terminal, text: str) -> bool:
    """Whether that was ever on the screen. Helix writes only the cells that change, so blanks may be missing."""
    written = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\s", b"", terminal.written)
    return text.replace(" ", "").encode() in written


def ask(terminal: Terminal, keys: str, answer: str) -> None:
    """Types until the answer is on the screen: the engine may not be ready at first, and Helix does not tell when it is."""

    def answered() -> bool:
        terminal.keys(keys)
        deadline = time.monotonic() + 3
        while not shown(terminal, answer) and time.monotonic() < deadline:
            time.sleep(0.02)  # between two looks
        return shown(terminal, answer)

    until(answered, answer, lambda: repr(terminal.written[-600:]))


def test_a_suggestion_is_taken_from_the_menu(start: Start, folder: Path) -> None:
    terminal = start(echo("price + tax"))
    terminal.keys("georebate = ")
    ask(terminal, "\x18", "price + tax")
    terminal.keys("\x0e\r")
    terminal.keys("\x1b")
    until(lambda: b"NOR" in terminal.written.rpartition(b"INS")[2], "normal mode", lambda: repr(terminal.written[-600:]))
    terminal.keys(":write\r")
    until(lambda: "rebate = price + tax" in saved(folder), "the saved text", lambda: repr(terminal.written[-600:]))


def test_code_actions_are_offered(start: Start, embedded: dict[str, Any]) -> None:
    terminal = start(embedded)
    terminal.keys("/def add\r")
    ask(terminal, " a", "Write docstring")


def test_without_a_model_and_a_runtime_there_is_one_message(start: Start, bare: list[str]) -> None:
    terminal = start({}, bare)
    until(lambda: shown(terminal, "Choose a model"), "a message", lambda: repr(terminal.written[-600:]))
    assert b"Traceback" not in terminal.written
