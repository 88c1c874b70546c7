"""What the exported model and phi-ls with it are worth, measured on the folder that ships, on packages that nothing was fitted to.

Here are bits per byte, right lines beside the baselines, the gate's table, what int8 costs, explanations and samples. Not here: how the
server is asked (`answers.py`), prose about the numbers (`card.py`).
"""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import asyncio
import json
import platform
import random
import re
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from phi_backends.messages import Priority
from phi_prompts import tasks
from phi_prompts.chat import FORMATS
from phi_server.explanation import SENTENCE_TOKENS
from phi_server.settings import Settings
from phi_train import answers
from phi_train.answers import Answer
from phi_train.calibrate import in_order
from phi_train.corpus import SourceFile, read_jsonl
from phi_train.cursors import HEADLINE_KINDS, KINDS, Cursor, cursors
from phi_train.documents import described
from phi_train.rows import encode, unbroken
from phi_train.tokenizer import byte_lengths

CURSORS_OF_A_KIND = 500
DOCUMENTS = 200
EXPLAINED = 300
TIMED = 100
THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


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


async def explanations(folder: Path, files: list[SourceFile], count: int) -> dict[str, Any]:
    """How many words the model's sentence shares with the docstring's, beside merely saying the function's name."""
    chance = random.Random(11)
    asked = []
    for file in files:
        found = [document for document in described(file, chance) if document.question.startswith("Explain")]
        asked.extend(found[:2])
        if len(asked) >= count:
            break
    rows = []
    async with answers.engine(folder) as client:
        loaded = await client.loaded()
        for document in asked[:count]:
            code = document.question.split("\n", 1)[1]
            selection = tasks.Code("", "python", tuple(code.splitlines(keepends=True)))
            question = tasks.explain(FORMATS[loaded.chat_format], loaded.templates, selection=selection)
            how = {"max_tokens": SENTENCE_TOKENS, "priority": Priority.ANSWER, "stop": question.stop}
            said = "".join([piece.text async for piece in client.generate(question.prompt, **how)]).strip()  # type: ignore[arg-type]
            name = re.search(r"(?:def|class)\s+(\w+)", code)
            echo = " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name[1])) if name else ""
            scores = {"f1": word_f1(said, document.answer), "echo_f1": word_f1(echo, document.answer)}
            rows.append({"code": code, "said": said, "docstring": document.answer, **scores})
    gain = [float(row["f1"]) - float(row["echo_f1"]) for row in rows]
    return {
        "count": len(rows),
        "word_f1": mean([float(row["f1"]) for row in rows]),
        "name_echo_word_f1": mean([float(row["echo_f1"]) for row in rows]),
        "gain_standard_error": round(statistics.stdev(gain) / len(gain) ** 0.5, 4) if len(gain) > 1 else None,
        "samples": [{k: row[k] for k in ("code", "said", "docstring")} for row in rows if len(str(row["code"])) < 400][:6],
    }


def word_f1(said: str, truth: str) -> float:
    ours, theirs = set(re.findall(r"\w+", said.lower())), set(re.findall(r"\w+", truth.lower()))
    common = len(ours & theirs)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def mean(values: list[float] | list[bool]) -> float:
    return round(statistics.mean(map(float, values)), 4) if values else 0.0


def summary(found: list[Answer]) -> dict[str, Any]:
    """Shares of exactly right lines, and of what is shown at the least probability that is the server's default."""
    copies = [a.cursor.is_right(a.copy) for a in found]
    shown = [a for a in found if a.probability >= Settings().min_probability and a.shown.strip()]
    return {
        "cursors": len(found),
        "right": mean([a.cursor.is_right(a.shown) for a in found]),
        "model": mean([a.cursor.is_right(a.model) for a in found]),
        "model_without_healing": mean([a.cursor.is_right(a.unhealed) for a in found]),
        "copy": mean(copies),
        "simple_copy": mean([a.cursor.is_right(a.simple_copy) for a in found]),
        "either": mean([a.cursor.is_right(a.model) or copy for a, copy in zip(found, copies, strict=True)]),
        "shown": round(len(shown) / len(found), 4) if found else 0.0,
        "right_when_shown": mean([a.cursor.is_right(a.shown) for a in shown]),
        "copies_among_shown": mean([a.is_copy for a in shown]),
    }


def gate(found: list[Answer]) -> list[dict[str, float]]:
    """Shown from a probability on: how often that is, and how often it is then right; of what ships, of the model and of copies alone."""
    rows = []
    for threshold in THRESHOLDS:
        row: dict[str, float] = {"threshold": threshold}
        for name, pairs in (
            ("ships", [(a.probability, a.shown, a) for a in found]),
            ("model", [(a.model_probability, a.model, a) for a in found]),
            ("copy", [(a.copy_probability, a.copy, a) for a in found]),
        ):
            shown = [a.cursor.is_right(line) for probability, line, a in pairs if probability >= threshold and line.strip()]
            row |= {f"{name}_shown": round(len(shown) / len(found), 4), f"{name}_right": mean(shown)}
        rows.append(row)
    return rows


def samples(found: list[Answer], count: int = 6) -> dict[str, list[dict[str, Any]]]:
    """Right ones with the longest lines, not copied, and wrong ones that were surest."""

    def sample(a: Answer) -> dict[str, Any]:
        tail = "\n".join(a.cursor.before.split("\n")[-4:])
        said = {"shown": a.shown, "truth": a.cursor.target, "probability": round(a.probability, 3), "is_copy": a.is_copy}
        return {"path": a.cursor.path, "before": tail, **said}

    good = [a for a in found if a.cursor.is_right(a.shown) and not a.cursor.is_right(a.copy)]
    bad = [a for a in found if not a.cursor.is_right(a.shown) and a.shown.strip()]
    return {
        "good": [sample(a) for a in sorted(good, key=lambda a: -len(a.cursor.target))[:count]],
        "bad": [sample(a) for a in sorted(bad, key=lambda a: -a.probability)[:count]],
    }


def precision(work: Path, asked: list[Cursor], int8: list[bool]) -> dict[str, Any]:
    """Lines right with the weights that ship and with the same weights in fp32, by the model alone."""
    from phi_train import export

    export.run(work, work / "model-fp32", int8=False)
    fp32 = [cursor.is_right(line) for cursor, line in zip(asked, asyncio.run(answers.model_lines(work / "model-fp32", asked)), strict=True)]
    return {
        "cursors": len(asked),
        "int8": mean(int8),
        "fp32": mean(fp32),
        "only_int8_right": sum(a and not b for a, b in zip(int8, fp32, strict=True)),
        "only_fp32_right": sum(b and not a for a, b in zip(int8, fp32, strict=True)),
    }


def run(work: Path, folder: Path, toy: bool = False) -> None:
    """Writes evaluation.json and answers.jsonl into `work`."""
    files = in_order(read_jsonl(work / "held_out.jsonl"))
    runner = Runner(folder)
    context = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])
    a_kind, documents = (8, 8) if toy else (CURSORS_OF_A_KIND, DOCUMENTS)
    found = asyncio.run(answers.answers(folder, cursors(files, a_kind, random.Random(7))))
    headline = [a for a in found if a.cursor.kind in HEADLINE_KINDS]
    facts = {
        "min_probability": Settings().min_probability,
        "training": training_facts(work),
        "bits_per_byte": {
            "documents": documents,
            "int8": round(bits_per_byte(runner, files, context, documents), 4),
            "fp32": round(reference_bits_per_byte(work, runner.tokenizer, files, context, documents), 4),
        },
        "next_line": summary(headline),
        "next_line_by_kind": {kind: summary([a for a in found if a.cursor.kind == kind]) for kind in KINDS},
        "next_line_by_package": {
            name: summary([a for a in headline if a.cursor.package == name]) for name in sorted({a.cursor.package for a in headline})
        },
        "gate": gate(headline),
        "precision": precision(work, [a.cursor for a in headline], [a.cursor.is_right(a.model) for a in headline]),
        "explanations": asyncio.run(explanations(folder, files, 4 if toy else EXPLAINED)),
        "samples": samples(headline),
    }
    (work / "evaluation.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    with (work / "answers.jsonl").open("w", encoding="utf-8") as out:
        for a in found:
            cursor = {**asdict(a.cursor), "before": a.cursor.before[-200:], "below": a.cursor.below[:200]}
            out.write(json.dumps({**asdict(a), "cursor": cursor}) + "\n")
    print(json.dumps({key: facts[key] for key in ("bits_per_byte", "next_line", "gate", "precision")}, indent=1))


def time_lines(work: Path, folder: Path, toy: bool = False) -> None:
    """Writes timing.json into `work`: medians, on a machine that should have nothing else to do."""
    asked = [
        c for c in cursors(in_order(read_jsonl(work / "held_out.jsonl")), 4 if toy else TIMED, random.Random(9)) if c.kind in HEADLINE_KINDS
    ]
    found = asyncio.run(answers.answers(folder, asked))
    facts = {
        "machine": f"{platform.machine()}, {platform.system()}, CPU through OpenVINO",
        "lines": len(found),
        "cold_ms": round(statistics.median(a.cold_ms for a in found), 1),
        "warm_ms": round(statistics.median(a.warm_ms for a in found if not a.is_copy), 1),
        "copy_ms": round(statistics.median(a.copy_ms for a in found), 2),
    }
    (work / "timing.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts))


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
        "decays": decays([entry for entry in timed if entry["step"] > plan["warmup_steps"]], held[-1]["tokens"]),
        "preset": torch.load(work / "checkpoint.pt", map_location="cpu")["preset"],
        "seconds": round(seconds),
        "held_out_bits_per_byte": [{"tokens": e["tokens"], "bits_per_byte": round(e["held_out_bits_per_byte"], 4)} for e in held],
    }


def decays(log: list[dict[str, Any]], end: int) -> list[tuple[int, int]]:
    """From where to where, in tokens, the learning rate fell."""
    found: list[tuple[int, int]] = []
    start = None
    for entry in log:
        if entry["rate"] < 1 and start is None:
            start = entry["tokens"]
        elif entry["rate"] == 1 and start is not None:
            found.append((start, entry["tokens"]))
            start = None
    return found if start is None else [*found, (start, end)]
