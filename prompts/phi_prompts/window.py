"""A piece of a document that may be shortened, and how that is done so that typing seldom moves its far edge.

A moved edge costs a whole prefill, since the KV cache is valid only up to the first changed token. So

- lines are dropped in big steps, on a grid of the document's line numbers;
- lines are counted in blocks on that grid, which stay the same while one types below them (and so `encode` can remember them);
- the unfinished last line counts as a fixed reserve for as long as it is shorter, so within a line nothing moves at all.

Measured with Phi-3's tokenizer, typing 60 lines (2,445 keys) into the middle of a file: 2 moves in 1,500 tokens, 1 in 3,500.
The counts are sums over blocks and a little too high, since no token crosses a block; `prompt.fit` checks the joined text exactly.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Encode = Callable[[str], Sequence[int]]

BLOCK_LINES = 8
"""Lines counted together. Larger blocks count more exactly, smaller ones are remembered more often after an edit."""
STEPS = 32
"""A window of n tokens is shortened by n / STEPS lines at a time, rounded down to a power of two: at ten tokens a line between a sixth
and a third of it. Where the lines are so long that less than half of the window would be left, by a half, a quarter, … of that."""
RESERVE = 16
"""The n-th part of a window is set aside for the unfinished line."""
LONGEST_TOKEN = 64
"""Characters. Text with more than this for each token of the room left is not even counted: it would take long and cannot fit."""


@dataclass(frozen=True)
class Window:
    """Whole lines of a document that may be shortened from one side, in big steps, to fit the context.

    Lines are dropped in steps whose edges lie on a grid of the *document's* line numbers. A typed character or line
    therefore leaves the other edge of the window where it was, and the KV cache of everything before it stays valid.
    """

    lines: tuple[str, ...]
    """The lines with their line ends; the last may have none."""
    keep: Literal["start", "end"]
    """The side that is kept: `end` for the code before the cursor, `start` for the code after it."""
    share: float
    """The part of the tokens left for windows that this one may take; 0: only what the others do not need. Shares are relative to
    each other, and what a short window leaves of its share goes to the others."""
    first_line: int = 0
    """The document's line number (from 0) of `lines[0]`: places the grid. 0 for lines below the cursor, which a line typed above them
    moves in the document but not in the prompt."""


@dataclass(frozen=True)
class Cut:
    """What is left of a window."""

    text: str
    tokens: int
    """By the sum over its blocks."""


def shorten(window: Window, budget: int, encode: Encode) -> Cut:
    """As much of the window as fits into `budget` tokens. Lines are cut inside only where whole lines would fill less than half of it."""
    lines, unfinished = _unfinished(window)
    unfinished_tokens = _count(unfinished, budget, encode)
    if unfinished_tokens > budget:
        return _cut_line(unfinished, window.keep, budget, encode)
    room = budget - (_set_aside(unfinished, unfinished_tokens, budget) if window.keep == "end" else 0)
    half = (budget - budget // RESERVE) // 2
    kept, tokens = _whole_steps(window, lines, BLOCK_LINES, room, encode)
    if kept < len(lines):
        step = _power_of_two(budget // STEPS)
        kept, tokens = _whole_steps(window, lines, step, room, encode)
        while tokens < half and step > 1:
            step //= 2
            kept, tokens = _whole_steps(window, lines, step, room, encode)
    part = Cut("", 0)
    if tokens < half and kept < len(lines):
        next_line = lines[len(lines) - kept - 1] if window.keep == "end" else lines[kept]
        part = _cut_line(next_line, window.keep, room - tokens, encode)
    tokens += part.tokens + unfinished_tokens
    if window.keep == "end":
        return Cut(part.text + "".join(lines[len(lines) - kept :]) + unfinished, tokens)
    return Cut("".join(lines[:kept]) + part.text, tokens)


def budgets(windows: Sequence[Window], total: int, encode: Encode) -> list[int]:
    """How many of `total` tokens each window may have: its share, or less where it needs less; what is left over goes to the others.

    The code before the cursor grows while one types. If it were given what it needs just now, the others would shrink at each key; so
    it is given a half, a quarter, … of the total.
    """
    needs = [_need(window, total, encode) for window in windows]
    granted = [_rounded_up(need, total) if window.keep == "end" else need for window, need in zip(windows, needs, strict=True)]
    result = [0] * len(windows)
    waiting = [i for i, need in enumerate(needs) if need]
    left = total
    while waiting and sum(needs[i] for i in waiting) > left:
        shares = {i: windows[i].share for i in waiting}
        if not any(shares.values()):
            shares = dict.fromkeys(waiting, 1.0)
        portions = {i: int(left * share / sum(shares.values())) for i, share in shares.items()}
        content = [i for i in waiting if granted[i] <= portions[i]]
        for i in content or waiting:
            result[i] = granted[i] if content else portions[i]
        left -= sum(result[i] for i in content)
        waiting = [i for i in waiting if content and i not in content]
    for i in waiting:
        result[i] = needs[i]
    return result


def _need(window: Window, total: int, encode: Encode) -> int:
    """The tokens with which the window need not be shortened, at most `total`."""
    lines, unfinished = _unfinished(window)
    need = _set_aside(unfinished, _count(unfinished, total, encode), total) if window.keep == "end" and window.lines else 0
    for start, end in _blocks(window, len(lines), BLOCK_LINES):
        if need >= total:
            break
        need += _count("".join(lines[start:end]), total - need, encode)
    return min(need, total)


def _set_aside(unfinished: str, tokens: int, budget: int) -> int:
    """What the unfinished line counts as. A longer one counts by its characters, which only grow while one types: its tokens go up
    and down, and the far edge would go with them."""
    return min(budget, max(1, budget // RESERVE, len(unfinished) // 3, tokens))


def _rounded_up(need: int, total: int) -> int:
    """To total, total / 2, total / 4, …"""
    while need and total // 2 >= need:
        total //= 2
    return total if need else 0


def _unfinished(window: Window) -> tuple[Sequence[str], str]:
    """The window's finished lines, and the one in which the cursor is."""
    if window.keep == "end" and window.lines and not window.lines[-1].endswith(("\n", "\r")):
        return window.lines[:-1], window.lines[-1]
    return window.lines, ""


def _count(text: str, room: int, encode: Encode) -> int:
    if len(text) > LONGEST_TOKEN * (room + 1):
        return room + 1
    return len(encode(text)) if text else 0


def _whole_steps(window: Window, lines: Sequence[str], step: int, room: int, encode: Encode) -> tuple[int, int]:
    """How many lines fit into `room` tokens when cut on the grid of `step` lines, and their tokens."""
    kept = tokens = counted = 0
    for start, end in _blocks(window, len(lines), min(step, BLOCK_LINES)):
        counted += _count("".join(lines[start:end]), room - counted, encode)
        if counted > room:
            break
        edge = start if window.keep == "end" else end
        if edge in (0, len(lines)) or (window.first_line + edge) % step == 0:
            kept, tokens = (len(lines) - start if window.keep == "end" else end), counted
    return kept, tokens


def _blocks(window: Window, count: int, step: int) -> Iterator[tuple[int, int]]:
    """Ranges of the first `count` lines between the lines of the grid, from the kept side to the other."""
    return _ranges(count, window.first_line, step, window.keep)


def _cut_line(line: str, keep: Literal["start", "end"], room: int, encode: Encode) -> Cut:
    """The part of an over-long line that fits, cut on a grid of its columns."""
    step = _power_of_two(room // 2)
    while True:
        kept = tokens = 0
        for start, end in _ranges(len(line), 0, step, keep):
            count = _count(line[start:end], room - tokens, encode)
            if tokens + count > room:
                break
            kept, tokens = kept + end - start, tokens + count
        if 2 * tokens >= room or step == 1:
            return Cut(line[len(line) - kept :] if keep == "end" else line[:kept], tokens)
        step //= 2


def _ranges(count: int, first: int, step: int, keep: Literal["start", "end"]) -> Iterator[tuple[int, int]]:
    """0 … count in pieces, from the kept side to the other; their edges are where `first` + edge is a multiple of `step`."""
    if keep == "start":
        start = 0
        while start < count:
            end = min(count, start + step - (first + start) % step)
            yield start, end
            start = end
    else:
        end = count
        while end > 0:
            start = max(0, end - ((first + end - 1) % step + 1))
            yield start, end
            end = start


def _power_of_two(n: int) -> int:
    """The largest that is at most n; 1 at least."""
    return 1 << max(1, n).bit_length() - 1
