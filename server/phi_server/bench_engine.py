"""`phi-ls bench`: how fast engines, models and devices are, side by side, through the engine process as editors get them.

Documents are random words: what they say does not matter for speed, and nothing of one is in the KV cache for the next. Answers are drawn
by chance, so that no drafted tokens help. One engine runs at a time, since two full-size models are more than many machines hold.
`measure` with a single length is also how `auto` learns what is fast (measuring.py).

Not here: what the server adds to it (bench_server.py), what somebody who types gets (bench_typing.py).
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import anyio

from phi_backends.client import Client, EngineStatus
from phi_backends.errors import BadInput, PhiError
from phi_backends.messages import Load, Loaded, Timings
from phi_server.bench_picture import Curve, Panel, draw
from phi_server.settings import Settings, parse

LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
KEY_LENGTH = 1024
"""Tokens of the document that the keys are typed into; half the context where that is less."""
ROUNDS, ROUNDS_MS = 15, 2000.0
"""A figure is the median of so many runs, or of what fits into so much time: on two cores, 2,048 tokens of a full-size model take 20 s."""
ANSWER_TOKENS = 9
LINE_TOKENS = 12
WORDS = ("value", "name", "first", "list", "index", "size", "path", "line", "result", "item", "data", "key", "count", "type")
"""A token each in the tokenizers of Phi-3 and of the embedded model; in others, as many as the first prompt shows."""
FIRST_WORDS = 32


@dataclass(frozen=True)
class AtLength:
    prompt_tokens: int
    first_token_ms: float
    """Of a document that was never seen."""
    token_ms: float
    """For each further token of the answer, at that position; 0 where the model had nothing to say."""


@dataclass(frozen=True)
class Keys:
    """Milliseconds to the first token after a key, in a document that is in the KV cache."""

    document_tokens: int
    added_ms: dict[int, float]
    """By how many tokens the key added."""
    retyped_ms: float
    """The last two were replaced."""
    middle_ms: float
    """One in the middle was replaced: the second half is run again."""
    other_file_ms: float
    """After a look into another document, of half the length."""
    line_ms: float
    """To the end of a line of LINE_TOKENS, after one token was added."""


@dataclass(frozen=True)
class Figures:
    engine: str
    model: str
    device: str
    reason: str
    load_ms: float
    lengths: tuple[AtLength, ...]
    keys: Keys | None
    peak_memory_bytes: int


def candidates(settings: Settings, against: Sequence[str]) -> list[Load]:
    """What is measured: the engine of the settings, and one for each text of `against`, such as `engine=onnx,model=FOLDER`; what that does
    not say is as in the settings, and what is neither engine nor model nor device is an option of the engine."""
    found = [settings.load()]
    for text in against:
        values: dict[str, Any] = {"engine": settings.engine, "model": settings.model, "device": settings.device}
        options: dict[str, Any] = {}
        for pair in text.split(","):
            key, equals, value = pair.partition("=")
            if not (key and equals and value):
                raise BadInput(f'--against takes KEY=VALUE,…, such as engine=onnx,model=FOLDER, not "{text}".')
            if key in values:
                values[key] = str(Path(value).absolute()) if key == "model" and Path(value).exists() else value
            else:
                options[key] = int(value) if value.isdigit() else {"true": True, "false": False}.get(value, value)
        other, problems = parse({**values, "engine_options": options})
        if problems:
            raise BadInput(problems[0])
        found.append(other.load())
    return found


async def compare(loads: Sequence[Load], lengths: Sequence[int], on_progress: Callable[[str], None]) -> list[Figures]:
    """Raises PhiError when one of the engines does not load."""
    return [await measure(load, lengths, on_progress) for load in loads]


async def measure(
    load: Load, lengths: Sequence[int], on_progress: Callable[[str], None] = lambda doing: None, *, with_keys: bool = True
) -> Figures:
    """Starts the engine, measures, and ends it. Raises EngineError when it does not load, PhiError when it fails later."""

    def on_status(status: EngineStatus) -> None:
        on_progress(status.detail)

    client = Client(load, on_status)
    failed: PhiError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        try:
            figures = await _Bench(client, await client.loaded(), on_progress).measure(lengths, with_keys)
        except PhiError as error:  # a task group would wrap it
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
    return figures


class _Bench:
    def __init__(self, client: Client, loaded: Loaded, on_progress: Callable[[str], None]) -> None:
        self._client = client
        self._loaded = loaded
        self._on_progress = on_progress
        self._random = random.Random(1)
        self._peak_memory_bytes = 0
        self._words_per_token = 1.0

    async def measure(self, lengths: Sequence[int], with_keys: bool) -> Figures:
        room = self._loaded.context_tokens - ANSWER_TOKENS
        first = await self._ask(self._random.choices(WORDS, k=FIRST_WORDS))  # the first answer may load something
        self._words_per_token = FIRST_WORDS / first.prompt_tokens
        found = []
        for length in lengths:
            if length <= room:
                self._on_progress(f"{self._loaded.model} with {self._loaded.engine}: a prompt of {length} tokens")
                found.append(await self._at_length(length))
        if not found:
            raise BadInput(
                f"The context of {self._loaded.model} holds {self._loaded.context_tokens} tokens, too few for the lengths asked for."
            )
        keys = None
        if with_keys:
            self._on_progress(f"{self._loaded.model} with {self._loaded.engine}: keys")
            keys = await self._keys(min(KEY_LENGTH, self._loaded.context_tokens // 2, max(lengths)))
        return Figures(
            engine=self._loaded.engine,
            model=self._loaded.model,
            device=self._loaded.device,
            reason=self._loaded.reason,
            load_ms=self._loaded.load_ms,
            lengths=tuple(found),
            keys=keys,
            peak_memory_bytes=self._peak_memory_bytes,
        )

    async def _at_length(self, length: int) -> AtLength:
        rounds = await self._rounds(lambda: self._ask(self._document(length)))
        steps = [step for timings in rounds if (step := _step_ms(timings))]
        return AtLength(rounds[0].prompt_tokens, median(map(_first_ms, rounds)), median(steps) if steps else 0.0)

    async def _keys(self, length: int) -> Keys:
        document, other = self._document(length), self._document(length // 2)
        for cold in (other, document):
            await self._ask(cold, 1)

        async def typed(keep: int, count: int = 1, tokens: int = 1) -> Timings:
            """The document is kept up to there, and goes on with other words."""
            return await self._ask([*document[:keep], *self._random.choices(WORDS, k=count)], tokens)

        async def after_the_other() -> Timings:
            await self._ask([*other, *self._random.choices(WORDS)], 1)
            return await typed(len(document))

        async def in_the_middle() -> Timings:
            at = len(document) // 2
            return await self._ask([*document[:at], f"{self._random.choice(WORDS)}s", *document[at + 1 :]], 1)

        end = len(document)
        keys = {count: await self._rounds(partial(typed, end, count)) for count in (1, 2, 3)}
        retyped = await self._rounds(partial(typed, end - 2, 2))
        others = await self._rounds(after_the_other)
        lines = await self._rounds(partial(typed, end, 1, LINE_TOKENS))
        middle = await self._rounds(in_the_middle)  # last: engines whose caches share no memory lose the second half of the document
        return Keys(
            document_tokens=length,
            added_ms={count: median(map(_first_ms, rounds)) for count, rounds in keys.items()},
            retyped_ms=median(map(_first_ms, retyped)),
            middle_ms=median(map(_first_ms, middle)),
            other_file_ms=median(map(_first_ms, others)),
            line_ms=median(_first_ms(timings) + (LINE_TOKENS - 1) * _step_ms(timings) for timings in lines),
        )

    async def _rounds(self, ask: Callable[[], Awaitable[Timings]]) -> list[Timings]:
        rounds = [await ask()]
        while len(rounds) < ROUNDS and sum(timings.total_ms for timings in rounds) < ROUNDS_MS:
            rounds.append(await ask())
        return rounds

    def _document(self, tokens: int) -> list[str]:
        return self._random.choices(WORDS, k=max(1, int(tokens * self._words_per_token)))

    async def _ask(self, words: Sequence[str], tokens: int = ANSWER_TOKENS) -> Timings:
        with self._client.generate((" ".join(words),), max_tokens=tokens, temperature=1.0) as generation:
            async for _ in generation:
                pass
        assert generation.done is not None
        timings = generation.done.timings
        self._peak_memory_bytes = max(self._peak_memory_bytes, timings.peak_memory_bytes)
        return timings


def _first_ms(timings: Timings) -> float:
    return (timings.first_token_ms or timings.total_ms) - timings.queued_ms  # a model that has nothing to say ends at its first token


def _step_ms(timings: Timings) -> float:
    """For each token behind the first; 0 where there was none."""
    return (timings.total_ms - timings.first_token_ms) / (timings.answer_tokens - 1) if timings.answer_tokens > 1 else 0.0


def to_json(figures: Sequence[Figures]) -> dict[str, Any]:
    return {"candidates": [asdict(each) for each in figures]}


def labels(figures: Sequence[Figures]) -> list[str]:
    """Short names that tell them apart."""
    short = [f"{each.engine} on {each.device}" for each in figures]
    long = [f"{each.model}, {name}" for each, name in zip(figures, short, strict=True)]
    named = long if len({each.model for each in figures}) > 1 else short
    return [name if named.count(name) == 1 else f"{number}. {name}" for number, name in enumerate(named, 1)]


def to_text(figures: Sequence[Figures]) -> str:
    """A table, a column for each."""
    rows: list[tuple[str, list[str]]] = [
        ("engine", [each.engine for each in figures]),
        ("model", [each.model for each in figures]),
        ("device", [each.device for each in figures]),
        ("load", [_ms(each.load_ms) for each in figures]),
    ]
    lengths = sorted({at.prompt_tokens for each in figures for at in each.lengths})
    for name, value in (("first token", "first_token_ms"), ("each further token", "token_ms")):
        for length in lengths:
            at = [next((at for at in each.lengths if at.prompt_tokens == length), None) for each in figures]
            place = f"{name}, {length} tokens of prompt" if name == "first token" else f"{name}, behind {length}"
            rows.append((place, [_ms(getattr(each, value)) if each else "-" for each in at]))
    keys = [each.keys for each in figures]
    if any(keys):
        document = next(each.document_tokens for each in keys if each)
        rows += [
            *(
                (f"key that adds {count}, in a document of {document}", [_ms(each.added_ms[count]) if each else "-" for each in keys])
                for count in (1, 2, 3)
            ),
            ("key behind which 2 are replaced", [_ms(each.retyped_ms) if each else "-" for each in keys]),
            ("key in the middle", [_ms(each.middle_ms) if each else "-" for each in keys]),
            ("key after a look at another file", [_ms(each.other_file_ms) if each else "-" for each in keys]),
            (f"a line of {LINE_TOKENS} tokens, after a key", [_ms(each.line_ms) if each else "-" for each in keys]),
        ]
    rows.append(("memory at most", [f"{each.peak_memory_bytes / 1e9:.2f} GB" for each in figures]))
    widths = [max(len(row[column]) for _, row in rows) for column in range(len(figures))]
    head = max(len(name) for name, _ in rows)
    return "\n".join(
        f"{name:{head}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for name, row in rows
    )


def _ms(value: float) -> str:
    if not value:
        return "-"
    return f"{value / 1000:.1f} s" if value >= 10_000 else f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def picture(file: Path, figures: Sequence[Figures]) -> None:
    """The latency curves as a PNG. Raises BadInput where it cannot be drawn."""
    named = dict(zip(labels(figures), figures, strict=True))

    def curves(value: str) -> dict[str, Curve]:
        return {name: [(at.prompt_tokens, getattr(at, value)) for at in each.lengths if getattr(at, value)] for name, each in named.items()}

    models = dict.fromkeys(each.model for each in figures)
    first = Panel("To the first token of a document never seen", "prompt, tokens", "ms", curves("first_token_ms"), doubling=True)
    further = Panel("Each further token", "position", "ms", curves("token_ms"))
    draw(file, f"phi-ls bench: {', '.join(models)}", [first, further])
