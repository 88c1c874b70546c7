"""Places in files that no model of ours has learnt from, with the rest of the line as it is there: what `calibrate` and `evaluate` ask for.

Not here: who is asked and what it says (`answers.py`).
"""

from __future__ import annotations

import io
import random
import re
import tokenize
from dataclasses import dataclass

from phi_train.corpus import SourceFile

KINDS = ("line start", "mid-line", "inside a word")
"""Behind the indentation; behind a word or an operator; in a word of at least three characters."""
HEADLINE_KINDS = KINDS[:2]
"""Those of the goals and of the summary: what they ask for does not depend on where a word is cut."""
FILE_SHARE_CHARACTERS = 4_000
"""One cursor of a kind for each so many characters of a file, so that long files count more, but not alone."""


@dataclass(frozen=True)
class Cursor:
    package: str
    path: str
    kind: str
    before: str
    below: str
    """From the end of the cursor's line on; what stands right of the cursor is the target."""
    target: str

    def is_right(self, line: str) -> bool:
        """To the character, but for white space at the right."""
        return line.rstrip() == self.target.rstrip()


def cursors(files: list[SourceFile], count: int, chance: random.Random) -> list[Cursor]:
    """`count` of each kind, spread over all packages."""
    chosen: dict[str, list[Cursor]] = {kind: [] for kind in KINDS}
    order = [file for file in files for _ in range(1 + len(file.text) // FILE_SHARE_CHARACTERS)]
    chance.shuffle(order)
    for file in order:
        lines = [line + "\n" for line in file.text.removesuffix("\n").split("\n")]
        numbers = sorted(code_lines(file.text) - {0, 1, 2})
        for kind in KINDS:
            if len(chosen[kind]) < count and numbers:
                cursor = cursor_at(file, lines, chance.choice(numbers), kind, chance)
                if cursor:
                    chosen[kind].append(cursor)
    return [cursor for kind in KINDS for cursor in chosen[kind]]


def cursor_at(file: SourceFile, lines: list[str], number: int, kind: str, chance: random.Random) -> Cursor | None:
    line = lines[number].rstrip()
    indentation = len(line) - len(line.lstrip())
    if kind == "line start":
        places = [indentation]
    elif kind == "mid-line":
        places = [m.end() for m in re.finditer(r"\w+|[^\w\s]", line)]
    else:
        places = [at for m in re.finditer(r"\w{3,}", line) for at in range(m.start() + 1, m.end())]
    places = [at for at in places if len(line[at:].strip()) >= 2]
    if not places:
        return None
    at = chance.choice(places)
    return Cursor(file.package, file.path, kind, "".join(lines[:number]) + line[:at], "\n" + "".join(lines[number + 1 :]), line[at:])


def code_lines(text: str) -> set[int]:
    """Numbers (from 0) of the lines where code stands: no blank lines, comments or insides of strings."""
    found: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.NAME, tokenize.OP):
                found.add(token.start[0] - 1)
    except (tokenize.TokenError, SyntaxError):
        return set()
    return found
