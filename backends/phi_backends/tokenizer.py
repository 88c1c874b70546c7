"""The tokenizer of a model folder: tokenizer.json, as Hugging Face writes it, behind the interface in engine.py.

Not here: how control tokens are spelled (phi_prompts.chat), ids back to text as they stream (stream.py).
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

from phi_backends.errors import EngineMissing, ModelError

try:
    import tokenizers
except ModuleNotFoundError as error:
    raise EngineMissing('The package tokenizers is not installed. Install it with: pip install "phi-ls[openvino]"') from error

_ENDS_OF_TURN = ("<|end|>", "<|endoftext|>", "<|assistant|>", "<|user|>", "<|system|>", "<|im_end|>", "<|im_start|>")
"""Control tokens behind which nothing of the answer follows. Model folders name only some of them, converted tokenizers often one."""
_REMEMBERED_TEXTS, _REMEMBERED_CHARACTERS = 1024, 2048
"""Each key has the prompt encoded anew, in blocks of lines that mostly stay the same. The longest texts change with each key."""
_CONTROL_TOKEN = re.compile(r"<[|/]?\w+\|?>")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class FolderTokenizer:
    """The Tokenizer of a folder. Raises ModelError when the folder holds no tokenizer.json, or one that cannot be read."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f'There is no tokenizer.json in "{folder}". Copy it from the model that was converted, or convert that again with '
                "`optimum-cli export openvino`, which writes it."
            )
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            for token in description["added_tokens"]:
                # Phi-3's </s> and the like are control tokens too, though not marked as special: not to be found in plain text either.
                token["special"] |= bool(_CONTROL_TOKEN.fullmatch(token["content"]))
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(description))
        except Exception as error:  # the package raises nothing more specific
            raise ModelError(f'"{path}" cannot be read ({error}). Fetch or convert the model again.') from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # "<|end|>" in a file is seven characters, not the end of the turn
        added = {token["content"]: token for token in description["added_tokens"]}
        self.space_eaters = frozenset(name for name, token in added.items() if token.get("rstrip"))
        self.stop_ids = frozenset({added[name]["id"] for name in _ENDS_OF_TURN if name in added} | _declared_ends(folder))
        self._ids_of: dict[bytes, list[int]] = {}
        for piece, id in _token_texts(self._tokenizer.get_vocab(with_added_tokens=False), added, description["decoder"]):
            self._ids_of.setdefault(piece, []).append(id)
        self._pieces = sorted(self._ids_of)
        self._encode_remembered = lru_cache(_REMEMBERED_TEXTS)(self._encode)

    def encode(self, text: str) -> list[int]:
        return list(self._encode_remembered(text) if len(text) <= _REMEMBERED_CHARACTERS else self._encode(text))

    def control_id(self, token: str) -> int:
        id = self._tokenizer.token_to_id(token)
        if id is None:
            raise ModelError(f"The model's tokenizer has no token {token}: it is not of the chat format that was taken for its own.")
        return int(id)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def continuations(self, text: str) -> list[int]:
        wanted = _utf8(text)
        if not wanted:
            return []
        longer = takewhile(lambda piece: piece.startswith(wanted), self._pieces[bisect_left(self._pieces, wanted) :])
        shorter = (wanted[:length] for length in range(1, len(wanted)))
        return [id for piece in (*longer, *shorter) for id in self._ids_of.get(piece, ())]

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(_utf8(text).decode(), add_special_tokens=False).ids)


def _utf8(text: str) -> bytes:
    """Editors can send half a surrogate pair, which no tokenizer takes: it becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _declared_ends(folder: Path) -> set[int]:
    """`eos_token_id` of the folder's JSON files: a number, a list of them, or absent. genai_config.json has it under `model`."""
    ends: set[int] = set()
    for name in ("generation_config.json", "config.json", "genai_config.json"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            declared = content.get("model", content).get("eos_token_id") if name.startswith("genai") else content.get("eos_token_id")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ModelError(f'"{folder / name}" cannot be read ({error}). Fetch or convert the model again.') from error
        ends |= {declared} if isinstance(declared, int) else set(declared or ())
    return ends


def _token_texts(vocabulary: dict[str, int], added: dict[str, Any], decoder: dict[str, Any]) -> Iterable[tuple[bytes, int]]:
    """(text, id) of the tokens that are text; as bytes, since a token may hold a part of a character."""
    byte_level = any(part["type"] == "ByteLevel" for part in (decoder, *decoder.get("decoders", ())))
    byte_of = _byte_level_alphabet() if byte_level else {}
    for token, id in vocabulary.items():
        if token in added:
            continue
        if byte_level:
            yield bytes(byte_of[character] for character in token), id
        elif byte := _BYTE_TOKEN.fullmatch(token):
            yield bytes([int(byte[1], 16)]), id
        else:
            yield token.replace("▁", " ").encode(), id


def _byte_level_alphabet() -> dict[str, int]:
    """The character that stands for each byte in GPT-2's vocabularies: printable ones for themselves, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}
