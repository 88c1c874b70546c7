"""What an engine is evaluated on: places in documents with the code that was there. Read from files, or made from any folder.

Not here: asking and judging (eval.py), running a case's own tests (eval_tests.py).
"""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phi_backends.errors import BadInput
from phi_server.documents import Position, Snapshot, language_of, split_lines
from phi_server.workspace_files import WorkspaceFiles

MAX_FILES = 400
"""Of a folder, chosen by chance."""
MAX_CASES_OF_A_FILE = 5
FEWEST_CHARACTERS = 4
"""Of an answer that is asked for; less, anybody guesses."""


@dataclass(frozen=True)
class Case:
    id: str
    path: str
    language_id: str
    prefix: str
    """The document up to the cursor."""
    reference: str
    """What was there, without the line end at its end."""
    suffix: str
    """From the cursor on: nothing, or a line end and more."""
    test: str = ""
    """A Python program that fails if the answer is wrong, to be run behind the document; empty: there is none."""

    @property
    def lines(self) -> int:
        return self.reference.count("\n") + 1

    def document(self) -> tuple[Snapshot, Position]:
        """The document without the answer, and the cursor."""
        lines = split_lines(self.prefix)
        ended = not lines or lines[-1].endswith(("\n", "\r"))
        cursor = Position(len(lines), 0) if ended else Position(len(lines) - 1, len(lines[-1]))
        return Snapshot.of_text(f"file:///{self.path}", None, self.language_id, self.prefix + self.suffix), cursor


def read(source: Path, limit: int, seed: int) -> list[Case]:
    """The cases of a set: a JSON lines file in the form of HumanEval-infilling, or a folder with source files. At most `limit`, chosen
    by chance, the same for the same seed. Raises BadInput."""
    if source.is_dir():
        return list(_next_lines(source, limit, seed))
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f'"{source}" cannot be read. Give a folder with source files, or a JSON lines file of infilling cases.') from error
    try:
        cases = [_infilling(json.loads(line)) for line in lines if line.strip()]
    except (ValueError, KeyError, TypeError) as error:
        form = "id or task_id, prefix or prompt, middle or canonical_solution, suffix, test and entry_point"
        raise BadInput(f'"{source}" is no set of infilling cases: each line is an object with {form}.') from error
    return cases if len(cases) <= limit else random.Random(seed).sample(cases, limit)


def _infilling(fields: dict[str, str]) -> Case:
    prefix = fields["prefix"] if "prefix" in fields else fields["prompt"]
    middle = fields["middle"] if "middle" in fields else fields["canonical_solution"]
    suffix = fields["suffix"]
    if middle.endswith("\n"):  # whole lines are asked for: the line is there, and empty
        middle, suffix = middle[:-1], "\n" + suffix
    test = f"{fields['test']}\n\ncheck({fields['entry_point']})\n" if fields.get("test") and fields.get("entry_point") else ""
    language_id = fields.get("lang") or "python"
    name = str(fields["id"] if "id" in fields else fields["task_id"])
    return Case(name, "eval/solution.py" if language_id == "python" else "eval/solution", language_id, prefix, middle, suffix, test)


def _next_lines(folder: Path, limit: int, seed: int) -> Iterator[Case]:
    """Cursors by chance in the files of a folder: at the start of a line's code or behind a piece of it; the rest of the line is asked."""
    chance = random.Random(seed)
    files = WorkspaceFiles([folder])
    known = (path for path in folder.rglob("*") if language_of(path) not in ("plaintext", "markdown"))
    paths = sorted(path for path in known if files.allows(path) and path.is_file())
    chance.shuffle(paths)
    found = 0
    for path in paths[:MAX_FILES]:
        file = files.read(path)
        if file is None or len(file.lines) < 10:
            continue
        for number in sorted(chance.sample(range(5, len(file.lines)), min(MAX_CASES_OF_A_FILE, len(file.lines) - 5))):
            line = file.lines[number].rstrip("\r\n")
            places = [match.start() for match in re.finditer(r"(?<!\w)\w|(?<=\w)\W", line)]
            places = [place for place in places if len(line[place:].strip()) >= FEWEST_CHARACTERS]
            if not places or re.match(r"\s*(?:#|//|\*|/\*|\"\"\")", line):
                continue
            at = places[0] if chance.random() < 0.5 else chance.choice(places)
            prefix = "".join(file.lines[:number]) + line[:at]
            suffix = file.lines[number][len(line) :] + "".join(file.lines[number + 1 :])
            name = path.relative_to(folder).as_posix()
            yield Case(f"{name}:{number + 1}:{at + 1}", f"{folder.name}/{name}", file.language_id, prefix, line[at:].rstrip(), suffix)
            found += 1
            if found == limit:
                return
