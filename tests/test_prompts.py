"""Fitting a prompt: never too long, never from the wrong side, and its far edge stays where it is while one types."""

import json
import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi_prompts.prompt import Control, Part, Prompt, PromptTooLong, Window, fit, from_json, to_json

CONTROL = 0x110000
"""Tokens are characters here, unless a test says otherwise; this one is behind Unicode's."""


def characters(text: str) -> list[int]:
    return [ord(character) for character in text]


def control_id(token: str) -> int:
    return CONTROL


def words_and_blanks(text: str) -> list[int]:
    """Tokens that cross the edges of lines, as in byte-level BPE: the same text in two pieces has other and more tokens."""
    return [hash(piece) % CONTROL for piece in re.findall(r"\n+ *| ?\w+|.", text, re.DOTALL)]


def longer_together(text: str) -> list[int]:
    """No real tokenizer is like this: the whole has more tokens than its parts. It must fit all the same."""
    return [ord(character) for character in text] + [ord("~")] * text[:-1].count("\n")


ENCODERS = [characters, words_and_blanks, longer_together]

LINES = st.lists(
    st.one_of(st.text("ab \t(é🙂", max_size=12), st.text("ab {};", min_size=60, max_size=200)).map(lambda line: line + "\n"), max_size=60
)


def window(lines: list[str], unfinished: bool, keep: Literal["start", "end"], share: float, first_line: int) -> Window:
    if lines and unfinished:
        lines[-1] = lines[-1].rstrip("\n")
    return Window(tuple(lines), keep, share, first_line)


WINDOWS = st.builds(window, LINES, st.booleans(), st.sampled_from(["start", "end"]), st.sampled_from([0.0, 0.2, 0.6]), st.integers(0, 5000))


PARTS = st.one_of(st.text("xyz\n", max_size=20), st.builds(Control, st.just("<|end|>")), WINDOWS)


@given(st.lists(PARTS, max_size=8), st.integers(0, 600), st.sampled_from(ENCODERS))
@settings(deadline=None, max_examples=300)
def test_it_is_never_too_long(parts: list[Part], max_tokens: int, encode: Callable[[str], list[int]]) -> None:
    prompt = tuple(parts)
    fixed = tuple(part for part in prompt if not isinstance(part, Window))
    try:
        ids = fit(prompt, encode, control_id, max_tokens)
    except PromptTooLong:
        assert len(fit(fixed, encode, control_id, 1_000_000)) > max_tokens
    else:
        assert len(ids) <= max_tokens


def kept(prompt: Sequence[Part], max_tokens: int) -> list[str]:
    """What is left of each window. Control tokens are put between them to tell them apart."""
    separated: list[Part] = []
    for part in prompt:
        separated += [part, Control("<|end|>")]
    ids = fit(tuple(separated), characters, control_id, max_tokens + len(prompt))
    texts = "".join(chr(id) if id != CONTROL else "\0" for id in ids).split("\0")[:-1]
    return [text for text, part in zip(texts, prompt, strict=True) if isinstance(part, Window)]


@given(st.lists(WINDOWS, min_size=1, max_size=4), st.integers(0, 3000))
@settings(deadline=None, max_examples=300)
def test_what_is_left_of_a_window_is_the_side_to_keep(parts: list[Window], max_tokens: int) -> None:
    sizes = [sum(map(len, window.lines)) for window in parts]
    texts = kept(parts, max_tokens)
    for window, text in zip(parts, texts, strict=True):
        whole = "".join(window.lines)
        assert whole.endswith(text) if window.keep == "end" else whole.startswith(text)
    if sum(sizes) + len(parts) * (max_tokens // 16) <= max_tokens:
        assert list(map(len, texts)) == sizes, "there was room for all of it"


@given(WINDOWS, st.integers(1, 3000))
@settings(deadline=None, max_examples=300)
def test_a_window_is_at_least_half_full(window: Window, max_tokens: int) -> None:
    """Half of the tokens, less the reserve for the unfinished line, whatever the lengths of the lines."""
    (text,) = kept([window], max_tokens)
    room = max_tokens - max_tokens // 16
    assert len(text) >= min(sum(map(len, window.lines)), room // 2)


def test_an_overlong_line_is_cut_inside_and_never_at_the_cursor() -> None:
    minified = "".join(f"function f{n}(){{return {n}}};" for n in range(20_000))
    (before,) = kept([Window((minified,), "end", 1.0)], 1000)
    (after,) = kept([Window((minified + "\n",), "start", 1.0)], 1000)
    assert minified.endswith(before)
    assert minified.startswith(after)
    assert 500 <= len(before) <= 1000
    assert 500 <= len(after) <= 1000
    (text,) = kept([Window((minified + "\n", "x = "), "end", 1.0)], 1000)
    assert text.endswith("};\nx = "), "a short line below an over-long one does not stand alone"
    assert len(text) > 500


def test_an_overlong_line_is_not_tokenized_whole() -> None:
    longest = 0

    def encode(text: str) -> list[int]:
        nonlocal longest
        longest = max(longest, len(text))
        return characters(text)

    fit((Window(("x" * 10_000_000,), "end", 1.0),), encode, control_id, 1000)
    assert longest <= 64_064


def test_a_short_window_leaves_its_share_to_the_others() -> None:
    long = Window(("twenty characters..\n",) * 500, "start", 0.1)
    empty, short = Window((), "end", 0.9), Window(("short\n",), "start", 0.9)
    assert 750 <= len(kept([long, empty], 1000)[0]) <= 1000
    assert 750 <= len(kept([long, short], 1000)[0]) <= 994
    assert kept([long, short], 1000)[1] == "short\n"


def test_a_window_without_a_share_gets_what_is_left() -> None:
    selection = Window(("twenty characters..\n",) * 40, "start", 1.0)
    around = [Window(("twenty characters..\n",) * 500, "end", 0.0), Window(("twenty characters..\n",) * 500, "start", 0.0)]
    sizes = [len(text) for text in kept([around[0], selection, around[1]], 2000)]
    assert sizes[1] == 800
    assert all(300 <= size <= 600 for size in (sizes[0], sizes[2]))
    sizes = [len(text) for text in kept([around[0], selection, around[1]], 700)]
    assert sizes[1] >= 525
    assert sizes[0] + sizes[2] <= 700 - sizes[1]


def typed(count: int, characters_a_line: int = 30) -> list[tuple[str, ...]]:
    """The lines before the cursor after each key, while `count` lines are typed at the end of 300."""
    lines = tuple(f"line {n} ".ljust(characters_a_line - 1, ".") + "\n" for n in range(300 + count))
    return [(*lines[:number], lines[number][:column]) for number in range(300, 300 + count) for column in range(characters_a_line)]


def test_typing_within_a_line_leaves_the_far_edge_alone() -> None:
    starts = [kept([Window(lines, "end", 1.0)], 3000)[0][:30] for lines in typed(64)]
    moves = [key for key, (old, new) in enumerate(pairwise(starts)) if old != new]
    assert all((key + 1) % 30 == 0 for key in moves), "it moves with a line feed only"
    assert len(moves) == 2
    assert {int(start.split()[1]) % 32 for start in starts} == {0}, "steps of 64 lines, halved since 64 are more than half of the window"


@given(LINES, st.text("ab (", max_size=9), st.text("ab", max_size=9), st.integers(0, 600))
@settings(deadline=None)
def test_text_behind_the_last_window_continues_its_line(lines: list[str], line: str, word: str, max_tokens: int) -> None:
    """As the scheduler puts the piece of a word there that a runtime cannot be made to answer with."""
    whole = (Window((*lines, line + word), "end", 1.0),)
    for pieces in [(*lines, line), *([tuple(lines)] if not line else [])]:
        assert fit((Window(pieces, "end", 1.0), word), characters, control_id, max_tokens) == fit(whole, characters, control_id, max_tokens)


@pytest.mark.parametrize("max_tokens", [120, 500, 1000, 4000])
@pytest.mark.parametrize("encode", ENCODERS[:2])
def test_the_far_edge_moves_seldom(encode: Callable[[str], list[int]], max_tokens: int) -> None:
    remembering = lru_cache(10_000)(encode)
    after = Window(tuple(f"below {n}\n" for n in range(200)), "start", 0.15)
    moved = 0
    old: list[int] = []
    for lines in typed(50):
        ids = fit((after, Control("<|end|>"), Window(lines, "end", 0.6)), remembering, control_id, max_tokens)
        far_edge = ids[: ids.index(CONTROL) + 6]
        moved += far_edge != old
        old = far_edge
    tokens_typed = 50 * len(encode("line 1 ".ljust(29, ".") + "\n"))
    assert moved - 1 <= 1 + 5 * tokens_typed / max_tokens, f"{moved - 1} moves in {50 * 30} keys"


def test_the_code_below_keeps_its_edge_while_a_new_file_is_written() -> None:
    """The share that a short window leaves to the others shrinks as it grows: in a few big steps."""
    below = Window(tuple(f"below {n}\n" for n in range(2000)), "start", 0.15)
    lines = [f"line {n} ".ljust(29, ".") + "\n" for n in range(200)]
    sizes = [len(kept([below, Window(tuple(lines[:n]), "end", 0.6)], 4000)[0]) for n in range(200)]
    assert sizes[0] > 3000
    assert sizes[-1] >= 400
    assert sum(old != new for old, new in pairwise(sizes)) <= 4


def test_a_key_costs_little_beside_the_tokenizer() -> None:
    encode = lru_cache(10_000)(words_and_blanks)
    prompt = (Window(tuple(f"line {n} is here, and has some text\n" for n in range(400)), "end", 0.6), Control("<|end|>"))
    best = 1.0
    for _ in range(20):
        started = time.perf_counter()
        fit(prompt, encode, control_id, 8000)
        best = min(best, time.perf_counter() - started)
    assert best < 0.001


@given(st.lists(PARTS, max_size=6))
def test_a_prompt_survives_the_pipe(parts: list[Part]) -> None:
    prompt: Prompt = tuple(parts)
    assert from_json(json.loads(json.dumps(to_json(prompt)))) == prompt


def test_white_space_behind_some_control_tokens_is_dropped() -> None:
    prompt: Prompt = (Control("<|user|>"), "\n", Window(("\n", "    x\n"), "end", 1.0), Control("<|end|>"), " \x1c\n", Control("<|end|>"))
    assert fit(prompt, characters, control_id, 100, {"<|user|>"}) == [CONTROL, *b"x\n", CONTROL, *b" \x1c\n", CONTROL]
    assert fit(prompt, characters, control_id, 100, {"<|end|>"}) == [CONTROL, *b"\n\n    x\n", CONTROL, *b"\x1c\n", CONTROL]
