"""What a key costs with the engine's own loop, and with openvino_genai on the same weights, in one run.
`python benchmarks/compare_bench.py --model FOLDER`

Both answer the same keys in turn, in one process, so whatever else the machine does falls on both: each key adds a token to a document
and asks for a line of 12. openvino_genai runs once as it comes, with its prefix cache, and once as the pipeline that reuses nothing.

Not here: runtimes that need weights of their own format (llama.cpp, ONNX Runtime).
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai

from phi_backends.engines import openvino

LINE_TOKENS = 12


class _Clock(openvino_genai.StreamerBase):  # type: ignore[misc]  # the package has no types
    """Notes when the first token came."""

    def __init__(self) -> None:
        super().__init__()
        self.first: float | None = None

    def write(self, token: int | Sequence[int]) -> Any:
        self.first = self.first or time.perf_counter()
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Part of the pipeline's interface."""


def genai(folder: str, **properties: Any) -> Callable[[list[int]], tuple[float, float]]:
    """Milliseconds to the first token and to the whole line, for a prompt."""
    pipeline = openvino_genai.LLMPipeline(folder, "CPU", **properties)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.apply_chat_template = LINE_TOKENS, True, False

    def ask(ids: list[int]) -> tuple[float, float]:
        clock, started = _Clock(), time.perf_counter()
        pipeline.generate(ov.Tensor(np.array([ids], np.int64)), config, clock)
        assert clock.first is not None
        return 1000 * (clock.first - started), 1000 * (time.perf_counter() - started)

    return ask


def own(folder: str) -> Callable[[list[int]], tuple[float, float]]:
    """The same, with the paged loop and what it keeps."""
    sequence = openvino.load(folder, "CPU", {}, lambda stage: None).open()
    known: list[int] = []

    def ask(ids: list[int]) -> tuple[float, float]:
        started = time.perf_counter()
        shared = next((at for at, (a, b) in enumerate(zip(known, ids, strict=False)) if a != b), min(len(known), len(ids) - 1))
        sequence.rewind(shared)
        for start in range(shared, len(ids), 64):
            sequence.append(ids[start : start + 64])
        answer = [sequence.next().id]
        first = time.perf_counter()
        while len(answer) < LINE_TOKENS:
            sequence.append(answer[-1:])
            answer.append(sequence.next().id)
        known[:] = ids + answer[:-1]
        return 1000 * (first - started), 1000 * (time.perf_counter() - started)

    return ask


def measure(folder: str, tokens: int, rounds: int) -> dict[str, dict[str, float]]:
    ways = {"own": own(folder), "genai": genai(folder), "genai, no reuse": genai(folder, ATTENTION_BACKEND="SDPA")}
    random.seed(1)
    ids = [random.randrange(300, 4000) for _ in range(tokens)]
    cold = {name: ask(ids)[0] for name, ask in ways.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        ids.append(random.randrange(300, 4000))
        for name, ask in ways.items():
            times[name].append(ask(ids))
    return {
        name: {
            "cold_ms": cold[name],
            "first_token_ms": median(first for first, _ in found),
            "line_ms": median(line for _, line in found),
            "own_is_faster_to_first_token": median(a / b for (a, _), (b, _) in zip(found, times["own"], strict=True)),
            "own_is_faster_to_line": median(a / b for (_, a), (_, b) in zip(found, times["own"], strict=True)),
        }
        for name, found in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the engine's own loop with openvino_genai.")
    parser.add_argument("--model", required=True, help="the path of an OpenVINO model folder")
    parser.add_argument("--tokens", type=int, default=1000, help="of the document")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    figures = measure(arguments.model, arguments.tokens, arguments.rounds)
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, found in figures.items():
        print(
            f"{name:16} cold {found['cold_ms']:8.0f} ms   key: first token {found['first_token_ms']:7.0f} ms "
            f"({found['own_is_faster_to_first_token']:5.1f} ×), line of {LINE_TOKENS} {found['line_ms']:7.0f} ms "
            f"({found['own_is_faster_to_line']:4.1f} ×)"
        )


if __name__ == "__main__":
    main()
