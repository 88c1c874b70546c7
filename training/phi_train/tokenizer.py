"""The tokenizer: byte-level BPE with GPT-2's pattern, in the one form that every serving runtime reads alike.

The pattern is not ours to improve: with a custom one ONNX Runtime GenAI gave silently wrong ids on 30 of 31 texts.
"""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from phi_train.corpus import SourceFile, fraction, read_jsonl

ENDOFTEXT, SYSTEM, USER, ASSISTANT, END = SPECIAL_TOKENS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

SAMPLE_CHARACTERS = 40_000_000
"""More text than this changed no merge that matters, and costs the trainer memory."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


def sample(files: list[SourceFile]) -> Iterator[str]:
    characters = 0
    for file in sorted(files, key=lambda f: fraction(f.package + "/" + f.path)):
        if characters > SAMPLE_CHARACTERS:
            return
        characters += len(file.text)
        yield file.text


def learn(texts: Iterator[str], vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    # rstrip=False, or the indentation that follows <|assistant|> would be eaten.
    special = [AddedToken(token, special=True, normalized=False, lstrip=False, rstrip=False) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=32,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(f"The text gave only {tokenizer.get_vocab_size()} of {vocabulary} tokens; give more text or ask for fewer.")
    return tokenizer


def load(work: Path) -> Tokenizer:
    return Tokenizer.from_file(str(work / "tokenizer.json"))


def byte_lengths(tokenizer: Tokenizer) -> list[int]:
    """How many bytes of text each token stands for; 0 for special ones. In byte-level BPE one character of a token is one byte."""
    special = {tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    return [0 if i in special else len(tokenizer.id_to_token(i)) for i in range(tokenizer.get_vocab_size())]


def config(context: int) -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": END,
        "pad_token": ENDOFTEXT,
        "unk_token": None,
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT],
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "chat_template": CHAT_TEMPLATE,
    }


def run(work: Path, vocabulary: int, context: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json into `work`."""
    files = read_jsonl(work / "train.jsonl")
    tokenizer = learn(sample(files), vocabulary)
    tokenizer.save(str(work / "tokenizer.json"))
    (work / "tokenizer_config.json").write_text(json.dumps(config(context), indent=1) + "\n", encoding="utf-8")
    text = "".join(f.text for f in read_jsonl(work / "held_out.jsonl")[:100])
    print(f"tokenizer: {vocabulary} tokens, {len(text.encode()) / len(tokenizer.encode(text).ids):.2f} bytes a token on held-out code")
