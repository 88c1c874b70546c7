"""Completion without a model: what is copied, how likely it is right, and how it ranks with what a model says."""

import time
from statistics import median
from typing import cast

import pytest
from server_process import INLINE, URI, at, server, state
from test_server_inline_completion import FakeClient, document

from phi_backends.client import Client
from phi_server.documents import Position, Snapshot
from phi_server.inline_completion import complete, site_at
from phi_server.local_completion import SURE, Copy, Guess, both, guess, likelier, longest_match
from phi_server.settings import Settings

pytestmark = pytest.mark.anyio

RECTANGLES = """def draw(canvas, shape):
    canvas.begin(shape.name, shape.colour, antialias=True)
    canvas.fill(shape.outline)


def erase(canvas, shape):
    canvas.begin(shape.name, shape.colour, antialias=True)
    """


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def here(text: str) -> tuple[Snapshot, Position]:
    """A document with the cursor at the mark, which is taken out."""
    before, _, after = text.partition("▮")
    return document(before + after), Position(before.count("\n"), len(before.rpartition("\n")[2]))


def guessed(text: str, *others: Snapshot) -> str | None:
    snapshot, position = here(text)
    found = guess(snapshot, position, site_at(snapshot, position, Settings()), others)
    return None if found is None else found.text


# What is copied


@pytest.mark.parametrize(
    ("before", "below", "line"),
    [
        ("first = compute(a, b)\nsecond = compute(", "", "a, b)"),
        ("x = compute(1)\nlonger = compute(2)\ny = compute(3)\nlonger = compute(", "", "2)"),  # the longest match
        ("x = compute(1)\nx = compute(2)\nx = compute(", "", "2)"),  # the nearer of two
        ("x = compute(", "\ny = compute(4)\n", "4)"),  # what is below
        ("one_function():\r\n    pass\r\nanother\r\none_function():\r\n    ", "", "pass"),
        ("        a = 1\n        ", "", None),  # indentation is no match
        ("pass\nx = f(1)\nx = f(", "", None),  # too little is the same
        ("call(argument)\ncall(argument)", "", None),  # a line that ends there says nothing
        ("", "", None),
    ],
)
def test_a_line_goes_on_as_it_did_behind_the_longest_match(before: str, below: str, line: str | None) -> None:
    copy = longest_match(before, below)
    assert (None if copy is None else copy.line) == line


def test_the_nearest_document_counts_first_and_others_too() -> None:
    other = Snapshot.of_text("file:///work/other.py", 1, "python", "value = compute(elsewhere)\n")
    assert guessed("value = compute(▮\n", other) == "elsewhere)"
    assert guessed("value = compute(here)\nother = 1\nvalue = compute(▮\n", other) == "here)"


def test_what_is_copied_fits_at_the_cursor() -> None:
    snapshot, position = here("first = compute(a, b)\nsecond = compute(▮)\n")
    found = guess(snapshot, position, site_at(snapshot, position, Settings()))
    assert found is not None
    assert (found.text, found.overwrites) == ("a, b)", 1)


def test_no_key_is_copied_and_nothing_from_files_that_are_kept_for_secrets() -> None:
    environment = Snapshot.of_text("file:///work/.env", 1, "plaintext", "value = compute(elsewhere)\n")
    assert guessed("value = compute(▮\n", environment) is None
    line = 'client = connect(host, password="hunter2hunter2")'
    assert guessed(f"{line}\nother_client = connect(host, ▮\n") is None
    assert guessed(f"{line.replace('password', 'colour')}\nother_client = connect(host, ▮\n") is not None


def test_long_matches_are_trusted_more_and_long_lines_less() -> None:
    assert Copy("pass", 40).probability > Copy("pass", 20).probability > Copy("return self.whole_line", 20).probability


def test_it_takes_no_time_in_a_long_file_with_others_open() -> None:
    lines = [f"    value_{n % 700} = self.compute(argument_{n % 90}, {n})\n" if n % 3 else "def compute(self):\n" for n in range(10_000)]
    others = [Snapshot.of_text(f"file:///work/{n}.py", 1, "python", "".join(lines)) for n in range(4)]
    snapshot = document("".join(lines[:5000]) + "    value_5 = self.compute(argument_7, \n" + "".join(lines[5000:]))
    position = Position(5000, len("    value_5 = self.compute(argument_7, "))
    site = site_at(snapshot, position, Settings())
    times = []
    for _ in range(9):
        started = time.perf_counter()
        assert guess(snapshot, position, site, others) is not None
        times.append(1000 * (time.perf_counter() - started))
    assert median(times) < 20, "2 ms on an idle machine"


# How it ranks with a model

RANKED: list[tuple[Guess | None, Guess | None, Guess | None]] = [
    (None, None, None),
    (Guess("a", 0, 0.1), None, Guess("a", 0, 0.1)),
    (None, Guess("b", 0, 0.1), Guess("b", 0, 0.1)),
    (Guess("a", 0, 0.4), Guess("b", 0, 0.3), Guess("a", 0, 0.4)),
    (Guess("a", 0, 0.2), Guess("b", 0, 0.3), Guess("b", 0, 0.3)),
    (Guess("a", 0, None), Guess("b", 0, 0.9), Guess("a", 0, None)),
    (Guess("a", 0, 0.5), Guess("a", 0, 0.5), Guess("a", 0, 0.75)),
    (Guess("a\n    b", 0, 0.5), Guess("a", 0, 0.5), Guess("a\n    b", 0, 0.75)),
]


@pytest.mark.parametrize(("model", "copy", "best"), RANKED)
def test_the_likelier_is_shown(model: Guess | None, copy: Guess | None, best: Guess | None) -> None:
    assert likelier(model, copy) == best


async def completed(text: str, *pieces: str, copy: float, min_probability: float = 0.3) -> tuple[str | None, int]:
    """What is shown where the model writes `pieces`, each with a probability of a half, and how often it was asked."""
    snapshot, position = here(text)
    fake = FakeClient(*pieces)
    local = Guess("copied", 0, copy)
    found = await complete(
        snapshot, position, cast(Client, fake), Settings(min_probability=min_probability), local=lambda snapshot, position, site: local
    )
    return (None if found is None else found.text), len(fake.asked)


async def test_a_copy_that_is_sure_is_shown_without_asking_the_model() -> None:
    assert await completed("x = ▮\n", "written\n", copy=SURE) == ("copied", 0)


async def test_a_model_that_is_surer_is_shown() -> None:
    assert await completed("x = ▮\n", "written\n", copy=0.4) == ("written", 1)


async def test_a_model_that_is_too_unsure_leaves_the_place_to_a_likely_copy_or_to_silence() -> None:
    assert await completed("x = ▮\n", "wri", "tt", "en\n", copy=0.4) == ("copied", 1)
    assert await completed("x = ▮\n", "wri", "tt", "en\n", copy=0.2) == (None, 1)


async def test_a_model_and_a_copy_that_agree_are_shown_where_neither_would_be() -> None:
    assert await completed("x = ▮\n", "cop", "ied\n", copy=0.25, min_probability=0.4) == ("copied", 1)
    assert both(0.25, 0.25) == 0.4375


# In the server


async def test_without_an_engine_there_are_copies_and_the_status_says_so() -> None:
    async with server(INLINE, engine="openvino", model="/nowhere", ready=False, engine_options={}) as client:
        status = await state(client, "off")
        assert "copied from the open documents" in status["detail"]
        await client.open(URI, RECTANGLES)
        answer = await client.request("textDocument/inlineCompletion", {**at(7, 4), "context": {"triggerKind": 1}})
        assert [item["insertText"] for item in answer["items"]] == ["canvas.fill(shape.outline)"]


async def test_a_copy_is_there_while_the_engine_loads_and_the_list_says_where_it_is_from() -> None:
    async with server({}, load_ms=30_000, ready=False) as client:
        await state(client, "loading")
        await client.open(URI, RECTANGLES)
        answer = await client.request("textDocument/completion", at(7, 4))
        assert [item["detail"] for item in answer["items"]] == ["phi-ls · open documents"]


async def test_a_likely_copy_is_shown_where_the_model_would_be_late() -> None:
    async with server(INLINE, reply="x" * 400, ms_per_token=40, deadline_ms=100, min_probability=0.05) as client:
        await client.open(URI, "value = compute(first)\nresult = 3\nother_value = compute(▮\n".replace("▮", ""))
        answer = await client.request("textDocument/inlineCompletion", {**at(2, 22), "context": {"triggerKind": 2}})
        assert [item["insertText"] for item in answer["items"]] == ["first)"]
