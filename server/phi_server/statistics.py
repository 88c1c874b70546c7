"""What becomes of suggestions: shown, accepted, accepted in part, still there after a while. Counted on this machine, for its user alone.

Numbers by model and language are kept in one file; no code, no path, no time of day is. The text of what was shown stays in memory for as
long as it may be looked for, and is never written. The numbers set how eager phi-ls is. Not here: the command line's table (stats.py).
"""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = (30.0, 300.0)
"""After accepting; whether it is still there then."""
REMEMBERED = 100
"""Suggestions, so many of the last, whose fate may still be told."""
SAVE_AFTER = 50
"""Events."""
USUAL_SHARE = 0.2
"""Of suggestions that are accepted: what is expected before anything is known, and where eagerness is as the settings say."""
DOUBT = 50
"""So many suggestions weigh as much as that expectation."""
LEAST_PIECE = 2
"""Characters that arrive at once, to be more than a key."""
UNCOUNTED_MODELS = frozenset({"echo"})


@dataclass
class Counts:
    shown: int = 0
    accepted: int = 0
    accepted_in_part: int = 0
    looked_for_after_30_s: int = 0
    there_after_30_s: int = 0
    looked_for_after_5_min: int = 0
    there_after_5_min: int = 0

    def add(self, other: "Counts") -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass
class Shown:
    """A suggestion on show, or accepted lately."""

    uri: str
    line: int
    character: int
    """In the editor's units."""
    text: str
    model: str
    language_id: str
    in_part: bool = False


Key = tuple[str, str]
"""Model and language."""


@dataclass
class Statistics:
    file: Path
    _new: dict[Key, Counts] = field(default_factory=dict)
    """Not in the file yet."""
    _known: dict[Key, Counts] | None = None
    """In the file, when it was last read."""
    _shown: "OrderedDict[int, Shown]" = field(default_factory=OrderedDict)
    _events: int = 0

    def shown(self, suggestion: Shown) -> int:
        """Its number. What goes on from the one before it, because its beginning was typed or accepted, is the same suggestion."""
        number, last = next(reversed(self._shown.items()), (0, None))
        if last is not None and last.uri == suggestion.uri and last.text.endswith(suggestion.text) and last.line <= suggestion.line:
            last.line, last.character, last.text = suggestion.line, suggestion.character, suggestion.text
            return number
        self._shown[number + 1] = suggestion
        if len(self._shown) > REMEMBERED:
            self._shown.popitem(last=False)
        self._count(suggestion, Counts(shown=1))
        return number + 1

    def inserted(self, uri: str, line: int, character: int, text: str) -> None:
        """An editor has inserted `text`: if it is a beginning of what is on show there, it was accepted in part."""
        last = next(reversed(self._shown.values()), None)
        if last is None or last.in_part or (last.uri, last.line, last.character) != (uri, line, character):
            return
        if LEAST_PIECE <= len(text) < len(last.text) and last.text.startswith(text):
            last.in_part = True
            self._count(last, Counts(accepted_in_part=1))

    def accepted(self, number: int | None) -> Shown | None:
        """The suggestion of that number, or the last; None when it was told before, or is long forgotten."""
        if number is None:
            number = next(reversed(self._shown), 0)
        suggestion = self._shown.pop(number, None)
        if suggestion is not None:
            self._count(suggestion, Counts(accepted=1))
        return suggestion

    def looked_for(self, suggestion: Shown, lines: Sequence[str], after_s: float) -> None:
        """Whether an accepted suggestion is still in the document: each line of it, somewhere, whatever its indentation."""
        whole = {line.strip() for line in lines}
        first, *others = [line.strip() for line in suggestion.text.splitlines() if line.strip()] or [""]
        there = any(first in line for line in whole) and all(line in whole for line in others)
        if after_s == LOOK_AGAIN_S[0]:
            self._count(suggestion, Counts(looked_for_after_30_s=1, there_after_30_s=int(there)))
        else:
            self._count(suggestion, Counts(looked_for_after_5_min=1, there_after_5_min=int(there)))

    def counts(self) -> dict[Key, Counts]:
        """All that is known: of the file, and since."""
        if self._known is None:
            self._known = read(self.file)
        found = {key: Counts(**asdict(counts)) for key, counts in self._known.items()}
        for key, new in self._new.items():
            found.setdefault(key, Counts()).add(new)
        return found

    def eagerness(self, model: str, language_id: str) -> float:
        """By how much surer than the settings say the model must be: above 1 where suggestions are seldom taken, from a half to 3."""
        counts = self.counts().get((model, language_id), Counts())
        share = (counts.accepted + counts.accepted_in_part + DOUBT * USUAL_SHARE) / (counts.shown + DOUBT)
        return max(0.5, min(3.0, USUAL_SHARE / share))

    def save(self) -> None:
        """Adds what is new to the file, which other editors' servers write too."""
        self._events = 0
        new = {key: counts for key, counts in self._new.items() if key[0] not in UNCOUNTED_MODELS}
        if not new:
            return
        known = read(self.file)
        for key, counts in new.items():
            known.setdefault(key, Counts()).add(counts)
            del self._new[key]
        self._known = known
        rows = [{"model": model, "language": language_id, **asdict(counts)} for (model, language_id), counts in sorted(known.items())]
        temporary = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")
            temporary.replace(self.file)
        except OSError as error:
            logger.warning("The statistics could not be saved (%s).", error.strerror)

    def _count(self, suggestion: Shown, counts: Counts) -> None:
        self._new.setdefault((suggestion.model, suggestion.language_id), Counts()).add(counts)
        self._events += 1
        if self._events >= SAVE_AFTER:
            self.save()


def read(file: Path) -> dict[Key, Counts]:
    """What a file holds; nothing where there is none, or it was damaged."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        names = [one.name for one in fields(Counts)]
        return {(str(row["model"]), str(row["language"])): Counts(**{name: int(row.get(name, 0)) for name in names}) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
