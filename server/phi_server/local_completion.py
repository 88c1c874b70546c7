"""Completion without a model: the rest of the line as it was where the text before the cursor stood before. Pure, and under 2 ms.

Code repeats itself: the longest match of what is before the cursor says how it goes on, and how far to trust that. The estimate makes it
comparable with a model, which knows its own probability: of the two lines the likelier is shown, if it is likely enough.

There is no index to be kept in step with the documents: `str.find` reads a million characters of them in less than a millisecond.
Not here: which documents may be read (session.py), the model's line (inline_completion.py), how the estimate was fitted (phi_train).
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from phi_server.documents import Position, Snapshot
from phi_server.postprocess import Site, clean
from phi_server.redact import begins_secret, is_secret_file, redacted_line

LEAST_MATCH = 10
"""Characters that must be the same, indentation not counted: with it, any two lines as deep are alike."""
LONGEST_MATCH = 400
MOST_PLACES = 32
"""Of equal text before, the nearest above the cursor first, then those below it, then in other documents."""
MAX_CHARACTERS = 1_000_000
"""Of other documents together."""
SURE = 0.6
"""A copy as likely as that is shown at once; a model would seldom know better, and takes its time."""
INTERCEPT, PER_LOG_MATCHED, PER_LOG_LENGTH = -2.25, 1.27, -1.04
"""Of the estimate: `python -m phi_train calibrate` fits them to packages that are in neither the training nor the evaluation. How many
places agree told nothing more there."""
_LINE = re.compile(r"[^\r\n]*")


@dataclass(frozen=True)
class Copy:
    """What the longest match says."""

    line: str
    """The rest of the line."""
    matched: int
    """Characters before the cursor that are the same there."""

    @property
    def probability(self) -> float:
        """Of being right: the longer the match the more, the longer the line the less, since each of its characters may differ."""
        log_odds = INTERCEPT + PER_LOG_MATCHED * math.log(self.matched) + PER_LOG_LENGTH * math.log(1 + len(self.line))
        return 1 / (1 + math.exp(-log_odds))


@dataclass(frozen=True)
class Guess:
    """What can be inserted, and how likely its first line is right."""

    text: str
    overwrites: int
    """Characters right of the cursor that `text` takes the place of."""
    probability: float | None
    """None: a runtime that does not show it."""

    def is_sure_at(self, site: Site) -> bool:
        """Whether no model need be asked: where a block is wanted, a model may say more than one line."""
        return self.probability is not None and self.probability >= SURE and site.max_lines == 1


def guess(snapshot: Snapshot, position: Position, site: Site, others: Iterable[Snapshot] = ()) -> Guess | None:
    """A line for `position`, copied from the document or from `others`, the most important of which come first. No key is copied."""
    if is_secret_file(snapshot.path) or begins_secret(site.head):
        return None
    before = "".join(snapshot.lines[: position.line]) + site.head
    below = "".join(snapshot.lines[position.line + 1 :])
    copy = longest_match(before, below, ("".join(other.lines) for other in others if not is_secret_file(other.path)))
    if copy is None or redacted_line(site.head + copy.line) != site.head + copy.line:
        return None
    cleaned = clean(copy.line, site)
    return None if cleaned is None else Guess(cleaned.text, cleaned.overwrites, copy.probability)


def likelier(model: Guess | None, copy: Guess | None) -> Guess | None:
    """What the model says or what was copied; where both say the same, it is likelier than either."""
    if model is None or copy is None:
        return model or copy
    if model.text.splitlines()[0] == copy.text:
        return replace(model, probability=both(model.probability, copy.probability))
    return copy if model.probability is not None and copy.probability is not None and copy.probability > model.probability else model


def both(probability: float | None, other: float | None) -> float | None:
    """How likely a line is right that two say independently."""
    return None if probability is None or other is None else 1 - (1 - probability) * (1 - other)


def longest_match(before: str, below: str = "", others: Iterable[str] = ()) -> Copy | None:
    """How the line goes on behind the text most like `before`; of two such, the nearer. None where nothing is like it."""
    key = _key(before)
    if not key:
        return None
    end, best = before[-LONGEST_MATCH:], None
    for text, at in _places(key, before, below, others):
        rest = _LINE.match(text, at)
        if rest and rest[0].strip():
            matched = _same(end, text[max(0, at - LONGEST_MATCH) : at], len(key))
            if best is None or matched > best.matched:
                best = Copy(rest[0].rstrip(), matched)
    return best


def _key(before: str) -> str:
    """The shortest end of `before` with enough characters to look for; empty where it has too few."""
    count, at = 0, len(before)
    while count < LEAST_MATCH and at > max(0, len(before) - LONGEST_MATCH):
        at -= 1
        count += not before[at].isspace() or (before[at] == " " and not before[at - 1 : at].isspace())
    return before[at:] if count == LEAST_MATCH else ""


def _places(key: str, before: str, below: str, others: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Texts, and where in them `key` ends."""
    left = MOST_PLACES
    at = before.rfind(key, 0, len(before) - 1)
    while at >= 0 and left:
        yield before, at + len(key)
        at, left = before.rfind(key, 0, at + len(key) - 1), left - 1
    characters = MAX_CHARACTERS
    for text in (below, *others):
        at = text.find(key, 0, characters)
        while at >= 0 and left:
            yield text, at + len(key)
            at, left = text.find(key, at + 1, characters), left - 1
        characters -= len(text) if text is not below else 0
        if not left or characters <= 0:
            return


def _same(one: str, other: str, least: int) -> int:
    """How many characters at their ends are the same; `least` are known to be."""
    most = min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[-middle:] == other[-middle:] else (least, middle - 1)
    return least
