"""Which pieces of other files are like the code round the cursor, and worth showing to a model. Pure.

Likeness is that of sets of words. Near-copies are dropped: they make a model repeat the code that is there already.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

CHUNK_LINES = 24
MAX_CHUNKS = 600
"""Of one file; a longer one is looked at up to there."""
COPY_OF_CHOSEN = 0.9
COPY_OF_CURSOR = 0.5
"""Dice coefficients, as llama.vim has them."""
LEAST_SCORE = 0.08
_WORD = re.compile(r"[A-Za-z_]\w{2,}")
_KEYWORDS = """
and are any args bool break case char class const continue def default elif else enum except export extends false final float for from
func function get goto if impl import in int interface is let new nil none not null object or pass private protected public pub raise
return self set static str string struct super switch the this throw throws true try type use var void while with None True False
"""
_COMMON = frozenset(_KEYWORDS.split())


@dataclass(frozen=True)
class Chunk:
    """Some lines of a file."""

    path: str
    language_id: str
    first_line: int
    lines: tuple[str, ...]
    words: frozenset[str] = field(repr=False)


def words(lines: Iterable[str]) -> frozenset[str]:
    """The names in the lines, without those that are in any code."""
    return frozenset(_WORD.findall("".join(lines))) - _COMMON


def dice(one: Collection[str], other: Collection[str]) -> float:
    """How alike two sets are: 1 equal, 0 nothing in common."""
    total = len(one) + len(other)
    return 2 * len(frozenset(one) & frozenset(other)) / total if total else 0.0


def chunks(path: str, language_id: str, lines: Sequence[str]) -> list[Chunk]:
    """The file in pieces that begin where a line is not indented, if there is one near."""
    found: list[Chunk] = []
    at = 0
    while at < len(lines) and len(found) < MAX_CHUNKS:
        end = min(at + CHUNK_LINES, len(lines))
        if end < len(lines):
            breaks = (
                number for number in range(end, at + CHUNK_LINES // 2, -1) if lines[number][:1].strip() and not _closes(lines[number])
            )
            end = next(breaks, end)
        piece = tuple(lines[at:end])
        if any(line.strip() for line in piece):
            found.append(Chunk(path, language_id, at, piece, words(piece)))
        at = end
    return found


def choose(around: frozenset[str], candidates: Iterable[Chunk], most: int, characters: int) -> list[Chunk]:
    """The pieces most like `around`, the words round the cursor; at most so many, and so many characters, the best first."""
    scored = [(len(chunk.words & around) / (len(chunk.words) + 8), chunk) for chunk in candidates if chunk.words]
    scored = [(score, chunk) for score, chunk in scored if score >= LEAST_SCORE]
    scored.sort(key=lambda pair: -pair[0])
    chosen: list[Chunk] = []
    for _, chunk in scored[: 10 * most]:
        size = sum(map(len, chunk.lines))
        if len(chosen) == most:
            break
        if size > characters or dice(chunk.words, around) > COPY_OF_CURSOR:
            continue
        if any(dice(chunk.words, known.words) > COPY_OF_CHOSEN for known in chosen):
            continue
        chosen.append(chunk)
        characters -= size
    return chosen


def _closes(line: str) -> bool:
    return line[:1] in ")]}"
