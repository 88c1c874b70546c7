"""Python docstrings from a template: the syntax gives the parts, the file gives the style, the model fills the holes.

So a docstring is well formed whatever the model writes, and never tells of a parameter that there is not. What the model says of parts
that are there is looked for in any of the three styles. Not here: where it goes (documentation.py).
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from phi_server.outline import outline, parameters, parse_python

Style = Literal["google", "numpy", "sphinx"]
RETURNS = "return"
"""The name of the hole for what is returned; no parameter can be called so."""
TO_DO = "TODO"
_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?|Notes?|See Also|Attributes)\s*:?\s*$")
_FIELD = re.compile(
    r"^\s*[:@](?:(param|parameter|arg|raises?|throws)\s+(?:[\w.\[\], |]+\s+)?(\*{0,2}[\w.]+)|(returns?|yields?))\s*:?\s*(.*)$"
)
_OTHER_FIELD = re.compile(r"^\s*[:@]\w+")
_ENTRY = re.compile(r"^\s*(\*{0,2}[\w.]+)\s*(?:\([^)]*\))?\s*:\s+(.*)$")
_NUMPY_ENTRY = re.compile(r"^(\*{0,2}[\w.]+)(?:\s*:.*)?$")
_PLURAL = {"Args": "Args", "Arguments": "Args", "Parameters": "Args", "Params": "Args", "Raises": "Raises"}


@dataclass(frozen=True)
class Template:
    arguments: tuple[tuple[str, str], ...]
    """Name, with its stars, and annotation."""
    returns: str | None
    """The annotation, perhaps empty; None: nothing is returned."""
    raises: tuple[str, ...]


def style_of(lines: Sequence[str]) -> Style:
    """The style of most docstrings in the lines; google where nothing tells."""
    text = "".join(lines)
    counts: dict[Style, int] = {
        "google": len(re.findall(r"^\s+(?:Args|Returns|Raises|Yields):\s*$", text, re.MULTILINE)),
        "numpy": len(re.findall(r"^\s+(?:Parameters|Returns|Raises|Yields)\s*\n\s+-{3,}\s*$", text, re.MULTILINE)),
        "sphinx": len(re.findall(r"^\s+:(?:param|returns?|raises?)\b.*:", text, re.MULTILINE)),
    }
    return max(counts, key=lambda style: counts[style])


def template_of(code: str) -> Template | None:
    """The parts of the docstring of the function that is the first thing in `code`; None where there is none."""
    tree = parse_python(code)
    function = tree.body[0] if tree is not None and tree.body else None
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    found = outline(code, "python")
    annotation = ast.unparse(function.returns) if function.returns is not None else ""
    values = [value for value in found.returns if value not in ("None", annotation)]
    returns = annotation if annotation not in ("", "None") else "" if not annotation and values else None
    return Template(tuple((name, kind) for name, kind, _ in parameters(function)), returns, found.raises)


def holes_of(answer: str, template: Template) -> tuple[str, dict[str, str]]:
    """What the model says, and what it says of each part: parameters and errors by name, RETURNS."""
    lines = answer.strip().removeprefix('"""').split('"""')[0].strip().split("\n")
    start = next((at for at, line in enumerate(lines) if _SECTION.match(line) or _OTHER_FIELD.match(line)), len(lines))
    known = {name.lstrip("*"): name for name, _ in template.arguments} | {error: error for error in template.raises}
    told: dict[str, str] = {}
    section = last = ""
    underlined, depth = False, -1
    for line in lines[start:]:
        field, header = _FIELD.match(line), _SECTION.match(line)
        if header:
            section = _PLURAL.get(header[1], RETURNS if header[1].startswith(("Return", "Yield")) else "")
            last, underlined, depth = (RETURNS if section == RETURNS else ""), False, -1
            continue
        if re.fullmatch(r"\s*-{3,}\s*", line):
            underlined = True
            continue
        if not line.strip() or (not field and _OTHER_FIELD.match(line)):
            continue
        entry = _NUMPY_ENTRY.match(line.strip()) if underlined else _ENTRY.match(line)
        indent = len(line) - len(line.lstrip())
        if field:
            last, text = RETURNS if field[3] else known.get(field[2].lstrip("*"), ""), field[4]
        elif section in ("Args", "Raises") and entry and (depth < 0 or indent <= depth):
            last, text, depth = known.get(entry[1].lstrip("*"), ""), "" if underlined else entry[2], indent
        else:
            text = line
        if last:
            told[last] = f"{told.get(last, '')} {text.strip()}".strip()
    if template.returns is not None and RETURNS in told:
        told[RETURNS] = re.sub(rf"^{re.escape(template.returns)}\s*:?\s+" if template.returns else r"^[\w\[\], |.]+:\s+", "", told[RETURNS])
    return "\n".join(line.strip() for line in lines[:start]).strip(), {name: text for name, text in told.items() if text}


def rendered(template: Template, style: Style, says: str, told: Mapping[str, str], *, todo: bool) -> str:
    """The docstring's text. Parts of which nothing is told are left out, or left to do; `todo` also gives the types."""
    arguments = [(name, kind, told.get(name, TO_DO)) for name, kind in template.arguments if todo or name in told]
    raises = [(error, told.get(error, TO_DO)) for error in template.raises if todo or error in told]
    returned = told.get(RETURNS, TO_DO) if template.returns is not None and (todo or RETURNS in told) else None
    if style == "sphinx":
        fields = [f":param {name.lstrip('*')}: {text}" for name, _, text in arguments]
        fields += [f":returns: {returned}"] if returned else []
        fields += [f":raises {error}: {text}" for error, text in raises]
        return "\n\n".join([says, *(["\n".join(fields)] if fields else [])])
    if style == "numpy":
        sections = [
            ("Parameters", [f"{name}{f' : {kind}' if kind else ''}\n    {text}" for name, kind, text in arguments]),
            ("Returns", [f"{template.returns or 'object'}\n    {returned}"] if returned else []),
            ("Raises", [f"{error}\n    {text}" for error, text in raises]),
        ]
        return "\n\n".join([says, *(f"{title}\n{'-' * len(title)}\n" + "\n".join(entries) for title, entries in sections if entries)])
    kind_of_return = f"{template.returns}: " if todo and template.returns else ""
    sections = [
        ("Args", [f"{name}{f' ({kind})' if kind and todo else ''}: {text}" for name, kind, text in arguments]),
        ("Returns", [f"{kind_of_return}{returned}"] if returned else []),
        ("Raises", [f"{error}: {text}" for error, text in raises]),
    ]
    return "\n\n".join([says, *(f"{title}:\n" + "\n".join(f"    {entry}" for entry in entries) for title, entries in sections if entries)])
