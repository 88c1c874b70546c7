"""textDocument/inlineCompletion and its fallback: what is asked of the model, and what becomes of the answer."""

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import anyio
import pytest
from server_process import EVERYTHING, INLINE, URI, at, server, state

from phi_backends.client import Client, Generation
from phi_backends.messages import Done, Loaded, Text, Timings
from phi_prompts.prompt import Prompt, Window
from phi_server.ahead import PAUSE_S
from phi_server.documents import Position, Range, Snapshot
from phi_server.inline_completion import ask, complete, is_complete, site_at, so_far
from phi_server.lsp_client import LspClient, LspError
from phi_server.settings import Settings

pytestmark = pytest.mark.anyio
LOADED = Loaded("echo", "echo", "none", "asked for", 2048, "phi3", "small", 0.0)
PYTHON = "import math\n\n\ndef area(radius):\n    return math.p\n\n\nprint(area(2))\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def document(text: str, language: str = "python") -> Snapshot:
    return Snapshot.of_text(URI, 1, language, text)


class FakeClient:
    """Gives the same answer, piece by piece, to everything. It tells how far it was read, and whether it was cancelled."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.asked: list[dict[str, Any]] = []
        self.cancelled = 0

    async def loaded(self) -> Loaded:
        return LOADED

    def generate(self, prompt: Prompt, **how: Any) -> Generation:
        self.asked.append({"prompt": prompt, **how})
        generation = Generation(1, self._forget)
        for piece in self.pieces:
            generation._receive(Text(1, piece, 0.5))
        generation._receive(Done(1, "stop", Timings(0, 0, 0, 0, 0, 0)))
        return generation

    def _forget(self, request: int) -> None:
        self.cancelled += 1


def client(*pieces: str) -> Client:
    return cast(Client, FakeClient(*pieces))


def texts(prompt: Prompt) -> str:
    return "".join("".join(part.lines) if isinstance(part, Window) else part if isinstance(part, str) else "·" for part in prompt)


# What is asked


@pytest.mark.parametrize(
    ("line", "heal", "before"),
    [
        ("x = fo", " fo", "x ="),
        ("x.fo", "fo", "x."),
        ("return ", " ", "return"),
        ("    ", " ", "   "),
        ("    ret", " ret", "   "),
        ("\tret", "\tret", ""),
        ("f(a,  b", " b", "f(a, "),
        ("f(", "", "f("),
        ("größe", "größe", ""),
        ("", "", ""),
    ],
)
def test_the_piece_of_a_word_before_the_cursor_is_left_to_the_healing(line: str, heal: str, before: str) -> None:
    question, healed = ask(document(line), Position(0, len(line)), LOADED)
    assert healed == heal
    assert texts(question.prompt).endswith(before)
    assert texts(question.prompt).count(line) == (0 if heal else texts(question.prompt).count(before))


def test_while_typing_only_the_end_of_the_prompt_changes() -> None:
    lines = [f"value_{number} = {number}\n" for number in range(500)]
    for typed in ("a", "ab = ", "ab = f(", "ab = f(1)"):
        text = "".join([*lines[:250], typed + "\n", *lines[250:]])
        question, heal = ask(document(text), Position(250, len(typed)), LOADED)
        begun = texts(question.prompt) + heal
        assert begun.endswith("value_249 = 249\n" + typed)
        begun = begun.removesuffix(typed)
        assert begun == ask_before_typing(lines)


def ask_before_typing(lines: list[str]) -> str:
    question, heal = ask(document("".join([*lines[:250], "\n", *lines[250:]])), Position(250, 0), LOADED)
    return texts(question.prompt) + heal


def test_a_huge_document_is_not_sent_whole() -> None:
    text = "".join(f"value_{number} = {number}\n" for number in range(50_000))
    question, heal = ask(document(text), Position(25_000, 0), LOADED)
    assert len(texts(question.prompt)) < 40_000
    assert (texts(question.prompt) + heal).endswith("value_24999 = 24999\n")


def test_at_the_start_of_a_line_its_break_is_left_to_the_healing() -> None:
    question, heal = ask(document("def f():\r\n\r\n"), Position(1, 0), LOADED)
    assert heal == "\n"
    assert texts(question.prompt).endswith("\ndef f():")


@pytest.mark.parametrize(
    ("text", "line", "invoked", "lines"),
    [
        ("def f():\n    \n", 1, False, 12),
        ("def f():\n    x = \n", 1, False, 1),
        ("x = 1\n\n", 1, False, 1),
        ("x = 1\n\n", 1, True, 12),
        ("x = f(\n", 0, True, 12),
    ],
)
def test_several_lines_only_in_a_fresh_block_or_when_asked_for(text: str, line: int, invoked: bool, lines: int) -> None:
    snapshot = document(text)
    assert site_at(snapshot, Position(line, len(snapshot.line(line))), Settings(), invoked).max_lines == lines


async def test_generating_stops_when_the_block_has_ended() -> None:
    fake = FakeClient("a = 1\n", "    b = 2\n", "print(3)\n", "print(4)\n")
    read: list[str] = []
    completion = await complete(document("def f():\n    "), Position(1, 4), cast(Client, fake), Settings(), on_text=read.append)
    assert completion is not None
    assert (completion.text, len(read)) == ("a = 1\n    b = 2", 3)
    assert completion.probability == 0.5  # of the first line, by which one decides
    assert fake.cancelled == 1


async def test_a_line_is_one_line_and_knows_how_sure_the_model_was() -> None:
    fake = FakeClient("i * r", "adius")
    completion = await complete(
        document(PYTHON), Position(4, 17), cast(Client, fake), Settings(max_completion_tokens=7, min_probability=0.1)
    )
    assert completion is not None
    assert (completion.text, completion.probability) == ("i * radius", 0.25)
    assert completion.range == Range(Position(4, 17), Position(4, 17))
    assert set(completion.timings_ms) == {"first_text", "total"}
    assert fake.asked[0]["stop"] == ("\n",)
    assert fake.asked[0]["heal"] == "p"
    assert fake.asked[0]["max_tokens"] == 7


async def test_the_gate_costs_no_model_run() -> None:
    fake = FakeClient("x")
    assert await complete(document("print(x)\n"), Position(0, 3), cast(Client, fake), Settings()) is None
    assert fake.asked == []


def test_a_block_is_complete_when_the_next_lines_begin() -> None:
    site = site_at(document("def f():\n    \n    return total\n"), Position(1, 4), Settings())
    assert not is_complete("total = 1", site)
    assert is_complete("total = 1\n    return total\n", site)


# Over LSP


@pytest.fixture
async def editor() -> AsyncIterator[LspClient]:
    async with server(INLINE, reply="return math.pi * radius") as client:
        await client.open(URI, PYTHON)
        yield client


def automatic(line: int, character: int) -> dict[str, Any]:
    return {**at(line, character), "context": {"triggerKind": 2}}


def invoked(line: int, character: int) -> dict[str, Any]:
    return {**at(line, character), "context": {"triggerKind": 1}}


async def test_an_item_goes_on_from_the_cursor(editor: LspClient) -> None:
    assert "inlineCompletionProvider" in editor.capabilities
    assert "completionProvider" not in editor.capabilities
    answer = await editor.request("textDocument/inlineCompletion", automatic(4, 17))
    (item,) = answer["items"]
    assert item["insertText"] == "i * radius"
    assert item["range"] == {"start": {"line": 4, "character": 17}, "end": {"line": 4, "character": 17}}


async def test_accepting_is_counted(editor: LspClient) -> None:
    answer = await editor.request("textDocument/inlineCompletion", automatic(4, 17))
    command = answer["items"][0]["command"]
    await editor.request("workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]})
    status = await editor.request("workspace/executeCommand", {"command": "phi-ls.status"})
    assert (status["shown"], status["accepted"], status["engine"]) == (1, 1, "echo")


async def test_nothing_inside_a_line(editor: LspClient) -> None:
    assert await editor.request("textDocument/inlineCompletion", automatic(4, 8)) is None


async def test_matching_closers_are_overwritten_in_the_editors_units() -> None:
    async with server(INLINE, reply='say("🙂 bye")') as client:
        await client.open(URI, 'print(1)\nsay("🙂")\n')
        answer = await client.request("textDocument/inlineCompletion", automatic(1, 7))
        (item,) = answer["items"]
        assert item["insertText"] == ' bye")'
        assert item["range"] == {"start": {"line": 1, "character": 7}, "end": {"line": 1, "character": 9}}


async def test_line_ends_are_the_documents() -> None:
    async with server(INLINE, reply="a = 1\n    return a") as client:
        await client.open(URI, "def f():\r\n    \r\n")
        answer = await client.request("textDocument/inlineCompletion", automatic(1, 4))
        assert answer["items"][0]["insertText"] == "a = 1\r\n    return a"


async def test_a_newer_request_answers_the_older_one_at_once() -> None:
    async with server(INLINE, reply="return math.pi", debounce_ms=10_000) as client:
        await client.open(URI, PYTHON)
        older = await client.ask("textDocument/inlineCompletion", automatic(4, 17))
        answer = await client.request("textDocument/inlineCompletion", invoked(4, 17))
        assert answer["items"][0]["insertText"] == "i"
        assert await older is None


async def test_a_newer_request_takes_over_while_the_model_writes() -> None:
    async with server(INLINE, reply="return math.p" + "x" * 5000, ms_per_token=1, max_completion_tokens=4096) as client:
        await client.open(URI, PYTHON)
        older = await client.ask("textDocument/inlineCompletion", automatic(4, 17))
        newer = await client.ask("textDocument/inlineCompletion", automatic(4, 17))
        assert await older is None
        assert not newer.done()
        await client.cancel(newer)
        with pytest.raises(LspError, match="-32800"):
            await newer


async def test_other_documents_are_not_taken_over() -> None:
    async with server(INLINE, reply="return math.pi", debounce_ms=200) as client:
        await client.open(URI, PYTHON)
        await client.open("file:///other.py", PYTHON)
        first = await client.ask("textDocument/inlineCompletion", automatic(4, 17))
        second = await client.ask("textDocument/inlineCompletion", {**automatic(4, 17), "textDocument": {"uri": "file:///other.py"}})
        assert (await first)["items"][0]["insertText"] == "i"
        assert (await second)["items"][0]["insertText"] == "i"


async def test_while_the_engine_loads_nothing_is_waited_for() -> None:
    async with server(INLINE, load_ms=30_000, ready=False) as client:
        await state(client, "loading")
        await client.open(URI, PYTHON)
        with anyio.fail_after(10):
            assert await client.request("textDocument/inlineCompletion", invoked(4, 17)) is None


async def test_suggestions_can_be_switched_off() -> None:
    async with server(INLINE, reply="return math.pi", inline_completion=False) as client:
        await client.open(URI, PYTHON)
        assert await client.request("textDocument/inlineCompletion", invoked(4, 17)) is None


async def test_a_document_that_is_not_open_is_an_error(editor: LspClient) -> None:
    with pytest.raises(LspError, match="not open"):
        await editor.request("textDocument/inlineCompletion", {**automatic(0, 0), "textDocument": {"uri": "file:///nowhere.py"}})


async def test_editors_without_inline_completion_get_an_item_in_the_list() -> None:
    async with server({}, reply="return math.pi * radius") as client:
        assert "completionProvider" in client.capabilities
        await client.open(URI, PYTHON)
        answer = await client.request("textDocument/completion", {**at(4, 17), "context": {"triggerKind": 1}})
        (item,) = answer["items"]
        assert answer["isIncomplete"] is True
        assert item["label"] == item["filterText"] == "pi * radius"
        assert item["sortText"] == "~"
        assert item["detail"] == "phi-ls · echo"
        assert item["textEdit"] == {
            "newText": "pi * radius",
            "range": {"start": {"line": 4, "character": 16}, "end": {"line": 4, "character": 17}},
        }


async def test_the_list_is_empty_but_incomplete_where_there_is_nothing() -> None:
    async with server({}, reply="return math.pi") as client:
        await client.open(URI, PYTHON)
        assert await client.request("textDocument/completion", at(4, 8)) == {"isIncomplete": True, "items": []}


async def test_long_labels_are_short() -> None:
    async with server({}, reply="x = first + second * third - fourth / fifth % sixth + seventh\n") as client:
        await client.open(URI, "a = 1\nx =\n")
        (item,) = (await client.request("textDocument/completion", at(1, 3)))["items"]
        assert len(item["label"]) <= 40
        assert item["label"].endswith("…")


async def test_an_engine_that_dies_costs_a_suggestion_and_no_error() -> None:
    async with server(EVERYTHING, reply="return math.p" + "x" * 1000, ms_per_token=1, max_completion_tokens=800) as client:
        await client.open(URI, PYTHON)
        suggestion = await client.ask("textDocument/inlineCompletion", automatic(4, 17))
        await client.request("workspace/executeCommand", {"command": "phi-ls.restart"})
        assert await suggestion is None
        await state(client, "ready")


# The ladder


def change(text: str, version: int) -> dict[str, Any]:
    return {"textDocument": {"uri": URI, "version": version}, "contentChanges": [{"text": text}]}


async def test_typing_through_the_suggestion_on_show_runs_no_model() -> None:
    async with server(INLINE, reply="return math.pi * radius ** 2") as client:
        await client.open(URI, PYTHON)
        shown = (await client.request("textDocument/inlineCompletion", automatic(4, 17)))["items"][0]["insertText"]
        for typed in range(1, len(shown)):
            await client.notify("textDocument/didChange", change(PYTHON.replace("math.p", "math.p" + shown[:typed]), typed + 1))
            answer = await client.request("textDocument/inlineCompletion", automatic(4, 17 + typed))
            assert answer["items"][0]["insertText"] == shown[typed:]
        status = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
        assert status["work"]["completion"]["requests"] == 1


async def test_what_is_being_written_goes_on_when_its_beginning_was_typed() -> None:
    """Neovim does not cancel, VS Code does; neither costs the model's work."""
    for cancels in (False, True):
        async with server(INLINE, reply="return math.pi * radius", ms_per_token=2) as client:
            await client.open(URI, PYTHON)
            first = await client.ask("textDocument/inlineCompletion", automatic(4, 17))
            await client.notify("textDocument/didChange", change(PYTHON.replace("math.p", "math.pi"), 2))
            if cancels:
                await client.cancel(first)
            answer = await client.request("textDocument/inlineCompletion", automatic(4, 18))
            assert answer["items"][0]["insertText"] == " * radius"
            status = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
            assert status["work"]["completion"]["requests"] == 1
            if cancels:
                with pytest.raises(LspError, match="-32800"):
                    await first
            else:
                assert await first is None


async def test_what_is_being_written_gives_way_when_something_else_was_typed() -> None:
    async with server(INLINE, reply="return math.pi * radius", ms_per_token=5) as client:
        await client.open(URI, PYTHON)
        first = await client.ask("textDocument/inlineCompletion", automatic(4, 17))
        await client.notify("textDocument/didChange", change(PYTHON.replace("math.p", "ma"), 2))
        answer = await client.request("textDocument/inlineCompletion", automatic(4, 13))
        assert answer["items"][0]["insertText"] == "th.pi * radius"
        assert await first is None


def idle_requests(status: Any) -> int:
    return int(status["work"]["idle"]["requests"])


async def status_when(client: LspClient, met: Callable[[Any], bool]) -> Any:
    with anyio.fail_after(20):
        while True:
            status = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
            if met(status):
                return status


@pytest.mark.parametrize("power", ["saving", "full"])
async def test_at_the_deadline_what_is_written_is_shown_and_the_rest_follows(power: str) -> None:
    reply = "return math.pi * radius ** 2 + sum(values) + another_value + a_third_value"
    async with server(INLINE, reply=reply, ms_per_token=9, deadline_ms=110, power=power) as client:
        await client.open(URI, PYTHON)
        first = (await client.request("textDocument/inlineCompletion", automatic(4, 17)))["items"][0]["insertText"]
        assert "i * radius ** 2 + sum(values) + another_value + a_third_value".startswith(first)
        assert len(first) < 40
        assert first.count("(") == first.count(")")
        more = await client.notification("$/phi-ls/more", lambda more: True)  # it goes on behind the scenes
        assert more == {"uri": URI, "version": 1}
        answer = await client.request("textDocument/inlineCompletion", automatic(4, 17))
        assert answer["items"][0]["insertText"] == reply.removeprefix("return math.p")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("first_name = other", "first_name"),
        ("call(first, sec", None),
        ("call(first)", "call(first)"),
        ("call(first).and", "call(first)"),
        ("x = 1", None),
        ('name + "some text', None),
        ("first()\n    second(", "first()"),
        ("Sure, here is the code", None),
        ("Here is the code:\n```python\n    first()\n    sec", "first()"),
    ],
)
def test_an_unfinished_text_is_shown_up_to_where_it_is_whole(text: str, shown: str | None) -> None:
    site = site_at(document("def f():\n    \n"), Position(1, 4), Settings())
    cleaned = so_far(text, site)
    assert (cleaned.text if cleaned else None) == shown


async def test_what_comes_after_the_suggestion_is_written_while_it_is_on_show() -> None:
    async with server(INLINE, reply="return math.pi\n    area = math.e\n", ms_per_token=1) as client:
        await client.open(URI, PYTHON)
        answer = await client.request("textDocument/inlineCompletion", automatic(4, 17))
        assert answer["items"][0]["insertText"] == "i"
        await status_when(client, lambda status: idle_requests(status) >= 2)
        await client.notify("textDocument/didChange", change(PYTHON.replace("math.p", "math.pi\n    "), 2))
        answer = await client.request("textDocument/inlineCompletion", automatic(5, 4))
        assert answer["items"][0]["insertText"] == "area = math.e"
        status = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
        assert status["work"]["completion"]["requests"] == 1


async def test_where_the_cursor_is_the_prompt_is_run_ahead_of_time() -> None:
    async with server(EVERYTHING, reply="return math.pi") as client:
        await client.open(URI, PYTHON)
        place = {"line": 4, "character": 17}
        cursor = {"textDocument": {"uri": URI}, "range": {"start": place, "end": place}, "context": {"diagnostics": []}}
        await client.request("textDocument/inlineCompletion", automatic(4, 8))  # somebody types, where nothing is suggested
        await client.request("textDocument/codeAction", cursor)
        await status_when(client, lambda status: idle_requests(status) >= 1)
        await client.request("textDocument/inlineCompletion", automatic(4, 17))
        status = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
        assert status["work"]["completion"]["prefilled_tokens"] <= 2


async def test_an_unused_model_is_unloaded_and_loaded_again_at_the_next_key() -> None:
    async with server(INLINE, reply="return math.pi", unload_after_s=1, power="saving") as client:
        await client.open(URI, PYTHON)
        await state(client, "asleep")
        assert await client.request("textDocument/inlineCompletion", automatic(4, 17)) is None
        await state(client, "ready")
        answer = await client.request("textDocument/inlineCompletion", automatic(4, 17))
        assert answer["items"][0]["insertText"] == "i"


async def test_what_was_begun_ahead_of_time_does_not_wait_behind_an_explanation() -> None:
    reply = "return math.pi\n    area = math.e\n" + "x" * 2000
    async with server(EVERYTHING, reply=reply, ms_per_token=2, max_answer_tokens=2000) as client:
        await client.open(URI, PYTHON)
        await client.request("textDocument/inlineCompletion", automatic(4, 17))
        lines = {"uri": URI, "range": {"start": {"line": 3, "character": 0}, "end": {"line": 4, "character": 0}}}
        explaining = await client.ask("workspace/executeCommand", {"command": "phi-ls.explain", "arguments": [lines]})
        await anyio.sleep(PAUSE_S)  # the next suggestion is begun, and gets no turn; where it is not yet, the test proves less
        await client.notify("textDocument/didChange", change(PYTHON.replace("math.p", "math.pi\n    "), 2))
        answer = await client.request("textDocument/inlineCompletion", automatic(5, 4))
        assert answer["items"][0]["insertText"] == "area = math.e"
        assert not explaining.done()
        await client.cancel(explaining)
        with pytest.raises(LspError, match="-32800"):
            await explaining


async def test_what_all_prompts_of_a_file_begin_with_is_run_as_soon_as_there_is_a_model() -> None:
    async with server(INLINE, load_ms=300, ready=False) as client:
        await client.open(URI, PYTHON)
        await state(client, "ready")
        status = await status_when(client, lambda status: idle_requests(status) == 1)
        assert status["work"]["idle"]["prefilled_tokens"] > 20
