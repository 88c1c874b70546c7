"""The tokenizer of a model folder against the genuine Phi-3 tokenizer's reference ids, and the rules of sampling."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from phi_backends.errors import ModelError
from phi_backends.sampling import choose
from phi_backends.stream import AnswerStream
from phi_backends.tokenizer import FolderTokenizer

SHARED = Path(__file__).parents[2] / "shared" / "phi3"


@pytest.fixture(scope="module")
def phi3() -> FolderTokenizer:
    if not SHARED.is_dir():
        pytest.skip("the genuine Phi-3 tokenizer (../shared/phi3) is not here")
    return FolderTokenizer(SHARED / "tokenizer")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with a byte-level tokenizer of single bytes, the word `return` in steps, and two control tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["re", "tu", "rn", "retu", "return"]
    merges = [("r", "e"), ("t", "u"), ("r", "n"), ("re", "tu"), ("retu", "rn")]
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate([*letters, *words])}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|user|>", rstrip=True), AddedToken("<|end|>")])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_ids_are_those_of_the_reference(phi3: FolderTokenizer) -> None:
    vectors = [json.loads(line) for line in (SHARED / "tokenizer" / "vectors.jsonl").read_text(encoding="utf-8").splitlines()]
    plain = [vector for vector in vectors if not vector["add_special_tokens"] and "<|" not in vector["text"]]
    assert len(plain) > 40
    for vector in plain:
        assert phi3.encode(vector["text"]) == vector["ids"], vector["text"]


@pytest.mark.parametrize("text", ["<s>", "</s>", "<|end|>", "<|user|>", "<|endoftext|>", "<|placeholder1|>", "<unk>"])
def test_no_text_becomes_a_control_token(phi3: FolderTokenizer, text: str) -> None:
    ids = phi3.encode(f"a{text}  b")
    assert phi3.control_id(text) not in ids
    assert phi3.decode(ids) == f"a{text}  b"


def test_what_ends_an_answer_of_phi3(phi3: FolderTokenizer) -> None:
    assert {32000, 32001, 32007} <= phi3.stop_ids
    assert phi3.control_id("<|end|>") == 32007
    assert "<|assistant|>" in phi3.space_eaters
    assert "<|endoftext|>" not in phi3.space_eaters


def test_sentencepiece_continuations(phi3: FolderTokenizer) -> None:
    def texts(text: str) -> set[str]:
        before = phi3.encode("x")
        return {phi3.decode([*before, id])[1:] for id in phi3.continuations(text)}

    assert {"r", "re", "ret", "return", "returns"} <= texts("return")
    assert {" ", " re", " return"} <= texts(" return")
    assert all(" return".startswith(text) or text.startswith(" return") for text in texts(" return"))


def test_answers_keep_their_leading_space(phi3: FolderTokenizer) -> None:
    prompt, answer = phi3.encode("total ="), phi3.encode("total = 日本 + é🎉")[len(phi3.encode("total =")) :]
    stream = AnswerStream(phi3.decode, before=prompt)
    pieces = [stream.feed(id) for id in answer] + [stream.finish()]
    assert "".join(pieces) == " 日本 + é🎉"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_nothing_is_cut_off_or_filled_up(tiny: Path) -> None:
    tokenizer = FolderTokenizer(tiny)
    text = "return é " * 5
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("") == []
    assert len(tokenizer.encode("ab")) == 2


def test_what_a_caller_does_to_its_ids_stays_with_it(tiny: Path) -> None:
    tokenizer = FolderTokenizer(tiny)
    tokenizer.encode("return").clear()
    assert tokenizer.encode("return") == [tokenizer.continuations("return")[0]]


def test_half_a_surrogate_pair_is_encoded_as_a_replacement_character(tiny: Path) -> None:
    tokenizer = FolderTokenizer(tiny)
    assert tokenizer.decode(tokenizer.encode("a\ud83db")) == "a\N{REPLACEMENT CHARACTER}b"
    assert tokenizer.decode(tokenizer.encode("\ud83c\udf89")) == "🎉"


def test_byte_level_continuations(tiny: Path) -> None:
    tokenizer = FolderTokenizer(tiny)

    def texts(text: str) -> list[str]:
        return sorted(tokenizer.decode([id]) for id in tokenizer.continuations(text))

    assert texts("ret") == ["r", "re", "retu", "return"]
    assert texts("<|end|>") == ["<"]
    assert texts("") == []
    assert len(tokenizer.continuations("é")) == 1  # the first of its two bytes


@pytest.mark.parametrize(("declared", "expected"), [(3, {3}), ([3, 4], {3, 4}), (None, set())])
def test_the_folder_adds_its_own_ends(tiny: Path, declared: Any, expected: set[int]) -> None:
    (tiny / "generation_config.json").write_text(json.dumps({"eos_token_id": declared}))
    tokenizer = FolderTokenizer(tiny)
    assert tokenizer.stop_ids == expected | {tokenizer.control_id("<|user|>"), tokenizer.control_id("<|end|>")}
    assert tokenizer.space_eaters == {"<|user|>"}


def test_a_control_token_that_the_model_lacks_is_named(tiny: Path) -> None:
    with pytest.raises(ModelError, match=r"has no token <\|im_start\|>"):
        FolderTokenizer(tiny).control_id("<|im_start|>")


LOGITS = np.log(np.array([0.5, 0.3, 0.16, 0.04], np.float32))


def test_greedy_takes_the_likeliest_and_tells_its_probability() -> None:
    random = np.random.default_rng(0)
    for logits, allowed, id, probability in ((LOGITS, None, 0, 0.5), (LOGITS, [3, 2], 2, 0.16), (LOGITS + 1000, None, 0, 0.5)):
        chosen = choose(logits, 0.0, allowed, random)
        assert chosen[0] == id
        assert chosen[1] == pytest.approx(probability, rel=1e-3)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, [0.52, 0.3125, 0.1667, 0]), (0.5, [0.684, 0.246, 0.07, 0])])
def test_chance_follows_temperature_and_leaves_the_tail_out(temperature: float, expected: list[float]) -> None:
    random = np.random.default_rng(0)
    drawn = [choose(LOGITS, temperature, None, random)[0] for _ in range(5000)]
    assert [drawn.count(id) / 5000 for id in range(4)] == pytest.approx(expected, abs=0.03)
    assert {choose(LOGITS, temperature, [2, 3], random)[0] for _ in range(100)} <= {2, 3}
