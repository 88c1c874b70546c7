"""A documentation comment: made of the model's answer, or, for a model that cannot be trusted with one, of what the syntax tells.

Not here: how the comments of each language look (phi_prompts.languages).
"""

import ast
import re

from phi_prompts.languages import documentation, language
from phi_server.definitions import Definition
from phi_server.documents import Position, Range, Snapshot, indent_unit, indentation
from phi_server.outline import outline, parameters, parse_python

TO_DO = "TODO"
_SENTENCE = re.compile(r"[A-Za-z][^\n{}<>=;|\\]{7,118}?[.!](?=\s|$)|[A-Za-z][^\n{}<>=;|\\]{7,118}$")


def placed(snapshot: Snapshot, definition: Definition, text: str) -> tuple[Range, str] | None:
    """Where the comment that says `text` goes, and its lines; None when it says nothing."""
    doc = language(snapshot.language_id).doc
    comment = documentation(snapshot.language_id, text)
    if doc is None or not comment:
        return None
    inside = doc.place == "inside"
    line = definition.body if inside else definition.start
    indent = _body_indent(snapshot, definition) if inside else indentation(snapshot.line(definition.line))
    lines = [(indent + line).rstrip(" \t") + snapshot.newline for line in comment.rstrip("\n").split("\n")]
    if line > snapshot.last_line or (line == len(snapshot.lines) and snapshot.lines[-1][-1:] not in ("\r", "\n")):
        end = Position(line - 1, len(snapshot.line(line - 1)))  # the header is the file's end, and has no line end
        return Range(end, end), snapshot.newline + "".join(lines).rstrip("\r\n")
    return Range(Position(line, 0), Position(line, 0)), "".join(lines)


def skeleton(snapshot: Snapshot, definition: Definition, sentence: str) -> str:
    """The text of a documentation comment with what the syntax tells: names, types, errors. What only a person knows is left to do.

    `sentence` is a small model's; it is used if it can be one at all.
    """
    code = snapshot.text(definition.range(snapshot))
    text = plausible(sentence) or f"{TO_DO}: say what {definition.name} does."
    tree = parse_python(code) if snapshot.language_id == "python" else None
    function = tree.body[0] if tree is not None and tree.body else None
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return text
    found = outline(code, "python")
    sections = [("Args", [_argument(*parameter) for parameter in parameters(function)])]
    returns = ast.unparse(function.returns) if function.returns is not None else ""
    values = [value for value in found.returns if value not in ("None", returns)]
    if returns not in ("", "None") or (not returns and values):
        sections.append(("Returns", [f"{returns}: {TO_DO}" if returns else TO_DO]))
    sections.append(("Raises", [f"{error}: {TO_DO}" for error in found.raises]))
    for title, entries in sections:
        if entries:
            text += f"\n\n{title}:\n" + "\n".join("    " + entry for entry in entries)
    return text


def plausible(sentence: str) -> str:
    """The first sentence of a small model's answer, if it reads as one; else nothing."""
    first = sentence.strip().strip("\"'`").strip().split("\n", 1)[0]
    match = _SENTENCE.match(first)
    words = match[0].split() if match else []
    if len(words) < 3 or len({word.lower() for word in words}) < 0.6 * len(words):
        return ""
    text = " ".join(words).rstrip(".! ") + "."
    return text[0].upper() + text[1:]


def _argument(name: str, annotation: str, default: str) -> str:
    return f"{name} ({annotation}): {TO_DO}" if annotation else f"{name}: {TO_DO}"


def _body_indent(snapshot: Snapshot, definition: Definition) -> str:
    first = next((line for number in range(definition.body, definition.end) if (line := snapshot.line(number)).strip()), "")
    return indentation(first) or indentation(snapshot.line(definition.line)) + indent_unit(snapshot.lines)
