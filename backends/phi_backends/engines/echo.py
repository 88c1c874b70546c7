"""An engine without a model: for demos of an editor set-up, for tests and for bug reports. Deterministic and immediate.

It answers with the option `reply`, or else with the last line of the user's turn. Where the assistant's turn already ends with the
beginning of that answer, it goes on from there. Its tokens are characters, so everything around the model (budgets, caches,
streaming, cancelling) does the same work as with a real one.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from phi_backends.engine import EngineInfo, Options, Progress, Token
from phi_backends.errors import BadInput, EngineError

OPTIONS: dict[str, str | int | float] = {
    "reply": "", "ms_per_token": 0, "load_ms": 0, "context_tokens": 16384, "templates": "phi3", "record": "",
}  # fmt: skip
"""The options and their defaults. `ms_per_token` is for each token of prompt or answer; `reply` empty: the line as said above; `record`: a
file that all text which arrives here is appended to, for bug reports and tests."""

_CONTROLS = ("<|end|>", "<|assistant|>", "<|user|>", "<|system|>")
_FIRST_CONTROL = 0x110000
"""Control tokens have ids behind Unicode's."""


def load(model: str, device: str, options: Options, progress: Progress) -> "EchoEngine":
    """`model` and `device` are not used. Raises BadInput for an option that is not in OPTIONS."""
    if unknown := set(options) - set(OPTIONS):
        raise BadInput(f'The echo engine has no option "{min(unknown)}". Its options are {", ".join(OPTIONS)}.')
    chosen = {**OPTIONS, **options}
    time.sleep(float(chosen["load_ms"]) / 1000)
    engine = EchoEngine(str(chosen["reply"]), float(chosen["ms_per_token"]), int(chosen["context_tokens"]), str(chosen["templates"]))
    engine.record = str(chosen["record"])
    return engine


class EchoTokenizer:
    stop_ids = frozenset({_FIRST_CONTROL})
    space_eaters: frozenset[str] = frozenset()

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def control_id(self, token: str) -> int:
        return _FIRST_CONTROL + (_CONTROLS.index(token) if token in _CONTROLS else len(_CONTROLS))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(id) for id in ids if id < _FIRST_CONTROL)

    def continuations(self, text: str) -> list[int]:
        return [ord(text[0])] if text else []


class EchoEngine:
    can_choose = True
    record = ""

    def __init__(self, reply: str, ms_per_token: float, context_tokens: int, templates: str) -> None:
        self.tokenizer = EchoTokenizer()
        self.info = EngineInfo(
            engine="echo",
            model="echo",
            device="none",
            reason="the echo engine was asked for; it runs no model",
            context_tokens=context_tokens,
            chat_format="phi3",
            templates=templates,
        )
        self._reply = reply
        self._seconds_per_token = ms_per_token / 1000

    def open(self) -> "EchoSequence":
        return EchoSequence(self.tokenizer, self._reply, self._seconds_per_token, self.info.context_tokens, self.record)

    def close(self) -> None:
        pass


class EchoSequence:
    def __init__(self, tokenizer: EchoTokenizer, reply: str, seconds_per_token: float, context_tokens: int, record: str) -> None:
        self._record = record
        self._tokenizer = tokenizer
        self._reply = reply
        self._seconds_per_token = seconds_per_token
        self._context_tokens = context_tokens
        self._ids: list[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, ids: Sequence[int]) -> None:
        if len(self._ids) + len(ids) > self._context_tokens:
            raise EngineError(f"Prompt and answer are longer than the context of {self._context_tokens} tokens. Shorten the prompt.")
        time.sleep(len(ids) * self._seconds_per_token)
        if self._record:
            with Path(self._record).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(self._tokenizer.decode(ids))
        self._ids += ids

    def rewind(self, length: int) -> None:
        del self._ids[length:]

    def check(self, ids: Sequence[int]) -> list[Token]:
        tokens = []
        for id in ids:
            self.append([id])
            tokens.append(self.next())
        return tokens

    def fork(self, length: int) -> "EchoSequence":
        other = EchoSequence(self._tokenizer, self._reply, self._seconds_per_token, self._context_tokens, self._record)
        other._ids = self._ids[:length]
        return other

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        if allowed:
            return Token(allowed[0], 1.0)
        assistant = self._tokenizer.control_id("<|assistant|>")
        turn_start = len(self._ids) - self._ids[::-1].index(assistant) if assistant in self._ids else len(self._ids)
        turn = self._tokenizer.decode(self._ids[turn_start:])
        reply = self._reply or self._last_line(self._ids[:turn_start])
        said = next(n for n in range(min(len(reply), len(turn)), -1, -1) if turn.endswith(reply[:n]))
        return Token(ord(reply[said]) if said < len(reply) else min(self._tokenizer.stop_ids), 1.0)

    def close(self) -> None:
        self._ids.clear()

    def _last_line(self, ids: Sequence[int]) -> str:
        lines = [line for line in self._tokenizer.decode(ids).split("\n") if line.strip()]
        return lines[-1] if lines else "echo"
