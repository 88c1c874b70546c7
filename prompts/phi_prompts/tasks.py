"""What is asked of the model: one function for each task, from plain data to a prompt. The words are in templates/.

A template is text, divided by lines that name a role (`[system]`, `[user]`, `[assistant]`: the beginning of the answer, put in the
model's mouth). Three rules, and no logic:

- `{name}` stands for a value. Alone on a line it stands for whole lines, so the file reads as the prompt will.
- A paragraph with an empty value is left out, unless it is the first of its turn.
- A template folder that lacks a task's file does not offer the task.

Reading the template files, once, is the only I/O in this package. Line ends are LF in prompts, whatever the document has.

Not here: how roles are spelled (chat.py), shortening (prompt.py), what is done with an answer (the server).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from phi_prompts.chat import ChatFormat
from phi_prompts.prompt import Prompt

TaskName = Literal["complete", "explain", "fix", "docstring", "tests", "simplify"]


@dataclass(frozen=True)
class Code:
    """Whole lines of a document."""

    path: str
    """Its last two components are shown to the model: `dir/file.py`. Either slash."""
    language_id: str
    """As in LSP's TextDocumentItem."""
    lines: Sequence[str]
    """With their line ends."""
    first_line: int = 0
    """The document's line number (from 0) of `lines[0]`."""


@dataclass(frozen=True)
class Diagnostic:
    line: int
    """The document's line number, from 0."""
    message: str


@dataclass(frozen=True)
class Question:
    """What to generate from, and where to stop."""

    prompt: Prompt
    stop: tuple[str, ...]
    """Texts that end the answer and are not part of it: the closing fence, where the prompt has opened one."""


def has_template(templates: str, task: TaskName) -> bool:
    """Whether that folder of templates (`phi3`, `small`) offers the task."""
    raise NotImplementedError


def complete(
    chat_format: ChatFormat,
    templates: str,
    *,
    path: str,
    language_id: str,
    before: Sequence[str],
    after: Sequence[str],
    first_line: int = 0,
    context: Sequence[Code] = (),
) -> Question:
    """Continue the code at the cursor. The answer is code, from the cursor on.

    `before`: the lines before the cursor, the last one up to the cursor. `after`: the lines below the cursor's line. `first_line`: the
    document's line number of `before[0]`. `context`: other code that may help, the least likely to change first.

    What is right of the cursor is not shown to the model: nothing before the last line depends on the cursor's line, so typing only
    appends to the prompt and the KV cache stays valid.
    """
    raise NotImplementedError


def explain(chat_format: ChatFormat, templates: str, *, selection: Code, before: Sequence[str] = (), after: Sequence[str] = ()) -> Question:
    """Say what the selected lines do. The answer is Markdown. `before`, `after`: the document's lines around the selection."""
    raise NotImplementedError


def fix(
    chat_format: ChatFormat,
    templates: str,
    *,
    selection: Code,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    diagnostics: Sequence[Diagnostic],
) -> Question:
    """Mend what the diagnostics complain of. The answer is code that takes the place of the selected lines."""
    raise NotImplementedError


def docstring(
    chat_format: ChatFormat, templates: str, *, selection: Code, before: Sequence[str] = (), after: Sequence[str] = ()
) -> Question:
    """Document the selected declaration. The answer is the text of the documentation comment alone, without its marks: see
    `languages.documentation`, which makes the comment of it."""
    raise NotImplementedError


def tests(chat_format: ChatFormat, templates: str, *, selection: Code, before: Sequence[str] = (), after: Sequence[str] = ()) -> Question:
    """Test the selected lines. The answer is code for a new test file."""
    raise NotImplementedError


def simplify(
    chat_format: ChatFormat, templates: str, *, selection: Code, before: Sequence[str] = (), after: Sequence[str] = ()
) -> Question:
    """Say the same more simply. The answer is code that takes the place of the selected lines."""
    raise NotImplementedError
