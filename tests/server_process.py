"""The real server in a real process, with the echo engine, for end-to-end tests."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from phi_server.lsp_client import LspClient

URI = "file:///work/shop/shop.py"
INLINE: dict[str, Any] = {"textDocument": {"inlineCompletion": {}}}
EVERYTHING: dict[str, Any] = {
    "textDocument": {
        "inlineCompletion": {},
        "codeAction": {
            "codeActionLiteralSupport": {"codeActionKind": {"valueSet": ["", "quickfix", "refactor"]}},
            "dataSupport": True,
            "disabledSupport": True,
            "resolveSupport": {"properties": ["edit", "command"]},
            "tagSupport": {"valueSet": [1]},
        },
    },
    "workspace": {
        "applyEdit": True,
        "configuration": True,
        "didChangeConfiguration": {"dynamicRegistration": True},
        "textDocumentContent": {"dynamicRegistration": True},
        "workspaceEdit": {"documentChanges": True, "resourceOperations": ["create"]},
    },
    "window": {"showDocument": {"support": True}, "workDoneProgress": True},
}


@asynccontextmanager
async def server(
    capabilities: dict[str, Any] = EVERYTHING,
    *,
    reply: str = "",
    ms_per_token: float = 0,
    load_ms: int = 0,
    templates: str = "phi3",
    ready: bool = True,
    env: dict[str, str] | None = None,
    configuration: Any = None,
    **settings: Any,
) -> AsyncIterator[LspClient]:
    """An initialized server; `ready`: its engine is, too. `configuration` is what workspace/configuration is answered with; the
    other arguments are options of the echo engine, and settings in initializationOptions."""
    options = {"reply": reply, "ms_per_token": ms_per_token, "load_ms": load_ms, "templates": templates}
    settings = {"engine": "echo", "debounce_ms": 0, "engine_options": options, **settings}
    command = [sys.executable, "-P", "-m", "phi_server", "serve"]
    async with await LspClient.spawn(command, env=env) as client:
        client.answers["workspace/configuration"] = lambda params: [configuration]
        await client.initialize({"capabilities": capabilities, "initializationOptions": settings})
        if ready:
            await state(client, "ready")
        yield client


async def state(client: LspClient, wanted: str) -> dict[str, Any]:
    """Waits for a phi-ls/status of that state."""
    status: dict[str, Any] = await client.notification("phi-ls/status", lambda params: params["state"] == wanted)
    return status


def at(line: int, character: int, uri: str = URI) -> dict[str, Any]:
    return {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}


def between(first: int, last: int, character: int = 0) -> dict[str, Any]:
    """From the start of one line to a place in another."""
    return {"start": {"line": first, "character": 0}, "end": {"line": last, "character": character}}


def applied(text: str, edits: list[dict[str, Any]]) -> str:
    """The text after edits in UTF-16 positions, of ASCII lines that end in a line feed."""
    lines = text.split("\n")
    for edit in sorted(edits, key=lambda edit: int(edit["range"]["start"]["line"]), reverse=True):
        start, end = (
            sum(len(line) + 1 for line in lines[: place["line"]]) + place["character"]
            for place in (edit["range"]["start"], edit["range"]["end"])
        )
        text = text[:start] + str(edit["newText"]) + text[end:]
    return text
