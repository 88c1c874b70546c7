"""`phi-ls demo`: what a newcomer runs first. Nothing in it is scripted but the typing.

Starts the real server as a subprocess, speaks LSP to it as an editor does, types into a small sample file key by key, shows the
ghost text as it comes with its latency, accepts it, and has a piece of code explained.
"""

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from phi_server.lsp_client import LspClient

KEY_S = 0.05
"""Between two keys: a fast typist's 200 words a minute, which leaves the model less time than people do."""
SCENES = (
    (
        ("    def remove(self, name: str) -> None:", ""),
        ("        if name not in self.", "items:"),
        ("            raise ValueError(", 'f"{name} is not in the inventory")'),
        ("        del self.", "items[name]"),
    ),
    (
        ("    def save(self) -> None:", ""),
        ("        with open(self.path, ", '"w", encoding="utf-8") as file:'),
        ("            for item in self.", "items.values():"),
        ("                file.", 'write(f"{item.name}\\n")'),
    ),
    (
        ("    def __len__(self) -> int:", ""),
        ("        return ", "len(self.items)"),
    ),
    (
        ("if __name__ == ", '"__main__":'),
        ("    inventory = ", 'Inventory(Path("inventory.json"))'),
    ),
)
"""New methods, line by line: what is typed, after which the model may suggest the rest, and what is typed on where it suggests nothing."""
CAPABILITIES: dict[str, Any] = {
    "general": {"positionEncodings": ["utf-32"]},
    "textDocument": {"inlineCompletion": {}, "codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": []}}}},
}


@dataclass(frozen=True)
class Ghost:
    text: str
    ms: float
    """From the key to the text."""


class Editor:
    """The least an editor does: one document, a cursor at its end, a change and a request with each key."""

    def __init__(self, client: LspClient, uri: str, text: str) -> None:
        self.client = client
        self.uri = uri
        self.text = text
        self.version = 1

    @property
    def _cursor(self) -> dict[str, int]:
        return {"line": self.text.count("\n"), "character": len(self.text.rpartition("\n")[2])}

    async def insert(self, text: str) -> None:
        cursor = self._cursor
        self.version += 1
        self.text += text
        change = {"range": {"start": cursor, "end": cursor}, "text": text}
        document = {"uri": self.uri, "version": self.version}
        await self.client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})

    async def ask(self) -> "asyncio.Future[Any]":
        document = {"textDocument": {"uri": self.uri}, "position": self._cursor}
        return await self.client.ask("textDocument/inlineCompletion", {**document, "context": {"triggerKind": 2}})

    async def type(self, line: str, pause_s: float) -> Ghost | None:
        """Types a line and waits for what is suggested at its end. Each key asks; a newer request supersedes the older."""
        for key in line:
            await self.insert(key)
            started = time.perf_counter()
            asked = await self.ask()
            await _pause(self.text, pause_s)
        answer = await asked
        items = (answer or {}).get("items", [])
        return Ghost(items[0]["insertText"], 1000 * (time.perf_counter() - started)) if items else None

    async def type_on(self, line: str, pause_s: float) -> None:
        """Types what nothing is asked about."""
        for key in line:
            await self.insert(key)
            await _pause(self.text, pause_s)


async def run(engine_arguments: list[str], quick: bool = False) -> int:
    """Shows it, and returns 0 when at least three completions and the explanation came."""
    started = time.perf_counter()
    sample = files("phi_server").joinpath("demo_project/inventory.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        client = await LspClient.start(
            [sys.executable, "-P", "-m", "phi_server", "serve", *engine_arguments],
            {"rootUri": None, "capabilities": CAPABILITIES, "initializationOptions": {"statistics": False}},
        )
        async with client:
            status = await client.notification("phi-ls/status", lambda status: status["state"] in ("ready", "off"))
            print(f"{status['detail']} (ready after {time.perf_counter() - started:.1f} s)\n")
            if status["state"] == "off":
                return 1
            editor = Editor(client, Path(folder, "shop", "inventory.py").as_uri(), sample)
            await client.open(editor.uri, sample)
            ghosts = await _type(editor, 0.0 if quick else KEY_S)
            explained = await _explain(editor)
    different = {ghost.text for ghost in ghosts}
    times = sorted(ghost.ms for ghost in ghosts) or [0.0]
    print(f"\n\n{len(different)} different completions; from the last key to ghost text {times[len(times) // 2]:.0f} ms in the middle.")
    print("Everything was computed on this machine. README.md says how to use it in your editor, and with a full-size Phi-3.")
    return 0 if len(different) >= 3 and explained else 1


async def _type(editor: Editor, pause_s: float) -> list[Ghost]:
    print("Typing into inventory.py; what is suggested is shown like " + _dim("this") + " and then accepted:\n")
    ghosts = []
    for scene in SCENES:
        await editor.insert("\n")
        for line, rest in scene:
            ghost = await editor.type(line, pause_s)
            if ghost is None or not rest:
                await editor.type_on(rest, pause_s)
                _show(editor.text, ended=True)
            else:
                await editor.insert(ghost.text)
                ghosts.append(ghost)
                _show(editor.text, ghost, ended=True)
            await editor.insert("\n")
    return ghosts


async def _explain(editor: Editor) -> bool:
    """Has the method `add` explained; shows the Markdown as it streams in. Returns whether text came."""
    first = editor.text[: editor.text.index("    def add")].count("\n")
    place = {"start": {"line": first, "character": 0}, "end": {"line": first + 4, "character": 0}}
    print(f"\nExplaining lines {first + 1}-{first + 4}:\n")
    streamed = ""

    def on_progress(params: Any) -> None:
        nonlocal streamed
        streamed += params["value"]["text"]
        print(params["value"]["text"], end="", flush=True)

    editor.client.handlers["$/progress"] = on_progress
    argument = {"uri": editor.uri, "range": place, "partialResultToken": "demo"}
    result = await editor.client.request("workspace/executeCommand", {"command": "phi-ls.explain", "arguments": [argument]})
    return bool(streamed.strip()) and result["text"] == streamed


async def _pause(text: str, seconds: float) -> None:
    _show(text)
    await asyncio.sleep(seconds)


def _show(text: str, ghost: Ghost | None = None, ended: bool = False) -> None:
    """The cursor's line: over itself on a terminal, elsewhere only when it has ended."""
    typed = text.removesuffix(ghost.text) if ghost is not None else text
    lines = typed.split("\n")
    line = f"  {len(lines):3} │ {lines[-1]}"
    if ghost is not None:
        line += f"{_dim(ghost.text)}   ← {ghost.ms:.0f} ms"
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="\n" if ended else "", flush=True)
    elif ended:
        print(line)


def _dim(text: str) -> str:
    return f"\x1b[2;3m{text}\x1b[0m" if sys.stdout.isatty() else f"⟦{text}⟧"
