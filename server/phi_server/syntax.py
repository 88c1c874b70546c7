"""Whether a suggestion leaves the code whole: parsed for Python, brackets counted for every other language. Pure.

No grammars of other languages: a parser that knows unfinished code would be a dependency of some megabytes a language, and what it
would find beyond unbalanced brackets, a suggestion of a dozen lines seldom has. Not here: depth of lines (indent.py).
"""

import ast
import re
import warnings
from collections.abc import Sequence

from phi_server.documents import indentation
from phi_server.site import Site

CLOSER_OF = {"(": ")", "[": "]", "{": "}"}
OPENER_OF = {closer: opener for opener, closer in CLOSER_OF.items()}
MAX_PARSED_LINES = 400
"""Round the cursor. Parsing them takes about 5 ms."""
_NO_BRACKETS = frozenset({"markdown", "plaintext", "latex", "restructuredtext", "asciidoc", "html", "xml"})
_HASH_COMMENTS = frozenset({"python", "shellscript", "ruby", "yaml", "toml", "perl", "r", "elixir", "makefile", "dockerfile", "php"})
_DASH_COMMENTS = frozenset({"sql", "lua", "haskell"})
_NO_TOP = re.compile(r"(?:else|elif|except|finally|case)\b|[)\]}\"'@#]")


def cut_unparsable(text: str, site: Site) -> str:
    """Trailing lines go until the code parses; none where that does not help, for then the code round it is unfinished."""
    lines = text.split("\n")
    if len(lines) == 1:
        return text
    if site.language_id == "python":
        above, below = _statement(site)
        for count in range(len(lines), 0, -1):
            if parses(f"{above}{site.head}" + "\n".join(lines[:count]) + f"{site.rest}\n{below}"):
                return "\n".join(lines[:count])
        return text
    if site.language_id in _NO_BRACKETS:
        return text
    for count in range(len(lines), 0, -1):
        kept = "\n".join(lines[:count])
        if not brackets(kept, site.language_id)[1] and kept.strip():
            return kept
    return text


def cut_extra_closers(text: str, site: Site) -> str:
    """Brackets at the end of a line that close nothing, neither in the text nor above it."""
    if site.language_id in _NO_BRACKETS or "\n" in text or not text.rstrip(" ;,:").endswith((")", "]", "}")):
        return text
    missing = brackets(text, site.language_id)[0]
    if not any(mark in site.head + text for mark in CLOSER_OF):
        return text  # words, perhaps: nothing on this line is code for sure
    waiting = brackets("\n".join((*site.before[-MAX_PARSED_LINES // 2 :], site.head)), site.language_id)[1]
    if len(missing) <= len(waiting) or not missing or text.rstrip()[-1] != missing[-1]:
        return text
    for closer, opener in zip(missing, reversed(waiting), strict=False):
        if CLOSER_OF[opener] != closer:
            return text  # the counting is off: brackets in a string, perhaps
    for _ in range(len(missing) - len(waiting)):
        if text.rstrip()[-1:] not in OPENER_OF:
            return text
        text = text.rstrip()[:-1]
    return text


def parses(code: str) -> bool:
    """Whether it is Python. Nothing is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


def brackets(code: str, language_id: str) -> tuple[list[str], list[str]]:
    """The closing brackets that nothing in the code opens, and the opening ones that nothing closes. Strings and comments are skipped."""
    missing: list[str] = []
    opened: list[str] = []
    for mark in _marks(code, language_id):
        if mark in CLOSER_OF:
            opened.append(mark)
        elif opened and CLOSER_OF[opened[-1]] == mark:
            opened.pop()
        elif not opened:
            missing.append(mark)
    return missing, opened


def _marks(code: str, language_id: str) -> list[str]:
    comment = r"\#.*" if language_id in _HASH_COMMENTS else r"--.*" if language_id in _DASH_COMMENTS else r"//.*|/\*[\s\S]*?(?:\*/|\Z)"
    character = r"'(?:\\.|[^'\\\n])'" if language_id == "rust" else r"'(?:\\.|[^'\\\n])*'"  # lifetimes are no strings
    texts = rf'"""[\s\S]*?(?:"""|\Z)|"(?:\\.|[^"\\\n])*"|{character}|`(?:\\.|[^`\\])*`'
    found = re.finditer(rf"(?P<skip>{comment}|{texts})|(?P<mark>[()\[\]{{}}])", code)
    return [match["mark"] for match in found if match["mark"]]


def _statement(site: Site) -> tuple[str, str]:
    """The lines above and below the cursor's that belong to the same statement at column 0."""
    half = MAX_PARSED_LINES // 2
    above = site.before[-half:]
    first = len(above)
    if site.head[:1] in ("", " ", "\t"):
        first = next((at for at in range(len(above) - 1, -1, -1) if _is_top(above[at])), 0)
    below = site.after[:half]
    last = next((at for at, line in enumerate(below) if _is_top(line)), len(below))
    return _joined(above[first:]), _joined(below[:last])


def _is_top(line: str) -> bool:
    return bool(line.strip()) and not indentation(line) and not _NO_TOP.match(line)


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
