"""Kate with the configuration that people paste: its windows on Qt's own VNC server, keys typed into them, and what it saves read."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from editors.browser import PICTURES
from editors.conftest import CLIENTS, SERVER, available, changed, children, echo, path_with_phi_ls, until
from editors.install import FOLDER, debian, program
from editors.screen import ALT, CONTROL, DOWN, END, ENTER, SIZE, Screen, differing

pytestmark = pytest.mark.deep
PACKAGES = ("kate", "qt6-qpa-plugins", "fonts-dejavu-core")
KATERC = """
[Kate Plugins]
lspclientplugin=true

[General]
Show Url Nav Bar=false

[KTextEditor Renderer]
Text Font=DejaVu Sans Mono,11,-1,5,400,0,0,0,0,0
"""
"""The plugin is one that people switch on; the rest is for the pictures."""
OUTPUT = (30, SIZE[1] - 13)
"""The tab of that name, below."""
WHITE = b"\xff\xff\xff"
A_MENU = 4000
"""Pixels that a menu changes at least. A line of text has some 500, the blinking cursor 40."""


class Kate:
    def __init__(self, screen: Screen, process: int, project: Path) -> None:
        self.screen = screen
        self.process = process
        self.project = project

    @property
    def saved(self) -> str:
        return (self.project / "inventory.py").read_text(encoding="utf-8")

    def save(self) -> None:
        self.screen.key(ord("s"), CONTROL)

    def go_to(self, line: int) -> None:
        self.screen.key(ord("g"), CONTROL)
        self.screen.type(f"{line}\n")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        return until(condition, what, self._seen)

    def _seen(self) -> str:
        self.screen.picture(FOLDER / "kate-failure.png")
        return f"See {FOLDER / 'kate-failure.png'}. Saved: {self.saved}"

    def until_menu(self, ask: Callable[[], None], take_back: Callable[[], None]) -> None:
        """Asks again when nothing opens: the engine may not be ready at first, and Kate does not tell when it is."""

        def opened() -> bool:
            before = self.screen.settled()
            ask()
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                if differing(before, self.screen.pixels()) > A_MENU:
                    return True
                time.sleep(0.1)  # between two looks
            take_back()
            return False

        self.until(opened, "a menu")


Start = Callable[..., Kate]


@pytest.fixture
def start(folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]) -> Iterator[Start]:
    """Starts Kate with the settings given, in the sample file, and allows it to start phi-ls, as it asks."""
    root = available("Kate", lambda: debian("kate", *PACKAGES, suite="sid"))
    binary = program(root, "usr/bin/kate")
    (plugins,) = root.glob("usr/lib/*/qt6/plugins")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    runtime = folder.parent / "runtime"
    runtime.mkdir(mode=0o700)
    shown = f"vnc:size={SIZE[0]}x{SIZE[1]}:port={port}"
    fonts = str(root / "usr/share/fonts/truetype/dejavu")
    env = {**home, "XDG_RUNTIME_DIR": str(runtime), "XDG_DATA_DIRS": str(root / "usr/share")}
    env |= {"QT_QPA_PLATFORM": shown, "QT_QPA_FONTDIR": fonts, "QT_PLUGIN_PATH": str(plugins)}
    version = subprocess.run(
        [*binary, "--version"], env={**env, "QT_QPA_PLATFORM": "offscreen"}, capture_output=True, text=True, check=True
    )
    record_property("editor", version.stdout.strip().capitalize())
    running = ExitStack()

    def run(settings: dict[str, Any], command: Sequence[str] = SERVER) -> Kate:
        config = Path(home["XDG_CONFIG_HOME"])
        pasted = config / "kate" / "lspclient" / "settings.json"
        pasted.parent.mkdir(parents=True)
        text = (CLIENTS / "kate" / "settings.json").read_text(encoding="utf-8")
        pasted.write_text(changed(text, {'{ "model": "auto" }': json.dumps(settings)}))
        (config / "katerc").write_text(KATERC)
        starting = [*binary, "-qwindowgeometry", f"{SIZE[0]}x{SIZE[1]}+0+0", "-n", str(folder / "inventory.py")]
        with (folder.parent / "kate.log").open("w") as log:
            with_phi_ls = {**env, "PATH": path_with_phi_ls(folder.parent, command)}
            process = subprocess.Popen(starting, env=with_phi_ls, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        running.callback(process.wait, 30)
        running.callback(os.killpg, process.pid, signal.SIGKILL)
        screen: Screen = until(lambda: connected(port), "Kate's screen", (folder.parent / "kate.log").read_text)
        running.callback(screen.close)
        kate = Kate(screen, process.pid, folder)

        def asked() -> bool:
            row, column = SIZE[1] // 2, SIZE[0] * 7 // 10  # beside the code, where Kate's question will be
            place = 4 * (row * SIZE[0] + column)
            return screen.settled()[place : place + 3] != WHITE

        until(asked, "Kate's question")
        screen.key(ord("y"), ALT)
        until(lambda: any("phi_server" in line for line in children(kate.process).values()), "the server")
        return kate

    yield run
    running.close()


def connected(port: int) -> Screen | None:
    try:
        return Screen(port)
    except ConnectionError:
        return None


def test_a_suggestion_is_taken_from_the_menu(start: Start) -> None:
    kate = start(echo("price + tax"))
    kate.screen.key(END, CONTROL)
    kate.screen.type("\nrebate = offer")
    kate.save()
    kate.until(lambda: "rebate = offer" in kate.saved, "the keys")
    kate.until_menu(lambda: kate.screen.type("."), lambda: kate.screen.type("\x1b\b"))
    kate.screen.type("\n")
    kate.save()
    kate.until(lambda: "rebate = offer.price + tax" in kate.saved, "the saved text")


def test_a_suggestion_of_the_embedded_model(start: Start, embedded: dict[str, Any]) -> None:
    kate = start(embedded)
    kate.go_to(32)
    kate.screen.type("\n    def remove(self, name: str) -> None:\nif name not in self")
    kate.save()
    kate.until(lambda: "not in self" in kate.saved, "the keys")
    kate.until_menu(lambda: kate.screen.type("."), lambda: kate.screen.type("\x1b\b"))
    PICTURES.mkdir(exist_ok=True)
    kate.screen.picture(PICTURES / "kate-completion.png")
    kate.screen.type("\n")
    kate.save()
    kate.until(lambda: re.search(r"if name not in self\.\w+", kate.saved), "the saved text")


def test_a_code_action_writes_a_docstring(start: Start, embedded: dict[str, Any]) -> None:
    """Kate takes the edit of an action only within two seconds of the choice, which a busy machine may miss: then it is chosen again."""
    kate = start(embedded)
    kate.go_to(1 + kate.saved.split("\n").index("    def add(self, item: Item) -> None:"))
    PICTURES.mkdir(exist_ok=True)

    def written() -> Any:
        kate.until_menu(lambda: kate.screen.key(ENTER, ALT), lambda: kate.screen.type("\x1b"))
        kate.screen.picture(PICTURES / "kate-code-actions.png")
        kate.screen.key(DOWN)
        kate.screen.key(DOWN)
        kate.screen.type("\n")
        kate.screen.settled()
        kate.save()
        kate.screen.settled()
        return re.search(r'def add.*\n {8}"""', kate.saved)

    kate.until(written, "the docstring")


def test_an_explanation_is_in_the_output(start: Start, embedded: dict[str, Any]) -> None:
    kate = start(embedded)
    kate.go_to(1 + kate.saved.split("\n").index("    def add(self, item: Item) -> None:"))
    kate.screen.click(*OUTPUT)
    before = kate.screen.settled()
    kate.until_menu(lambda: kate.screen.key(ENTER, ALT), lambda: kate.screen.type("\x1b"))
    kate.screen.key(DOWN)
    kate.screen.type("\n")
    kate.until(lambda: differing(before, kate.screen.settled()) > A_MENU, "the explanation")
    PICTURES.mkdir(exist_ok=True)
    kate.screen.picture(PICTURES / "kate-explanation.png")


def test_without_a_model_and_a_runtime_there_is_a_message(start: Start, bare: list[str]) -> None:
    kate = start({}, bare)
    kate.screen.click(*OUTPUT)

    def warned() -> bool:
        below = kate.screen.settled()[3 * SIZE[0] * SIZE[1] :]  # the last quarter of the window
        return below.count(b"\x03\x03\xbf") > 50  # the red word `Warning`

    kate.until(warned, "a message")
    PICTURES.mkdir(exist_ok=True)
    kate.screen.picture(PICTURES / "kate-nothing.png")
