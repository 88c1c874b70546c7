"""What is asked of the model: one function for each task, from plain data to a prompt. The words are in templates/.

A template is text, divided by lines that name a role (`[system]`, `[user]`, `[assistant]`: the beginning of the answer, put in the
model's mouth). Three rules, and no logic:

- `{name}` stands for a value. Alone on a line it stands for whole lines, so the file reads as the prompt will.
- A paragraph whose lines are missing is left out, unless it is the first of its turn.
- A template folder that lacks a task's file does not offer the task.

Reading the template files, once, is the only I/O in this package. Line ends are LF in prompts, whatever the document has.

Not here: how roles are spelled (chat.py), shortening (prompt.py), what is done with an answer (the server).
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import Final, Literal, cast

from phi_prompts.chat import ChatFormat, Content, Message, Role, render
from phi_prompts.languages import DocComment, conventions, fence, language
from phi_prompts.prompt import Prompt, Window

TaskName = Literal["complete", "explain", "fix", "docstring", "tests", "simplify"]

SHARES: Final = {"before": 0.6, "after": 0.15, "context": 0.25}
"""Of the tokens left for code in a completion. The other code of the project gets its share in equal parts."""
AFTER_LIMITS: Final = {"small": (16, 450)}
"""The most lines and characters below the cursor, for models that were trained on no more."""
MOST_PROBLEMS = 10
LONGEST_MESSAGE = 300
"""Characters of a diagnostic's message."""


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
    return _text(templates, task) is not None


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
    problems: Sequence[Diagnostic] = (),
    indent: str = "",
) -> Question:
    """Continue the code at the cursor. The answer is code, from the cursor on.

    `before`: the lines before the cursor, the last one up to the cursor. `after`: the lines below the cursor's line. `first_line`: the
    document's line number of `before[0]`. `context`: other code that may help, the least likely to change first. `problems`: what an
    editor complains of near the cursor. `indent`: one step of indentation.

    What is right of the cursor is not shown to the model: nothing before the last line depends on the cursor's line, so typing only
    appends to the prompt and the KV cache stays valid.
    """
    snippets = [snippet for code in context for snippet in _snippet(templates, code, SHARES["context"] / len(context))]
    values: dict[str, Content] = {
        "before": _above(before, first_line, SHARES["before"]),
        "after": _below(_limited(templates, after), SHARES["after"]),
        "context": tuple(snippets),
        "conventions": (conventions(language_id, indent),) if indent else (),
        "problems": tuple(_problem(Code(path, language_id, before[:-1], first_line), problem) for problem in problems[:MOST_PROBLEMS]),
    }
    return _question(chat_format, templates, "complete", path, language_id, fence(language_id), values)


def explain(chat_format: ChatFormat, templates: str, *, selection: Code, before: Sequence[str] = (), after: Sequence[str] = ()) -> Question:
    """Say what the selected lines do. The answer is Markdown. `before`, `after`: the document's lines around the selection."""
    return _about(chat_format, templates, "explain", _dedented(selection), before, after)


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
    problems = "".join(_problem(selection, diagnostic) for diagnostic in diagnostics[:MOST_PROBLEMS])
    return _about(chat_format, templates, "fix", selection, before, after, {"problems": (problems,)})


def docstring(
    chat_format: ChatFormat, templates: str, *, selection: Code, before: Sequence[str] = (), after: Sequence[str] = (), style: str = ""
) -> Question:
    """Document the selected declaration, in the language's usual style where `style` says no other. The answer is the text of a
    documentation comment, of which `languages.documentation` makes the comment. Raises ValueError for a language of which
    `languages.language(…).doc` is None."""
    doc = language(selection.language_id).doc
    if doc is None:
        raise ValueError(f'phi-ls does not know how documentation comments look in "{selection.language_id}".')
    values: dict[str, Content] = {"doc_style": (style or doc.style,), "doc_opening": (_doc_opening(doc),)}
    question = _about(chat_format, templates, "docstring", _dedented(selection), before, after, values)
    return Question(question.prompt, (*question.stop, doc.closing.strip())) if question.stop and doc.closing else question


def tests(
    chat_format: ChatFormat,
    templates: str,
    *,
    selection: Code,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    framework: str = "",
    example: Sequence[str] = (),
) -> Question:
    """Test the selected lines. The answer is code for a new test file. `framework`, `example`: what the project uses, and the first
    lines of one of its test files."""
    values: dict[str, Content] = {
        "test_framework": (framework or language(selection.language_id).tests,),
        "example": _below(example, share=0.0),
    }
    return _about(chat_format, templates, "tests", _dedented(selection), before, after, values)


def simplify(
    chat_format: ChatFormat, templates: str, *, selection: Code, before: Sequence[str] = (), after: Sequence[str] = ()
) -> Question:
    """Say the same more simply. The answer is code that takes the place of the selected lines."""
    return _about(chat_format, templates, "simplify", selection, before, after)


def _about(
    chat_format: ChatFormat,
    templates: str,
    task: TaskName,
    code: Code,
    before: Sequence[str],
    after: Sequence[str],
    values: Mapping[str, Content] | None = None,
) -> Question:
    """A question about selected lines: they come first, and the lines around them get what they leave."""
    shown = "".join([*code.lines, *before, *after])
    around: dict[str, Content] = {
        "code": _below(code.lines, share=1.0),
        "before": _above(before, code.first_line - len(before), share=0.0),
        "after": _below(after, share=0.0),
    }
    return _question(
        chat_format, templates, task, code.path, code.language_id, fence(code.language_id, shown), {**around, **(values or {})}
    )


def _question(
    chat_format: ChatFormat, templates: str, task: TaskName, path: str, language_id: str, backticks: str, values: Mapping[str, Content]
) -> Question:
    text = _text(templates, task)
    if text is None:
        raise ValueError(f'The templates "{templates}" do not offer the task "{task}".')
    known = language(language_id)
    common: dict[str, Content] = {
        "path": (_short(path),),
        "language": (known.name,),
        "tag": (known.fence,),
        "fence": (backticks,),
    }
    turns = _turns(text)
    messages = [Message(role, _filled(turn, {**common, **values})) for role, turn in turns if role != "assistant"]
    prefill = next((turn for role, turn in turns if role == "assistant"), "")
    stop = (backticks,) if "{fence}" in prefill else ()
    return Question(render(chat_format, messages, _filled(prefill, {**common, **values})), stop)


@cache
def _text(templates: str, name: str) -> str | None:
    """A template file's text, None where there is none."""
    file = files("phi_prompts").joinpath("templates", templates, f"{name}.txt")
    return file.read_text(encoding="utf-8") if file.is_file() else None


@cache
def _turns(text: str) -> tuple[tuple[Role, str], ...]:
    """The turns of a template. The assistant's is its answer's beginning and so keeps its line end."""
    _, *pieces = re.split(r"^\[(system|user|assistant)\]\n", text, flags=re.MULTILINE)
    turns = [(cast(Role, role), turn.strip("\n")) for role, turn in zip(pieces[::2], pieces[1::2], strict=True)]
    return tuple((role, turn + "\n" if role == "assistant" and not _LONE_AT_END.search(turn) else turn) for role, turn in turns)


_PLACEHOLDER = re.compile(r"^\{(?P<lines>\w+)\}(?P<end>\n|\Z)|\{(?P<words>\w+)\}", re.MULTILINE)
_LONE = re.compile(r"^\{(\w+)\}$", re.MULTILINE)
_LONE_AT_END = re.compile(r"^\{\w+\}\Z", re.MULTILINE)


def _filled(text: str, values: Mapping[str, Content]) -> Content:
    """The text with its values in place, by the rules at the top of this file. A value is never searched for placeholders."""
    first, *others = text.split("\n\n")
    full = [paragraph for paragraph in others if all(any(values[name]) for name in _LONE.findall(paragraph))]
    text = "\n\n".join([first, *full])
    parts: list[str | Window] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        parts.append(text[at : match.start()])
        parts += values[match["words"]] if match["words"] else _ended(values[match["lines"]], match["end"])
        at = match.end()
    return tuple(part for part in (*parts, text[at:]) if part)


def _ended(value: Content, end: str) -> Content:
    """A value that stands for whole lines: none, or the last of them with its line end where the template goes on below."""
    if not end or not value:
        return value
    *others, last = value
    if isinstance(last, Window):
        return (*others, replace(last, lines=(*last.lines[:-1], _with_end(last.lines[-1]))))
    return (*others, _with_end(last)) if last else value


def _with_end(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines with LF as line end."""
    return tuple(line.rstrip("\r\n") + "\n" if line.endswith(("\r\n", "\r")) else line for line in lines)


def _above(lines: Sequence[str], first_line: int, share: float) -> Content:
    return (Window(_lines(lines), "end", share, first_line),) if lines else ()


def _below(lines: Sequence[str], share: float) -> Content:
    """The grid on which it is cut counts from its own first line: a line typed above moves all lines of the document below it."""
    return (Window(_lines(lines), "start", share),) if lines else ()


def _limited(templates: str, after: Sequence[str]) -> Sequence[str]:
    """The first lines, as many as a model was trained on."""
    if templates not in AFTER_LIMITS:
        return after
    most_lines, most_characters = AFTER_LIMITS[templates]
    kept = [_with_end(line) for line in _lines(after[:most_lines])]
    return kept[: sum(size <= most_characters for size in accumulate(map(len, kept)))]


def _snippet(templates: str, code: Code, share: float) -> Content:
    """Code of another file, as the template `snippet` shows it; nothing where there is none."""
    text = _text(templates, "snippet")
    if text is None or not code.lines:
        return ()
    known = language(code.language_id)
    return _filled(
        text,
        {
            "path": (_short(code.path),),
            "tag": (known.fence,),
            "fence": (fence(code.language_id, "".join(code.lines)),),
            "code": _below(code.lines, share),
        },
    )


def _short(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-2:])


def _dedented(code: Code) -> Code:
    """The same without common indentation and blank lines at both ends: for questions whose answer does not take its place."""
    text = textwrap.dedent("".join(_lines(code.lines))).strip("\n") + "\n"
    return Code(code.path, code.language_id, [line + "\n" for line in text.split("\n")[:-1]], code.first_line)


def _problem(code: Code, diagnostic: Diagnostic) -> str:
    """One line that quotes the line complained of, so that the model need not count."""
    message = " ".join(diagnostic.message.split())[:LONGEST_MESSAGE]
    at = diagnostic.line - code.first_line
    quoted = f", `{code.lines[at].strip()}`" if 0 <= at < len(code.lines) else ""
    return f"- Line {diagnostic.line + 1}{quoted}: {message}\n"


def _doc_opening(doc: DocComment) -> str:
    return f"{doc.opening}\n{doc.line.rstrip()}" if doc.opening and doc.line else doc.opening + doc.line.rstrip()
