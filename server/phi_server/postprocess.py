"""From what the model wrote to what may be inserted: small steps, each of which takes text away, in this order. Pure.

Phi-3 is a chat model without fill-in-the-middle tokens; it closes fences, explains itself, repeats the next lines and doubles brackets.
Text inside has line feeds as line ends; the last step writes the document's own.

Not here: where generating stops early (stopping.py); everything that needs a parser.
"""

import re
from dataclasses import dataclass

from phi_server.documents import indent_unit, indentation

CLOSERS = ")]}>\"'`"
_CLOSER_OF = {"(": ")", "[": "]", "{": "}"}
_OPENER_OF = {closer: opener for opener, closer in _CLOSER_OF.items()}
_PROSE = re.compile(
    r"^(?:Here(?:'s| is| are)\b|Sure[,!]|Certainly[,!]|Of course[,!]|Explanation\b|Note(?: that)?\b|In this\b|Output:|\*\*|###? |"
    r"This (?:code|function|method|class|completes|completion|will)\b|The (?:above|code|function|following)\b)"
)
_PROSE_LANGUAGES = frozenset({"markdown", "plaintext", "latex", "restructuredtext", "asciidoc"})
_LOOP = re.compile(r"(.{3,}?)\1{5,}$", re.DOTALL)
_TRIVIAL = re.compile(r"^[\s\W]*$|^(?:else|try|finally|end|fi|done|pass|break|continue|return)\W*$")


@dataclass(frozen=True)
class Site:
    """Where the text will go."""

    language_id: str
    before: tuple[str, ...]
    """Lines above the cursor's, without line ends; the last is the nearest."""
    head: str
    """The cursor's line up to the cursor."""
    rest: str
    """The cursor's line from the cursor on."""
    after: tuple[str, ...]
    """Lines below the cursor's, without line ends."""
    newline: str = "\n"
    max_lines: int = 1
    """More than one: a block is wanted."""


@dataclass(frozen=True)
class Cleaned:
    text: str
    overwrites: int
    """Characters right of the cursor that `text` brings itself, and that it takes the place of."""


def clean(text: str, site: Site) -> Cleaned | None:
    """What of the model's text can be inserted; None when there is nothing worth it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for step in (
        cut_fence,
        cut_prose,
        cut_loops,
        cut_deep_indent,
        cut_block,
        cut_repeated_lines,
        cut_next_lines,
        cut_previous_lines,
        cut_rest_of_line,
        strip_blanks,
        same_indent_unit,
    ):
        text = step(text, site)
    if is_noise(text):
        return None
    return Cleaned(text.replace("\n", site.newline), overwritten(text, site.rest))


def cut_fence(text: str, site: Site) -> str:
    """A fence ends the code."""
    match = re.search(r"^[ \t]*(?:```|~~~)", text, re.MULTILINE)
    return text[: match.start()] if match else text


def cut_prose(text: str, site: Site) -> str:
    """Lines from the first at column 0 that speaks to the reader. A first line that goes on from code is none."""
    if site.language_id in _PROSE_LANGUAGES:
        return text
    lines = text.split("\n")
    start = 0 if not site.head else 1
    cut = next((at for at, line in enumerate(lines) if at >= start and _PROSE.match(line)), len(lines))
    return "\n".join(lines[:cut])


def cut_loops(text: str, site: Site) -> str:
    """A piece that is repeated six times and more at the end goes, with the line that it begins on; blanks may repeat."""
    match = _LOOP.search(text)
    return without_last_line(text[: match.start()]) if match and match[1].strip() else text


def cut_deep_indent(text: str, site: Site) -> str:
    """On a blank line: indentation that the line above gives no reason for, on all lines."""
    above = next((line for line in reversed(site.before) if line.strip()), "")
    if site.head.strip() or text[:1] not in (" ", "\t") or above.rstrip().endswith((",", "(", "[", "\\")):
        return text
    deepest = len(indentation(above)) + (len(indent_unit(site.before)) if opens_block(above, site.language_id) else 0)
    added = len(indentation(text))
    excess = added - max(0, min(added, deepest - len(site.head)))
    return "\n".join(line[min(excess, len(indentation(line))) :] for line in text.split("\n"))


def cut_block(text: str, site: Site) -> str:
    """The lines that belong together: up to a blank line, to a line that is indented less, or to the number that is wanted.

    On a line with code, what follows must be indented more; a line that only closes brackets still belongs to it.
    """
    lines = text.split("\n")
    if site.max_lines == 1:
        return lines[0]
    start = next((at for at, line in enumerate(lines) if line.strip()), 0)
    begins_line = start > 0 or not site.head.strip()
    floor = len(indentation(lines[start] if start > 0 else site.head + lines[0])) + (0 if begins_line else 1)
    kept = lines[: start + 1]
    for line in lines[start + 1 : start + site.max_lines]:
        if not line.strip():
            break
        if len(indentation(line)) < floor:
            if _closes(line, site.head + "\n".join(kept)):
                kept.append(line)
            break
        kept.append(line)
    return "\n".join(kept)


def cut_repeated_lines(text: str, site: Site) -> str:
    """The second time that a line follows itself (blanks do not count), the model is stuck: what follows the first goes."""
    lines = text.split("\n")
    for at in range(2, len(lines)):
        if lines[at].strip() and not _TRIVIAL.match(lines[at]) and lines[at] == lines[at - 1] == lines[at - 2]:
            return "\n".join(lines[: at - 1])
    return text


def cut_next_lines(text: str, site: Site) -> str:
    """Lines that are below the cursor already, from the first of them on; closers only where they are indented the same."""
    following = [line.rstrip() for line in site.after if line.strip()][:4]
    lines = text.split("\n")
    whole = [(site.head if at == 0 else "") + line.rstrip() for at, line in enumerate(lines)]
    for at, line in enumerate(whole):
        if not following or not line.strip():
            continue
        repeated = line.strip() == following[0].strip() and not _TRIVIAL.match(line)
        rest = [later for later in whole[at:] if later.strip()]
        if repeated or (at > 0 and rest == following[: len(rest)]):
            return "\n".join(lines[:at])
    return text


def cut_previous_lines(text: str, site: Site) -> str:
    """The line above, said again, and the same for two or more lines at once."""
    lines = text.split("\n")
    whole = [line.strip() for line in (site.head + lines[0], *lines[1:]) if line.strip()]
    above = [line.strip() for line in site.before if line.strip()]
    if not whole or not above or _TRIVIAL.match(whole[0]):
        return text
    for count in range(min(len(whole), len(above)), 0, -1):
        if whole[:count] == above[-count:]:
            return ""
    return text


def cut_rest_of_line(text: str, site: Site) -> str:
    """What is right of the cursor, said again, and all after it. Closers are overwritten instead: see `overwritten`."""
    rest = site.rest.strip()
    if not any(character.isalnum() for character in rest) or rest not in first_line(text):
        return text
    return text[: text.index(rest)]


def strip_blanks(text: str, site: Site) -> str:
    """No white space at the ends of lines, no empty lines at the end."""
    lines = text.split("\n")
    last = lines[-1] if site.rest[:1].isalnum() and lines[-1].strip() else lines[-1].rstrip()
    return "\n".join([*(line.rstrip() for line in lines[:-1]), last]).rstrip("\n")


def same_indent_unit(text: str, site: Site) -> str:
    """Tabs where the document has tabs, blanks where it has blanks. On the first line only where it begins the document's line."""
    sample = (*site.before[-200:], site.head, *site.after[:200])
    known = any(indentation(line) for line in sample if line.strip()) or bool(indentation(site.head))
    if not known:
        return text
    unit = indent_unit(sample) if any(line.strip() and indentation(line) for line in sample) else indentation(site.head)[:1] * 4
    tabs = unit[:1] == "\t"
    lines = text.split("\n")
    start = 0 if not site.head else 1
    width = len(indent_unit([line for line in lines if line[:1] == " "])) if tabs else len(unit)
    return "\n".join(_indented(line, tabs, width) if at >= start else line for at, line in enumerate(lines))


def is_noise(text: str) -> bool:
    """Nothing, or one or two marks that the editor types by itself."""
    return len(text.strip()) < 3 and not any(character.isalnum() for character in text)


def without_last_line(text: str) -> str:
    """For a last line that is known to be unfinished."""
    return text.rpartition("\n")[0]


def first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def overwritten(text: str, rest: str) -> int:
    """How many characters right of the cursor `text` brings along: closers that it closes without having opened them."""
    missing = _unopened(text)
    taken = 0
    for character in rest:
        at = missing.find(character)
        if at < 0:
            break
        missing = missing[at + 1 :]
        taken += 1
    if taken and rest[taken:].strip() and text.rstrip().endswith(rest[taken:].strip()):
        return len(rest.rstrip())
    if not taken and rest.strip() and set(rest.strip()) <= set(":;,{") and text.rstrip().endswith(rest.strip()):
        return len(rest.rstrip())
    return taken


def opens_block(line: str, language_id: str) -> bool:
    """Whether the lines below it are indented more."""
    code = line.rstrip()
    if language_id == "python":
        code = re.sub(r"\s+#.*$", "", code)
    return code.endswith((":", "{", "(", "[", "=>", "->", " do", " then"))


def _unopened(text: str) -> str:
    """The closers in `text` that nothing in it opens, in order, less those that its own last openers still wait for.
    A quote that ends a string begun before the text is one."""
    opened: list[str] = []
    missing: list[str] = []
    quote = ""
    for index, character in enumerate(text):
        if quote:
            quote = "" if character == quote and text[index - 1 : index] != "\\" else quote
        elif character in "\"'`":
            if _ends_string(text, index, character):
                missing.append(character)
            else:
                quote = character
        elif character in _CLOSER_OF:
            opened.append(_CLOSER_OF[character])
        elif character in ")]}":
            if opened and opened[-1] == character:
                opened.pop()
            elif not opened:
                missing.append(character)
    for closer in [*opened, *quote]:
        if closer in missing:
            missing.remove(closer)
    return "".join(missing)


def _ends_string(text: str, index: int, quote: str) -> bool:
    """Whether this quote ends a string that was begun before the text: an odd number of them, none before it on the line."""
    line = text.split("\n", 1)[0]
    return index < len(line) and line[:index].count(quote) == 0 and line.count(quote) % 2 == 1


def _closes(line: str, text: str) -> bool:
    """Whether `line` only closes brackets that `text` has left open."""
    marks = line.strip()
    if not marks or marks[0] not in _OPENER_OF or any(character.isalnum() for character in marks):
        return False
    return text.count(_OPENER_OF[marks[0]]) > text.count(marks[0])


def _indented(line: str, tabs: bool, width: int) -> str:
    lead, code = indentation(line), line.lstrip(" \t")
    if tabs and " " in lead:
        columns = len(lead.expandtabs(width))
        return "\t" * (columns // width) + " " * (columns % width) + code
    if not tabs and "\t" in lead:
        return lead.replace("\t", " " * width) + code
    return line
