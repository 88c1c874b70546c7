"""Code actions, their commands and their edits: listed where they apply, run when chosen, refused when the document moved on."""

from pathlib import Path
from typing import Any

import pytest
from server_process import EVERYTHING, URI, applied, between, server, state

from phi_server.lsp_client import LspClient, LspError

pytestmark = pytest.mark.anyio
CODE = "def add(a, b):\n    c = a + b\n    return c\n\n\ndef sub(a, b):\n    return a - b\n"
PROBLEM = {"range": between(1, 1, 5), "message": "Local variable `c` is not needed", "severity": 2}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def actions(client: LspClient, where: dict[str, Any], problems: list[Any] | None = None, only: list[str] | None = None) -> list[Any]:
    context = {"diagnostics": problems or [], **({"only": only} if only else {})}
    found: list[Any] = await client.request("textDocument/codeAction", {"textDocument": {"uri": URI}, "range": where, "context": context})
    return found


async def chosen(client: LspClient, title: str, where: dict[str, Any], problems: list[Any] | None = None) -> Any:
    (action,) = [action for action in await actions(client, where, problems) if action["title"].startswith(title)]
    return action


def titles(found: list[Any]) -> list[str]:
    return [action["title"] for action in found]


def without(*path: str) -> dict[str, Any]:
    """All capabilities but one."""

    def copy(value: dict[str, Any], rest: tuple[str, ...]) -> dict[str, Any]:
        if len(rest) == 1:
            return {key: item for key, item in value.items() if key != rest[0]}
        return {**value, rest[0]: copy(value[rest[0]], rest[1:])}

    return copy(EVERYTHING, path)


async def test_actions_are_listed_where_they_apply_and_no_model_runs() -> None:
    async with server(EVERYTHING, ready=False, load_ms=30_000) as client:
        await state(client, "loading")
        await client.open(URI, CODE)
        assert titles(await actions(client, between(1, 1))) == []
        assert titles(await actions(client, between(0, 0))) == ["Explain add", "Write docstring", "Write tests"]
        assert titles(await actions(client, between(1, 2))) == ["Explain selection", "Simplify"]
        assert titles(await actions(client, between(0, 3))) == ["Explain selection", "Write docstring", "Write tests", "Simplify"]
        assert titles(await actions(client, between(1, 1), [PROBLEM])) == ["Fix this: Local variable `c` is not needed"]
        assert titles(await actions(client, between(0, 3), only=["refactor.rewrite"])) == ["Write docstring", "Write tests", "Simplify"]
        assert titles(await actions(client, between(0, 3), [PROBLEM], only=["quickfix"])) == ["Fix this: Local variable `c` is not needed"]
        assert titles(await actions(client, between(0, 3), only=["source"])) == []


async def test_actions_say_that_a_model_made_them_where_the_editor_shows_it() -> None:
    async with server(EVERYTHING) as client:
        await client.open(URI, CODE)
        assert all(action["tags"] == [1] for action in await actions(client, between(0, 3)))
    async with server(without("textDocument", "codeAction", "tagSupport")) as client:
        await client.open(URI, CODE)
        assert all("tags" not in action for action in await actions(client, between(0, 3)))


async def test_what_a_small_model_cannot_do_is_disabled_with_the_reason() -> None:
    async with server(EVERYTHING, templates="small") as client:
        await client.open(URI, CODE)
        found = {action["title"]: action.get("disabled", {}).get("reason") for action in await actions(client, between(0, 3))}
        assert {title for title, reason in found.items() if reason} == {"Write tests", "Simplify"}
        assert "echo is too small a model" in found["Simplify"]


async def test_what_a_small_model_cannot_do_is_not_listed_where_disabling_is_unknown() -> None:
    async with server(without("textDocument", "codeAction", "disabledSupport"), templates="small") as client:
        await client.open(URI, CODE)
        assert titles(await actions(client, between(0, 3))) == ["Explain selection", "Write docstring"]


async def test_resolving_makes_the_edit_for_the_version_it_was_asked_for() -> None:
    async with server(EVERYTHING, reply="def add(a, b):\n    return a + b\n") as client:
        await client.open(URI, CODE, version=4)
        action = await chosen(client, "Fix this", between(1, 1), [PROBLEM])
        assert "edit" not in action
        assert action["kind"] == "quickfix"
        assert action["diagnostics"][0]["message"] == PROBLEM["message"]
        (change,) = (await client.request("codeAction/resolve", action))["edit"]["documentChanges"]
        assert change["textDocument"] == {"uri": URI, "version": 4}
        assert applied(CODE, change["edits"]) == CODE.replace("    c = a + b\n    return c\n", "    return a + b\n")


async def test_an_edit_for_an_editor_without_versions() -> None:
    async with server(without("workspace", "workspaceEdit"), reply="return a + b") as client:
        await client.open(URI, CODE)
        action = await chosen(client, "Simplify", between(1, 3))
        changes = (await client.request("codeAction/resolve", action))["edit"]["changes"]
        assert applied(CODE, changes[URI]) == CODE.replace("    c = a + b\n    return c\n", "    return a + b\n")


async def test_an_action_with_a_command_is_resolved_as_it_is() -> None:
    async with server(EVERYTHING) as client:
        await client.open(URI, CODE)
        action = await chosen(client, "Explain", between(1, 3))
        assert action["command"]["command"] == "phi-ls.explain"
        resolved = await client.request("codeAction/resolve", {**action, "data": None})
        assert resolved["command"]["command"] == "phi-ls.explain"
        assert await client.request("codeAction/resolve", {"title": "another's"}) == {"title": "another's"}


async def test_editors_that_do_not_resolve_get_a_command_that_applies_the_edit() -> None:
    async with server(without("textDocument", "codeAction", "resolveSupport"), reply="return a + b") as client:
        await client.open(URI, CODE)
        action = await chosen(client, "Simplify", between(1, 3))
        assert "data" not in action
        assert await client.request("workspace/executeCommand", action["command"]) == {"applied": True}
        (edit,) = [params["edit"] for method, params in client.requested if method == "workspace/applyEdit"]
        assert edit["documentChanges"][0]["textDocument"]["version"] == 1


async def test_editors_that_know_only_commands_get_commands() -> None:
    async with server({"workspace": {"applyEdit": True}}) as client:
        await client.open(URI, CODE)
        found = await actions(client, between(1, 3))
        assert [action["command"] for action in found] == ["phi-ls.explain", "phi-ls.simplify"]


async def test_editors_that_can_do_nothing_with_an_edit_are_not_offered_one() -> None:
    literals: dict[str, Any] = {"codeAction": {"codeActionLiteralSupport": {"codeActionKind": {"valueSet": []}}}}
    async with server({"textDocument": literals, "workspace": {"applyEdit": False}}) as client:
        await client.open(URI, CODE)
        assert titles(await actions(client, between(0, 3))) == ["Explain selection"]


async def test_editors_that_say_nothing_of_edits_are_asked() -> None:
    """Kate takes them; one that does not gets a sentence."""
    async with server({}, reply="return a + b") as client:
        await client.open(URI, CODE)
        (command,) = [found for found in await actions(client, between(1, 3)) if found["command"] == "phi-ls.simplify"]
        asked = {"command": command["command"], "arguments": command["arguments"]}
        assert await client.request("workspace/executeCommand", asked) == {"applied": True}

        def refuse(_: Any) -> None:
            raise LspError({"code": -32601, "message": "Method not found"})

        client.answers["workspace/applyEdit"] = refuse
        assert await client.request("workspace/executeCommand", asked) == {"applied": False}
        assert (await client.notification("window/showMessage"))["message"] == "phi-ls: The editor did not take the edit."


async def test_an_edit_that_the_editor_refuses_is_not_silent() -> None:
    async with server(EVERYTHING, reply="return a + b") as client:
        client.answers["workspace/applyEdit"] = lambda params: {"applied": False, "failureReason": "read-only"}
        await client.open(URI, CODE)
        arguments = [{"uri": URI, "range": between(1, 3)}]
        assert await client.request("workspace/executeCommand", {"command": "phi-ls.simplify", "arguments": arguments}) == {
            "applied": False
        }
        message = await client.notification("window/showMessage")
        assert "read-only" in message["message"]


async def test_an_edit_for_a_document_that_has_moved_on_is_refused() -> None:
    async with server(EVERYTHING, reply="return a + b" + " + 1" * 200, ms_per_token=1) as client:
        await client.open(URI, CODE)
        action = await chosen(client, "Simplify", between(1, 3))
        resolving = await client.ask("codeAction/resolve", action)
        change = {"range": between(0, 0), "text": "#\n"}
        await client.notify("textDocument/didChange", {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [change]})
        assert "edit" not in await resolving
        message = await client.notification("window/showMessage")
        assert "has changed meanwhile" in message["message"]


async def test_an_action_for_an_older_version_runs_no_model() -> None:
    async with server(EVERYTHING, reply="return a + b") as client:
        await client.open(URI, CODE, version=3)
        action = await chosen(client, "Simplify", between(1, 3))
        action["data"]["version"] = 2
        assert "edit" not in await client.request("codeAction/resolve", action)
        assert "has changed meanwhile" in (await client.notification("window/showMessage"))["message"]


async def test_an_answer_that_cannot_be_applied_is_shown() -> None:
    async with server(EVERYTHING, reply="return a +") as client:
        await client.open(URI, CODE)
        action = await chosen(client, "Simplify", between(1, 3))
        assert "edit" not in await client.request("codeAction/resolve", action)
        assert "not valid Python" in (await client.notification("window/showMessage"))["message"]
        (shown,) = [params["uri"] for method, params in client.requested if method == "window/showDocument"]
        content = await client.request("workspace/textDocumentContent", {"uri": shown})
        assert content["text"] == "```python\nreturn a +\n```\n"


async def test_a_docstring_of_a_small_model_is_a_skeleton() -> None:
    async with server(EVERYTHING, templates="small", reply="Adds two numbers together.") as client:
        await client.open(URI, CODE)
        action = await chosen(client, "Write docstring", between(0, 0))
        (change,) = (await client.request("codeAction/resolve", action))["edit"]["documentChanges"]
        assert '    """Adds two numbers together.\n\n    Args:\n        a: TODO' in applied(CODE, change["edits"])


async def test_tests_become_a_new_file(tmp_path: Path) -> None:
    async with server(EVERYTHING, reply="def test_add():\n    assert add(1, 2) == 3\n") as client:
        uri = (tmp_path / "calc.py").as_uri()
        await client.open(uri, CODE)
        command = {"command": "phi-ls.tests", "arguments": [{"uri": uri, "range": between(0, 0)}]}
        assert await client.request("workspace/executeCommand", command) == {"applied": True}
        (edit,) = [params["edit"] for method, params in client.requested if method == "workspace/applyEdit"]
        created, written = edit["documentChanges"]
        assert (created["kind"], created["uri"]) == ("create", (tmp_path / "test_calc.py").as_uri())
        assert written["edits"][0]["newText"].startswith("def test_add():")
        (tmp_path / "test_calc.py").touch()
        assert await client.request("workspace/executeCommand", command) == {"applied": False}
        assert "There is a test file already" in (await client.notification("window/showMessage"))["message"]


async def test_work_is_shown_and_can_be_cancelled_by_the_user() -> None:
    async with server(EVERYTHING, reply="return a + b" + " + 1" * 2000, ms_per_token=1) as client:
        await client.open(URI, CODE)
        action = await chosen(client, "Simplify", between(1, 3))
        resolving = await client.ask("codeAction/resolve", action)
        begin = await client.notification("$/progress", lambda params: params["value"]["kind"] == "begin")
        assert begin["value"]["title"] == "Simplify"
        assert begin["value"]["cancellable"] is True
        await client.notify("window/workDoneProgress/cancel", {"token": begin["token"]})
        assert "edit" not in await resolving
        await client.notification("$/progress", lambda params: params["value"]["kind"] == "end")


@pytest.mark.parametrize(
    "arguments", [None, [], [1], [{}], [{"uri": URI}], [{"uri": URI, "range": {}}], [{"uri": URI, "range": 3}], [1, 2]]
)
async def test_arguments_that_are_none_are_invalid_params(arguments: Any) -> None:
    async with server(EVERYTHING) as client:
        with pytest.raises(LspError, match="takes one object with uri and range") as caught:
            await client.request("workspace/executeCommand", {"command": "phi-ls.explain", "arguments": arguments})
        assert caught.value.code == -32602


async def test_commands_where_nothing_applies_say_so() -> None:
    async with server(EVERYTHING, templates="small") as client:
        await client.open(URI, CODE)
        for command, line, reason in [
            ("phi-ls.unknown", 0, "There is no command"),
            ("phi-ls.docstring", 1, "nothing here"),
            ("phi-ls.tests", 0, "too small a model"),
        ]:
            with pytest.raises(LspError, match=reason):
                await client.request(
                    "workspace/executeCommand", {"command": command, "arguments": [{"uri": URI, "range": between(line, line)}]}
                )
