"""What a prompt is: control tokens and plain text, some of which may be shortened. And how it is fitted, to the token.

The server writes a `Prompt`; the worker, which has the serving model's own tokenizer, turns it into token ids with `fit`.
Text is encoded with special-token parsing off, so plain text can never become a control token: a file that contains
`<|end|>` reaches the model as seven characters.

Not here: how roles are spelled (chat.py), what goes into a prompt (tasks.py), how a window is shortened (window.py).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from phi_prompts.window import Cut, Window, budgets, shorten

__all__ = ["Control", "Part", "Prompt", "PromptTooLong", "Window", "fit", "from_json", "to_json"]


@dataclass(frozen=True)
class Control:
    """One control token of the model, as the tokenizer spells it: `<|user|>`."""

    token: str


Part = str | Control | Window
Prompt = tuple[Part, ...]


class PromptTooLong(ValueError):
    """The parts that may not be shortened do not fit. The message is a sentence for the user."""


_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""What `rstrip` of an added token eats: Unicode's White_Space. `str.strip()` would take \\x1c to \\x1f as well."""


def fit(
    prompt: Prompt,
    encode: Callable[[str], Sequence[int]],
    control_id: Callable[[str], int],
    max_tokens: int,
    space_eaters: Collection[str] = (),
) -> list[int]:
    """The prompt's token ids, at most `max_tokens` of them; windows are shortened to make it so.

    The text between two control tokens is encoded as one, so the ids are those that the model's own tokenizer gives the whole prompt.
    `encode` turns plain text into ids with special tokens off; it is called with the same blocks of lines again and
    again, so give one that remembers. `space_eaters` are the control tokens behind which this tokenizer drops white space (`rstrip`
    in its tokenizer.json). Raises PromptTooLong when the text outside the windows alone is too long.
    """
    prompt = _with_last_line(prompt)
    windows = [part for part in prompt if isinstance(part, Window)]
    fixed = sum(1 if isinstance(part, Control) else len(encode(part)) for part in prompt if part and not isinstance(part, Window))
    shares = budgets(windows, max(0, max_tokens - fixed), encode)
    cuts = [shorten(window, budget, encode) for window, budget in zip(windows, shares, strict=True)]
    while True:
        ids = _splice(prompt, [cut.text for cut in cuts], encode, control_id, space_eaters)
        too_many = len(ids) - max_tokens
        if too_many <= 0:
            return ids
        longest = max((i for i, cut in enumerate(cuts) if cut.text), key=lambda i: cuts[i].tokens, default=None)
        if longest is None:
            raise PromptTooLong(
                f"The request takes {len(ids)} tokens without any code, and there is room for {max(0, max_tokens)}. "
                "Choose a model with a longer context, or allow longer prompts."
            )
        room = cuts[longest].tokens - too_many
        cuts[longest] = shorten(windows[longest], room, encode) if room > 0 else Cut("", 0)


def _with_last_line(prompt: Prompt) -> Prompt:
    """The prompt, with text that ends it on the window's last line made a part of that line: it must not count as fixed text, which
    would make the windows smaller with each key."""
    *others, window, text = prompt if len(prompt) > 1 else ("", "", "")
    if not isinstance(window, Window) or window.keep != "end" or not isinstance(text, str) or "\n" in text:
        return prompt
    *lines, last = window.lines or ("",)
    lines += [last, text] if last.endswith(("\n", "\r")) else [last + text]
    return (*others, replace(window, lines=tuple(lines)))


def _splice(
    prompt: Prompt,
    window_texts: Sequence[str],
    encode: Callable[[str], Sequence[int]],
    control_id: Callable[[str], int],
    space_eaters: Collection[str],
) -> list[int]:
    ids: list[int] = []
    texts = iter(window_texts)
    pending: list[str] = []
    eaten = False

    def flush() -> None:
        text = "".join(pending)
        pending.clear()
        if eaten:
            text = text.lstrip(_WHITE_SPACE)
        if text:
            ids.extend(encode(text))

    for part in prompt:
        if isinstance(part, Control):
            flush()
            ids.append(control_id(part.token))
            eaten = part.token in space_eaters
        else:
            pending.append(next(texts) if isinstance(part, Window) else part)
    flush()
    return ids


def to_json(prompt: Prompt) -> list[Any]:
    """The prompt as plain JSON values, for the pipe to the worker."""
    return [part if isinstance(part, str) else vars(part) for part in prompt]


def from_json(parts: list[Any]) -> Prompt:
    """The inverse of `to_json`."""
    return tuple(part if isinstance(part, str) else Control(**part) if "token" in part else _window(**part) for part in parts)


def _window(lines: list[str], **rest: Any) -> Window:
    return Window(tuple(lines), **rest)
