"""What a key costs through the engine process, as ratios in one run: `python benchmarks/latency_bench.py --model FOLDER`.

It drives the worker as the server does, with documents of random words: what they say does not matter for speed. Answers are drawn by
chance, so that no draft tokens help. Each ratio is a median over pairs measured in turn, and so holds on a busy machine.

Not here: engines side by side (`phi-ls bench`), the server and the editor (`phi-ls bench server`, `phi-ls bench typing`).
"""

import argparse
import json
import random
from dataclasses import asdict, dataclass
from statistics import median

import anyio

from phi_backends.client import Client, Generation
from phi_backends.messages import Done, Load, Priority, Timings
from phi_prompts.prompt import Control, Prompt

WORDS = ("value", "name", "first", "list", "index", "size", "path", "line", "result", "item", "data", "key", "count", "type")


@dataclass(frozen=True)
class Figures:
    context_tokens: int
    step_ms: float
    """One decode step, as the median of those between the others."""
    cold_ms: float
    """To the first token of a document that was never seen."""
    key_steps: dict[int, float]
    """Steps to the first token, when so many tokens were added."""
    key_speedup: float
    """A key of one token, against the cold document."""
    back_to_file_steps: float
    """To the first token after a look into another file, and back."""
    undone_steps: float
    """To the first token after an edit in the middle was undone."""
    ahead_steps: float
    """To the first token of a key while a prompt is run ahead of time."""
    during_answer_ratio: float
    """To the first token of a key, while an explanation is written, against the same without."""
    cancel_decode_steps: float
    """From a cancel in the middle of an answer until the engine takes the next request."""
    cancel_prefill_ms: float
    """The same in prefill; the largest."""


def document(tokens: int, seed: int) -> list[str]:
    random.seed(seed)
    return [random.choice(WORDS) for _ in range(tokens - 8)]


def prompt(words: list[str]) -> Prompt:
    return (Control("<|user|>"), "\nGo on\n", Control("<|end|>"), Control("<|assistant|>"), "\n" + " ".join(words))


class Bench:
    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, words: list[str], tokens: int = 5, priority: Priority = Priority.COMPLETION) -> Generation:
        return self._client.generate(prompt(words), max_tokens=tokens, priority=priority, temperature=1.0)

    async def timings(self, words: list[str], tokens: int = 5) -> Timings:
        with self.ask(words, tokens) as generation:
            async for _ in generation:
                pass
        assert isinstance(generation.done, Done)
        return generation.done.timings

    async def steps(self, words: list[str]) -> float:
        """Decode steps to the first token; the steps are those of the same answer."""
        timings = await self.timings(words)
        return timings.first_token_ms / step_ms(timings)

    async def measure(self, tokens: int, rounds: int) -> Figures:
        mine, other = document(tokens, 1), document(tokens // 3, 2)
        cold = await self.timings(mine, 1)
        await self.timings(other, 1)
        keys: dict[int, list[float]] = {1: [], 2: [], 3: []}
        steps, speedups, backs, undone, ahead, during, alone, decode_cancels, prefill_cancels = (_empty() for _ in range(9))
        for _ in range(rounds):
            for added, found in keys.items():
                mine += random.choices(WORDS, k=added)
                timings = await self.timings(mine)
                steps.append(step_ms(timings))
                found.append(timings.first_token_ms / step_ms(timings))
                if added == 1:
                    speedups.append(cold.first_token_ms / timings.first_token_ms)
            await self.timings([*other, random.choice(WORDS)], 2)
            backs.append(await self.steps([*mine, random.choice(WORDS)]))
        for _ in range(max(2, rounds // 3)):
            edited = [*mine[:-100], "edited", *mine[-100:]]
            await self.timings(edited, 1)
            undone.append(await self.steps(mine))
            with self.ask(document(tokens // 4, random.randrange(10**6)), 0, Priority.IDLE):
                mine += random.choices(WORDS)
                ahead.append(await self.steps(mine))
        for _ in range(rounds):
            with self.ask(other, 300, Priority.ANSWER) as explanation:
                await anext(explanation)
                mine += random.choices(WORDS)
                during.append((await self.timings(mine)).first_token_ms)
            mine += random.choices(WORDS)
            alone.append((await self.timings(mine)).first_token_ms)
            with self.ask(mine, 200) as generation:
                await anext(generation)
                await anext(generation)
            decode_cancels.append((await self.timings(mine, 0)).queued_ms / median(steps))
        for _ in range(max(2, rounds // 3)):
            with self.ask(document(tokens // 2, random.randrange(10**6)), 1):
                await anyio.sleep(random.uniform(0.01, 0.8 * cold.first_token_ms / 2000))
            prefill_cancels.append((await self.timings(mine, 0)).queued_ms)
        return Figures(
            context_tokens=cold.prompt_tokens,
            step_ms=median(steps),
            cold_ms=cold.first_token_ms,
            key_steps={added: median(found) for added, found in keys.items()},
            key_speedup=median(speedups),
            back_to_file_steps=median(backs),
            undone_steps=median(undone),
            ahead_steps=median(ahead),
            during_answer_ratio=median(during) / median(alone),
            cancel_decode_steps=median(decode_cancels),
            cancel_prefill_ms=max(prefill_cancels),
        )


def _empty() -> list[float]:
    return []


def step_ms(timings: Timings) -> float:
    return (timings.total_ms - timings.first_token_ms) / max(1, timings.answer_tokens - 1)


def report(figures: Figures) -> str:
    f = figures
    rows = [
        *(
            (f"key of {added} tokens: first token", f"{steps:6.2f} steps (at most 1.5)", steps <= 1.5)
            for added, steps in f.key_steps.items()
        ),
        ("a key of 1, against no reuse", f"{f.key_speedup:6.1f} × faster (at least 30)", f.key_speedup >= 30),
        ("another file and back", f"{f.back_to_file_steps:6.2f} steps (at most 3)", f.back_to_file_steps <= 3),
        ("an edit in the middle undone", f"{f.undone_steps:6.2f} steps (at most 3)", f.undone_steps <= 3),
        ("a key during work ahead of time", f"{f.ahead_steps:6.2f} steps", True),
        ("a key during an explanation", f"{f.during_answer_ratio:6.2f} × (at most 1.5)", f.during_answer_ratio <= 1.5),
        ("cancel in decode", f"{f.cancel_decode_steps:6.2f} steps (at most 1)", f.cancel_decode_steps <= 1),
        ("cancel in prefill", f"{f.cancel_prefill_ms:6.0f} ms at most (750)", f.cancel_prefill_ms <= 750),
    ]
    head = f"{figures.context_tokens} tokens of context; a decode step {figures.step_ms:.1f} ms, cold {figures.cold_ms:.0f} ms"
    return "\n".join([head, *(f"{'ok ' if met else 'NOT'} {name:36} {value}" for name, value, met in rows)])


async def run(load: Load, tokens: int, rounds: int) -> Figures:
    client = Client(load)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        loaded = await client.loaded()
        figures = await Bench(client).measure(min(tokens, loaded.context_tokens // 2), rounds)
        tasks.cancel_scope.cancel()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what a key costs through the engine process.")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--model", default="embedded", help="`embedded`, or the path of a model folder")
    parser.add_argument("--device", default="AUTO")
    parser.add_argument("--tokens", type=int, default=1500, help="of the document")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    figures = anyio.run(run, Load(arguments.engine, arguments.model, arguments.device), arguments.tokens, arguments.rounds)
    print(json.dumps(asdict(figures)) if arguments.json else report(figures))


if __name__ == "__main__":
    main()
