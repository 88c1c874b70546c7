"""What a file imports, and the lines that say what it defines: found with patterns, in any state of the code. Pure.

Fast enough for a file of ten thousand lines: one pass of one pattern. Not here: where a file's imports lead (the server knows the disk).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_HEADER_LINES = 6
MAX_IMPORT_LINES = 1000
"""From the top; what is imported further down is imported by generated code."""
MAX_LINE_CHARACTERS = 300
_SCRIPTS = frozenset({"javascript", "javascriptreact", "typescript", "typescriptreact"})
_IMPORTS = {
    "python": r"(?:from\s+[\w.]+\s+import\b|import\s+\w).*",
    "java": r"import\s.*",
    "kotlin": r"import\s.*",
    "scala": r"import\s.*",
    "go": r"(?:import\b.*|\t\"[\w./-]+\")",
    "rust": r"(?:pub\s+)?(?:use|mod)\s.*;",
    "c": r"#\s*include\s.*",
    "cpp": r"#\s*include\s.*",
    "csharp": r"using\s[\w.= ]+;",
    "ruby": r"require(?:_relative)?\s.*",
    "php": r"use\s.*;",
    **dict.fromkeys(_SCRIPTS, r"(?:import\b.*|export\s.*\bfrom\b.*|(?:const|let|var)\s.*=\s*require\(.*)"),
}
_MODIFIERS = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe|override|virtual|inline|open|data|sealed|"
    r"pub(?:\([^)]*\))?|const|declare)[ \t]+)*"
)
_TYPES = r"(?:class|struct|interface|trait|enum|record|object|type|impl|namespace|module)[ \t]+\w"
_C_NAMES = r"(?!(?:return|else|new|throw|await|delete|case|if|for|while|switch|do|goto|typedef)\b)"
_C_TYPES = r"(?:[A-Za-z_][\w:<>,.\[\]]*[ \t*&]+)+"
_C_LIKE = rf"[ \t]*{_MODIFIERS}(?:{_TYPES}|{_C_NAMES}{_C_TYPES}[A-Za-z_~][\w:]*[ \t]*\([^;=\n]*[{{,(]?[ \t]*$)"
_ARROW = r"(?:let|var|const)?[ \t]*\w+[ \t]*=[ \t]*(?:async[ \t]*)?\([^)\n]*\)[^=\n]*=>"
_METHOD = r"(?!(?:if|for|while|switch|catch|return)\b)\w+\([^)\n]*\)[^;{\n]*\{[ \t]*$"
_SIGNATURES = {
    "python": r"[ \t]*(?:async[ \t]+def|def|class)[ \t]+\w+",
    "go": r"(?:func|type)[ \t]+\(?\w",
    "rust": rf"[ \t]*{_MODIFIERS}(?:fn|struct|enum|trait|impl|type|macro_rules!)[ \t<]+\w",
    "ruby": r"[ \t]*(?:def|class|module)[ \t]+\w",
    "php": rf"[ \t]*{_MODIFIERS}(?:function|class|interface|trait)[ \t]+\w",
    **dict.fromkeys(("c", "cpp", "csharp", "java", "kotlin", "dart"), _C_LIKE),
    **dict.fromkeys(_SCRIPTS, rf"[ \t]*{_MODIFIERS}(?:function\b|{_TYPES}|{_ARROW}|{_METHOD})"),
}
_OTHER = rf"[ \t]*{_MODIFIERS}(?:(?:fn|func|function|fun|def|sub)[ \t]+\w|{_TYPES})"


@dataclass(frozen=True)
class Import:
    module: str
    """As it is written: `..shop.cart`, `./cart`, `cart.h`."""
    names: tuple[str, ...] = ()
    """What is taken from it; empty: all of it."""


def import_lines(lines: Sequence[str], language_id: str) -> list[str]:
    """The lines that import, in order, those of an import in brackets included."""
    pattern = _IMPORTS.get(language_id)
    if pattern is None:
        return []
    found: list[str] = []
    begins = re.compile(pattern)
    at = 0
    while at < min(len(lines), MAX_IMPORT_LINES):
        line = lines[at]
        at += 1
        if not begins.match(line):
            continue
        found.append(line)
        depth = _depth(line)
        while depth > 0 and at < len(lines) and len(found) < 500:
            found.append(lines[at])
            depth += _depth(lines[at])
            at += 1
    return found


def imports(lines: Sequence[str], language_id: str) -> list[Import]:
    """What is imported by a path or name that may be a file of the project."""
    text = "".join(import_lines(lines, language_id))
    if language_id == "python":
        return _python(text)
    if language_id in _SCRIPTS:
        return [Import(match[2]) for match in re.finditer(r"(?:from|require\(|import)\s*([\"'])(\.{1,2}/[^\"'\n]+)\1", text)]
    if language_id in ("c", "cpp"):
        return [Import(name) for name in re.findall(r"#\s*include\s+\"([^\"\n]+)\"", text)]
    if language_id == "rust":
        return [Import(name) for name in re.findall(r"\bmod\s+(\w+)\s*;", text)]
    if language_id == "ruby":
        return [Import(name) for name in re.findall(r"require_relative\s+[\"']([^\"'\n]+)", text)]
    return []


def signatures(lines: Sequence[str], language_id: str, names: Sequence[str] = (), most: int = 60) -> list[tuple[int, str]]:
    """(line number, header with its line end) of what the lines define; of `names` alone where there are any, with their members."""
    begins = re.compile(_SIGNATURES.get(language_id, _OTHER)).match
    found: list[tuple[int, str]] = []
    wanted_indent: int | None = None
    for number, line in enumerate(lines):
        if len(line) > MAX_LINE_CHARACTERS or not begins(line):
            continue
        indent = len(line) - len(line.lstrip())
        if names:
            if any(re.search(rf"\b{re.escape(name)}\b", line) for name in names):
                wanted_indent = indent if wanted_indent is None else min(indent, wanted_indent)
            elif wanted_indent is None or indent <= wanted_indent:
                wanted_indent = None
                continue
        found.append((number, _header(lines, number)))
        if len(found) == most:
            break
    return found


def _python(text: str) -> list[Import]:
    found = []
    for match in re.finditer(r"^from\s+(\.*[\w.]*)\s+import\s+(\([^)]*\)|[^\n]*)", text, re.MULTILINE):
        names = tuple(re.findall(r"(?:^|[(,])\s*(\w+)", re.sub(r"#.*", "", match[2])))
        found.append(Import(match[1], names))
    for match in re.finditer(r"^import\s+([\w. \t,]+)", text, re.MULTILINE):
        found += [Import(name.split()[0]) for name in match[1].split(",") if name.strip()]
    return found


def _header(lines: Sequence[str], number: int) -> str:
    """The line and those that it goes on over, on one."""
    text = lines[number].rstrip()
    depth = _depth(text)
    for line in lines[number + 1 : number + MAX_HEADER_LINES] if depth > 0 and not text.endswith("{") else ():
        text += (" " if text[-1] not in "([" else "") + line.strip()
        depth += _depth(line)
        if depth <= 0:
            break
    return text[:MAX_LINE_CHARACTERS] + "\n"


def _depth(line: str) -> int:
    return line.count("(") - line.count(")") + line.count("{") - line.count("}")
