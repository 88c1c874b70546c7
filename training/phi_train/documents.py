"""The texts that the model sees, in exactly the formats in which the server asks: this module is the one place that spells them.

Pure text and chance. Not here: tokens and rows (`rows.py`).
"""

from __future__ import annotations

import ast
import random
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from phi_train.corpus import SourceFile

COMPLETE = "Complete {path}\n{suffix}"
EXPLAIN = "Explain this code:\n{code}"
DOCSTRING = "Write a docstring for this code:\n{code}"

GRID_LINES = 8
"""A code window begins at a multiple of this, as the server's does, so that its first tokens (and their cache) stay while one types."""
SUFFIX_LINES = 16
SUFFIX_CHARACTERS = 450
SUFFIX_ABSENT_SHARE = 0.4
LONG_SHARE = 0.6
"""Completions that fill the context; the others end at a random earlier place, as most prompts of a real session do."""
CHARACTERS_A_TOKEN = 3.4
PROMPT_TOKENS = 24

EXPLAINED_LINES = 60
EXPLAINED_CHARACTERS = 1200
SENTENCE_CHARACTERS = (15, 160)
DOCSTRING_CHARACTERS = 600


@dataclass(frozen=True)
class Document:
    """One question and its answer: `<|user|>\\n{question}<|end|>\\n<|assistant|>\\n{answer}<|end|>`."""

    question: str
    answer: str
    question_weight: float
    """What the loss on the question's tokens counts; 0 for completions, whose question is the code below the cursor."""
    answer_weight: float
    breaks: tuple[int, ...] = ()
    """Character offsets in the answer where a token must end, as if the user's cursor had been there."""


def text_of(document: Document) -> str:
    """As the model reads it, control tokens spelled out. `rows.encode` gives the same as token ids."""
    return f"<|user|>\n{document.question}<|end|>\n<|assistant|>\n{document.answer}<|end|>"


def shown_path(path: str) -> str:
    """`dir/file.py`: the last two components."""
    return "/".join(path.split("/")[-2:])


def completions(file: SourceFile, context: int, chance: random.Random) -> Iterator[Document]:
    """Windows that together cover the file once. `context`: tokens that a document may have."""
    lines = [line + "\n" for line in file.text.removesuffix("\n").split("\n")]
    path = shown_path(file.path)
    start = 0
    while start < len(lines):
        has_suffix = chance.random() >= SUFFIX_ABSENT_SHARE
        room = (context - PROMPT_TOKENS) * CHARACTERS_A_TOKEN - (SUFFIX_CHARACTERS * 0.8 if has_suffix else 0)
        if chance.random() >= LONG_SHARE:
            room *= chance.uniform(0.15, 1.0)
        end = window_end(lines, start, room)
        code = "".join(lines[start:end])
        suffix = suffix_after(lines, end) if has_suffix else ""
        if code.strip():
            yield Document(COMPLETE.format(path=path, suffix=suffix), code, 0.0, 1.0, cursors(code, chance))
        start = end


def window_end(lines: list[str], start: int, room: float) -> int:
    """The last line on the grid that keeps lines[start:end] within `room` characters; at least one step of the grid."""
    used = 0
    end = start
    while end < len(lines):
        used += sum(map(len, lines[end : end + GRID_LINES]))
        if used > room and end > start:
            break
        end += GRID_LINES
    return min(end, len(lines))


def suffix_after(lines: list[str], end: int) -> str:
    """The whole lines below: at most 16 lines and 450 characters."""
    kept: list[str] = []
    for line in lines[end : end + SUFFIX_LINES]:
        if sum(map(len, kept)) + len(line) > SUFFIX_CHARACTERS:
            break
        kept.append(line)
    return "".join(kept)


def cursors(code: str, chance: random.Random) -> tuple[int, ...]:
    """Two to four places where someone might stop typing: half of them inside words, the others after indentation or anywhere."""
    places: set[int] = set()
    for _ in range(chance.randint(2, 4)):
        at = chance.randrange(1, len(code)) if len(code) > 1 else 0
        kind = chance.random()
        if kind < 0.5:
            word = re.compile(r"\w{2,}").search(code, at)
            if word:
                at = chance.randrange(word.start() + 1, word.end())
        elif kind < 0.75:
            line = code.find("\n", at) + 1
            at = line + len(code[line:]) - len(code[line:].lstrip(" ")) if 0 < line < len(code) else at
        places.add(at)
    return tuple(sorted(place for place in places if 0 < place < len(code)))


def described(file: SourceFile, chance: random.Random) -> Iterator[Document]:
    """Functions and classes with a docstring: code without it as the question, the docstring or its first sentence as the answer."""
    lines = file.text.split("\n")
    for node in ast.walk(ast.parse(file.text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node)
        code = code_without_docstring(node, lines)
        if not docstring or not code:
            continue
        if chance.random() < 0.5:
            sentence = first_sentence(docstring)
            if sentence:
                yield Document(EXPLAIN.format(code=code), sentence, 0.5, 2.0)
        elif len(docstring) <= DOCSTRING_CHARACTERS:
            yield Document(DOCSTRING.format(code=code), docstring.strip(), 0.5, 2.0)


def code_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]) -> str:
    """The definition's whole lines, dedented; empty when it is long, trivial, or shares its docstring's lines with code."""
    first, last = node.body[0], node.end_lineno or node.lineno
    start = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    if (
        last - start > EXPLAINED_LINES
        or len(node.body) < 2
        or node.body[1].lineno <= (first.end_lineno or 0)
        or first.lineno <= node.lineno
    ):
        return ""
    kept = lines[start : first.lineno - 1] + lines[first.end_lineno or 0 : last]
    code = textwrap.dedent("\n".join(kept)).strip("\n") + "\n"
    return code if len(code) <= EXPLAINED_CHARACTERS else ""


def first_sentence(docstring: str) -> str:
    """The first sentence on one line; empty when it is no sentence in plain words."""
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?])\s", paragraph)[0]
    if not SENTENCE_CHARACTERS[0] <= len(sentence) <= SENTENCE_CHARACTERS[1] or re.search(r"::|>>>|:param|@|\bTODO\b", sentence):
        return ""
    return sentence if sentence[0].isalpha() else ""


def documents(files: list[SourceFile], context: int, described_share: float, chance: random.Random) -> Iterator[Document]:
    """Completions of every file, and described code until it makes up the share asked for (in characters)."""
    completed = answered = 0
    for file in files:
        for document in completions(file, context, chance):
            completed += len(document.answer)
            yield document
        if answered < described_share * (completed + answered):
            for document in described(file, chance):
                answered += len(document.question) + len(document.answer)
                yield document
