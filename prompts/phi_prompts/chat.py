"""How the Phi models are spoken to: the one place where their control tokens are spelled.

Not here: what is said to them (tasks.py, templates/), token ids (the serving model's tokenizer has those).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from phi_prompts.prompt import Prompt, Window

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
    """How one family of models marks turns. In `opening` and `closing`, text between `<|` and `|>` is a control token."""

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


def render(chat_format: ChatFormat, messages: Sequence[Message], prefill: Content | None = None) -> Prompt:
    """The conversation, with the assistant's next turn opened. `prefill` is what the assistant has said of it already: the answer
    goes on from there. Empty system messages are left out."""
    raise NotImplementedError


def detect(chat_template: str, bos_token: str = "<s>") -> ChatFormat:
    """The format that a model's chat template (Jinja text, from its tokenizer_config.json or chat_template.jinja) writes.

    `bos_token` is what the template's variable of that name stands for. Raises UnknownChatFormat when the template is not one of
    the Phi models'.
    """
    raise NotImplementedError
