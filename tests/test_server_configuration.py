"""Settings by each of the ways that editors send them, and the status that always tells what is in use."""

from typing import Any

import pytest
from server_process import EVERYTHING, INLINE, URI, at, server, state

from phi_backends.client import EngineStatus
from phi_backends.messages import Loaded
from phi_server.lsp_client import LspClient, LspError
from phi_server.settings import Settings
from phi_server.status import is_fallback, status_of

pytestmark = pytest.mark.anyio
PULL: dict[str, Any] = {"workspace": {"configuration": True}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def echo(reply: str) -> dict[str, Any]:
    return {"engine": "echo", "debounce_ms": 0, "engine_options": {"reply": reply}}


async def logged(client: LspClient, line: str) -> None:
    await client.notification("window/logMessage", lambda log: log["message"] == line)


async def suggestion(client: LspClient) -> str:
    answer = await client.request("textDocument/inlineCompletion", {**at(0, 4), "context": {"triggerKind": 1}})
    return str(answer["items"][0]["insertText"])


async def test_settings_are_asked_for_where_the_editor_answers() -> None:
    async with server(INLINE | PULL, reply="x = early", configuration=echo("x = asked")) as client:
        assert client.requested == [("workspace/configuration", {"items": [{"section": "phi-ls"}]})]
        await client.open(URI, "x = ")
        assert await suggestion(client) == "asked"


@pytest.mark.parametrize("settings", [{"phi-ls": echo("x = new")}, echo("x = new")])
async def test_changed_settings_that_are_sent_are_in_force(settings: dict[str, Any]) -> None:
    async with server(INLINE, reply="x = old") as client:
        await client.open(URI, "x = ")
        assert await suggestion(client) == "old"
        await client.notify("workspace/didChangeConfiguration", {"settings": settings})
        await state(client, "ready")
        assert await suggestion(client) == "new"


async def test_changed_settings_that_are_not_sent_are_asked_for() -> None:
    async with server(INLINE | PULL, reply="x = old") as client:
        await client.open(URI, "x = ")
        assert await suggestion(client) == "old"
        client.answers["workspace/configuration"] = lambda params: [echo("x = new")]
        await client.notify("workspace/didChangeConfiguration", {"settings": None})
        await state(client, "ready")
        assert await suggestion(client) == "new"


async def test_settings_that_concern_no_engine_leave_it_running() -> None:
    async with server(INLINE, reply="x = old") as client:
        await client.open(URI, "x = ")
        client.notifications.clear()
        await client.notify("workspace/didChangeConfiguration", {"settings": {"phi-ls": {"inline_completion": False}}})
        answer = await client.request("textDocument/inlineCompletion", {**at(0, 4), "context": {"triggerKind": 1}})
        assert answer is None
        assert "phi-ls/status" not in [method for method, _ in client.notifications]


async def test_an_editor_that_answers_with_an_error_gets_the_other_settings() -> None:
    def refuse(params: Any) -> None:
        raise LspError({"code": -32601, "message": "no"})

    async with server(INLINE | PULL, reply="x = old") as client:
        client.answers["workspace/configuration"] = refuse
        await client.notify("workspace/didChangeConfiguration", {"settings": None})
        await client.open(URI, "x = ")
        assert await suggestion(client) == "old"


async def test_unknown_settings_are_refused_by_name_and_the_rest_is_in_force() -> None:
    async with server(INLINE, reply="x = old", debouncems=3) as client:
        message = await client.notification("window/showMessage")
        assert 'There is no setting "phi-ls.debouncems". Did you mean "debounce_ms"?' in message["message"]
        assert "max_answer_tokens" in message["message"]
        changed = {**echo("x = new"), "nonsense": {"a": [1]}, "debounce_ms": "soon"}
        await client.notify("workspace/didChangeConfiguration", {"settings": {"phi-ls": changed}})
        messages = [(await client.notification("window/showMessage"))["message"] for _ in range(2)]
        assert any('There is no setting "phi-ls.nonsense"' in message for message in messages)
        assert any("phi-ls.debounce_ms must be a whole number" in message for message in messages)
        await state(client, "ready")
        await client.open(URI, "x = ")
        assert await suggestion(client) == "new"


async def test_the_editor_is_asked_to_tell_of_changes_where_it_must_be() -> None:
    async with server(EVERYTHING) as client:
        registered = [params["registrations"][0] for method, params in client.requested if method == "client/registerCapability"]
        assert {
            "id": "phi-ls-settings",
            "method": "workspace/didChangeConfiguration",
            "registerOptions": {"section": "phi-ls"},
        } in registered


async def test_every_change_of_state_is_told_and_logged() -> None:
    async with server({}, load_ms=1, ready=False) as client:
        for wanted in ("starting", "loading", "ready"):
            status = await state(client, wanted)
            assert status["engine"] == "echo"
            await logged(client, f"{wanted}: {status['detail']}")
        assert status["reason"] == "the echo engine was asked for; it runs no model"
        assert set(status) == {"state", "engine", "model", "device", "reason", "detail"}


async def test_an_engine_that_cannot_start_is_a_message_with_the_remedy_and_can_be_changed() -> None:
    async with server({}, engine="no-such", ready=False) as client:
        status = await state(client, "off")
        message = await client.notification("window/showMessage")
        assert message["message"] == f"phi-ls: {status['detail']}"
        assert "Choose one of: auto, openvino" in message["message"]
        await client.notify("workspace/didChangeConfiguration", {"settings": {"phi-ls": {"engine": "echo"}}})
        await state(client, "ready")


async def test_restart_starts_the_engine_again() -> None:
    async with server({}) as client:
        await client.request("workspace/executeCommand", {"command": "phi-ls.restart"})
        await state(client, "starting")
        await state(client, "ready")


def loaded(device: str, engine: str = "openvino") -> EngineStatus:
    return EngineStatus("ready", "It runs.", Loaded(engine, "phi", device, "because", 4096, "phi3", "phi3", 1.0))


@pytest.mark.parametrize(
    ("asked", "status", "fallback"),
    [
        (Settings(), loaded("CPU"), False),
        (Settings(device="NPU"), loaded("CPU"), True),
        (Settings(device="npu"), loaded("NPU"), False),
        (Settings(device="GPU"), loaded("GPU.0"), False),
        (Settings(engine="other"), loaded("CPU"), True),
        (Settings(engine="echo", device="NPU"), loaded("none", "echo"), False),
        (Settings(device="NPU"), EngineStatus("loading", "It loads."), False),
    ],
)
def test_a_fallback_is_something_else_than_was_asked_for(asked: Settings, status: EngineStatus, fallback: bool) -> None:
    assert is_fallback(status, asked) is fallback


def test_until_there_is_an_engine_the_status_tells_what_was_asked_for() -> None:
    status = status_of(EngineStatus("loading", "It loads."), Settings(device="NPU"))
    assert (status.engine, status.device, status.reason) == ("auto", "NPU", "")
