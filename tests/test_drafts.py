"""Draft tokens: what they may be, and that answers are the same with and without."""

import random
from typing import Any

import pytest

from phi_backends.drafts import LEAST_MATCH, LONGEST_MATCH, Drafts
from phi_backends.engines import echo
from phi_backends.messages import Done, FromWorker, Generate, Priority, Text
from phi_backends.scheduler import Scheduler
from phi_prompts.prompt import Control


def test_what_came_next_at_the_longest_match_is_drafted() -> None:
    text = [1, 2, 3, 4, 50, 51, 52, 9, 9, 9, 3, 4, 7, 60, 61, 8, 1, 2, 3, 4]
    assert Drafts().next(text, 10) == [50, 51, 52, 9]  # as long as the match, and no longer
    assert Drafts().next(text, 2) == [50, 51]
    assert Drafts().next([1, 2, 3, 4, 5], 10) == []
    assert Drafts().next([1, 2], 10) == []


def test_the_newest_of_equal_matches_is_taken_and_the_text_may_grow() -> None:
    drafts = Drafts()
    text = [1, 2, 3, 40, 0, 1, 2, 3, 41, 0, 7]
    assert drafts.next(text, 5) == []
    text += [1, 2, 3]
    assert drafts.next(text, 5)[0] == 41


def test_a_draft_is_always_a_copy() -> None:
    random.seed(0)
    for _ in range(300):
        text = [random.randrange(3) for _ in range(random.randrange(60))]
        draft = Drafts().next(text, 20)
        assert len(draft) <= LONGEST_MATCH
        if draft:
            joined = text[-LEAST_MATCH:] + draft
            assert any(text[at : at + len(joined)] == joined for at in range(len(text)))


def run(engine: Any, text: str, heal: str = "", max_tokens: int = 200, stop: tuple[str, ...] = ()) -> tuple[str, Done]:
    said: list[FromWorker] = []
    scheduler = Scheduler(engine, said.append)
    prompt = (Control("<|user|>"), text, Control("<|end|>"), Control("<|assistant|>"))
    scheduler.submit(Generate(1, prompt, max_tokens, priority=Priority.ANSWER, heal=heal, stop=stop))
    while scheduler.busy:
        scheduler.step()
    assert isinstance(said[-1], Done)
    return "".join(message.text for message in said if isinstance(message, Text)), said[-1]


REPLY = "the first line of it, and the second line of it, and the first line again, and the end of it"


@pytest.mark.parametrize("heal", ["", "the fi"])
@pytest.mark.parametrize("max_tokens", [1, 2, 10, 29, 60, 200])
@pytest.mark.parametrize("stop", ["again", "line ", "nowhere"])
def test_answers_and_their_ends_are_the_same_with_drafts(monkeypatch: pytest.MonkeyPatch, heal: str, max_tokens: int, stop: str) -> None:
    engine = echo.load("", "", {"reply": REPLY}, lambda stage: None)
    drafted, with_drafts = run(engine, REPLY, heal, max_tokens, (stop,))
    monkeypatch.setattr(Drafts, "next", lambda *_: [])
    plain, without = run(engine, REPLY, heal, max_tokens, (stop,))
    assert (drafted, with_drafts.reason, with_drafts.timings.answer_tokens) == (plain, without.reason, without.timings.answer_tokens)
