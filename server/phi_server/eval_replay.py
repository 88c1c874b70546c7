"""Answers that need no model, for the evaluation: the right one in each of the bad habits of chat models, and what copying would say.

A habit changes how the right answer is said and not what it is; what of them the post-processing does not see through is its error alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from phi_backends.messages import Done, Loaded, Text, Timings
from phi_server.documents import indentation
from phi_server.eval_sets import Case
from phi_server.local_completion import longest_match
from phi_server.unwrap import BACKTICKS

PIECE_CHARACTERS = 5
_NO_TIME = Timings(0, 0, 0, 0, 0, 0)


def _lines_above(case: Case, count: int) -> str:
    """The last lines above the cursor's."""
    return "".join(case.prefix.splitlines(keepends=True)[-count - 1 if _head(case) else -count :][:count])


def _head(case: Case) -> str:
    return case.prefix.rpartition("\n")[2]


def _fence(case: Case, code: str) -> str:
    return f"```{case.language_id}\n{code}\n```"


def _may_be_quoted(case: Case) -> bool:
    return case.lines == 1 and "`" not in case.reference + _head(case) and case.language_id not in BACKTICKS


def _below(case: Case, count: int) -> str:
    return "".join(case.suffix.splitlines(keepends=True)[: count + 1])


HABITS: dict[str, Callable[[Case], str]] = {
    "none": lambda case: case.reference,
    "closes the fence and explains": lambda case: f"{case.reference}\n```\n\nThis code completes the function as required.",
    "explains without a fence": lambda case: f"{case.reference}\n\nThe above code continues from the cursor.",
    "answers in a fence": lambda case: _fence(case, case.reference),
    "answers in a fence, whole line": lambda case: _fence(case, _head(case) + case.reference),
    "answers in a fence, with the lines above": lambda case: _fence(case, _lines_above(case, 3) + _head(case) + case.reference),
    "introduces, then a fence": lambda case: f"Here is the code:\n\n{_fence(case, _head(case) + case.reference)}\n\nI hope this helps!",
    "says the line again": lambda case: _head(case) + case.reference,
    "goes on with the next lines": lambda case: case.reference + _below(case, 2),
    "goes on with the rest of the file": lambda case: case.reference + case.suffix,
    "goes on with something else": lambda case: f"{case.reference}\n\n\ndef another_function(values):\n    return values[0]\n",
    "control tokens as text": lambda case: f"{case.reference}<|end|>\n<|assistant|>\nDone.",
    "windows line ends": lambda case: f"{case.reference}\n{_below(case, 1).strip()}".replace("\n", "\r\n"),
    "blanks at the end of the line": lambda case: f"{case.reference}   \n",
    "a line for the rest": lambda case: f"{case.reference}\n# ... rest of the code\n",
    "in backticks": lambda case: f"`{case.reference}`" if _may_be_quoted(case) else case.reference,
    "one level too deep": lambda case: (indentation(_head(case)) if not _head(case).strip() else "") + case.reference,
}  # fmt: skip


def copied(case: Case) -> str:
    """The baseline: how the file goes on where its text before is most like the text before the cursor, however unlikely that is right."""
    copy = longest_match(case.prefix, case.suffix)
    return copy.line if copy is not None else ""


@dataclass(frozen=True)
class Replay:
    """As a client, to `complete`: answers with the same text, whatever it is asked, in pieces."""

    answer: str
    templates: str = "phi3"

    async def loaded(self) -> Loaded:
        return Loaded("replay", "replay", "none", "no model runs", 16384, "phi3", self.templates, 0.0)

    def generate(self, *prompt: object, **how: object) -> "Replayed":
        return Replayed(self.answer)


class Replayed:
    def __init__(self, answer: str) -> None:
        self._left = answer
        self.done: Done | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def cancel(self) -> None: ...

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Text:
        if not self._left:
            self.done = Done(0, "stop", _NO_TIME)
            raise StopAsyncIteration
        piece, self._left = self._left[:PIECE_CHARACTERS], self._left[PIECE_CHARACTERS:]
        return Text(0, piece)
