"""Explanations: streamed, shown in each of three ways, cancelled in each of two."""

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from server_process import EVERYTHING, URI, between, server

from phi_backends.client import Client
from phi_backends.messages import Load
from phi_server.documents import Position, Range, Snapshot
from phi_server.explanation import explain
from phi_server.lsp_client import LspClient, LspError
from phi_server.settings import Settings

pytestmark = pytest.mark.anyio
CODE = "def add(a, b):\n    return a + b\n\n\nadd(1, 2)\n"
ANSWER = "It adds **two** numbers.\n\n1. First a.\n2. Then b.\n"
LONG = "It adds. " * 500
ALL = {"uri": URI, "range": between(0, 2)}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(client: LspClient, arguments: dict[str, Any] = ALL, **params: Any) -> Any:
    return await client.ask("workspace/executeCommand", {"command": "phi-ls.explain", "arguments": [arguments], **params})


def shown(client: LspClient) -> list[str]:
    return [params["uri"] for method, params in client.requested if method == "window/showDocument"]


async def test_a_virtual_document_grows_while_the_model_writes() -> None:
    async with server(EVERYTHING, reply=LONG, ms_per_token=1) as client:
        await client.open(URI, CODE)
        texts: list[str] = []
        grown = anyio.Event()

        async def refresh(params: dict[str, str]) -> None:
            content = await client.request("workspace/textDocumentContent", {"uri": params["uri"]})
            texts.append(content["text"])
            if len(texts) == 3:
                grown.set()

        client.answers["workspace/textDocumentContent/refresh"] = refresh
        explaining = await ask(client)
        with anyio.fail_after(20):
            await grown.wait()
        (uri,) = shown(client)
        assert uri == "phi-ls:/1/Explanation%20of%20shop.py.md"
        assert texts[0].startswith("# shop/shop.py, lines 1–2\n\n```python\ndef add(a, b):\n    return a + b\n```\n\nI")
        assert len(texts[0]) < len(texts[1]) < len(texts[2])
        assert texts[2].startswith(texts[1])
        registered = [params["registrations"][0] for method, params in client.requested if method == "client/registerCapability"]
        assert {"id": "phi-ls-answers", "method": "workspace/textDocumentContent", "registerOptions": {"schemes": ["phi-ls"]}} in registered
        await client.cancel(explaining)
        with pytest.raises(LspError, match="-32800"):
            await explaining


async def test_all_of_the_text_is_in_the_document_and_in_the_result() -> None:
    async with server(EVERYTHING, reply=ANSWER) as client:
        await client.open(URI, CODE)
        result = await (await ask(client))
        assert result.pop("thread") == 1
        assert result == {"text": ANSWER, "uri": shown(client)[0], "cancelled": False, "model": "echo", "engine": "echo", "device": "none"}
        content = await client.request("workspace/textDocumentContent", {"uri": result["uri"]})
        assert ANSWER in content["text"]
        assert content["text"].endswith("*Written by echo on none.*\n")


async def test_a_further_question_goes_on_from_the_kept_cache() -> None:
    async with server(EVERYTHING, reply=ANSWER) as client:
        await client.open(URI, CODE)
        thread = (await (await ask(client)))["thread"]
        before = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
        asked = {"thread": thread, "question": "Why **two**?"}
        answer = await client.request("workspace/executeCommand", {"command": "phi-ls.followUp", "arguments": [asked]})
        assert (answer["text"], answer["thread"], answer["cancelled"]) == (ANSWER, 2, False)
        content = await client.request("workspace/textDocumentContent", {"uri": answer["uri"]})
        assert content["text"].startswith("# Why **two**?\n\n" + ANSWER)
        after = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
        prefilled = after["work"]["answer"]["prefilled_tokens"] - before["work"]["answer"]["prefilled_tokens"]
        assert prefilled < len("Why **two**?") + 12, "only the question is new to the model"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"thread": 1}, "thread and question"), ({"thread": 7, "question": "Why?"}, "no such explanation"), ({"question": "Why?"}, "no such")],
)
async def test_a_further_question_needs_an_explanation(arguments: dict[str, Any], message: str) -> None:
    async with server(EVERYTHING, reply=ANSWER) as client:
        with pytest.raises(LspError, match=message):
            await client.request("workspace/executeCommand", {"command": "phi-ls.followUp", "arguments": [arguments]})


async def test_the_last_refresh_comes_when_the_document_is_open() -> None:
    async with server(EVERYTHING, reply=ANSWER) as client:
        events: list[str] = []
        written = anyio.Event()

        async def show(params: Any) -> dict[str, bool]:
            await written.wait()
            events.append("shown")
            return {"success": True}

        client.answers["window/showDocument"] = show
        client.answers["workspace/textDocumentContent/refresh"] = lambda params: events.append("refreshed")
        await client.open(URI, CODE)
        explaining = await ask(client)
        await client.notification("$/progress", lambda params: params["value"]["kind"] == "end")
        await client.request("workspace/textDocumentContent", {"uri": shown(client)[0]})  # whatever was sent before it has arrived
        written.set()
        await explaining
        await client.request("workspace/textDocumentContent", {"uri": shown(client)[0]})
        assert "refreshed" in events[events.index("shown") :]


async def test_an_answer_that_is_long_gone_says_so() -> None:
    async with server(EVERYTHING, reply=ANSWER) as client:
        content = await client.request("workspace/textDocumentContent", {"uri": "phi-ls:/1/x.md"})
        assert "not kept" in content["text"]


async def test_editors_without_virtual_documents_are_shown_a_file(tmp_path: Path) -> None:
    folders = {"XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "HOME": str(tmp_path)}
    async with server({"window": {"showDocument": {"support": True}}}, reply=ANSWER, env=folders) as client:
        await client.open(URI, CODE)
        result = await (await ask(client))
        assert shown(client) == [result["uri"]]
        (file,) = [file async for file in anyio.Path(tmp_path).rglob("*.md")]
        assert result["uri"] == Path(file).as_uri()
        assert ANSWER in await file.read_text(encoding="utf-8")
        if sys.platform != "win32":
            assert (await file.stat()).st_mode & 0o077 == 0  # it holds the user's code


async def test_other_editors_get_a_message_and_the_result() -> None:
    async with server({}, reply=ANSWER) as client:
        await client.open(URI, CODE)
        assert (await (await ask(client)))["text"] == ANSWER
        assert ANSWER in (await client.notification("window/showMessage"))["message"]


async def test_partial_results_make_up_the_text_and_nothing_else_is_shown() -> None:
    async with server(EVERYTHING, reply=ANSWER) as client:
        await client.open(URI, CODE)
        result = await (await ask(client, {**ALL, "partialResultToken": "mine"}))
        parts = [params["value"]["text"] for method, params in client.notifications if method == "$/progress" and params["token"] == "mine"]
        assert len(parts) > 1
        assert "".join(parts) == result["text"] == ANSWER
        assert shown(client) == []
        assert result["uri"] is None


async def test_progress_on_the_clients_token_with_cancel_keeps_what_there_is() -> None:
    async with server(EVERYTHING, reply=LONG, ms_per_token=1) as client:
        await client.open(URI, CODE)
        explaining = await ask(client, workDoneToken="work")
        begin = await client.notification("$/progress", lambda params: params["token"] == "work")
        assert begin["value"]["kind"] == "begin"
        assert begin["value"]["title"] == "Explaining shop/shop.py, lines 1–2"
        await client.notification("$/progress", lambda params: params["value"]["kind"] == "report")
        await client.notify("window/workDoneProgress/cancel", {"token": "work"})
        result = await explaining
        assert result["cancelled"] is True
        assert 0 < len(result["text"]) < len(LONG)
        assert LONG.startswith(result["text"])
        await client.notification("$/progress", lambda params: params["token"] == "work" and params["value"]["kind"] == "end")
        content = await client.request("workspace/textDocumentContent", {"uri": result["uri"]})
        assert content["text"].endswith("*Cancelled.*\n")
        assert not any(method == "window/workDoneProgress/create" for method, _ in client.requested)


async def test_the_server_makes_a_progress_token_where_the_client_brings_none() -> None:
    async with server(EVERYTHING, reply=ANSWER) as client:
        await client.open(URI, CODE)
        await (await ask(client))
        (token,) = [params["token"] for method, params in client.requested if method == "window/workDoneProgress/create"]
        kinds = [params["value"]["kind"] for method, params in client.notifications if method == "$/progress" and params["token"] == token]
        assert (kinds[0], kinds[-1]) == ("begin", "end")


async def test_an_editor_that_makes_no_progress_token_gets_the_explanation_all_the_same() -> None:
    def refuse(params: Any) -> None:
        raise LspError({"code": -32603, "message": "no"})

    async with server(EVERYTHING, reply=ANSWER) as client:
        client.answers["window/workDoneProgress/create"] = refuse
        await client.open(URI, CODE)
        assert (await (await ask(client)))["text"] == ANSWER


async def test_a_cancelled_request_frees_the_engine() -> None:
    async with server({}, reply=LONG, ms_per_token=1) as client:
        await client.open(URI, CODE)
        explaining = await ask(client, {**ALL, "partialResultToken": "mine"})
        await client.notification("$/progress")
        await client.cancel(explaining)
        with pytest.raises(LspError, match="-32800"):
            await explaining
        again = await ask(client, {**ALL, "partialResultToken": "again"})
        await client.notification("$/progress", lambda params: params["token"] == "again")  # would wait for the first one's 4,500 tokens
        await client.cancel(again)
        with pytest.raises(LspError, match="-32800"):
            await again


async def test_a_small_model_speaks_after_the_syntax_and_is_marked() -> None:
    async with server({}, templates="small", reply="\n Returns the sum of a and b.") as client:
        await client.open(URI, CODE)
        text = (await (await ask(client)))["text"]
        assert text.startswith("**`add`** is a function of 2 lines.\n\n- takes `a`, `b`\n- returns `a + b`\n")
        assert text.endswith("A guess by echo, a small model that is often wrong: Returns the sum of a and b.")


async def test_a_selection_with_nothing_in_it_is_refused() -> None:
    async with server({}, reply=ANSWER) as client:
        await client.open(URI, CODE)
        with pytest.raises(LspError, match="Select some code"):
            await (await ask(client, {"uri": URI, "range": between(2, 3)}))


async def test_an_engine_that_is_off_is_a_sentence() -> None:
    async with server({}, engine="no-such", ready=False) as client:
        await client.notification("phi-ls/status", lambda params: params["state"] == "off")
        await client.open(URI, CODE)
        with pytest.raises(LspError, match="no engine"):
            await (await ask(client))


async def test_without_an_editor_it_is_an_iteration() -> None:
    client = Client(Load("echo", "embedded", "auto", {"reply": ANSWER}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        snapshot = Snapshot.of_text("file:///shop/shop.py", None, "python", CODE)
        explained = explain(snapshot, Range(Position(0, 0), Position(1, 0)), client, Settings())
        assert "".join([piece async for piece in explained]) == ANSWER
        assert 0 < explained.timings_ms["first_text"] <= explained.timings_ms["total"]
        tasks.cancel_scope.cancel()
