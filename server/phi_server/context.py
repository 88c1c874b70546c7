"""How much of a document goes into a prompt: about what fits, so that a huge file costs no more than a big one. Without its secrets.

Not here: the cut to the token, which only the worker can make (phi_prompts.prompt).
"""

from collections.abc import Sequence
from typing import TypedDict

from phi_backends.messages import Loaded
from phi_prompts.tasks import Code
from phi_server.documents import Range, Snapshot
from phi_server.redact import redacted

CHARACTERS_PER_TOKEN = 6
"""More than any code has (Phi-3: 3.0 on Python), so that the worker always has enough to cut from."""
LINES_GRID = 128
"""Lines far above are left out in steps of this many, so that the beginning of the prompt stays while one types."""


class Surroundings(TypedDict):
    """Selected lines and those around them, as the tasks that are about selected lines take them."""

    selection: Code
    before: Sequence[str]
    after: Sequence[str]


def surroundings(snapshot: Snapshot, range: Range, loaded: Loaded) -> Surroundings:
    """`range` is of whole lines."""
    first, end = range.start.line, range.end.line + 1
    budget = CHARACTERS_PER_TOKEN * loaded.context_tokens
    return Surroundings(
        selection=Code(snapshot.path, snapshot.language_id, redacted(snapshot.lines[first:end]), first),
        before=lines_above(snapshot, first, budget)[1],
        after=lines_below(snapshot, end, budget),
    )


def lines_above(snapshot: Snapshot, line: int, budget: int) -> tuple[int, Sequence[str]]:
    """The number of the first, and the lines above `line`: about as many characters as the budget says."""
    first, left = line, budget
    while first > 0 and (left := left - len(snapshot.lines[first - 1])) >= 0:
        first -= 1
    while first % LINES_GRID and len(snapshot.lines[first - 1]) < budget:
        first -= 1
    return first, redacted(snapshot.lines[first:line])


def lines_below(snapshot: Snapshot, line: int, budget: int) -> Sequence[str]:
    """The lines from `line` on, as many as the budget of characters allows."""
    end = line
    while end < len(snapshot.lines) and (budget := budget - len(snapshot.lines[end])) >= 0:
        end += 1
    return redacted(snapshot.lines[line:end])
