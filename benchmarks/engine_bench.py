"""What an engine does for a key, as ratios in one run: `python benchmarks/engine_bench.py --model FOLDER`.

It drives the engine directly, without server or pipe. Random token ids stand for the document: what they say does not matter for speed.
Each figure is the median of several runs, taken in turn with the others; the ratios are what to compare between machines.

Not here: latency through the server.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module

from phi_backends.engine import Engine, TokenSequence
from phi_backends.engines import ENGINES

CHUNKS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Figures:
    context_tokens: int
    """Of the document, when the key is struck."""
    step_ms: float
    """One decode step there, the mean over a line: the floor for the first token of a key."""
    cold_ms: float
    """To the first token without reuse: the whole prompt is run."""
    key_ms: dict[int, float]
    """To the first token when so many tokens were added."""
    retyped_ms: float
    """When the last two tokens were replaced."""
    middle_ms: float
    """When a token in the middle was replaced, so that the second half has to be run again."""
    other_document_ms: float
    """To the first token after a look into another document, which has a sequence of its own."""
    line_ms: float
    """Twelve tokens, after one was added."""
    prefill_ms: dict[int, float]
    """The whole prompt, by tokens a chunk."""
    worst_chunk_ms: dict[int, float]
    """How long a cancel may have to wait in prefill."""


def measure(engine: Engine, tokens: int) -> Figures:
    """`tokens` of document; it takes as long as reading that document ten times."""
    tokens = min(tokens, engine.info.context_tokens - 32)
    ids = [random.randrange(100, 4000) for _ in range(tokens + 16)]
    sequence, other = engine.open(), engine.open()

    def run(keep: int, new: Sequence[int], answer: int = 1) -> float:
        """Milliseconds to `answer` tokens, when the first `keep` tokens are still right and `new` come behind them."""
        sequence.rewind(keep)
        started = time.perf_counter()
        sequence.append(new)
        for _ in range(answer - 1):
            sequence.append([sequence.next().id])
        sequence.next()
        return 1000 * (time.perf_counter() - started)

    def after_the_other() -> float:
        other.rewind(tokens // 2 - 1)
        other.append(ids[:1])
        other.next()
        return run(tokens, ids[tokens : tokens + 1])

    prefill, worst = {}, {}
    for size in CHUNKS:
        chunks = _prefill(sequence, ids[:tokens], size)
        prefill[size], worst[size] = sum(chunks), max(chunks)
    other.append(ids[: tokens // 2])
    slow = _medians(
        {
            "middle": lambda: run(tokens // 2, [ids[0], *ids[tokens // 2 + 1 : tokens]]),
            "cold": lambda: run(0, ids[:tokens]),
        },
        rounds=3,
    )
    fast = _medians(
        {
            "line": lambda: run(tokens, ids[tokens : tokens + 1], answer=12),
            "1": lambda: run(tokens, ids[tokens : tokens + 1]),
            "2": lambda: run(tokens, ids[tokens : tokens + 2]),
            "3": lambda: run(tokens, ids[tokens : tokens + 3]),
            "retyped": lambda: run(tokens - 2, ids[tokens : tokens + 2]),
            "other": after_the_other,
        },
        rounds=15,
    )
    return Figures(
        context_tokens=tokens,
        step_ms=fast["line"] / 12,
        cold_ms=slow["cold"],
        key_ms={added: fast[str(added)] for added in (1, 2, 3)},
        retyped_ms=fast["retyped"],
        middle_ms=slow["middle"],
        other_document_ms=fast["other"],
        line_ms=fast["line"],
        prefill_ms=prefill,
        worst_chunk_ms=worst,
    )


def _medians(cases: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """All cases in turn, again and again, so that whatever else the machine does falls on all of them."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            times[name].append(case())
    return {name: statistics.median(values) for name, values in times.items()}


def _prefill(sequence: TokenSequence, ids: Sequence[int], size: int) -> list[float]:
    sequence.rewind(0)
    times = []
    for start in range(0, len(ids), size):
        started = time.perf_counter()
        sequence.append(ids[start : start + size])
        times.append(1000 * (time.perf_counter() - started))
    return times


def report(figures: Figures) -> str:
    step, cold = figures.step_ms, figures.cold_ms
    lines = [
        f"document                         {figures.context_tokens} tokens",
        f"decode step                      {step:8.1f} ms",
        f"first token, nothing reused      {cold:8.1f} ms = {cold / step:6.1f} steps",
    ]
    lines += [
        f"first token, {added} added             {ms:8.1f} ms = {ms / step:6.2f} steps, {cold / ms:6.0f} × faster than without reuse"
        for added, ms in figures.key_ms.items()
    ]
    others = {
        "first token, last 2 replaced": figures.retyped_ms,
        "first token, middle replaced": figures.middle_ms,
        "first token, other file between": figures.other_document_ms,
        "12 tokens, 1 added": figures.line_ms,
    }
    lines += [f"{name:32} {ms:8.1f} ms = {ms / step:6.2f} steps" for name, ms in others.items()]
    lines += [
        f"prefill in chunks of {size:3}         {ms:8.1f} ms = {ms / cold:6.2f} × the whole at once; worst chunk {worst:.0f} ms"
        for (size, ms), worst in zip(figures.prefill_ms.items(), figures.worst_chunk_ms.values(), strict=True)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what an engine does for a key.")
    parser.add_argument("--engine", default="openvino", choices=ENGINES)
    parser.add_argument("--model", default="embedded", help="`embedded`, or the path of a model folder")
    parser.add_argument("--device", default="AUTO")
    parser.add_argument("--tokens", type=int, default=1500, help="of the document")
    parser.add_argument("--options", type=json.loads, default={}, help="engine options, as JSON")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    engine = import_module(ENGINES[arguments.engine]).load(arguments.model, arguments.device, arguments.options, lambda stage: None)
    figures = measure(engine, arguments.tokens)
    engine.close()
    if arguments.json:
        print(json.dumps({**asdict(engine.info), **asdict(figures)}))
    else:
        print(f"{engine.info.model} on {engine.info.device} with {engine.info.engine}: {engine.info.reason}\n{report(figures)}")


if __name__ == "__main__":
    main()
