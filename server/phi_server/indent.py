"""How deep the lines of a suggestion go: steps of post-processing that change white space at the start of lines and nothing else. Pure."""

import re
from math import gcd

from phi_server.documents import indent_unit, indentation
from phi_server.site import Site

_OPENERS = (":", "{", "(", "[", "=>", "->", " do", " then")


def opens_block(line: str, language_id: str) -> bool:
    """Whether the lines below it are indented more."""
    code = line.rstrip()
    if language_id == "python":
        code = re.sub(r"\s+#.*$", "", code)
    return code.endswith(_OPENERS)


def cut_deep_indent(text: str, site: Site) -> str:
    """On a blank line: the cursor's own indentation said again, and indentation that the line above gives no reason for."""
    if site.head.strip() or text[:1] not in (" ", "\t"):
        return text
    too_shallow = opens_block(site.above, site.language_id) and len(site.head) <= len(indentation(site.above))
    if site.head and text.startswith(site.head) and not too_shallow:
        first, *others = text.split("\n")
        aligned = any(first.count(opener) > first.count(closer) for opener, closer in ("()", "[]", "{}"))
        if not aligned and all(len(indentation(line)) >= 2 * len(site.head) for line in others if line.strip()):
            others = [line[len(site.head) :] for line in others]
        text = "\n".join([first[len(site.head) :], *others])
    if text[:1] not in (" ", "\t") or site.above.rstrip().endswith((",", "(", "[", "\\")):
        return text
    deepest = len(indentation(site.above)) + (len(indent_unit(site.before)) if opens_block(site.above, site.language_id) else 0)
    added = len(indentation(text))
    excess = added - max(0, min(added, deepest - len(site.head)))
    return "\n".join(line[min(excess, len(indentation(line))) :] for line in text.split("\n"))


def add_missing_indent(text: str, site: Site) -> str:
    """Lines that a model wrote as if they began at column 0, though the block that they belong to does not.

    Either all of them, below a line that opens a block; or all behind the first, which itself opens one.
    """
    lines = text.split("\n")
    if not text.strip() or site.language_id in ("markdown", "plaintext"):
        return text
    if not site.head.strip() and lines[0].strip() and opens_block(site.above, site.language_id) and not _closes(lines[0]):
        wanted = len(indentation(site.above)) + len(indent_unit(site.before))
        lead = site.head + indentation(lines[0])
        if len(lead) <= len(indentation(site.above)) < wanted:
            missing = (indentation(site.above) + indent_unit((*site.before, site.above)))[len(lead) :]
            return "\n".join(missing + line if line.strip() else line for line in lines)
    whole = site.head + lines[0]
    own = indentation(whole)
    following = next((line for line in lines[1:] if line.strip()), "")
    if not own or not following or not opens_block(whole, site.language_id) or _closes(following):
        return text
    if len(indentation(following)) > len(own) or not indentation(following):
        return text  # as it should be, or no block at all
    return "\n".join([lines[0], *(own + line if line.strip() else line for line in lines[1:])])


def shifted(lines: list[str], columns: int, sample: str = "") -> list[str]:
    """The lines moved by so many characters: to the right with those of `sample`, to the left as far as they have white space."""
    if columns > 0:
        lead = (sample[:columns] if len(sample) >= columns else sample + (sample[:1] or " ") * columns)[:columns]
        return [lead + line if line.strip() else line for line in lines]
    return [line[min(-columns, len(indentation(line))) :] for line in lines]


def same_indent_unit(text: str, site: Site, whole_lines: bool = False) -> str:
    """Tabs where the document has tabs, blanks where it has blanks. On the first line only where it begins the document's line."""
    sample = (*site.before[-200:], site.head, *site.after[:200])
    known = any(indentation(line) for line in sample if line.strip()) or bool(indentation(site.head))
    if not known:
        return text
    unit = indent_unit(sample) if any(line.strip() and indentation(line) for line in sample) else indentation(site.head)[:1] * 4
    tabs = unit[:1] == "\t"
    lines = text.split("\n")
    start = 0 if whole_lines or not site.head else 1
    width = _width(lines) if tabs else len(unit)
    return "\n".join(_indented(line, tabs, width) if at >= start else line for at, line in enumerate(lines))


def _width(lines: list[str]) -> int:
    """How many blanks the text takes for a step: what all its lines are multiples of, 2 or 4."""
    common = gcd(*(len(indentation(line)) for line in lines if line[:1] == " "))
    return 2 if common % 4 else 4


def _closes(line: str) -> bool:
    return line.lstrip()[:1] in (")", "]", "}") or line.split()[0] in ("end", "fi", "done", "esac")


def _indented(line: str, tabs: bool, width: int) -> str:
    lead, code = indentation(line), line.lstrip(" \t")
    if tabs and " " in lead:
        columns = len(lead.expandtabs(width))
        return "\t" * (columns // width) + " " * (columns % width) + code
    if not tabs and "\t" in lead:
        return lead.replace("\t", " " * width) + code
    return line
