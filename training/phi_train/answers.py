"""What phi-ls says at a cursor: the server's own functions ask the exported model in the engine's own process, as an editor would get it.

Not here: what is counted (`evaluate.py`), what is fitted (`calibrate.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from phi_backends.client import Client
from phi_backends.messages import Load
from phi_server.documents import Position, Snapshot
from phi_server.inline_completion import Completion, ask, complete, site_at, write
from phi_server.local_completion import Copy, guess, longest_match
from phi_server.settings import Settings
from phi_train.cursors import Cursor

SETTINGS = Settings(max_completion_lines=1, min_probability=0.0, deadline_ms=60_000)
"""Everything is shown, with its probability: what a higher least probability leaves follows from that. None is cut for being late."""
MATCH_CHARACTERS = 10


@dataclass(frozen=True)
class Answer:
    cursor: Cursor
    shown: str
    """What ships: the likelier of the model's line and the copy."""
    probability: float
    is_copy: bool
    model: str
    model_probability: float
    unhealed: str
    """The model's line where what was typed of the word is in the prompt."""
    copy: str
    copy_probability: float
    simple_copy: str
    cold_ms: float
    """The model's line, nothing of the prompt in the KV cache."""
    warm_ms: float
    """What ships, the prompt in the KV cache but for its last token, as while one types."""
    copy_ms: float


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Client]:
    """The model's process, ready. `folder` is absolute, since the process is elsewhere."""
    client = Client(Load("openvino", str(folder), "CPU"))
    running = asyncio.create_task(client.run())
    try:
        await client.loaded()
        yield client
    finally:
        running.cancel()
        await asyncio.wait([running])


def document(cursor: Cursor) -> tuple[Snapshot, Position]:
    """The file without the target."""
    lines = cursor.before.split("\n")
    snapshot = Snapshot.of_text("file:///" + cursor.path, None, "python", cursor.before + cursor.below)
    return snapshot, Position(len(lines) - 1, len(lines[-1]))


def first_line(found: Completion | None) -> str:
    return "" if found is None else found.text.split("\n")[0]


async def model_line(client: Client, cursor: Cursor) -> tuple[str, float]:
    """The model's line alone, and its probability."""
    found = await complete(*document(cursor), client, SETTINGS, local=lambda snapshot, position, site: None)
    return first_line(found), found.probability or 0.0 if found else 0.0


async def unhealed_line(client: Client, cursor: Cursor) -> str:
    snapshot, position = document(cursor)
    site = site_at(snapshot, position, SETTINGS)
    question, heal = ask(snapshot, position, await client.loaded())
    prompt = (*question.prompt, heal)
    found = await write(client.generate(prompt, max_tokens=96, stop=("\n",)), snapshot, site, lambda text: None, None, 0.0)
    return found.text if found else ""


async def answer(client: Client, cursor: Cursor) -> Answer:
    snapshot, position = document(cursor)
    site = site_at(snapshot, position, SETTINGS)
    started = time.perf_counter()
    model, model_probability = await model_line(client, cursor)
    cold = time.perf_counter()
    copied = guess(snapshot, position, site)
    copy = time.perf_counter()
    found = await complete(snapshot, position, client, SETTINGS)
    warm = time.perf_counter()
    return Answer(
        cursor,
        first_line(found),
        found.probability or 0.0 if found else 0.0,
        found is not None and found.is_copy,
        model,
        model_probability,
        await unhealed_line(client, cursor),
        copied.text if copied else "",
        copied.probability or 0.0 if copied else 0.0,
        simple_copy(cursor.before),
        1000 * (cold - started),
        1000 * (warm - copy),
        1000 * (copy - cold),
    )


async def answers(folder: Path, asked: Iterable[Cursor]) -> list[Answer]:
    async with engine(folder) as client:
        return [await answer(client, cursor) for cursor in asked]


async def model_lines(folder: Path, asked: Iterable[Cursor]) -> list[str]:
    async with engine(folder) as client:
        return [(await model_line(client, cursor))[0] for cursor in asked]


def match(cursor: Cursor) -> Copy | None:
    """What is copied at a cursor, before post-processing."""
    return longest_match(cursor.before, cursor.below)


def simple_copy(before: str) -> str:
    """The baseline of the first models: the rest of the line after the longest match (10 characters at least, indentation counted) in the
    text above the cursor."""
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
