"""What a prompt is: control tokens and plain text, some of which may be shortened. And how it is fitted, to the token.

The server writes a `Prompt`; the worker, which has the serving model's own tokenizer, turns it into token ids with `fit`.
Text is encoded with special-token parsing off, so plain text can never become a control token: a file that contains
`<|end|>` reaches the model as seven characters.

Not here: how roles are spelled (chat.py), what goes into a prompt (tasks.py), how a window is shortened (window.py).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Control:
    """One control token of the model, as the tokenizer spells it: `<|user|>`."""

    token: str


@dataclass(frozen=True)
class Window:
    """Whole lines of a document that may be shortened from one side, in big steps, to fit the context.

    Lines are dropped in steps whose edges lie on a grid of the *document's* line numbers. A typed character or line
    therefore leaves the other edge of the window where it was, and the KV cache of everything before it stays valid.
    """

    lines: tuple[str, ...]
    """The lines with their line ends; the last may have none."""
    keep: Literal["start", "end"]
    """The side that is kept: `end` for the code before the cursor, `start` for the code after it."""
    share: float
    """The part of the tokens left for windows that this one may take; 0: only what the others do not need. Shares are relative to
    each other, and what a short window leaves of its share goes to the others."""
    first_line: int = 0
    """The document's line number (from 0) of `lines[0]`: places the grid."""


Part = str | Control | Window
Prompt = tuple[Part, ...]


class PromptTooLong(ValueError):
    """The parts that may not be shortened do not fit. The message is a sentence for the user."""


def fit(
    prompt: Prompt,
    encode: Callable[[str], Sequence[int]],
    control_id: Callable[[str], int],
    max_tokens: int,
    space_eaters: Collection[str] = (),
) -> list[int]:
    """The prompt's token ids, at most `max_tokens` of them; windows are shortened to make it so.

    `encode` turns plain text into ids with special tokens off; it is called with the same blocks of lines again and
    again, so give one that remembers. `space_eaters` are the control tokens behind which this tokenizer drops white space (`rstrip`
    in tokenizer.json; most of the published Phi-3 models have such). Raises PromptTooLong when the text outside the windows alone is
    too long.
    """
    raise NotImplementedError


def to_json(prompt: Prompt) -> list[Any]:
    """The prompt as plain JSON values, for the pipe to the worker."""
    raise NotImplementedError


def from_json(parts: list[Any]) -> Prompt:
    """The inverse of `to_json`."""
    raise NotImplementedError
