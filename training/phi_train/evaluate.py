"""What the exported model is worth, measured on the folder that ships, through OpenVINO, on packages it never saw.

Here are bits per byte, next-line exact match with its baseline, the gate's table and samples. Not here: prose about them (`card.py`).
"""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import io
import json
import platform
import random
import re
import statistics
import time
import tokenize
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from phi_train.corpus import SourceFile, fraction, read_jsonl
from phi_train.documents import COMPLETE, GRID_LINES, described, shown_path, suffix_after
from phi_train.rows import encode, unbroken
from phi_train.tokenizer import ASSISTANT, END, ENDOFTEXT, USER, byte_lengths

LINE_TOKENS = 48
PROMPT_TOKENS = 900
"""Of the model's 1,024 positions: leaves room for the line."""
MATCH_CHARACTERS = 10
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
FILE_SHARE_CHARACTERS = 4_000
"""One cursor of a kind for each so many characters of a file, so that long files count more, but not alone."""


@dataclass(frozen=True)
class Cursor:
    package: str
    path: str
    kind: str
    """`line start` (after the indentation), `mid-line` (after a word or an operator) or `inside a word`."""
    before: str
    after: str
    """The lines below the cursor's; what stands right of the cursor is the target."""
    target: str


@dataclass
class Answer:
    cursor: Cursor
    line: str = ""
    probability: float = 0.0
    milliseconds: float = 0.0
    plain_line: str = ""
    copied_line: str = ""
    right: bool = field(default=False)


class Runner:
    """The exported model on the CPU, one sequence at a time, with its key-value state inside."""

    def __init__(self, folder: Path) -> None:
        import openvino

        core = openvino.Core()
        self.request: Any = core.compile_model(core.read_model(folder / "openvino_model.xml"), "CPU").create_infer_request()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.length = 0

    def forget(self) -> None:
        self.request.reset_state()
        self.length = 0

    def feed(self, ids: list[int]) -> np.ndarray:
        """Appends tokens; gives the logits after each, (len(ids), vocabulary)."""
        start, self.length = self.length, self.length + len(ids)
        inputs = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, self.length), dtype=np.int64),
            "position_ids": np.arange(start, self.length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        self.request.infer(inputs)
        logits: np.ndarray = self.request.get_tensor("logits").data[0].astype(np.float32)
        return logits


def code_lines(text: str) -> set[int]:
    """Numbers (from 0) of the lines where code stands: no blank lines, comments or insides of strings."""
    found: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.NAME, tokenize.OP):
                found.add(token.start[0] - 1)
    except (tokenize.TokenError, SyntaxError):
        return set()
    return found


def cursors(files: list[SourceFile], count: int, chance: random.Random) -> list[Cursor]:
    """`count` of each kind, spread over all held-out packages."""
    kinds = ("line start", "mid-line", "inside a word")
    chosen: dict[str, list[Cursor]] = {kind: [] for kind in kinds}
    order = [file for file in files for _ in range(1 + len(file.text) // FILE_SHARE_CHARACTERS)]
    chance.shuffle(order)
    for file in order:
        lines = [line + "\n" for line in file.text.removesuffix("\n").split("\n")]
        numbers = sorted(code_lines(file.text) - {0, 1, 2})
        for kind in kinds:
            if len(chosen[kind]) < count and numbers:
                cursor = cursor_at(file, lines, chance.choice(numbers), kind, chance)
                if cursor:
                    chosen[kind].append(cursor)
    return [cursor for kind in kinds for cursor in chosen[kind]]


def cursor_at(file: SourceFile, lines: list[str], number: int, kind: str, chance: random.Random) -> Cursor | None:
    line = lines[number].rstrip()
    indentation = len(line) - len(line.lstrip())
    if kind == "line start":
        places = [indentation]
    elif kind == "mid-line":
        places = [m.end() for m in re.finditer(r"\w+|[^\w\s]", line)]
    else:
        places = [at for m in re.finditer(r"\w{3,}", line) for at in range(m.start() + 1, m.end())]
    places = [at for at in places if len(line[at:].strip()) >= 2]
    if not places:
        return None
    at = chance.choice(places)
    before = "".join(lines[:number]) + line[:at]
    return Cursor(file.package, file.path, kind, before, suffix_after(lines, number + 1), line[at:])


def prompt(tokenizer: Tokenizer, path: str, before: str, after: str) -> list[int]:
    """As the server asks: the window starts on the grid and holds as much of the file as fits."""
    tokenizer.encode_special_tokens = True
    user, assistant, end = (tokenizer.token_to_id(token) for token in (USER, ASSISTANT, END))
    question = COMPLETE.format(path=shown_path(path), suffix=after)
    head = [user, *tokenizer.encode("\n" + question).ids, end, *tokenizer.encode("\n").ids, assistant]
    lines = before.split("\n")
    first = max(0, len(lines) - 1 - PROMPT_TOKENS // 3) // GRID_LINES * GRID_LINES
    while True:
        body = tokenizer.encode("\n" + "\n".join(lines[first:])).ids
        if len(head) + len(body) <= PROMPT_TOKENS or first + GRID_LINES >= len(lines):
            return [*head, *body[-(PROMPT_TOKENS - len(head)) :]]
        first += GRID_LINES


@cache
def _token_bytes(tokenizer_path: Path) -> tuple[bytes, ...]:
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    to_byte = {character: byte for byte, character in bytes_to_unicode().items()}
    special = {tokenizer.token_to_id(t) for t in (USER, ASSISTANT, END, ENDOFTEXT, "<|system|>")}
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return tuple(b"" if i in special else bytes(to_byte[c] for c in token) for i, token in enumerate(tokens))


class Completer:
    """Greedy completion of a line. With `healing`, it backs up to the start of the word and forces what had been typed of it."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.runner = runner
        self.bytes = _token_bytes(folder / "tokenizer.json")
        self.allowed: dict[bytes, np.ndarray] = {}

    def permitted(self, forced: bytes) -> np.ndarray:
        """Tokens that begin with the forced bytes, or that the forced bytes begin with."""
        if forced not in self.allowed:
            fits = [i for i, t in enumerate(self.bytes) if t and (t.startswith(forced) or forced.startswith(t))]
            self.allowed[forced] = np.array(fits)
        return self.allowed[forced]

    def line(self, cursor: Cursor, healing: bool) -> tuple[str, float]:
        """The rest of the line and its probability: the product of its tokens' shares, the line end included."""
        before, forced = cursor.before, b""
        if healing:
            kept = re.search(r"[ \t]?\w*\Z", before)
            cut = kept.start() if kept else len(before)
            before, forced = cursor.before[:cut], cursor.before[cut:].encode()
        self.runner.forget()
        logits = self.runner.feed(prompt(self.runner.tokenizer, cursor.path, before, cursor.after))[-1]
        written, probability = b"", 1.0
        for _ in range(LINE_TOKENS):
            if forced:
                choices = self.permitted(forced)
                token = int(choices[logits[choices].argmax()])
                shares = softmax(logits[choices])
                share = float(shares[logits[choices].argmax()])
            else:
                token = int(logits.argmax())
                share = float(softmax(logits)[token])
            text = self.bytes[token]
            probability *= share
            if not text:
                break
            fresh = text[len(forced) :] if forced else text
            forced = forced[len(text) :]
            written += fresh
            if b"\n" in written:
                break
            logits = self.runner.feed([token])[-1]
        return written.split(b"\n")[0].decode("utf-8", "replace"), probability


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    shares: np.ndarray = powers / powers.sum()
    return shares


def copied(before: str) -> str:
    """The heuristic: the rest of the line after the longest earlier match of what stands before the cursor; empty below 10 characters."""
    key = before[-MATCH_CHARACTERS:]
    if len(key) < MATCH_CHARACTERS:
        return ""
    best, line = 0, ""
    at = before.find(key, 0, len(before) - 1)
    while at != -1 and at + len(key) < len(before):
        end = at + len(key)
        length = len(key)
        while length < end and length < 400 and before[end - length - 1] == before[len(before) - length - 1]:
            length += 1
        if length >= best:
            best, line = length, before[end:].split("\n", 1)[0]
        at = before.find(key, at + 1, len(before) - 1)
    return line


def answers(completer: Completer, asked: list[Cursor]) -> Iterator[Answer]:
    for cursor in asked:
        started = time.perf_counter()
        line, probability = completer.line(cursor, healing=True)
        milliseconds = (time.perf_counter() - started) * 1000
        plain, _ = completer.line(cursor, healing=False)
        answer = Answer(cursor, line, probability, milliseconds, plain, copied(cursor.before))
        answer.right = matches(line, cursor)
        yield answer


def matches(line: str, cursor: Cursor) -> bool:
    return line.rstrip() == cursor.target.rstrip()


def bits_per_byte(runner: Runner, files: list[SourceFile], context: int, count: int) -> float:
    """Of `count` held-out documents without forced breaks, in their code alone, int8 as it ships."""
    lengths = np.array(byte_lengths(runner.tokenizer))
    nats = total = 0.0
    documents = [d for d, _ in zip(unbroken(files, context, random.Random(5)), range(count), strict=False)]
    for ids, weights in encode(runner.tokenizer, documents):
        ids, weights = ids[:context], weights[:context]
        runner.forget()
        logits = runner.feed(ids)[:-1]
        targets, counted = np.array(ids[1:]), np.array(weights[1:]) > 0
        peak = logits.max(-1)
        losses = peak + np.log(np.exp(logits - peak[:, None]).sum(-1)) - logits[np.arange(len(targets)), targets]
        nats += float(losses[counted].sum())
        total += float(lengths[targets][counted].sum())
    return nats / total / float(np.log(2))


def reference_bits_per_byte(work: Path, tokenizer: Tokenizer, files: list[SourceFile], context: int, count: int) -> float:
    """The same documents in fp32 before quantisation."""
    import torch

    from phi_train.export import load_checkpoint
    from phi_train.model import document_bias

    model = load_checkpoint(work / "checkpoint.pt")
    lengths = torch.tensor(byte_lengths(tokenizer))
    nats = total = 0.0
    documents = [d for d, _ in zip(unbroken(files, context, random.Random(5)), range(count), strict=False)]
    with torch.no_grad():
        for ids, weights in encode(tokenizer, documents):
            tokens = torch.tensor([ids[:context]])
            counted = torch.tensor(weights[1:context]) > 0
            logits = model.logits(tokens, document_bias(torch.zeros_like(tokens), torch.float32))[0, :-1]
            losses = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none")
            nats += float(losses[counted].sum())
            total += float(lengths[tokens[0, 1:]][counted].sum())
    return nats / total / float(np.log(2))


def explain(runner: Runner, question: str) -> str:
    """Greedy answer to an explanation request, at most 60 tokens."""
    tokenizer = runner.tokenizer
    user, assistant, end = (tokenizer.token_to_id(token) for token in (USER, ASSISTANT, END))
    newline = tokenizer.encode("\n").ids
    runner.forget()
    logits = runner.feed([user, *tokenizer.encode("\n" + question).ids, end, *newline, assistant, *newline])[-1]
    said: list[int] = []
    for _ in range(60):
        token = int(logits.argmax())
        if token in (end, tokenizer.token_to_id(ENDOFTEXT)):
            break
        said.append(token)
        logits = runner.feed([token])[-1]
    text: str = tokenizer.decode(said)
    return text


def explanations(runner: Runner, files: list[SourceFile], count: int) -> dict[str, object]:
    """How many words the model's sentence shares with the docstring's, beside merely saying the function's name."""
    chance = random.Random(11)
    asked = []
    for file in files:
        found = [d for d in described(file, chance) if d.question.startswith("Explain")]
        asked.extend(found[:2])
        if len(asked) >= count:
            break
    rows = []
    for document in asked[:count]:
        code = document.question.split("\n", 1)[1]
        name = re.search(r"(?:def|class)\s+(\w+)", code)
        echo = " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name[1])) if name else ""
        said = explain(runner, document.question)
        rows.append(
            {
                "code": code,
                "said": said,
                "docstring": document.answer,
                "f1": word_f1(said, document.answer),
                "echo_f1": word_f1(echo, document.answer),
            }
        )
    return {
        "count": len(rows),
        "word_f1": round(statistics.mean(float(str(r["f1"])) for r in rows), 3) if rows else None,
        "name_echo_word_f1": round(statistics.mean(float(str(r["echo_f1"])) for r in rows), 3) if rows else None,
        "samples": [{k: r[k] for k in ("code", "said", "docstring")} for r in rows if len(str(r["code"])) < 400][:6],
    }


def word_f1(said: str, truth: str) -> float:
    ours, theirs = set(re.findall(r"\w+", said.lower())), set(re.findall(r"\w+", truth.lower()))
    common = len(ours & theirs)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def summary(found: list[Answer]) -> dict[str, object]:
    """Shares of exactly right lines."""

    def share(hits: list[bool]) -> float:
        return round(sum(hits) / len(hits), 4) if hits else 0.0

    copies = [matches(a.copied_line, a.cursor) for a in found]
    offered = [a for a in found if a.copied_line]
    return {
        "cursors": len(found),
        "model": share([a.right for a in found]),
        "model_without_healing": share([matches(a.plain_line, a.cursor) for a in found]),
        "copy_heuristic": share(copies),
        "copy_heuristic_offers": share([bool(a.copied_line) for a in found]),
        "copy_heuristic_right_when_offered": share([matches(a.copied_line, a.cursor) for a in offered]),
        "either": share([a.right or copy for a, copy in zip(found, copies, strict=True)]),
        "model_where_nothing_to_copy": share([a.right for a in found if not a.copied_line]),
    }


def gate(found: list[Answer]) -> list[dict[str, float]]:
    """Shown only when P(line) exceeds a threshold: how often that is, and how often it is then right."""
    rows = []
    for threshold in THRESHOLDS:
        shown = [a for a in found if a.probability > threshold and a.line.strip()]
        rows.append(
            {"threshold": threshold, "shown": len(shown) / len(found), "right": sum(a.right for a in shown) / len(shown) if shown else 0.0}
        )
    return rows


def samples(found: list[Answer], count: int = 6) -> dict[str, list[dict[str, object]]]:
    """Right ones with the longest lines, and wrong ones of which the model was surest."""

    def shown(a: Answer) -> dict[str, object]:
        tail = "\n".join(a.cursor.before.split("\n")[-4:])
        return {"path": a.cursor.path, "before": tail, "model": a.line, "truth": a.cursor.target, "probability": round(a.probability, 3)}

    good = sorted((a for a in found if a.right and not matches(a.copied_line, a.cursor)), key=lambda a: -len(a.cursor.target))[:count]
    bad = sorted((a for a in found if not a.right and a.line.strip()), key=lambda a: -a.probability)[:count]
    return {"good": [shown(a) for a in good], "bad": [shown(a) for a in bad]}


def run(work: Path, folder: Path, toy: bool = False) -> None:
    """Writes evaluation.json into `work`."""
    files = sorted(read_jsonl(work / "held_out.jsonl"), key=lambda f: fraction("evaluate/" + f.package + "/" + f.path))
    runner = Runner(folder)
    context = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])
    a_kind, documents = (8, 8) if toy else (500, 200)
    found = list(answers(Completer(runner, folder), cursors(files, a_kind, random.Random(7))))
    headline = [a for a in found if a.cursor.kind != "inside a word"]
    facts = {
        "machine": f"{platform.machine()}, {platform.system()}, CPU through OpenVINO, shared with other work",
        "training": training_facts(work),
        "bits_per_byte": {
            "documents": documents,
            "int8": round(bits_per_byte(runner, files, context, documents), 4),
            "fp32": round(reference_bits_per_byte(work, runner.tokenizer, files, context, documents), 4),
        },
        "next_line": summary(headline),
        "next_line_by_kind": {
            kind: summary([a for a in found if a.cursor.kind == kind]) for kind in ("line start", "mid-line", "inside a word")
        },
        "next_line_by_package": {
            p: summary([a for a in headline if a.cursor.package == p]) for p in sorted({a.cursor.package for a in headline})
        },
        "gate": gate(headline),
        "milliseconds_a_line_median": round(statistics.median(a.milliseconds for a in headline), 1),
        "explanations": explanations(runner, files, 4 if toy else 80),
        "samples": samples(headline),
    }
    (work / "evaluation.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    with (work / "answers.jsonl").open("w", encoding="utf-8") as out:
        for answer in found:
            out.write(json.dumps({**asdict(answer), "cursor": {**asdict(answer.cursor), "before": answer.cursor.before[-200:]}}) + "\n")
    print(json.dumps({key: facts[key] for key in ("bits_per_byte", "next_line", "gate", "milliseconds_a_line_median")}, indent=1))


def training_facts(work: Path) -> dict[str, object]:
    """From the run's own log and checkpoint: shape, tokens, steps, time, and held-out bits per byte on the way."""
    import torch

    log = [json.loads(line) for line in (work / "train-log.jsonl").read_text(encoding="utf-8").splitlines()]
    held = [entry for entry in log if "held_out_bits_per_byte" in entry]
    timed = [entry for entry in log if "tokens_a_second" in entry]
    seconds = sum((b["tokens"] - a["tokens"]) / b["tokens_a_second"] for a, b in zip([{"tokens": 0}, *timed], timed, strict=False))
    plan = json.loads((work / "plan.json").read_text(encoding="utf-8"))
    return {
        "tokens": held[-1]["tokens"],
        "steps": held[-1]["step"],
        "plan": plan,
        "decay_from": next((e["tokens"] for e in timed if e["step"] > plan["warmup_steps"] and e["rate"] < 1), plan["decay_from"]),
        "preset": torch.load(work / "checkpoint.pt", map_location="cpu")["preset"],
        "seconds": round(seconds),
        "held_out_bits_per_byte": [{"tokens": e["tokens"], "bits_per_byte": round(e["held_out_bits_per_byte"], 4)} for e in held],
    }
