"""`phi-ls bench server`: what the server costs and what the KV cache saves, as ratios within one run, since machines are noisy.

Every figure is the median over pairs measured in turn. Not here: how good the answers are.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from statistics import median
from typing import Any

import anyio

from phi_backends.client import Client, Generation
from phi_backends.messages import Done, Loaded, Priority
from phi_server.documents import Position, Snapshot
from phi_server.inline_completion import ask
from phi_server.lsp_client import LspClient, LspError
from phi_server.settings import Settings

ROUNDS = 15
START_ROUNDS = 5
TYPED = "        if item.name not in self.items: "
URI = "file:///shop/inventory.py"
CAPABILITIES: dict[str, Any] = {"general": {"positionEncodings": ["utf-32"]}, "textDocument": {"inlineCompletion": {}}}


async def measure(settings: Settings, engine_arguments: list[str]) -> dict[str, Any]:
    """All figures: milliseconds, and the ratios made of them. Raises PhiError when the engine does not load."""
    server = [sys.executable, "-P", "-m", "phi_server", "serve", *engine_arguments]
    report: dict[str, Any] = {"start": await _start(server)}
    client = Client(settings.load())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        loaded = await client.loaded()
        report["engine"] = {key: getattr(loaded, key) for key in ("engine", "model", "device", "context_tokens", "load_ms")}
        report["kv_reuse"] = await _kv_reuse(client, loaded)
        quiet = {"debounce_ms": 0, "power": "saving", "statistics": False}  # no work ahead of time in between
        initialize = {"rootUri": None, "capabilities": CAPABILITIES, "initializationOptions": quiet}
        async with await LspClient.start(server, initialize) as editor:
            await editor.notification("phi-ls/status", lambda status: status["state"] == "ready")
            report["server"] = await _server(client, loaded, editor, settings)
            report["cancel"] = await _cancel(client, loaded, editor)
        tasks.cancel_scope.cancel()
    return report


def to_text(report: dict[str, Any]) -> str:
    """The report for people."""
    engine, start, reuse, server, cancel = (report[key] for key in ("engine", "start", "kv_reuse", "server", "cancel"))
    return "\n".join(
        [
            f"{engine['model']} on {engine['device']} with {engine['engine']}; medians, each ratio within one run",
            f"server       {server['ratio']:5.2f} × the engine alone for a completion: {server['lsp_ms']:.1f} ms over LSP, "
            f"{server['engine_ms']:.1f} ms in the engine",
            f"KV reuse     {reuse['ratio']:5.1f} × faster to the first token of a keystroke: {reuse['reused_ms']:.1f} ms with reuse, "
            f"{reuse['cold_ms']:.1f} ms without, at {reuse['prompt_tokens']} tokens",
            f"cancel       {cancel['ratio']:5.2f} decode steps from $/cancelRequest to an idle engine: {cancel['cancel_ms']:.1f} ms, "
            f"a step takes {cancel['step_ms']:.1f} ms",
            f"start        {start['ratio']:5.2f} × `import pygls.lsp.server`: initialize answered after {start['initialize_ms']:.0f} ms, "
            f"the import takes {start['import_ms']:.0f} ms",
        ]
    )


async def _start(server: list[str]) -> dict[str, float]:
    """From spawn to the answer to `initialize`, against the least that any pygls server needs."""
    initialize_ms, import_ms = [], []
    for _ in range(START_ROUNDS):
        started = time.perf_counter()
        async with await LspClient.spawn(server) as editor:
            await editor.initialize({"rootUri": None, "capabilities": CAPABILITIES})
            initialize_ms.append(_ms_since(started))
        started = time.perf_counter()
        await anyio.run_process([sys.executable, "-c", "import pygls.lsp.server"], stdout=subprocess.DEVNULL)
        import_ms.append(_ms_since(started))
    return {"initialize_ms": median(initialize_ms), "import_ms": median(import_ms), "ratio": _ratio(initialize_ms, import_ms)}


async def _kv_reuse(client: Client, loaded: Loaded) -> dict[str, float]:
    """The first token of a keystroke with the cache of the one before, and for a document that was never seen."""
    reused_ms, cold_ms, prompt_tokens = [], [], 0
    for round, snapshot in enumerate(_typing()):
        warm = await _answer(client, loaded, snapshot, max_tokens=1)
        cold = await _answer(client, loaded, Snapshot(f"file:///{round}/{round}.py", None, "python", snapshot.lines), max_tokens=1)
        if round > 0:  # nothing was there to be reused for the first
            reused_ms.append(warm.timings.first_token_ms - warm.timings.queued_ms)
            cold_ms.append(cold.timings.first_token_ms - cold.timings.queued_ms)
        prompt_tokens = warm.timings.prompt_tokens
    return {
        "reused_ms": median(reused_ms),
        "cold_ms": median(cold_ms),
        "ratio": _ratio(cold_ms, reused_ms),
        "prompt_tokens": prompt_tokens,
    }


async def _server(client: Client, loaded: Loaded, editor: LspClient, settings: Settings) -> dict[str, float]:
    """The same completions over LSP, and in the engine process of our own, by its own clock."""
    lsp_ms, engine_ms = [], []
    await editor.open(URI, _sample() + TYPED)
    for round, snapshot in enumerate(_different_lines()):
        change = {"text": "".join(snapshot.lines)}
        started = time.perf_counter()
        await editor.notify("textDocument/didChange", {"textDocument": {"uri": URI, "version": round + 2}, "contentChanges": [change]})
        place = {"line": len(snapshot.lines) - 1, "character": len(snapshot.lines[-1])}
        request = {"textDocument": {"uri": URI}, "position": place, "context": {"triggerKind": 2}}
        await editor.request("textDocument/inlineCompletion", request)
        lsp_ms.append(_ms_since(started))
        alone = await _answer(client, loaded, snapshot, max_tokens=settings.max_completion_tokens, stop=("\n",))
        engine_ms.append(alone.timings.total_ms)
    return {"lsp_ms": median(lsp_ms[1:]), "engine_ms": median(engine_ms[1:]), "ratio": _ratio(lsp_ms[1:], engine_ms[1:])}


async def _cancel(client: Client, loaded: Loaded, editor: LspClient) -> dict[str, float]:
    """From `$/cancelRequest` to its answer, and from the server's cancel to the engine being free, in decode steps."""
    steps, cancels = [], []
    snapshot = next(_typing())
    argument = {"uri": URI, "range": {"start": {"line": 0, "character": 0}, "end": {"line": 30, "character": 0}}}
    for _ in range(ROUNDS):
        timings = (await _answer(client, loaded, snapshot, max_tokens=200)).timings
        steps.append((timings.total_ms - timings.first_token_ms) / max(1, timings.answer_tokens - 1))
        with _generation(client, loaded, snapshot, max_tokens=200) as generation:
            await anext(generation)
        idle = (await _answer(client, loaded, snapshot, max_tokens=0)).timings.queued_ms
        explaining = await editor.ask("workspace/executeCommand", {"command": "phi-ls.explain", "arguments": [argument]})
        started = time.perf_counter()
        await editor.cancel(explaining)
        with suppress(LspError):
            await explaining
        cancels.append(idle + _ms_since(started))
    return {"cancel_ms": median(cancels), "step_ms": median(steps), "ratio": median(cancels) / median(steps)}


def _sample() -> str:
    return files("phi_server").joinpath("demo_project/inventory.py").read_text(encoding="utf-8") + "\n    def add_all(self, items):\n"


def _typing() -> Iterator[Snapshot]:
    """The sample file with one more key typed each time."""
    for keys in range(len(TYPED) - ROUNDS, len(TYPED) + 1):
        yield Snapshot.of_text(URI, None, "python", _sample() + TYPED[:keys])


def _different_lines() -> Iterator[Snapshot]:
    """The sample file with a line that is begun differently each time: nothing that was suggested before fits."""
    for round in range(ROUNDS + 1):
        yield Snapshot.of_text(URI, None, "python", f"{_sample()}        value_{round} = item.")


def _generation(client: Client, loaded: Loaded, snapshot: Snapshot, max_tokens: int, stop: tuple[str, ...] = ()) -> Generation:
    line = len(snapshot.lines) - 1
    question, heal = ask(snapshot, Position(line, len(snapshot.lines[line])), loaded)
    return client.generate(question.prompt, max_tokens=max_tokens, priority=Priority.COMPLETION, stop=(*question.stop, *stop), heal=heal)


async def _answer(client: Client, loaded: Loaded, snapshot: Snapshot, max_tokens: int, stop: tuple[str, ...] = ()) -> Done:
    with _generation(client, loaded, snapshot, max_tokens, stop) as generation:
        async for _ in generation:
            pass
    assert generation.done is not None
    return generation.done


def _ratio(numerators: list[float], denominators: list[float]) -> float:
    """The median of the ratios of pairs."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def _ms_since(started: float) -> float:
    return 1000 * (time.perf_counter() - started)
