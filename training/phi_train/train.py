"""The training loop: rows in, checkpoints out, on a CPU or one GPU. The schedule counts tokens, never the clock.

`plan.json` beside the checkpoints holds the totals and is read at every report, so that a run that is late or early can be
given another end without stopping it.
"""

# mypy: disable-error-code="no-untyped-call, import-untyped"
# torch, transformers and optimum are typed in part.
from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from phi_train.model import PRESETS, Model, document_bias
from phi_train.optimizer import Optimizer
from phi_train.rows import WEIGHT_UNIT
from phi_train.tokenizer import byte_lengths, load

REPORT_STEPS = 20
CHECKPOINT_SECONDS = 300
VALIDATION_TOKENS = 65_536


@dataclass
class Plan:
    """How long to train, in tokens. Constant rate until `decay_from`, then linearly down to 0 at `total`; long rows from `long_from` on."""

    total: int
    decay_from: int
    long_from: int
    tokens_a_step: int
    tokens_a_pass: int
    """Tokens whose activations are alive at once; a step adds up the gradients of several passes."""
    warmup_steps: int = 60

    def rate(self, tokens: int, step: int) -> float:
        decay = (self.total - tokens) / max(1, self.total - self.decay_from)
        return max(0.0, min(1.0, decay, (step + 1) / self.warmup_steps))


def plan_for(total: int, tokens_a_step: int, tokens_a_pass: int) -> Plan:
    return Plan(total, int(total * 0.55), int(total * 0.66), tokens_a_step, tokens_a_pass)


class Rows:
    """Rows of one file in an order that the seed decides, again and again, each time in another order."""

    def __init__(self, path: Path) -> None:
        self.arrays = np.load(path, mmap_mode="r")
        self.length: int = self.arrays.shape[2]
        self.epoch = -1
        self.order = np.zeros(0, dtype=np.int64)

    def batch(self, first: int, count: int) -> Tensor:
        """Rows number first .. first + count of the endless stream; (3, count, length) int64."""
        total = self.arrays.shape[1]
        chosen = []
        for number in range(first, first + count):
            epoch, index = divmod(number, total)
            if epoch != self.epoch:
                self.epoch, self.order = epoch, np.random.default_rng(epoch).permutation(total)
            chosen.append(self.order[index])
        return torch.from_numpy(self.arrays[:, chosen].astype(np.int64))


def targets_of(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, targets and the targets' weights: the token after each one, where it belongs to the same document."""
    tokens, units, numbers = rows.unbind(0)
    targets = tokens.roll(-1, 1)
    weights = units.roll(-1, 1).float() * WEIGHT_UNIT
    weights = weights * (numbers == numbers.roll(-1, 1))
    weights[:, -1] = 0.0
    return tokens, targets, weights


@torch.no_grad()
def bits_per_byte(model: Model, rows: Rows, lengths: Tensor, device: torch.device, limit_tokens: int) -> float:
    """On held-out code, in the answers alone."""
    nats = total_bytes = 0.0
    rows_a_pass = max(1, 8192 // rows.length)
    for first in range(0, min(limit_tokens // rows.length, rows.arrays.shape[1]) // rows_a_pass * rows_a_pass, rows_a_pass):
        batch = rows.batch(first, rows_a_pass).to(device)
        tokens, targets, weights = targets_of(batch)
        nats += float(model.loss_sum(tokens, document_bias(batch[2], torch.bfloat16), targets, weights, torch.bfloat16))
        total_bytes += float((lengths[targets] * weights).sum())
    return nats / total_bytes / float(np.log(2))


def run(work: Path, preset_name: str, plan: Plan, workers: int) -> None:
    """Trains from scratch or goes on from `checkpoint.pt`. Writes checkpoint.pt, plan.json and train-log.jsonl into `work`.

    On a CPU each worker is a process of one thread: two threads of one process spent 62 % of their time waiting for each other
    as soon as something else wanted a core.
    """
    if torch.cuda.is_available() or workers == 1:
        work_at(0, 1, work, preset_name, plan)
        return
    (work / "meeting").unlink(missing_ok=True)
    spawn = multiprocessing.get_context("spawn")
    for rank in range(1, workers):
        spawn.Process(target=work_at, args=(rank, workers, work, preset_name, plan), daemon=True).start()
    work_at(0, workers, work, preset_name, plan)


def add_up_gradients(model: Model) -> None:
    """Sums the gradients of all workers in place, as one message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def read_plan(path: Path, workers: int) -> Plan:
    """The first worker's reading counts for all: the file may change between two readings."""
    plan: list[dict[str, int]] = [json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}]
    if workers > 1:
        dist.broadcast_object_list(plan)
    return Plan(**plan[0])


def work_at(rank: int, workers: int, work: Path, preset_name: str, plan: Plan) -> None:
    """One worker: takes every `workers`-th row of each step; the first one also reports and writes the checkpoints."""
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{(work / 'meeting').resolve()}", rank=rank, world_size=workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    preset = PRESETS[preset_name]
    model = Model(preset).to(device)
    optimizer = Optimizer(model)
    for layer in model.layers:
        layer.compile(dynamic=False)
    short, long = Rows(work / f"rows-{preset.context // 2}.npy"), Rows(work / f"rows-{preset.context}.npy")
    held = Rows(work / "rows-held-out.npy")
    lengths = torch.tensor(byte_lengths(load(work)), device=device)
    checkpoint, plan_path, log_path = work / "checkpoint.pt", work / "plan.json", work / "train-log.jsonl"
    tokens = step = 0
    used = {"short": 0, "long": 0}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.state, optimizer.steps = saved["optimizer"], saved["step"]
        tokens, step, used = saved["tokens"], saved["step"], saved["used"]
    if rank == 0 and not plan_path.exists():
        plan_path.write_text(json.dumps(asdict(plan), indent=1), encoding="utf-8")
    warm_up_compiler(model, (short, long), min(plan.tokens_a_pass, plan.tokens_a_step // workers), device)
    written = reported = time.monotonic()
    loss_since, weight_since, tokens_since = 0.0, 0.0, 0
    while True:
        if step % REPORT_STEPS == 0:
            plan = read_plan(plan_path, workers)
        done = tokens >= plan.total
        if rank == 0 and (done or time.monotonic() - written > CHECKPOINT_SECONDS):
            written = time.monotonic()
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state,
                "tokens": tokens,
                "step": step,
                "used": used,
                "preset": preset_name,
            }
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            facts = {
                "step": step,
                "tokens": tokens,
                "held_out_bits_per_byte": bits_per_byte(model, held, lengths, device, VALIDATION_TOKENS),
            }
            report(log_path, facts)
        if done:
            return
        kind, rows = ("long", long) if tokens >= plan.long_from else ("short", short)
        step_rows = rows.batch(used[kind], plan.tokens_a_step // rows.length).to(device)
        used[kind] += step_rows.shape[1]
        weight = targets_of(step_rows)[2].sum()
        batch = step_rows[:, rank::workers]
        inputs, targets, weights = targets_of(batch)
        for part in torch.arange(batch.shape[1]).split(max(1, plan.tokens_a_pass // rows.length)):
            bias = document_bias(batch[2, part], torch.bfloat16)
            loss = model.loss_sum(inputs[part], bias, targets[part], weights[part], torch.bfloat16)
            (loss / weight).backward()
            loss_since += loss.item()
        if workers > 1:
            add_up_gradients(model)
        optimizer.step(plan.rate(tokens, step))
        weight_since += weights.sum().item()
        tokens += step_rows[0].numel()
        tokens_since += step_rows[0].numel()
        step += 1
        if rank == 0 and step % REPORT_STEPS == 0:
            seconds = time.monotonic() - reported
            facts = {"step": step, "tokens": tokens, "loss": round(loss_since / weight_since, 4), "rate": round(plan.rate(tokens, step), 4)}
            report(log_path, {**facts, "tokens_a_second": round(tokens_since / seconds)})
            reported, loss_since, weight_since, tokens_since = time.monotonic(), 0.0, 0.0, 0


def warm_up_compiler(model: Model, kinds: tuple[Rows, ...], tokens_a_pass: int, device: torch.device) -> None:
    """Compiles every row length before the first step, so that no compilation interrupts the decay."""
    for rows in kinds:
        batch = rows.batch(0, max(1, tokens_a_pass // rows.length)).to(device)
        tokens, targets, weights = targets_of(batch)
        model.loss_sum(tokens, document_bias(batch[2], torch.bfloat16), targets, weights, torch.bfloat16).backward()
        model.zero_grad(set_to_none=True)


def report(path: Path, facts: dict[str, float | int]) -> None:
    line = json.dumps({"time": time.strftime("%H:%M:%S"), **facts})
    print(line, flush=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(line + "\n")
