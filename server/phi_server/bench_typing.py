"""`phi-ls bench typing`: what somebody who types gets, and what it costs. Keys are replayed, at their times, into the real server.

The typist is simple: each key is a change and a request, as editors send them; a suggestion that is what comes next anyway is accepted
after REACTION_MS, if nothing else is to be typed before that. The times between keys come from a recording, or are drawn: quick in words,
slower at their ends, and now and then a pause to think at a line's end.

Several engines get the same keys and prompts, one after the other. llama.cpp's server is one of them, with the engine `remote`: it has its
prompt cache on by itself.

Not here: how good suggestions are (`phi-ls eval`), single parts in isolation (bench_server.py).
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

from phi_backends.errors import BadInput
from phi_backends.messages import Load
from phi_prompts.signatures import signatures
from phi_server.bench_picture import Panel, draw
from phi_server.documents import language_of
from phi_server.lsp_client import LspClient, LspError

REACTION_MS = 250.0
SLOW_MODEL_S = 600.0
"""To load it, or for one answer, at most."""
CHARACTERS_PER_TOKEN = 3.0
"""Of code, in Phi-3's tokens: for how many of the tokens written were accepted."""
KEYS_A_POINT = 10
"""Of the curves in the picture."""
OWN_ROUNDS = 300
BIG_DOCUMENT_CHARACTERS = 1_000_000
CAPABILITIES: dict[str, Any] = {"general": {"positionEncodings": ["utf-32"]}, "textDocument": {"inlineCompletion": {}}}


@dataclass(frozen=True)
class Key:
    after_ms: float
    """The time since the key before."""
    text: str


def read_keys(recording: Path) -> list[Key]:
    """A JSON line for each key: `{"after_ms": 130, "text": "x"}`. Raises BadInput."""
    try:
        keys = [json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [Key(float(key["after_ms"]), str(key["text"])) for key in keys]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f'"{recording}" cannot be read as keys ({error}). Each line is {{"after_ms": 130, "text": "x"}}.') from error


def typed(text: str, seed: int = 1) -> Iterator[Key]:
    """The text as one might type it, at about 5 keys a second; the same each time."""
    drawn = random.Random(seed)
    before = "\n"
    for character in text:
        gap_ms = 130 if before.isalnum() and character.isalnum() else 220
        if before == "\n":
            gap_ms = 900 if drawn.random() < 0.3 else 400
        yield Key(gap_ms * drawn.lognormvariate(0, 0.35), character)
        before = character


def session(file: Path | None, recording: Path | None) -> tuple[str, str, list[Key]]:
    """The file's name, the text that is there, and the keys that are typed behind it. Raises BadInput."""
    try:
        source = files("phi_server").joinpath("demo_project/inventory.py") if file is None else file
        text = source.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(f'"{file}" cannot be read ({error}). Give a source file in UTF-8.') from error
    lines = text.splitlines(keepends=True)
    third = text.count("\n", 0, len(text) // 3) + 1
    definitions = (number for number, _ in signatures(lines, language_of(Path(source.name)), (), len(lines)) if number >= third)
    cut = len("".join(lines[: next(definitions, third)]))  # a third may be in a docstring, and with prose nobody helps
    return source.name, text[:cut], list(typed(text[cut:])) if recording is None else read_keys(recording)


async def measure(
    load: Load, name: str, text: str, keys: Sequence[Key], cancels: bool, min_probability: float | None = None
) -> dict[str, Any]:
    """All figures. `cancels`: the editor cancels a request when the next key comes, as VS Code does and Neovim does not.
    `min_probability`: in place of the setting's default."""
    server = [sys.executable, "-P", "-m", "phi_server", "serve", *_arguments(load)]
    settings = {"statistics": False, "min_probability": min_probability}
    initialize = {"rootUri": None, "capabilities": CAPABILITIES, "initializationOptions": settings}
    async with await LspClient.start(server, initialize) as editor:
        editor.timeout_s = SLOW_MODEL_S
        status = await editor.notification("phi-ls/status", lambda status: status["state"] in ("ready", "off"))
        if status["state"] == "off":
            raise BadInput(status["detail"])
        typist = _Typist(editor, f"file:///typing/{name}", language_of(Path(name)), text)
        report = await typist.replay(keys, cancels)
        report["own_ms"] = await _own_latency(editor)
        return {"engine": {key: status[key] for key in ("engine", "model", "device")}, **report}


def to_text(reports: Sequence[dict[str, Any]]) -> str:
    """The reports for people, side by side."""
    columns = [_column(report) for report in reports]
    rows = [[label, *(column[label] for column in columns)] for label in columns[0]]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _column(report: dict[str, Any]) -> dict[str, str]:
    engine, own = report["engine"], report["own_ms"]
    return {
        "engine": f"{engine['engine']}, {engine['device']}",
        "model": Path(engine["model"]).name,
        "keys struck": f"{report['keys']} in {report['typing_s']:.0f} s",
        "ghost text after the key": f"p50 {report['ghost_p50_ms']:.0f} ms, p95 {report['ghost_p95_ms']:.0f} ms",
        "keys with it before the next key": f"{100 * report['on_time_share']:.0f} %, all right {100 * report['right_share']:.0f} %",
        "keys that ran no model": f"{100 * report['from_memory_share']:.0f} %",
        "keystrokes saved": f"{report['saved_keys']} of {report['keys'] + report['saved_keys']}, in {report['accepted']} suggestions",
        "tokens written": f"{report['written_tokens']}, thrown away {report['thrown_away_tokens']}",
        "tokens prefilled for each key": f"{report['prefilled_tokens_a_key']:.1f}, and {report['ahead_tokens_a_key']:.1f} ahead of time",
        "processor for a minute of typing": f"{report['cpu_s_a_minute']:.1f} s",
        "server alone, model at work": f"p50 {own['p50']:.1f} ms, p99 {own['p99']:.1f} ms",
    }


def picture(file: Path, reports: Sequence[dict[str, Any]]) -> None:
    """Raises BadInput where it cannot be drawn."""
    labels = [f"{r['engine']['engine']}, {Path(r['engine']['model']).name}, {r['engine']['device']}" for r in reports]
    panels = [
        Panel("Time to ghost text", "suggestions, %", "ms after the key, at most", _curves(labels, reports, "ghost_ms")),
        Panel("Keystrokes saved", "keys struck", "keystrokes saved", _curves(labels, reports, "saved_by_key")),
        Panel("Processor time", "s of typing", "s", _curves(labels, reports, "cpu_by_s")),
    ]
    draw(file, f"{reports[0]['keys'] + reports[0]['saved_keys']} characters typed", panels)


def _curves(labels: Sequence[str], reports: Sequence[dict[str, Any]], name: str) -> dict[str, Sequence[tuple[float, float]]]:
    return {label: report["curves"][name] for label, report in zip(labels, reports, strict=True)}


def _arguments(load: Load) -> list[str]:
    """The engine, for the command line of another phi-ls."""
    options = (f"--engine-option={name}={json.dumps(value)}" for name, value in load.options.items())
    return [f"--engine={load.engine}", f"--model={load.model}", f"--device={load.device}", *options]


class _Typist:
    def __init__(self, editor: LspClient, uri: str, language_id: str, text: str) -> None:
        self._editor = editor
        self._uri = uri
        self._language_id = language_id
        self._text = text
        self._version = 1
        self._ghost_ms: list[float] = []
        self._shown: tuple[int, str] | None = None
        """The version that the suggestion on show was made for, and its text."""
        self._asked: list[asyncio.Task[None]] = []
        self._pending: asyncio.Future[Any] | None = None

    async def replay(self, keys: Sequence[Key], cancels: bool) -> dict[str, Any]:
        await self._editor.open(self._uri, self._text, self._language_id)
        before, cpu, started = await self._work(), _cpu_s(self._editor.process.pid), time.perf_counter()
        typed_keys = accepted = saved = at = on_time = right = 0
        saved_by_key, cpu_by_s = [(0, 0)], [(0.0, 0.0)]
        while at < len(keys):
            gap_s = keys[at].after_ms / 1000
            await asyncio.sleep(gap_s)
            if cancels and self._pending is not None and not self._pending.done():
                await self._editor.cancel(self._pending)
            shown = self._shown[1] if self._shown is not None and self._shown[0] == self._version else ""
            coming = "".join(key.text for key in keys[at : at + len(shown)])
            on_time += bool(shown)
            right += bool(shown) and coming == shown
            if shown and coming == shown and len(shown) > 1:
                await asyncio.sleep(max(0.0, REACTION_MS / 1000 - gap_s))
                await self._type(shown)
                accepted, saved, at = accepted + 1, saved + len(shown) - 1, at + len(shown)
            else:
                await self._type(keys[at].text)
                at += 1
            typed_keys += 1
            if typed_keys % KEYS_A_POINT == 0:
                saved_by_key.append((typed_keys, saved))
                cpu_by_s.append((time.perf_counter() - started, _cpu_s(self._editor.process.pid) - cpu))
        await asyncio.wait(self._asked)
        minutes = (time.perf_counter() - started) / 60
        cpu = _cpu_s(self._editor.process.pid) - cpu
        after = await self._work()
        work = {priority: {name: count - before[priority][name] for name, count in counts.items()} for priority, counts in after.items()}
        written = sum(counts["answer_tokens"] for counts in work.values())
        ghosts = sorted(self._ghost_ms) or [0.0]
        return {
            "keys": typed_keys,
            "typing_s": 60 * minutes,
            "ghost_p50_ms": median(ghosts),
            "ghost_p95_ms": _percentile(ghosts, 95),
            "on_time_share": on_time / typed_keys,
            "right_share": right / max(1, on_time),
            "from_memory_share": 1 - work["completion"]["requests"] / typed_keys,
            "model_runs": {priority: counts["requests"] for priority, counts in work.items()},
            "accepted": accepted,
            "saved_keys": saved,
            "written_tokens": written,
            "thrown_away_tokens": max(0, written - round((saved + accepted) / CHARACTERS_PER_TOKEN)),
            "prefilled_tokens_a_key": work["completion"]["prefilled_tokens"] / typed_keys,
            "ahead_tokens_a_key": work["idle"]["prefilled_tokens"] / typed_keys,
            "cpu_s_a_minute": cpu / minutes,
            "curves": {
                "ghost_ms": [(percent, _percentile(ghosts, percent)) for percent in range(0, 101, 5)],
                "saved_by_key": saved_by_key,
                "cpu_by_s": cpu_by_s,
            },
        }

    async def _type(self, text: str) -> None:
        """A change at the end of the document, and the request that follows it."""
        lines = self._text.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        self._text += text
        self._version += 1
        lines = self._text.split("\n")
        change = {"range": {"start": place, "end": place}, "text": text}
        document = {"uri": self._uri, "version": self._version}
        await self._editor.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        request = {"textDocument": {"uri": self._uri}, "position": place, "context": {"triggerKind": 2}}
        started = time.perf_counter()
        self._pending = await self._editor.ask("textDocument/inlineCompletion", request)
        self._asked.append(asyncio.create_task(self._answered(self._pending, self._version, started)))

    async def _answered(self, pending: "asyncio.Future[Any]", version: int, started: float) -> None:
        try:
            result = await pending
        except LspError:  # cancelled
            return
        if result and result["items"]:
            self._ghost_ms.append(1000 * (time.perf_counter() - started))
            self._shown = (version, result["items"][0]["insertText"])

    async def _work(self) -> dict[str, dict[str, int]]:
        status = await self._editor.request("workspace/executeCommand", {"command": "phi-ls.status"})
        work: dict[str, dict[str, int]] = status["work"]
        return work


async def _own_latency(editor: LspClient) -> dict[str, float]:
    """Milliseconds for a key that is answered from memory: a change and a request, with a big document open and the model at work."""
    uri = "file:///typing/big.py"
    block = "".join(f"def function_{{0}}_{number}(value):\n    return value + {number}\n\n\n" for number in range(100))
    text = "".join(block.replace("{0}", str(number)) for number in range(BIG_DOCUMENT_CHARACTERS // len(block) + 1)) + "x = \n"
    await editor.open(uri, text)
    last = text.count("\n") - 1
    request = {"textDocument": {"uri": uri}, "position": {"line": last, "character": 4}, "context": {"triggerKind": 2}}
    await editor.request("textDocument/inlineCompletion", request)
    selection = {"start": {"line": 0, "character": 0}, "end": {"line": 60, "character": 0}}
    explain = {"command": "phi-ls.explain", "arguments": [{"uri": uri, "range": selection}]}
    explaining, times_ms = await editor.ask("workspace/executeCommand", explain), []
    for round in range(OWN_ROUNDS):
        if explaining.done():
            explaining = await editor.ask("workspace/executeCommand", explain)
        place = {"line": 1, "character": 4}
        change = {"range": {"start": place, "end": place}, "text": "x"}
        started = time.perf_counter()
        document = {"uri": uri, "version": round + 2}
        await editor.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
        await editor.request("textDocument/inlineCompletion", request)
        times_ms.append(1000 * (time.perf_counter() - started))
        await asyncio.sleep(0.01)
    if not explaining.done():
        await editor.cancel(explaining)
    await asyncio.gather(explaining, return_exceptions=True)
    return {"p50": median(times_ms), "p99": _percentile(sorted(times_ms), 99)}


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its children; 0 where the system does not say."""
    read: Callable[[str], str] = lambda name: Path(f"/proc/{pid}/{name}").read_text(encoding="ascii")  # noqa: E731
    try:
        fields = read("stat").rpartition(")")[2].split()
        children = read(f"task/{pid}/children").split()
    except OSError:
        return 0.0
    ticks: int = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks + sum(_cpu_s(int(child)) for child in children)
