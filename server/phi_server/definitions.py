"""Where functions and classes begin and end, by looking at lines: fast enough for every movement of the cursor, and for code that does
not parse because it is being written.

Not here: what they do (outline.py).
"""

import re
from dataclasses import dataclass
from typing import Literal

from phi_server.documents import Position, Range, Snapshot, indentation

MAX_HEADER_LINES = 30
MAX_SEARCHED_LINES = 200
"""Actions are listed at every movement of the cursor, and a selection can be the whole file."""
MAX_LINE_CHARACTERS = 500
_PYTHON = re.compile(r"^[ \t]*(?:async[ \t]+def|(?P<kind>def|class))[ \t]+(?P<name>\w+)")
_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe|override|virtual|inline|open|data|sealed|"
    r"pub(?:\([^)]*\))?|extern(?:[ \t]+\"[^\"]*\")?|const)[ \t]+)*"
)
_FUNCTION = re.compile(
    rf"^[ \t]*{_MODIFIERS}(?:fn|func|function|fun|def|sub)\b[ \t]*\*?[ \t]*(?:\([^)]*\)[ \t]*)?(?P<name>[A-Za-z_$][\w$]*)"
)
_CLASS = re.compile(rf"^[ \t]*{_MODIFIERS}(?:class|struct|interface|trait|enum|record|object|type)[ \t]+(?P<name>[A-Za-z_$][\w$]*)")
_ARROW = re.compile(
    rf"^[ \t]*{_MODIFIERS}(?:let|var)?[ \t]*(?P<name>[A-Za-z_$][\w$]*)[ \t]*(?::[^=]+)?=[ \t]*(?:async[ \t]*)?\([^)]*\)[^=]*=>"
)
_C_LIKE = re.compile(
    rf"^[ \t]*{_MODIFIERS}(?!return\b|else\b|new\b|throw\b|await\b|delete\b|case\b)"
    r"(?:[A-Za-z_][\w:<>,.\[\]]*[ \t*&]+)+(?P<name>[A-Za-z_~][\w:]*)[ \t]*\([^;]*(?:\)[^;=]*)?\{?[ \t]*$"
)
_C_LIKE_LANGUAGES = frozenset({"c", "cpp", "csharp", "java", "objective-c", "cuda-cpp", "dart"})
_ARROW_LANGUAGES = frozenset({"javascript", "typescript", "javascriptreact", "typescriptreact"})
NO_CODE = frozenset({"markdown", "plaintext", "json", "jsonc", "yaml", "toml", "html", "css", "xml", "ini", "csv"})


@dataclass(frozen=True)
class Definition:
    kind: Literal["function", "class"]
    name: str
    start: int
    """Its first line, decorators included."""
    line: int
    """The line that names it."""
    body: int
    """The line behind its header."""
    end: int
    """The line behind its last."""

    def range(self, snapshot: Snapshot) -> Range:
        """From its first line to the end of its last."""
        return Range(Position(self.start, 0), Position(self.end - 1, len(snapshot.line(self.end - 1))))


def definition_at(snapshot: Snapshot, line: int) -> Definition | None:
    """The function or class whose header, decorators included, `line` belongs to."""
    if snapshot.language_id in NO_CODE:
        return None
    match = _python_at if snapshot.language_id == "python" else _braces_at
    return match(snapshot, line)


def first_definition_in(snapshot: Snapshot, first: int, last: int) -> Definition | None:
    """The first function or class that begins on one of these lines."""
    lines = range(first, min(last, first + MAX_SEARCHED_LINES, len(snapshot.lines) - 1) + 1)
    return next((found for line in lines if (found := definition_at(snapshot, line))), None)


def has_docstring(snapshot: Snapshot, definition: Definition) -> bool:
    """Whether a Python definition's body begins with a text, or another's header has a documentation comment above it."""
    if snapshot.language_id == "python":
        lines = (snapshot.line(number) for number in range(definition.body, definition.end))
        first = next((line for line in lines if line.strip()), "")
        return bool(re.match(r"[ \t]*[rRuU]?(?:\"|')", first))
    above = snapshot.line(definition.start - 1).strip()
    return above.endswith("*/") or above.startswith(("///", "//!", "//", "#"))


def _python_at(snapshot: Snapshot, line: int) -> Definition | None:
    at = line
    while at < min(len(snapshot.lines), line + MAX_HEADER_LINES) and snapshot.line(at).lstrip().startswith("@"):
        at += 1  # decorators of one line each; longer ones are met from the line that names the definition
    for number in range(at, max(-1, at - MAX_HEADER_LINES), -1):
        if match := _PYTHON.match(snapshot.line(number)[:MAX_LINE_CHARACTERS]):
            body = _header_end(snapshot, number)
            if body is None or not number <= at < body:
                return None
            indent = len(indentation(snapshot.line(number)))
            start = number
            while start > 0 and snapshot.line(start - 1).strip().startswith("@") and len(indentation(snapshot.line(start - 1))) == indent:
                start -= 1
            kind: Literal["function", "class"] = "class" if match["kind"] == "class" else "function"
            return Definition(kind, match["name"], start, number, body, _indented_end(snapshot, body, indent))
    return None


def _header_end(snapshot: Snapshot, number: int) -> int | None:
    """The line behind a Python header; None when the header is not complete, or the body is on its last line."""
    depth = 0
    for at in range(number, min(len(snapshot.lines), number + MAX_HEADER_LINES)):
        code = re.sub(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|#.*""", lambda match: '""' if match[1] else "", snapshot.line(at)).rstrip()
        depth += sum(code.count(mark) for mark in "([{") - sum(code.count(mark) for mark in ")]}")
        if depth == 0:
            return at + 1 if code.endswith(":") else None
    return None


def _indented_end(snapshot: Snapshot, body: int, indent: int) -> int:
    end = at = body
    quote = ""
    while at < len(snapshot.lines):
        line = snapshot.line(at)
        if not quote and line.strip() and len(indentation(line)) <= indent and not line.lstrip().startswith("#"):
            break
        quote = _open_quote(line, quote)
        at += 1
        if line.strip() and (quote or len(indentation(line)) > indent or line.strip()[-3:] in ('"""', "'''")):
            end = at
    return end


def _open_quote(line: str, quote: str) -> str:
    """The triple quote that is open behind `line`, whose lines may be indented as they like."""
    while True:
        found = [(at, mark) for mark in ((quote,) if quote else ('"""', "'''")) if (at := line.find(mark)) >= 0]
        if not found:
            return quote
        at, mark = min(found)
        quote, line = ("" if quote else mark), line[at + 3 :]


def _braces_at(snapshot: Snapshot, line: int) -> Definition | None:
    text = snapshot.line(line)[:MAX_LINE_CHARACTERS]
    kind: Literal["function", "class"] = "function"
    match = _FUNCTION.match(text)
    if match is None and (match := _CLASS.match(text)):
        kind = "class"
    if match is None and snapshot.language_id in _ARROW_LANGUAGES:
        match = _ARROW.match(text)
    if match is None and snapshot.language_id in _C_LIKE_LANGUAGES:
        match = _C_LIKE.match(text)
    if match is None:
        return None
    start = line
    while start > 0 and snapshot.line(start - 1).lstrip().startswith(("@", "#[")):
        start -= 1
    body, end = _braced_end(snapshot, line)
    return Definition(kind, match["name"], start, line, body, end)


def _braced_end(snapshot: Snapshot, line: int) -> tuple[int, int]:
    """The line behind the opening brace and the line behind the closing one; by indentation where there are no braces."""
    depth, body = 0, line + 1
    for at in range(line, len(snapshot.lines)):
        code = _without_strings(snapshot.line(at))
        if depth == 0 and "{" not in code and (at - line >= MAX_HEADER_LINES or code.rstrip().endswith(";")):
            break
        if depth == 0 and "{" in code:
            body = at + 1
        depth += code.count("{") - code.count("}")
        if "{" in code or "}" in code:
            if depth <= 0:
                return body, at + 1
        elif depth == 0 and at > line and not code.strip():
            break
    return line + 1, max(line + 1, _indented_end(snapshot, line + 1, len(indentation(snapshot.line(line)))))


def _without_strings(line: str) -> str:
    return re.sub(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)|//.*""", lambda match: '""' if match[1] else "", line)
