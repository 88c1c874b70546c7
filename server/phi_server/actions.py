"""The five things to ask for: what they are called, where they apply, and which lines they are about.

Not here: how they are offered (code_action.py) and done (execute_command.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from phi_prompts.languages import language
from phi_prompts.tasks import Diagnostic, TaskName
from phi_server.definitions import NO_CODE, Definition, definition_at, first_definition_in, has_docstring
from phi_server.documents import Position, Range, Snapshot, whole_lines

LINES_AROUND_PROBLEM = 6
MAX_LINES_TO_FIX = 80
"""A longer function is not rewritten for the sake of one line of it."""


@dataclass(frozen=True)
class Action:
    task: TaskName
    title: str
    kind: str
    """As in LSP's CodeActionKind."""
    edits: bool
    """Whether it changes documents, or shows a text."""

    @property
    def command(self) -> str:
        return f"phi-ls.{self.task}"


ACTIONS = {
    action.task: action
    for action in (
        Action("explain", "Explain selection", "refactor.explain", edits=False),
        Action("fix", "Fix this", "quickfix", edits=True),
        Action("docstring", "Write docstring", "refactor.rewrite.docstring", edits=True),
        Action("tests", "Write tests", "refactor.rewrite.tests", edits=True),
        Action("simplify", "Simplify", "refactor.rewrite.simplify", edits=True),
    )
}


def target(task: TaskName, snapshot: Snapshot, selection: Range, diagnostics: Sequence[Diagnostic] = ()) -> Range | None:
    """The whole lines that the task is about; None where it does not apply."""
    if task == "fix":
        return _around(snapshot, diagnostics) if diagnostics else None
    if task in ("explain", "simplify") and not selection.is_empty:
        lines = whole_lines(snapshot, selection)
        return lines if snapshot.text(lines).strip() else None
    definition = definition_in(snapshot, selection)
    if definition is None or task == "simplify" or (task == "docstring" and not _can_document(snapshot, definition)):
        return None
    return definition.range(snapshot)


def definition_in(snapshot: Snapshot, selection: Range) -> Definition | None:
    """The definition whose header the selection begins on, or the first that begins in it."""
    lines = whole_lines(snapshot, selection)
    return first_definition_in(snapshot, lines.start.line, lines.end.line)


def _can_document(snapshot: Snapshot, definition: Definition) -> bool:
    return language(snapshot.language_id).doc is not None and not has_docstring(snapshot, definition)


def _around(snapshot: Snapshot, diagnostics: Sequence[Diagnostic]) -> Range:
    """The smallest function or class round the problems, or a few lines where that is too long or there is none."""
    first, last = min(problem.line for problem in diagnostics), max(problem.line for problem in diagnostics)
    if snapshot.language_id not in NO_CODE:
        for line in range(min(first, snapshot.last_line), max(-1, first - MAX_LINES_TO_FIX), -1):
            definition = definition_at(snapshot, line)
            if definition is not None and definition.end > last and definition.end - definition.start <= MAX_LINES_TO_FIX:
                return definition.range(snapshot)
    first, last = max(0, first - LINES_AROUND_PROBLEM), min(snapshot.last_line, last + LINES_AROUND_PROBLEM)
    return Range(Position(first, 0), Position(last, len(snapshot.line(last))))
