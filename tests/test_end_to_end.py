"""The real server in a real process with the echo engine: what six editors say, what an editor recorded, and what nobody should send."""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from phi_server.lsp_client import LspClient, LspError

pytestmark = pytest.mark.anyio
SERVER = [sys.executable, "-P", "-m", "phi_server", "serve", "--engine", "echo"]
FIXTURE = [sys.executable, "-P", str(Path(__file__).parent / "fixture_server.py")]
SHARED = Path(__file__).parents[2] / "shared" / "lsp"
EDITORS = sorted(SHARED.glob("initialize/*.json"))
RECORDINGS = sorted(SHARED.glob("recordings/*.jsonl"))
if not SHARED.is_dir():
    pytest.skip("the recorded messages of real editors (../shared/lsp) are not here", allow_module_level=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def parsed(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


async def ready(client: LspClient) -> None:
    await client.notification("phi-ls/status", lambda params: params["state"] == "ready")


@pytest.mark.parametrize("file", EDITORS, ids=lambda file: file.stem)
async def test_a_session_of_each_editor(file: Path) -> None:
    params = parsed(file)
    offered = params["capabilities"]["textDocument"]
    async with await LspClient.start(SERVER, params) as client:
        encodings = params["capabilities"].get("general", {}).get("positionEncodings", ["utf-16"])
        assert client.capabilities["positionEncoding"] == encodings[0]
        await ready(client)
        uri = "file:///workspace/shop.py"
        await client.open(uri, "def total(prices):\n    # 😀\n    \n")
        change = {"range": {"start": {"line": 2, "character": 4}, "end": {"line": 2, "character": 4}}, "text": "return sum(prices)"}
        await client.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [change]})
        here = {"textDocument": {"uri": uri}, "position": {"line": 2, "character": 22}}
        if "inlineCompletion" in offered:
            suggestions = await client.request("textDocument/inlineCompletion", {**here, "context": {"triggerKind": 1}})
            assert [item["insertText"] for item in suggestions["items"]] != []
        else:
            completions = await client.request("textDocument/completion", {**here, "context": {"triggerKind": 1}})
            assert [item["label"] for item in completions["items"]] != []
        whole = {"start": {"line": 0, "character": 0}, "end": {"line": 3, "character": 0}}
        actions = await client.request("textDocument/codeAction", {**here, "range": whole, "context": {"diagnostics": []}})
        assert [action["title"] for action in actions] != []
        await client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
        await client.aclose()
        assert "Traceback" not in client.stderr


def recorded(file: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The messages of a recording, `$cursor` among them, and the texts at its end by URI."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    final = lines.pop()
    assert final["method"] == "$final"
    texts: dict[str, str] = final["params"]
    return lines, texts


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.name.split("__")[0])
async def test_a_recording_leaves_the_text_that_the_editor_had(file: Path) -> None:
    messages, texts = recorded(file)
    async with await LspClient.start(FIXTURE) as client:
        for message in messages:
            if message["method"] != "$cursor":
                await client.notify(message["method"], message["params"])
        for uri, text in texts.items():
            assert await client.request("test/text", {"uri": uri}) == text


@pytest.mark.parametrize("file", RECORDINGS, ids=lambda file: file.name.split("__")[0])
async def test_a_recording_with_a_suggestion_asked_for_at_every_step(file: Path) -> None:
    """Nothing is waited for and nothing cancelled, as by an editor that does neither. All is answered, the last one with a suggestion."""
    messages, texts = recorded(file)
    capabilities: dict[str, Any] = {"textDocument": {"inlineCompletion": {}}}
    settings = {"engine_options": {"reply": "suggested"}}
    async with await LspClient.start(SERVER, {"capabilities": capabilities, "initializationOptions": settings}) as client:
        await ready(client)
        asked, opened = [], set()
        for message in messages:
            if message["method"] != "$cursor":
                await client.notify(message["method"], message["params"])
                opened.add(message["params"]["textDocument"]["uri"])
                continue
            uri = message["params"]["uri"]
            if uri not in opened:  # its opening was not recorded
                continue
            params = {"textDocument": {"uri": uri}, "position": message["params"]["position"]}
            asked.append(await client.ask("textDocument/inlineCompletion", {**params, "context": {"triggerKind": 2}}))
        uri, text = next(iter(texts.items()))
        end = {"line": text.count("\n"), "character": len(text.rpartition("\n")[2])}
        change = {"range": {"start": end, "end": end}, "text": "\n"}
        await client.notify("textDocument/didChange", {"textDocument": {"uri": uri, "version": 10_000}, "contentChanges": [change]})
        last = {"textDocument": {"uri": uri}, "position": {"line": end["line"] + 1, "character": 0}, "context": {"triggerKind": 1}}
        suggestions = await client.request("textDocument/inlineCompletion", last)
        assert [item["insertText"] for item in suggestions["items"]] == ["suggested"]
        for future in asked:
            try:
                await future
            except LspError as error:
                assert error.code in (-32800, -32801, -32802)
        await client.aclose()
        assert "Traceback" not in client.stderr


@pytest.mark.parametrize("initialized", [True, False])
async def test_every_message_is_survived_and_every_request_answered(initialized: bool) -> None:
    lines = (SHARED / "messages.jsonl").read_text(encoding="utf-8").splitlines()
    messages = [json.loads(line)["message"] for line in lines]
    kept_back = ("exit", "shutdown") if initialized else ("exit",)
    messages = [message for message in messages if "id" in message or message.get("method") not in kept_back]
    async with await LspClient.spawn([*SERVER, "--engine-option", "reply=suggested"]) as client:
        if initialized:
            await client.initialize()
            await ready(client)
        answered = 0
        for message in messages:
            if initialized and message.get("method") == "shutdown":
                continue
            await client.send(message)
            if "id" in message:
                reply = await client.notification("$unasked")
                assert reply["id"] == (message["id"] if type(message["id"]) in (int, str) else None)
                answered += 1
        assert answered > 100
        with pytest.raises(LspError, match="-32601" if initialized else "-32600"):
            await client.request("test/unknown")
        assert not [params for method, params in client.notifications if method == "$unasked"]
        if initialized:
            await client.open("file:///after.py", "x = 1\n")
            here = {"textDocument": {"uri": "file:///after.py"}, "position": {"line": 1, "character": 0}}
            suggestions = await client.request("textDocument/inlineCompletion", {**here, "context": {"triggerKind": 1}})
            assert [item["insertText"] for item in suggestions["items"]] == ["suggested"]
            await client.aclose()
        else:
            await client.notify("exit")
            assert await client.wait() == 0
        assert "Traceback" not in client.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows a shell cannot close stdin")
async def test_a_closed_stdin_is_said_in_a_sentence() -> None:
    process = await asyncio.create_subprocess_exec("sh", "-c", 'exec "$@" <&-', "sh", *SERVER, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(20):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert b"Start it with both open." in said


@pytest.mark.parametrize("way", ["exit", "end of stdin", "SIGTERM", "SIGKILL"])
async def test_the_engine_process_ends_with_the_server(way: str) -> None:
    """It inherits stderr, whose end `wait` waits for. It is busy when the end comes."""
    if way.startswith("SIG") and sys.platform == "win32":
        pytest.skip("on Windows a process cannot be sent signals")
    slow = ["--engine-option", "ms_per_token=20", "--engine-option", f"reply={'x' * 1000}"]
    async with await LspClient.start([*SERVER, *slow]) as client:
        await ready(client)
        await client.open("file:///a.py", "x = 1\n")
        here = {"textDocument": {"uri": "file:///a.py"}, "position": {"line": 1, "character": 0}, "context": {"triggerKind": 1}}
        asked = await client.ask("textDocument/inlineCompletion", here)
        if way == "exit":
            await client.request("shutdown")
        began = time.monotonic()
        if way == "exit":
            await client.notify("exit")
        elif way == "end of stdin":
            assert client.process.stdin is not None
            client.process.stdin.close()
        else:
            client.process.send_signal(getattr(signal, way))
        code = await client.wait()
        assert time.monotonic() - began < 5  # 0.5 s, on a machine that does nothing else
        assert code == {"exit": 0, "end of stdin": 1, "SIGTERM": 128 + signal.SIGTERM, "SIGKILL": -9}[way]
        with pytest.raises((LspError, EOFError)):
            await asked
