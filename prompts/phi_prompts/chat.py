"""How the Phi models are spoken to: the one place where their control tokens are spelled.

Not here: what is said to them (tasks.py, templates/), token ids (the serving model's tokenizer has those).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from phi_prompts.prompt import Control, Part, Prompt, Window

Role = Literal["system", "user", "assistant"]
Content = tuple[str | Window, ...]


class UnknownChatFormat(ValueError):
    """A chat template of another family of models. The message is a sentence for the user."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. Its text is plain: a control token that is spelled in it stays text."""

    role: Role
    content: Content


@dataclass(frozen=True)
class ChatFormat:
    """How one family of models marks turns. Control tokens stand in the text, as in `<|end|>`."""

    name: str
    opening: str
    """Begins a turn; `{role}` stands for its role."""
    closing: str
    stop_tokens: tuple[str, ...]
    """Tokens that end an answer, as far as the model's tokenizer has them."""
    bos: str = ""
    """The control token in front of it all; most Phi models were trained without."""
    has_system: bool = True
    """Whether there is a system turn. Where there is none, the system message goes in front of the first user message:
    the models' own templates drop it without a word."""
    preamble: str = ""
    """What every system message begins with."""


_CONTROL = re.compile(r"(<\|\w+\|>|<s>)")

_PHI3_STOPS = ("<|end|>", "<|endoftext|>", "<|assistant|>")
_PHI3 = ChatFormat("phi3", opening="<|{role}|>\n", closing="<|end|>\n", stop_tokens=_PHI3_STOPS)
_PHI4_MINI = ChatFormat("phi4-mini", opening="<|{role}|>", closing="<|end|>", stop_tokens=("<|end|>", "<|endoftext|>"))

FORMATS: Final[dict[str, ChatFormat]] = {
    chat_format.name: chat_format
    for chat_format in (
        _PHI3,  # Phi-3-mini since June 2024, Phi-3.5-mini, Phi-3-vision, and the model that ships with phi-ls
        replace(_PHI3, name="phi3-bos", bos="<s>"),
        replace(_PHI3, name="phi3-small", bos="<|endoftext|>", stop_tokens=("<|end|>", "<|endoftext|>")),
        replace(_PHI3, name="phi3-no-system", has_system=False),  # Phi-3-medium
        replace(_PHI3, name="phi3-no-system-bos", has_system=False, bos="<s>"),  # Phi-3-mini of April 2024
        _PHI4_MINI,
        replace(_PHI4_MINI, name="phi4-mini-reasoning", preamble="Your name is Phi, an AI math expert developed by Microsoft."),
        ChatFormat(
            "phi4",
            opening="<|im_start|>{role}<|im_sep|>",
            closing="<|im_end|>",
            stop_tokens=("<|im_end|>", "<|endoftext|>"),
        ),
    )
}


def render(chat_format: ChatFormat, messages: Sequence[Message], prefill: Content = ()) -> Prompt:
    """The conversation, with the assistant's next turn opened. `prefill` is what the assistant has said of it already: the answer
    goes on from there. Empty system messages are left out."""
    prompt: list[Part] = _spelled(chat_format.bos)
    for message in _system_placed(chat_format, messages):
        prompt += _opening(chat_format, message.role)
        prompt += message.content
        prompt += _spelled(chat_format.closing)
    prompt += _opening(chat_format, "assistant")
    prompt += prefill
    return _joined(prompt)


def continued(chat_format: ChatFormat, prompt: Prompt, answer: str, question: str) -> Prompt:
    """A prompt and what was answered, with another question. It begins as the earlier one did, so its KV cache stays valid."""
    closing, user, assistant = _spelled(chat_format.closing), _opening(chat_format, "user"), _opening(chat_format, "assistant")
    return _joined([*prompt, answer, *closing, *user, question, *closing, *assistant])


def _system_placed(chat_format: ChatFormat, messages: Sequence[Message]) -> list[Message]:
    """The messages, with what the system says where this format has a place for it."""
    messages = [message for message in messages if message.role != "system" or any(message.content)]
    system = [message.content for message in messages if message.role == "system"]
    others = [message for message in messages if message.role != "system"]
    if chat_format.preamble:
        return [Message("system", (chat_format.preamble, *(part for content in system for part in (" ", *content)))), *others]
    if chat_format.has_system or not system:
        return messages
    lines = tuple(part for content in system for part in (*content, "\n"))
    first = next((i for i, message in enumerate(others) if message.role == "user"), None)
    if first is None:
        return [Message("user", lines[:-1]), *others]
    others[first] = Message("user", (*lines, *others[first].content))
    return others


def _opening(chat_format: ChatFormat, role: Role) -> list[Part]:
    return _spelled(chat_format.opening.replace("{role}", role))


def _spelled(text: str) -> list[Part]:
    """The control tokens and the text of a format's own spelling; never used on what others wrote."""
    return [Control(piece) if _CONTROL.fullmatch(piece) else piece for piece in _CONTROL.split(text) if piece]


def _joined(parts: Sequence[Part]) -> Prompt:
    """The same, with neighbouring texts made one."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        elif part:
            result.append(part)
    return tuple(result)


def detect(chat_template: str, bos_token: str = "<s>") -> ChatFormat:
    """The format that a model's chat template (Jinja text, from its tokenizer_config.json or chat_template.jinja) writes.

    `bos_token` is what the template's variable of that name stands for. Raises UnknownChatFormat when the template is not one of
    the Phi models'.
    """
    if "<|im_sep|>" in chat_template:
        return FORMATS["phi4"]
    if "<|end|>" not in chat_template:
        what = "The chat template of this model is not one of the Phi models'." if chat_template else "This model has no chat template."
        raise UnknownChatFormat(f"{what} Choose a model of the Phi-3 or Phi-4 family.")
    if "Your name is Phi" in chat_template:
        return FORMATS["phi4-mini-reasoning"]
    if not _NEW_LINE_AFTER_END.search(chat_template):
        return FORMATS["phi4-mini"]
    bos = bos_token if "bos_token" in chat_template else ""
    has_system = bool(_ANY_ROLE.search(chat_template))
    for chat_format in FORMATS.values():
        if (chat_format.closing, chat_format.bos, chat_format.has_system) == (_PHI3.closing, bos, has_system):
            return chat_format
    raise UnknownChatFormat(f'The chat template of this model begins with "{bos}", as no known Phi model does. Choose another model.')


_NEW_LINE_AFTER_END = re.compile(r"""<\|end\|>('\s*\+\s*'|"\s*\+\s*")?(\n|\\n)""")
"""In the same string of the template or in one added to it; the new line may be written as an escape."""
_ANY_ROLE = re.compile(r"""['"]system['"]|message(\.role|\[['"]role['"]\])\s*\+""")
"""The template names the system role, or writes whatever role a message has."""
