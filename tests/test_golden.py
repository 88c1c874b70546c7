"""Every golden case, through the real path: gate, streaming with early stop, post-processing. And properties of any item."""

import asyncio
from typing import Any, cast

import pytest
from golden import CURSOR, Case, cases
from hypothesis import assume, given
from hypothesis import strategies as st

from phi_backends.client import Client, Generation
from phi_backends.messages import Done, Loaded, Text, Timings
from phi_prompts.prompt import Prompt
from phi_server.documents import Position, Snapshot, indent_unit, indentation
from phi_server.inline_completion import Completion, complete, site_at
from phi_server.postprocess import clean
from phi_server.settings import Settings

CASES = list(cases())
LOADED = Loaded("echo", "echo", "none", "asked for", 16384, "phi3", "phi3", 0.0)


class Model:
    """Writes its answer in pieces of a few characters, as models do."""

    def __init__(self, answer: str, piece: int = 4) -> None:
        self._pieces = [answer[at : at + piece] for at in range(0, len(answer), piece)]

    async def loaded(self) -> Loaded:
        return LOADED

    def generate(self, prompt: Prompt, **how: Any) -> Generation:
        generation = Generation(1, lambda request: None)
        for piece in self._pieces:
            generation._receive(Text(1, piece, 0.9))
        generation._receive(Done(1, "stop", Timings(0, 0, 0, 0, 0, 0)))
        return generation


def suggestion(document: str, answer: str, language_id: str, invoked: bool = False) -> tuple[Snapshot, Position, Completion | None]:
    """The document without the cursor's mark, where that was, and what is suggested there."""
    before, after = document.split(CURSOR)
    snapshot = Snapshot.of_text("file:///project/file", 1, language_id, before + after)
    lines = Snapshot.of_text("file:///project/file", 1, language_id, before + CURSOR).lines
    position = Position(len(lines) - 1, len(lines[-1]) - 1)
    model = cast(Client, Model(answer))
    settings = Settings(min_probability=0.0)  # what is made of an answer, however long; how likely it is, is asked below
    return snapshot, position, asyncio.run(complete(snapshot, position, model, settings, invoked=invoked))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden(case: Case) -> None:
    snapshot, _, found = suggestion(case.document, case.model, case.language_id, "invoked" in case.flags)
    text = None if found is None else found.text.replace("\r\n", "\n")
    assert text == case.item
    if found is not None:
        assert snapshot.text(found.range) == case.over
        assert ("\r\n" in found.text) == ("crlf" in case.flags and "\n" in found.text)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_stopping_early_changes_nothing(case: Case) -> None:
    snapshot, position, found = suggestion(case.document, case.model, case.language_id, "invoked" in case.flags)
    if found is not None:
        whole = clean(case.model, site_at(snapshot, position, Settings(), "invoked" in case.flags))
        assert whole is not None
        assert whole.text == found.text


def test_there_are_many_in_many_languages() -> None:
    assert len(CASES) >= 150
    assert len({case.language_id for case in CASES}) >= 8
    assert len({str(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(("least", "invoked", "shown"), [(0.0, False, True), (0.5, False, True), (0.99, False, False), (0.99, True, True)])
def test_silence_where_the_model_is_unsure(least: float, invoked: bool, shown: bool) -> None:
    snapshot = Snapshot.of_text("file:///project/file.py", 1, "python", "def area(w, h):\n    return ")
    settings = Settings(min_probability=least)
    found = asyncio.run(complete(snapshot, Position(1, 11), cast(Client, Model("w * h")), settings, invoked=invoked))
    assert (found is not None) is shown  # two pieces of 0.9 each


# Properties, of any document and any answer

LINE = st.sampled_from(
    ["def f(a, b):", "    return a", "\tif x {", "}", "", "x = (1,", ")", "    total += x  # ", "```", "Here is the code:", "'",
     "größe = 1", "print(x)", "    print(x)", "<|end|>", "  y", "🙂 = 2", "// ... existing code"]
)  # fmt: skip
TEXT = st.lists(LINE, max_size=7).map("\n".join)
NEWLINE = st.sampled_from(["\n", "\r\n"])


@given(TEXT, TEXT, TEXT, NEWLINE, st.booleans(), st.sampled_from(["python", "go", "markdown", "json"]))
def test_an_item_changes_nothing_outside_its_range(
    before: str, after: str, answer: str, newline: str, invoked: bool, language_id: str
) -> None:
    document = (before + CURSOR + after).replace("\n", newline)
    snapshot, position, found = suggestion(document, answer, language_id, invoked)
    assume(found is not None)
    assert found is not None
    assert found.range.start == position
    assert found.range.end.line == position.line
    changed = snapshot.replaced(found.range, found.text)
    assert changed.startswith(before.replace("\n", newline))
    over = snapshot.text(found.range)
    assert changed.endswith(after.replace("\n", newline)[len(over) :])
    assert len(changed) == len("".join(snapshot.lines)) - len(over) + len(found.text)


@given(TEXT, TEXT, NEWLINE, st.sampled_from(["    ", "\t", "  "]))
def test_accepted_text_keeps_line_ends_and_the_indent_unit(body: str, answer: str, newline: str, unit: str) -> None:
    document = f"class A:\n{unit}def f(self):\n{unit}{unit}{CURSOR}\n{unit}def g(self):\n{unit}{unit}return 1\n".replace("\n", newline)
    snapshot, _, found = suggestion(document, answer.replace("\t", "    "), "python", invoked=True)
    assume(found is not None)
    assert found is not None
    changed = snapshot.replaced(found.range, found.text)
    assert changed.count("\r") == (changed.count("\n") if newline == "\r\n" else 0)
    for line in found.text.replace("\r\n", "\n").split("\n")[1:]:
        lead = indentation(line)
        assert "\t" not in lead if unit[0] == " " else not lead or lead[0] == "\t" or len(lead) < 4
    assert indent_unit(snapshot.lines) == unit


@given(st.sampled_from([case for case in CASES if case.item == case.model and "\n" not in case.model and not case.over]), st.data())
def test_what_is_typed_through_leaves_a_suffix_of_what_was_shown(case: Case, data: st.DataObject) -> None:
    """Where the model stays of its mind, and the suggestion takes the place of nothing."""
    assert case.item is not None
    typed = case.item[: data.draw(st.integers(0, len(case.item) - 1))]
    document = case.document.replace(CURSOR, typed + CURSOR)
    _, _, later = suggestion(document, case.model[len(typed) :], case.language_id, "invoked" in case.flags)
    if later is not None:
        assert case.item.endswith(later.text)
