"""From what the model wrote to what may be inserted: small steps, each of which takes text away, in this order. Pure.

Phi-3 is a chat model without fill-in-the-middle tokens; it closes fences, explains itself, repeats the next lines and doubles brackets.
Text inside has line feeds as line ends; the last step writes the document's own.

Here: what does not fit at the cursor. Not here: the code in an answer (unwrap.py), its depth (indent.py), whether it parses (syntax.py),
when generating stops early (inline_completion.py).
"""

import re
from dataclasses import dataclass

from phi_server.documents import indentation
from phi_server.indent import add_missing_indent, cut_deep_indent, opens_block, same_indent_unit
from phi_server.site import Site
from phi_server.syntax import CLOSER_OF, OPENER_OF, cut_extra_closers, cut_unparsable
from phi_server.unwrap import code_in, cut_fence, cut_prose

__all__ = [
    "Cleaned", "Site", "clean", "cut_block", "cut_deep_indent", "cut_fence", "cut_loops", "cut_next_lines", "cut_previous_lines",
    "cut_prose", "cut_repeated_lines", "cut_rest_of_line", "in_place", "is_noise", "opens_block", "overwritten", "same_indent_unit",
    "strip_blanks", "without_last_line",
]  # fmt: skip

CLOSERS = ")]}>\"'`"
_LOOP = re.compile(r"(.{3,}?)\1{5,}$", re.DOTALL)
_TRIVIAL = re.compile(r"^[\s\W]*$|^(?:else|try|finally|end|fi|done|pass|break|continue|return)\W*$")


@dataclass(frozen=True)
class Cleaned:
    text: str
    overwrites: int
    """Characters right of the cursor that `text` brings itself, and that it takes the place of."""


def clean(text: str, site: Site) -> Cleaned | None:
    """What of the model's text can be inserted; None when there is nothing worth it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = in_place(text, site)
    for step in (
        cut_loops,
        cut_block,
        cut_repeated_lines,
        cut_next_lines,
        cut_previous_lines,
        cut_rest_of_line,
        strip_blanks,
        cut_unparsable,
        cut_extra_closers,
    ):
        text = step(text, site)
    if is_noise(text):
        return None
    return Cleaned(text.replace("\n", site.newline), overwritten(text, site.rest))


def in_place(text: str, site: Site) -> str:
    """The code of an answer, as deep as the document's. Of an unfinished answer too: more text changes only what comes behind."""
    for step in (code_in, same_indent_unit, cut_deep_indent, add_missing_indent):
        text = step(text, site)
    return text


def cut_loops(text: str, site: Site) -> str:
    """A piece that is repeated six times and more at the end goes, with the line that it begins on; blanks may repeat."""
    match = _LOOP.search(text)
    return without_last_line(text[: match.start()]) if match and match[1].strip() else text


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
        repeated = line == following[0] and not _TRIVIAL.match(line)  # deeper, the same words are another line
        rest = [later for later in whole[at:] if later.strip()]
        if repeated or (at > 0 and rest == following[: len(rest)]):
            return "\n".join(lines[:at])
    return text


def cut_previous_lines(text: str, site: Site) -> str:
    """The line above, said again as deep as it is, and the same for two or more lines at once."""
    lines = text.split("\n")
    whole = [line.rstrip() for line in (site.head + lines[0], *lines[1:]) if line.strip()]
    above = [line.rstrip() for line in site.before if line.strip()]
    if not whole or not above or _TRIVIAL.match(whole[0].strip()):
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


def is_noise(text: str) -> bool:
    """Nothing, or one or two marks that the editor types by itself."""
    return len(text.strip()) < 3 and not any(character.isalnum() for character in text)


def without_last_line(text: str) -> str:
    """For a last line that is known to be unfinished."""
    return text.rpartition("\n")[0]


def first_line(text: str) -> str:
    return text.split("\n", 1)[0]


def overwritten(text: str, rest: str) -> int:
    """How many characters right of the cursor `text` brings along: closers that it closes without having opened them, and the marks
    behind them that it ends with too."""
    closing = rest.strip()
    missing = _unopened(text)
    at_end = bool(closing) and text.rstrip().endswith(closing)
    if at_end and closing[0] == ">" and text.count(">") > text.count("<") and not any(map(str.isalnum, closing)):
        return len(rest.rstrip())
    taken = 0
    for character in rest if rest[:1].strip() or not at_end else closing:
        at = missing.find(character)
        if at < 0:
            break
        missing = missing[at + 1 :]
        taken += 1
    if taken and (at_end if not rest[:1].strip() else rest[taken:].strip() and text.rstrip().endswith(rest[taken:].strip())):
        return len(rest.rstrip())
    if not taken and closing and set(closing) <= set(":;,{") and at_end:
        return len(rest.rstrip())
    return taken if rest[:1].strip() else 0


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
        elif character in CLOSER_OF:
            opened.append(CLOSER_OF[character])
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
    if not marks or marks[0] not in OPENER_OF or any(character.isalnum() for character in marks):
        return False
    return text.count(OPENER_OF[marks[0]]) > text.count(marks[0])
