"""The code in a chat model's answer: without greeting, fence, control tokens, and without the code that it was shown already. Pure.

Told to go on with code, a chat model at times answers: it introduces, quotes what is there, fences and comments. These steps take
the code out, so that it goes on from the cursor. Not here: whether that code fits (postprocess.py).
"""

import re

from phi_server.documents import indentation
from phi_server.indent import opens_block, same_indent_unit, shifted
from phi_server.site import Site

PROSE = re.compile(
    r"^(?:Here(?:'s| is| are)\b|Sure\b[,!.]|Certainly\b[,!.]|Of course\b[,!.]|Absolutely\b[,!.]|Explanation\b|Note(?: that)?\b|"
    r"In this\b|Output:|\*\*|###? |I'm sorry\b|I am sorry\b|Sorry, |I apologi[sz]e\b|As an AI\b|I can(?:'t|not)\b|"
    r"To complete (?:the|this)\b|"
    r"You can (?:complete|use|also)\b|Please (?:note|provide|let)\b|Let me know\b|The completed\b|Completed? code\b|Answer:|Solution:|"
    r"This (?:code|function|method|class|completes|completion|implementation|line|will)\b|"
    r"The (?:above|code|function|following|method|missing|next|rest|given|provided)\b)"
)
PROSE_LANGUAGES = frozenset({"markdown", "plaintext", "latex", "restructuredtext", "asciidoc"})
_CONTROL = re.compile(r"<\|(?:end|assistant|user|system|endoftext|im_end|im_start|im_sep|fim_\w+)\|>|</s>|<(?:EOT|eos)>")
_MARK = re.compile(r"<(?:cursor|CURSOR|fill|FILL|FILL_ME|fim_middle|fim_suffix)>|\[(?:CURSOR|cursor|FILL|BLANK)\]|<\|cursor\|>")
_OPENING = re.compile(r"\A\s*(`{3,}|~{3,})([\w+#.-]*)[ \t]*(?:\n|\Z)")
_CLOSING = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_CLOSING_OF_PROSE = re.compile(r"^[ \t]*````", re.MULTILINE)
"""Markdown has fences of its own; prompts put longer ones round it."""
_PLACEHOLDER = re.compile(
    r"^\s*(?:#|//|/\*|--|<!--|;)+\s*(?:(?:\.\.\.|…)|(?:the )?(?:rest|remainder) of (?:the|your)\b|existing code\b|"
    r"(?:(?:add|insert|write|put) )?(?:your|the) (?:code|implementation|logic)(?: goes)? here|implementation goes here|"
    r"\(?(?:other|remaining) (?:code|methods|functions)\b)",
    re.IGNORECASE,
)
BACKTICKS = frozenset(
    {"javascript", "javascriptreact", "typescript", "typescriptreact", "go", "shellscript", "perl", "ruby", "php", "r", "sql"}
)
"""Languages in which a backtick is code."""
_SENTENCE = re.compile(r"[\w'’-]+(?:[,.]? [\w'’-]+){2,}[,.:]?")
_STATEMENT = re.compile(r"(?:async|await|def|class|from|import|return|public|private|static|func|fn|let|const|var|if|for|while|with)\b")
_LEAST_ECHO = 3
"""Characters of a head that are told from chance."""
_ABOVE = 60


def code_in(text: str, site: Site) -> str:
    """The code, from the cursor on; empty while the answer has only introduced it."""
    text = cut_control(text, site)
    text, fenced = unfenced(text, site)
    for step in (cut_fence, cut_prose, cut_placeholder, unquoted):
        text = step(text, site)
    return without_echo(text, site, fenced)


def is_introduction(text: str, site: Site) -> bool:
    """Whether the code is still to come: the answer has greeted, opened a fence, or said again what is above the cursor."""
    if site.language_id in PROSE_LANGUAGES:
        return False
    inside, fenced = unfenced(text, site)
    if fenced:
        return not without_echo(inside, site, fenced).strip() or _is_above(inside, site)
    if PROSE.match(text.lstrip()) and not _CLOSING.search(text):
        first, _, others = text.lstrip().partition("\n")
        if not _in_words(site):
            return text.count("\n") <= 3
        return first.rstrip().endswith((":", "!", ".")) and not others.strip(" \n`~") and text.count("\n") <= 3
    return bool(text.strip()) and (not without_echo(text, site, False).strip() or _is_above(text, site, from_start=True))


def is_over(text: str, site: Site) -> bool:
    """Whether the model has closed the fence behind its code, or ended its turn."""
    inside, _ = unfenced(text, site)
    return len(cut_control(text, site)) < len(_MARK.sub("", text)) or bool(
        _closing(site).search(inside) and cut_fence(inside, site).strip()
    )


def cut_control(text: str, site: Site) -> str:
    """Control tokens that arrive as text end the answer; marks of the cursor vanish. Unless the document itself is about them."""
    around = "".join((*site.before[-_ABOVE:], site.head, site.rest, *site.after[:_ABOVE]))
    if "<|" not in around and "</s>" not in around and (match := _CONTROL.search(text)):
        text = text[: match.start()]
    return text if _MARK.search(around) else _MARK.sub("", text)


def unfenced(text: str, site: Site) -> tuple[str, bool]:
    """What is inside the fence that the answer opens, at once or behind an introduction; and whether there is one.

    A fence without a language at the very start is taken for the closing of the code, unless code follows.
    """
    match = _OPENING.match(text)
    if match is None and site.language_id not in PROSE_LANGUAGES and PROSE.match(text.lstrip()):
        lead, fence, rest = _split_at_fence(text)
        if fence and lead.count("\n") <= 4:
            match, text = _OPENING.match(fence + rest), fence + rest
    if match is None or (site.language_id in PROSE_LANGUAGES and len(match[1]) < 4):
        return text, False
    inside = text[match.end() :]
    return ("", True) if PROSE.match(inside.lstrip()) else (inside, True)


def cut_fence(text: str, site: Site) -> str:
    """A fence ends the code."""
    match = _closing(site).search(text)
    if match is None:
        ends = site.language_id not in PROSE_LANGUAGES and text.count("```") == 1 and text.rstrip().endswith("```")
        return text.rstrip().removesuffix("```") if ends and "```" not in site.head else text
    return text[: match.start()]


def cut_prose(text: str, site: Site) -> str:
    """Lines from the first at column 0 that speaks to the reader. A first line that goes on from code is none."""
    if site.language_id in PROSE_LANGUAGES:
        return text
    lines = text.split("\n")
    start = 1 if _in_words(site) else 0
    cut = next((at for at, line in enumerate(lines) if at >= start and PROSE.match(line)), len(lines))
    return "\n".join(lines[:cut])


def cut_placeholder(text: str, site: Site) -> str:
    """Lines from the first that stands for code instead of being it: `# rest of the code`."""
    lines = text.split("\n")
    return "\n".join(lines[: next((at for at, line in enumerate(lines) if _PLACEHOLDER.match(line)), len(lines))])


def unquoted(text: str, site: Site) -> str:
    """A line in a pair of backticks, where the language has no use for them."""
    first, _, others = text.partition("\n")
    code = first.strip()
    if site.language_id in BACKTICKS | PROSE_LANGUAGES or "`" in site.head or others.strip():
        return text
    if len(code) > 2 and code[0] == code[-1] == "`" and "`" not in code[1:-1]:
        return code[1:-1]
    return text


def without_echo(text: str, site: Site, fenced: bool) -> str:
    """The text without what is before the cursor already and is said again: lines above, the cursor's line up to the cursor.

    Then the first line goes on at the cursor, and the others move with it, should the model have begun at another column.
    """
    lines = text.split("\n")
    start = next((at for at, line in enumerate(lines) if line.strip()), len(lines))
    end, line_above = _echo_end(lines, start, site, exact=not (fenced or site.head))
    echoed = end > start
    head = site.head.strip()
    if end == len(lines) or not "".join(lines[end:]).strip():
        return "" if echoed else text
    if not (echoed or fenced) and not _says_head(lines[start], site, fenced):
        return text
    between = next(at for at in range(end, len(lines)) if lines[at].strip())
    if site.head.strip() and not _says_head(lines[between], site, fenced or echoed):
        return text if not fenced else "\n".join(lines[start:])  # it goes on from the cursor, though in a fence
    tidy = same_indent_unit("\n".join(lines[between:]), site, whole_lines=True).split("\n")
    if not head and not site.head and echoed:
        move = len(indentation(line_above)) - len(indentation(same_indent_unit(lines[end - 1], site, whole_lines=True)))
        return "\n".join(shifted(tidy, move, indentation(line_above)))
    if not site.head:
        return "\n".join(tidy)
    move = len(indentation(site.head)) - len(indentation(tidy[0]))
    if echoed:  # the echo tells where the model's column 0 is
        move = len(indentation(line_above)) - len(indentation(same_indent_unit(lines[end - 1], site, whole_lines=True)))
    elif (
        not head
        and move > 0
        and not indentation(tidy[0])
        and all(len(indentation(line)) >= len(site.head) for line in tidy[1:] if line.strip())
    ):
        move = 0  # the first line goes on from the cursor, the others stand where they belong
    first = shifted([tidy[0]], move, indentation(site.head))[0]
    if head:
        first = first.lstrip()[len(head) :]
        first = first[1:] if site.head[-1:] in " \t" and first[:1] in " \t" else first
    else:
        first = first[len(site.head) :] if first.startswith(site.head) else first.lstrip()
    return "\n".join([first, *shifted(tidy[1:], move, indentation(site.head))])


def _echo_end(lines: list[str], start: int, site: Site, exact: bool) -> tuple[int, str]:
    """The index behind the lines that are the last ones above the cursor, said again, and the last such line; `start` where none are.
    `exact`: as deep as they are."""
    above = [line for line in site.before[-_ABOVE:] if line.strip()]
    said = [(at, line.strip()) for at, line in enumerate(lines) if at >= start and line.strip()]
    if not said:
        return start, ""
    for first in range(len(above)):
        tail = above[first:]
        if len("".join(tail).strip()) < _LEAST_ECHO or len(tail) > len(said):
            continue
        if exact and lines[said[0][0]].rstrip() != tail[0].rstrip():
            continue
        if all(mine.strip() == theirs for mine, (_, theirs) in zip(tail, said, strict=False)):
            return said[len(tail) - 1][0] + 1, tail[-1]
    return start, ""


def _is_above(text: str, site: Site, from_start: bool = False) -> bool:
    """Whether all whole lines of the text are above the cursor, one after the other: an echo that goes on. `from_start`: only from
    where an echo would begin, with the first line or one that opens a block."""
    said = [line.strip() for line in text.split("\n")[:-1] if line.strip()]
    above = [line.strip() for line in site.before[-_ABOVE:] if line.strip()]
    starts = [at for at, line in enumerate(above) if not from_start or at == 0 or opens_block(line, site.language_id)]
    return bool(said) and any(above[at : at + len(said)] == said for at in starts)


def _in_words(site: Site) -> bool:
    """Whether the cursor's line may be gone on with by words: it is a comment, a text, or reads as a sentence."""
    head = site.head.strip()
    if head[:1] in ("#", "*", "-") or head.startswith(("//", "/*", "<!--")) or any(head.count(quote) % 2 for quote in "\"'`"):
        return True
    return bool(_SENTENCE.fullmatch(head)) and not _STATEMENT.match(head)


def _says_head(line: str, site: Site, fenced: bool) -> bool:
    """Whether the line begins with the cursor's line up to the cursor: as it is, indented; or its code, if that is no chance."""
    head = site.head.strip()
    if not head or not line.lstrip().startswith(head):
        return False
    if site.head[:1] in " \t" and line.startswith(site.head):
        return True
    ends_word = not re.match(r"\w\w", head[-1] + line.lstrip()[len(head) : len(head) + 1])
    return any(map(str.isalnum, head)) and (len(head) >= _LEAST_ECHO or (fenced and ends_word))


def _closing(site: Site) -> re.Pattern[str]:
    return _CLOSING_OF_PROSE if site.language_id in PROSE_LANGUAGES else _CLOSING


def _split_at_fence(text: str) -> tuple[str, str, str]:
    match = re.search(r"^[ \t]*(?:`{3,}|~{3,})[\w+#.-]*[ \t]*(?:\n|\Z)", text, re.MULTILINE)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")
