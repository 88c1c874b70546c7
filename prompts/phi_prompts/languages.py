"""What prompts say about a programming language: its name, its test framework, the form of its documentation comments.

Not here: parsing, and anything a language server for that language knows better.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DocComment:
    """How a language documents a function or class."""

    opening: str
    """What the comment begins with, up to its first word."""
    closing: str
    """What ends it; empty when it ends with its last line."""
    line: str
    """What each line after the first begins with."""
    place: Literal["above", "inside"]
    """Above the declaration, or inside, as the body's first statement."""
    style: str
    """What it should be like, for the model: "a docstring in Google style"."""


@dataclass(frozen=True)
class Language:
    name: str
    """For people and models: "TypeScript"."""
    fence: str
    """The tag of a Markdown fence: `tsx`."""
    comment: str
    """What a line comment begins with; empty where there is none."""
    tests: str
    """The test framework to write for."""
    doc: DocComment | None = None


def language(language_id: str) -> Language:
    """What is known of an LSP language id; for an unknown one, its own name and no more."""
    raise NotImplementedError
