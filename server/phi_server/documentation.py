"""A documentation comment: made of the model's answer, or, for a model that cannot be trusted with one, of what the syntax tells.

Not here: how the comments of each language look (phi_prompts.languages).
"""

import re

from phi_prompts.languages import documentation, language
from phi_server.definitions import Definition
from phi_server.docstring import TO_DO, Template, holes_of, rendered, style_of, template_of
from phi_server.documents import Position, Range, Snapshot, indent_unit, indentation

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
    text = plausible(sentence) or f"{TO_DO}: say what {definition.name} does."
    template = _template(snapshot, definition)
    return text if template is None else rendered(template, style_of(snapshot.lines), text, {}, todo=True)


def filled(snapshot: Snapshot, definition: Definition, answer: str) -> str:
    """The text of a documentation comment: for a Python function what the answer says of what is there, in the file's own style; for
    everything else the answer."""
    template = _template(snapshot, definition)
    if template is None:
        return answer
    says, told = holes_of(answer, template)
    return rendered(template, style_of(snapshot.lines), says, told, todo=False) if says else ""


def plausible(sentence: str) -> str:
    """The first sentence of a small model's answer, if it reads as one; else nothing."""
    first = sentence.strip().strip("\"'`").strip().split("\n", 1)[0]
    match = _SENTENCE.match(first)
    words = match[0].split() if match else []
    if len(words) < 3 or len({word.lower() for word in words}) < 0.6 * len(words):
        return ""
    text = " ".join(words).rstrip(".! ") + "."
    return text[0].upper() + text[1:]


def _template(snapshot: Snapshot, definition: Definition) -> Template | None:
    return template_of(snapshot.text(definition.range(snapshot))) if snapshot.language_id == "python" else None


def _body_indent(snapshot: Snapshot, definition: Definition) -> str:
    first = next((line for number in range(definition.body, definition.end) if (line := snapshot.line(number)).strip()), "")
    return indentation(first) or indentation(snapshot.line(definition.line)) + indent_unit(snapshot.lines)
