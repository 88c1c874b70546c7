"""Whether to suggest at all: the questions that are answered without a model."""

import re

from phi_server.postprocess import Site

MAX_LINE_CHARACTERS = 1000
"""On longer lines the code is not written by a person."""
_END_OF_LINE = re.compile(r"^\s*[)>}\]\"'`]*\s*[:{;,]?\s*$")


def reason_for_silence(site: Site, invoked: bool) -> str | None:
    """Why nothing is suggested here; None where something may be. Who asks explicitly (`invoked`) is told no less often."""
    if len(site.head) + len(site.rest) > MAX_LINE_CHARACTERS:
        return f"The line is longer than {MAX_LINE_CHARACTERS} characters."
    if invoked:
        return None
    if re.match(r"\w", site.rest) and re.search(r"\w$", site.head):
        return "The cursor is in the middle of a word."
    if not _END_OF_LINE.match(site.rest):
        return "The cursor is in the middle of a line."
    if not site.head.strip() and not any(line.strip() for line in site.before) and not any(line.strip() for line in site.after):
        return "The document is empty."
    return None
