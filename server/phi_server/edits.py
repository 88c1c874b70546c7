"""From an answer to an edit: of the lines that differ, for the version it was made for, and checked before it is offered.

An answer that cannot be applied is shown as text and never forced in. Not here: which lines a task is about (actions.py).
"""

import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path, PurePosixPath

from lsprotocol import types

from phi_backends.client import Client
from phi_backends.messages import Loaded, Priority
from phi_prompts import tasks
from phi_prompts.chat import FORMATS, ChatFormat
from phi_prompts.languages import PYTHON_STYLES, language
from phi_server.actions import definition_in
from phi_server.context import surroundings
from phi_server.docstring import style_of
from phi_server.documentation import filled, placed, skeleton
from phi_server.documents import Position, Range, Snapshot, indentation, split_lines
from phi_server.explanation import SENTENCE_TOKENS, SMALL
from phi_server.outline import MAX_PARSED_CHARACTERS
from phi_server.project_tests import ProjectTests
from phi_server.redact import redacted_line, restored
from phi_server.settings import Settings
from phi_server.syntax import brackets

_FENCED = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n(.*?)(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
_TEST_FILES = {
    "python": "test_{stem}{suffix}",
    "javascript": "{stem}.test{suffix}",
    "javascriptreact": "{stem}.test{suffix}",
    "typescript": "{stem}.test{suffix}",
    "typescriptreact": "{stem}.test{suffix}",
    "go": "{stem}_test{suffix}",
}


NO_TESTS = ProjectTests()


@dataclass(frozen=True)
class Edit:
    """A change of one document, or of a new one."""

    uri: str
    version: int | None
    range: Range
    text: str
    creates: bool = False


@dataclass(frozen=True)
class Proposal:
    edit: Edit | None
    answer: str
    """What the model wrote, as Markdown."""
    problem: str = ""
    """Why there is no edit: a sentence."""


async def propose(
    task: tasks.TaskName,
    snapshot: Snapshot,
    range: Range,
    client: Client,
    settings: Settings,
    diagnostics: Sequence[tasks.Diagnostic] = (),
    on_text: Callable[[str], None] = lambda text: None,
    project: ProjectTests = NO_TESTS,
) -> Proposal:
    """Asks the model; `range` is `actions.target`'s. `on_text` hears all of the answer so far. `project`: how it writes its tests. Raises
    PhiError when the engine fails."""
    loaded = await client.loaded()
    small = loaded.templates == SMALL
    question = ask(task, snapshot, range, loaded, diagnostics, project)
    answer = ""
    max_tokens = SENTENCE_TOKENS if small else settings.max_answer_tokens
    with client.generate(question.prompt, max_tokens=max_tokens, priority=Priority.ANSWER, stop=question.stop) as generation:
        async for piece in generation:
            answer += piece.text
            on_text(answer)
    answer = restored(answer, snapshot.lines)
    if task == "docstring":
        return documented(snapshot, range, answer, small)
    if task == "tests":
        return tested(snapshot, answer, project.file)
    return rewritten(snapshot, range, answer)


def ask(
    task: tasks.TaskName,
    snapshot: Snapshot,
    range: Range,
    loaded: Loaded,
    diagnostics: Sequence[tasks.Diagnostic],
    project: ProjectTests = NO_TESTS,
) -> tasks.Question:
    chat: ChatFormat = FORMATS[loaded.chat_format]
    about = surroundings(snapshot, range, loaded)
    if task == "fix":
        told = [tasks.Diagnostic(one.line, redacted_line(one.message)) for one in diagnostics]
        return tasks.fix(chat, loaded.templates, **about, diagnostics=told)
    if task == "docstring":
        style = PYTHON_STYLES[style_of(snapshot.lines)] if snapshot.language_id == "python" else ""
        return tasks.docstring(chat, loaded.templates, **about, style=style)
    if task == "tests":
        return tasks.tests(chat, loaded.templates, **about, framework=project.framework, example=project.example)
    return (tasks.simplify if task == "simplify" else tasks.explain)(chat, loaded.templates, **about)


def rewritten(snapshot: Snapshot, range: Range, answer: str) -> Proposal:
    """The lines of `range` replaced by the answer's code, where they differ."""
    code = code_of(answer)
    shown = _fenced(code, snapshot)
    if not code.strip():
        return Proposal(None, answer, "The model answered without code.")
    old = [snapshot.line(number) for number in _lines(range)]
    new = reindented(code, indentation(next((line for line in old if line.strip()), "")))
    if new == [line.rstrip() for line in old]:
        return Proposal(None, shown, "The model would change nothing.")
    start, end = _common_ends(old, new)
    edit = _of_lines(snapshot, range.start.line + start, range.end.line + 1 - end, new[start : len(new) - end])
    if not still_parses(snapshot, edit):
        return Proposal(None, shown, f"The model's answer is not valid {_name(snapshot)}, so it is only shown.")
    return Proposal(edit, shown)


def documented(snapshot: Snapshot, range: Range, answer: str, small: bool) -> Proposal:
    """A documentation comment at the definition; nothing else is touched."""
    definition = definition_in(snapshot, range)
    text = "" if definition is None else (skeleton if small else filled)(snapshot, definition, answer if small else code_of(answer))
    place = placed(snapshot, definition, text) if definition else None
    if place is None:
        return Proposal(None, answer, "The model's answer is no documentation comment.")
    edit = Edit(snapshot.uri, snapshot.version, *place)
    if not still_parses(snapshot, edit):
        return Proposal(None, answer, "The model's answer is not a valid docstring, so it is only shown.")
    return Proposal(edit, answer)


def tested(snapshot: Snapshot, answer: str, file: Path | None = None) -> Proposal:
    """A new file with the answer's code: `file`, or beside the document; only shown where no name for it is known."""
    code = "\n".join(reindented(code_of(answer), "")).strip("\n")
    shown = _fenced(code, snapshot)
    if not code:
        return Proposal(None, answer, "The model answered without code.")
    if snapshot.language_id == "python" and not _is_python(code):
        return Proposal(None, shown, "The model's answer is not valid Python, so it is only shown.")
    folder, _, last = snapshot.uri.rpartition("/")
    name = PurePosixPath(last)
    if file is None and (snapshot.language_id not in _TEST_FILES or not name.stem):
        return Proposal(None, shown, f"Tests for {language(snapshot.language_id).name} have no usual place, so they are only shown.")
    beside = _TEST_FILES.get(snapshot.language_id, "").format(stem=name.stem, suffix=name.suffix)
    uri = file.as_uri() if file is not None else f"{folder}/{beside}"
    nowhere = Range(Position(0, 0), Position(0, 0))
    return Proposal(Edit(uri, None, nowhere, code.replace("\n", snapshot.newline) + snapshot.newline, creates=True), shown)


def pieces(snapshot: Snapshot, edit: Edit) -> list[tuple[Range, str]]:
    """The edit in pieces, each of lines that differ: what stays is not touched, and keeps its marks and folds."""
    if edit.range.start.character or edit.range.end.character or edit.creates:
        return [(edit.range, edit.text)]
    first = edit.range.start.line
    old, new = snapshot.lines[first : edit.range.end.line], split_lines(edit.text)
    found = []
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            found.append((Range(Position(first + start, 0), Position(first + end, 0)), "".join(new[new_start:new_end])))
    return found or [(edit.range, edit.text)]


def workspace_edit(edit: Edit, changes: Sequence[types.TextEdit], document_changes: bool) -> types.WorkspaceEdit:
    """As the editor takes it. A new file takes `document_changes`."""
    if not document_changes:
        return types.WorkspaceEdit(changes={edit.uri: changes})
    document = types.OptionalVersionedTextDocumentIdentifier(uri=edit.uri, version=edit.version)
    of_text = types.TextDocumentEdit(document, list(changes))
    created = [types.CreateFile(uri=edit.uri, options=types.CreateFileOptions(overwrite=False, ignore_if_exists=False))]
    return types.WorkspaceEdit(document_changes=[*(created if edit.creates else []), of_text])


def code_of(answer: str) -> str:
    """The code in an answer: of its first fence, or all of it where it has none."""
    match = _FENCED.search(answer)
    return match[2] if match else answer


def reindented(code: str, indent: str) -> list[str]:
    """The lines of the code without blank lines at the ends, moved as a whole so that the first has this indentation."""
    lines = [line.rstrip() for line in code.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    while lines and not lines[0]:
        del lines[0]
    while lines and not lines[-1]:
        del lines[-1]
    had = indentation(lines[0]) if lines else ""
    if had == indent:
        return lines
    if all(not line or line.startswith(had) for line in lines):
        return [indent + line[len(had) :] if line else "" for line in lines]
    return lines  # a later line is indented less than the first: the model has its own idea, and the check will tell


def still_parses(snapshot: Snapshot, edit: Edit) -> bool:
    """Whether Python stays Python, JSON stays JSON, and brackets stay balanced elsewhere. What did not parse before need not afterwards."""
    before = "".join(snapshot.lines)
    if len(before) > MAX_PARSED_CHARACTERS or snapshot.language_id in ("markdown", "plaintext"):
        return True
    return not _is_whole(before, snapshot.language_id) or _is_whole(snapshot.replaced(edit.range, edit.text), snapshot.language_id)


def _is_whole(text: str, language_id: str) -> bool:
    if language_id == "python":
        return _is_python(text)
    return _is_json(text) if language_id == "json" else brackets(text, language_id) == ([], [])


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_python(text: str) -> bool:
    """Compiled, not only parsed: that also finds a `return` that has lost its function. Nothing is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "<document>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def _of_lines(snapshot: Snapshot, first: int, end: int, lines: Sequence[str]) -> Edit:
    """The edit that puts `lines` in place of those from `first` to before `end`."""
    text = "".join(line + snapshot.newline for line in lines)
    if end <= len(snapshot.lines) and end <= snapshot.last_line:
        return Edit(snapshot.uri, snapshot.version, Range(Position(first, 0), Position(end, 0)), text)
    last = Position(snapshot.last_line, len(snapshot.line(snapshot.last_line)))
    return Edit(snapshot.uri, snapshot.version, Range(Position(first, 0), last), text.rstrip("\r\n"))


def _common_ends(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many lines are the same at the start and at the end."""
    limit = min(len(old), len(new))
    start = next((at for at in range(limit) if old[at] != new[at]), limit)
    end = next((at for at in range(limit - start) if old[-1 - at] != new[-1 - at]), limit - start)
    return start, end


def _lines(range_: Range) -> range:
    return range(range_.start.line, range_.end.line + 1)


def _name(snapshot: Snapshot) -> str:
    return language(snapshot.language_id).name


def _fenced(code: str, snapshot: Snapshot) -> str:
    ticks = "````" if "```" in code else "```"
    return f"{ticks}{language(snapshot.language_id).fence}\n{code.strip(chr(10))}\n{ticks}\n"
