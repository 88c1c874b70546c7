"""What stock pygls 2.1.1 gets wrong, one test a defect, against a server in a real process. Document sync: test_documents_sync.py."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi_server.lsp_client import LspClient, LspError
from phi_server.protocol import PhiLanguageServer, serve_tcp
from phi_server.stdio import MAX_MESSAGE_BYTES, Framing, Unreadable

pytestmark = pytest.mark.anyio
SERVER = [sys.executable, "-P", str(Path(__file__).parent / "fixture_server.py")]
HERE = {"textDocument": {"uri": "file:///a.py"}, "position": {"line": 0, "character": 0}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[LspClient]:
    async with await LspClient.start(SERVER) as client:
        yield client


async def error_of(client: LspClient, method: str, params: Any = None) -> LspError:
    with pytest.raises(LspError) as caught:
        await client.request(method, params)
    return caught.value


async def unasked_error(client: LspClient) -> int:
    """The code of the next error reply that has no id."""
    reply = await client.notification("$unasked")
    assert reply["id"] is None
    code: int = reply["error"]["code"]
    return code


# Every request gets one answer, every notification none

NO_REQUESTS: dict[bytes, int] = {
    b"{": -32700,
    b"": -32700,
    b"\xff\xfe\xff": -32700,
    b"[" * 100_000: -32700,
    b"[]": -32600,
    b'[{"jsonrpc": "2.0", "id": 1, "method": "test/ping"}]': -32600,
    b"7": -32600,
    b"null": -32600,
    b"{}": -32600,
    b'{"jsonrpc": "2.0", "id": null, "method": "test/ping"}': -32600,
    b'{"jsonrpc": "2.0", "id": {}, "method": "test/ping"}': -32600,
    b'{"jsonrpc": "2.0", "id": true, "method": "test/ping"}': -32600,
    b'{"jsonrpc": "2.0", "method": ["test/ping"]}': -32600,
}
WRONG_REQUESTS: list[tuple[int, dict[str, Any]]] = [
    (-32602, {"method": "textDocument/hover", "params": {}}),
    (-32602, {"method": "textDocument/hover", "params": None}),
    (-32602, {"method": "textDocument/hover"}),
    (-32602, {"method": "textDocument/hover", "params": [1, 2]}),
    (-32602, {"method": "textDocument/hover", "params": "x"}),
    (-32602, {"method": "textDocument/hover", "params": {**HERE, "position": {"line": "secret", "character": 0}}}),
    (-32602, {"method": "textDocument/hover", "params": {**HERE, "position": {"line": -1, "character": 0}}}),
    (-32602, {"method": "workspace/executeCommand", "params": {"command": "test.unknown"}}),
    (-32602, {"method": "workspace/executeCommand", "params": {"command": "test.add", "arguments": [1]}}),
    (-32602, {"method": "workspace/executeCommand", "params": {"command": "test.add", "arguments": ["secret", 1]}}),
    (-32601, {"method": "test/unknown"}),
    (-32601, {"method": "textDocument/rename", "params": {}}),
    (-32601, {"method": "workspace/applyEdit", "params": {}}),
    (-32601, {"method": "$/unknown"}),
    (-32600, {"method": "textDocument/didOpen", "params": {}}),
    (-32600, {"method": "initialize", "params": {}}),
    (-32600, {"method": "exit"}),
    (-32600, {"method": 1}),
    (-32600, {"params": {}}),
    (-32600, {"method": "test/ping", "jsonrpc": "1.0"}),
    (-32600, {"method": "test/ping", "jsonrpc": None}),
]
UNANSWERED: list[dict[str, Any]] = [
    {"method": "test/unknown"},
    {"method": "$/unknown"},
    {"method": "textDocument/didOpen"},
    {"method": "textDocument/didOpen", "params": {"textDocument": "secret"}},
    {"method": "textDocument/didOpen", "params": {"textDocument": {"uri": "a", "languageId": "x", "version": 1, "text": "secret"}}},
    {"method": "textDocument/didChange", "params": {"textDocument": {"uri": "a", "version": "secret"}, "contentChanges": []}},
    {"method": "textDocument/didChange", "params": {"textDocument": {"uri": "never", "version": 1}, "contentChanges": [{"text": ""}]}},
    {"method": "textDocument/hover", "params": {}},
    {"method": "initialize", "params": {}},
    {"method": "shutdown"},
    {"method": "$/cancelRequest"},
    {"method": "$/cancelRequest", "params": {"id": 77}},
    {"method": "window/workDoneProgress/cancel", "params": {"token": "unknown"}},
    {"method": "test/ping", "jsonrpc": "1.0"},
    {"id": 5, "result": None},
    {"id": [], "result": None},
    {"id": 6, "error": {"code": 1, "message": "no request of yours"}},
]


async def test_what_is_no_request_gets_an_error_without_id(client: LspClient) -> None:
    for body, code in NO_REQUESTS.items():
        await client.send(body)
        assert (await unasked_error(client), body[:60]) == (code, body[:60])
    assert await client.request("test/ping") == "pong"


async def test_a_wrong_request_gets_an_error(client: LspClient) -> None:
    for code, message in WRONG_REQUESTS:
        await client.send({"jsonrpc": "2.0", "id": "wrong", **message})
        reply = await client.notification("$unasked")
        assert (reply["id"], reply["error"]["code"], message) == ("wrong", code, message)
        assert "secret" not in json.dumps(reply)
    assert await client.request("test/ping") == "pong"


async def test_params_may_be_missing(client: LspClient) -> None:
    await client.send({"jsonrpc": "2.0", "method": "initialized"})
    await client.send({"jsonrpc": "2.0", "id": "ping", "method": "test/ping"})
    assert (await client.notification("$unasked"))["result"] == "pong"
    await client.send({"jsonrpc": "2.0", "id": "command", "method": "workspace/executeCommand"})
    assert (await client.notification("$unasked"))["error"]["message"] == "Invalid params: missing @ params.command."
    await client.send({"jsonrpc": "2.0", "id": "end", "method": "shutdown"})
    assert (await client.notification("$unasked"))["result"] is None
    await client.send({"jsonrpc": "2.0", "method": "exit"})
    assert await client.wait() == 0


async def test_a_wrong_notification_or_answer_gets_nothing(client: LspClient) -> None:
    for message in UNANSWERED:
        await client.send({"jsonrpc": "2.0", **message})
    assert await client.request("test/ping") == "pong"
    assert client.notifications == []
    await client.aclose()
    assert "secret" not in client.stderr.replace('raise ValueError("secret")', "")


async def test_nothing_is_served_before_initialize_and_after_shutdown() -> None:
    async with await LspClient.spawn(SERVER) as client:
        assert (await error_of(client, "test/ping")).code == -32002
        assert (await error_of(client, "shutdown")).code == -32002
        await client.notify("test/ping")
        await client.send({"jsonrpc": "2.0", "id": "early", "method": "initialize"})
        assert (await client.notification("$unasked"))["error"]["code"] == -32602
        await client.initialize()
        assert await client.request("test/ping") == "pong"
        shutdown, ping = await client.ask("shutdown"), await client.ask("test/ping")
        assert await shutdown is None
        with pytest.raises(LspError, match="-32600"):
            await ping
        assert (await error_of(client, "initialize", {"capabilities": {}})).code == -32600
        await client.notify("exit")
        assert await client.wait() == 0
        assert client.notifications == []


# Errors


async def test_errors_hold_no_traceback_and_no_user_code(client: LspClient) -> None:
    error = await error_of(client, "test/fail", {"text": "secret"})
    assert (error.code, error.message, error.data) == (-32603, "The server failed (ValueError); its log says where.", None)
    error = await error_of(client, "test/unserialisable")
    assert (error.code, error.message, error.data) == (-32603, "The server failed (AttributeError); its log says where.", None)
    await client.aclose()
    assert "fixture_server.py" in client.stderr
    assert "secret" not in client.stderr.replace('raise ValueError(f"secret {params}")', "")


async def test_our_own_errors_arrive_as_they_are(client: LspClient) -> None:
    error = await error_of(client, "test/refuse")
    assert (error.code, error.message) == (-32803, "There is no such file: name another.")
    error = await error_of(client, "test/supersede")
    assert (error.code, error.message, error.data) == (-32802, "superseded", {"retriggerRequest": False})
    await client.open("file:///a.py", "bad")
    assert await client.notification("window/showMessage") == {"type": 1, "message": "This text is bad: write another."}


# Inline completion's trigger kinds


def language_client(**workspace: Any) -> dict[str, Any]:
    """What a client by Microsoft says of itself."""
    general = {"regularExpressions": {"engine": "ECMAScript", "version": "ES2020"}}
    text_document = {"inlineCompletion": {"dynamicRegistration": True}}
    return {"rootUri": None, "capabilities": {"general": general, "textDocument": text_document, "workspace": workspace}}


async def trigger_kind(client: LspClient, kind: int) -> str:
    items = await client.request("textDocument/inlineCompletion", {**HERE, "context": {"triggerKind": kind}})
    name: str = items[0]["insertText"]
    return name


async def test_trigger_kinds(client: LspClient) -> None:
    assert client.capabilities["inlineCompletionProvider"] == {}
    assert [await trigger_kind(client, kind) for kind in (1, 2)] == ["Invoked", "Automatic"]
    for wrong in (3, -1, "1", None):
        assert (await error_of(client, "textDocument/inlineCompletion", {**HERE, "context": {"triggerKind": wrong}})).code == -32602


async def test_trigger_kinds_of_language_client_9_count_from_0() -> None:
    async with await LspClient.start(SERVER, language_client()) as client:
        assert [await trigger_kind(client, kind) for kind in (1, 0, 1)] == ["Automatic", "Invoked", "Automatic"]
    async with await LspClient.start(SERVER, language_client(textDocumentContent={})) as client:
        assert [await trigger_kind(client, kind) for kind in (1, 2)] == ["Invoked", "Automatic"]


async def test_a_trigger_kind_0_tells_that_a_client_counts_from_0(client: LspClient) -> None:
    assert [await trigger_kind(client, kind) for kind in (1, 0, 1, 2)] == ["Invoked", "Invoked", "Automatic", "Automatic"]


# Framing


async def test_headers_of_any_case_and_garbage_between_messages(client: LspClient) -> None:
    def message(number: int, header: str) -> bytes:
        body = json.dumps({"jsonrpc": "2.0", "id": f"m{number}", "method": "test/ping"}).encode()
        return header.format(len(body)).encode() + body

    headers = [
        "content-length: {}\r\n\r\n",
        "CONTENT-LENGTH:{}\n\n",
        "Content-Type: application/vscode-jsonrpc; charset=utf8\r\nContent-Length: {}\r\n\r\n",
        "Content-Length: {}\r\nContent-Type: application/vscode-jsonrpc\r\n\r\n",
        "\r\n\r\nContent-Length: {}\r\n\r\n",
    ]
    for number, header in enumerate(headers):
        await client.send_bytes(message(number, header))
        assert (await client.notification("$unasked"))["id"] == f"m{number}"
    garbage = [
        b"Content-Length: \r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 999999999999\r\n\r\n{}",
        b"Content-Length: " + b"9" * 9999 + b"\r\n\r\n",
        b"\x00\xff" * 200_000,
        b"{}",
    ]
    for data in garbage:
        await client.send_bytes(data + message(99, headers[0]))
        assert await unasked_error(client) == -32700
        assert (await client.notification("$unasked"))["id"] == "m99"
    assert client.notifications == []


def test_framing_does_not_depend_on_how_bytes_arrive() -> None:
    stream = b'Content-Length: 2\r\n\r\n{}garbage\ncontent-length:4\n\nnull{"x": 1}Content-Length: 0\r\n\r\n'
    stream += b"Content-Length: 3\r\n\r\n[1]"
    whole = list(Framing().feed(stream))
    for size in range(1, 30):
        framing = Framing()
        assert [message for at in range(0, len(stream), size) for message in framing.feed(stream[at : at + size])] == whole
    assert [message for message in whole if not isinstance(message, Unreadable)] == [b"{}", b"null", b"", b"[1]"]
    assert len(whole) == 6


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\r\n", b"Content-Length:", b"content-type: x", b" ", b"\xff", b"{}", b"x" * 70_000])))
def test_framing_finds_a_message_behind_any_garbage(garbage: list[bytes]) -> None:
    framing = Framing()
    found = [message for piece in garbage for message in framing.feed(piece)]
    found += framing.feed(b"Content-Length: 4\r\n\r\nnull")
    assert [message for message in found if not isinstance(message, Unreadable)] == [b"null"]
    assert len(found) <= 2


def test_framing_keeps_no_garbage_and_a_message_may_be_big() -> None:
    framing = Framing()
    for _ in range(100):
        list(framing.feed(b"x" * 65536))
    assert len(framing._buffer) <= 65536
    big = b"Content-Length: %d\r\n\r\n" % MAX_MESSAGE_BYTES
    list(framing.feed(big))
    assert list(framing.feed(b"x")) == []


# Nothing waits for anything


async def test_busy_threads_do_not_stop_reading(client: LspClient) -> None:
    busy = [await client.ask("test/busyThread") for _ in range(4)]
    for _ in range(2):  # as many as the pool has threads
        await client.notification("test/threadBegan")
    assert await client.request("test/ping") == "pong"
    await client.request("test/releaseThreads")
    assert [await future for future in busy] == [True] * 4


async def test_a_client_that_stops_reading_blocks_nothing_and_loses_nothing(client: LspClient) -> None:
    client.reading.clear()
    flood, ping = await client.ask("test/flood"), await client.ask("test/ping")
    await client.logged("a stray print")  # the server handles the ping, although 2 MB wait to be sent
    assert not ping.done()
    client.reading.set()
    assert [await flood, await ping] == [200, "pong"]
    assert [(await client.notification("test/water"))["number"] for _ in range(200)] == list(range(200))


async def test_a_print_does_not_end_up_in_the_protocol(client: LspClient) -> None:
    assert await client.request("test/ping") == "pong"
    await client.logged("a stray print")


async def test_a_handler_sees_the_document_as_it_was_when_its_request_came(client: LspClient) -> None:
    await client.open("file:///a.py", "x")
    wire = b""
    for number in range(2, 50):
        change = {"textDocument": {"uri": "file:///a.py", "version": number}, "contentChanges": [{"text": str(number)}]}
        for message in (
            {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": change},
            {"jsonrpc": "2.0", "id": f"v{number}", "method": "test/version", "params": {"uri": "file:///a.py"}},
        ):
            body = json.dumps(message).encode()
            wire += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    await client.send_bytes(wire)
    for number in range(2, 50):
        reply = await client.notification("$unasked")
        assert (reply["id"], reply["result"]) == (f"v{number}", number)


# Cancelling and answers of the client


@pytest.mark.parametrize(
    ("method", "params"), [("test/hang", None), ("workspace/executeCommand", {"command": "test.hang"})], ids=["request", "command"]
)
async def test_cancelling_ends_the_handler(client: LspClient, method: str, params: Any) -> None:
    hanging = await client.ask(method, params)
    await client.notification("test/began")
    await client.cancel(hanging)
    with pytest.raises(LspError, match="-32800"):
        await hanging
    await client.notification("test/ended")


async def test_the_answer_to_a_cancelled_handler_is_swallowed(client: LspClient) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def configuration(params: Any) -> list[None]:
        asked.set()
        await answer.wait()
        return [None]

    client.answers["workspace/configuration"] = configuration
    asking = await client.ask("test/ask")
    await asked.wait()
    await client.cancel(asking)
    with pytest.raises(LspError, match="-32800"):
        await asking
    answer.set()
    client.answers["workspace/configuration"] = lambda params: [{"late": False}]
    assert await client.request("test/ask") == [{"late": False}]
    assert await client.request("test/ping") == "pong"
    assert client.notifications == []
    await client.aclose()
    assert "Traceback" not in client.stderr


async def test_refusals_and_broken_answers_of_the_client_reach_the_handler(client: LspClient) -> None:
    def refuse(params: Any) -> None:
        raise LspError({"code": -32601, "message": "not here"})

    client.answers["workspace/configuration"] = refuse
    assert (await error_of(client, "test/ask")).code == -32601
    client.answers["workspace/configuration"] = lambda params: 5
    assert (await error_of(client, "test/ask")).message == "The client's answer cannot be read."


async def test_an_answer_with_the_id_of_a_request_in_flight_harms_nothing(client: LspClient) -> None:
    hanging = await client.ask("test/hang", msg_id="mine")
    await client.notification("test/began")
    await client.send({"jsonrpc": "2.0", "id": "mine", "result": 1})
    await client.cancel(hanging)
    with pytest.raises(LspError, match="-32800"):
        await hanging


async def test_an_id_is_used_for_one_request_at_a_time(client: LspClient) -> None:
    hanging = await client.ask("test/hang", msg_id="mine")
    await client.notification("test/began")
    await client.send({"jsonrpc": "2.0", "id": "other", "method": "test/ping"})
    assert (await client.notification("$unasked"))["result"] == "pong"
    again = await client.ask("test/ping", msg_id="mine")
    with pytest.raises(LspError, match="-32600"):
        await again
    assert not hanging.done()
    await client.notify("$/cancelRequest", {"id": "mine"})
    await client.notification("test/ended")


async def test_commands_take_arguments(client: LspClient) -> None:
    assert await client.request("workspace/executeCommand", {"command": "test.add", "arguments": [2, 3]}) == 5


async def test_nothing_is_kept_of_what_is_over(client: LspClient) -> None:
    client.answers["workspace/configuration"] = lambda params: 5
    await client.open("file:///a.py", "x")
    for number in range(2, 12):
        change = {"textDocument": {"uri": "file:///a.py", "version": number}, "contentChanges": [{"text": "x"}]}
        await client.notify("textDocument/didChange", change)
        await error_of(client, "test/ask")
        await client.request("test/progress")
    assert await client.request("test/kept") == [0, 1, 0]


# The end


async def ended(client: LspClient, within_s: float) -> int:
    """The exit code. The server may take `within_s` from now; four times that where a machine has other work. Stock pygls: a minute."""
    began = time.monotonic()
    code = await client.wait()
    assert time.monotonic() - began < 4 * within_s
    return code


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


async def test_exit_without_shutdown_is_a_failure(client: LspClient) -> None:
    await client.notify("exit")
    assert await ended(client, 0.5) == 1


async def test_exit_before_initialize_is_a_failure() -> None:
    async with await LspClient.spawn(SERVER) as client:
        await client.notify("exit")
        assert await client.wait() == 1


@pytest.mark.parametrize("shut_down", [False, True])
async def test_the_end_of_stdin_ends_the_server_whatever_it_does(client: LspClient, shut_down: bool) -> None:
    child = await client.request("test/child")
    await client.request("test/stubbornThread")
    busy, hanging = await client.ask("test/busyThread"), await client.ask("test/hang")
    await client.notification("test/threadBegan")
    await client.notification("test/began")
    if shut_down:
        await client.request("shutdown")
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert await ended(client, 0.5) == (0 if shut_down else 1)
    assert not is_running(child)
    for future in (busy, hanging):
        with pytest.raises((LspError, EOFError)):
            await future


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows a process cannot be sent these signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cleans_up(client: LspClient, number: signal.Signals) -> None:
    child = await client.request("test/child")
    await client.request("test/stubbornThread")
    client.process.send_signal(number)
    assert await ended(client, 0.5) == 128 + number
    assert not is_running(child)


async def test_a_client_that_closes_its_end_of_stdout_ends_the_server(client: LspClient) -> None:
    client.process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    await client.ask("test/flood")
    assert await ended(client, 0.5) == 1


async def test_the_server_ends_when_its_client_is_gone() -> None:
    """The client is a process of its own, and something else keeps the server's stdin open."""
    editor = await asyncio.create_subprocess_exec(sys.executable, "-c", "import sys; sys.stdin.read()", stdin=asyncio.subprocess.PIPE)
    async with await LspClient.spawn(SERVER) as client:
        await client.request("initialize", {"processId": editor.pid, "rootUri": None, "capabilities": {}})
        child = await client.request("test/child")
        editor.kill()
        await editor.wait()
        assert await ended(client, 2) == 1
        assert not is_running(child)
    assert editor.stdin is not None
    editor.stdin.close()


async def test_a_client_on_another_machine_is_not_watched() -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    async with await LspClient.spawn(SERVER) as client:
        await client.request("initialize", {"processId": gone.pid, "rootUri": None, "capabilities": {}})
        await client.logged("does not run on this machine")
        assert await client.request("test/ping") == "pong"


async def test_tcp_serves_one_client_of_this_machine_and_forgives_no_garbage() -> None:
    """A web page may post to the port, and what it posts may look like a message behind a few unknown headers."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_tcp(PhiLanguageServer("fixture", "1"), 0, port.set_result))
    reader, writer = await asyncio.open_connection("127.0.0.1", await port)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"capabilities": {}}}).encode()
    request = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    writer.write(request)
    header = await reader.readuntil(b"\r\n\r\n")
    answer = json.loads(await reader.readexactly(int(header.split(b":")[1])))
    assert answer["result"]["serverInfo"]["name"] == "fixture"
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", await port)
    writer.write(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + request)
    assert await asyncio.wait_for(serving, 20) == 1
    assert await reader.read() == b""
    writer.close()
