"""The server's side of the pipe: starts the engine process, keeps it running, and turns requests into streams of text.

The process may end at any moment, killed or crashed. That costs the running requests a clear error and nothing else.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from phi_backends.elsewhere import worker_command
from phi_backends.errors import EngineError, PhiError, WorkerDied
from phi_backends.messages import Cancel, Done, Failed, Generate, Load, Loaded, Loading, Priority, Text, ToWorker, decode, encode
from phi_prompts.prompt import Prompt

MAX_CRASHES = 3
"""Of loads in a row; then the engine stays off until it is asked for again."""
BACKOFF_S = (0.1, 0.5, 2.0)
"""Pauses before starting again, by the number of loads in a row that crashed."""
SHORTEST_NAP_S, LONGEST_NAP_S = 0.05, 60.0
"""Between two looks at whether the engine is used."""
MAX_LINE_BYTES = 1 << 26
_NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""On Windows, a program started by one without a console opens a console of its own."""


@dataclass(frozen=True)
class EngineStatus:
    state: Literal["starting", "loading", "ready", "restarting", "asleep", "off"]
    detail: str
    """One sentence for the user."""
    loaded: Loaded | None = None


@dataclass
class Work:
    """What the engine did for requests of one priority, those cancelled included."""

    requests: int = 0
    prefilled_tokens: int = 0
    """Of prompts: those that were in no KV cache."""
    answer_tokens: int = 0


class Client:
    """One engine process. `run` it in a task; `generate` from others of the same event loop."""

    def __init__(
        self,
        load: Load,
        on_status: Callable[[EngineStatus], None] = lambda status: None,
        python: str | None = None,
        unload_after_s: float = 0,
    ) -> None:
        """`python` is the interpreter of the environment that holds the engine's runtime; None: see elsewhere.py. Where
        nothing was asked of it for `unload_after_s`, the process is ended until `wake`; 0: never."""
        self._load = load
        self._on_status = on_status
        self._python = python
        self._requests = count(1)
        self._running: dict[int, Generation] = {}
        self._outbox: asyncio.Queue[ToWorker] | None = None
        self._changed = anyio.Event()
        self.status = EngineStatus("starting", "The engine process was not started yet.")
        self.work = {priority: Work() for priority in Priority}
        self._priorities: dict[int, Priority] = {}
        """Of the requests whose end the engine has not told yet."""
        self.unload_after_s = unload_after_s
        self._used_at = time.monotonic()
        self._woken = anyio.Event()
        self.decode_token_ms = 0.0
        """By the newest measurement."""
        self.pid: int | None = None

    async def run(self) -> None:
        """Keeps the engine process running until this is cancelled or the engine is off."""
        crashes = 0
        try:
            while not self._is_off:
                was_loaded = await self._one_life()
                if self.status.state == "asleep":
                    await self._woken.wait()
                    continue
                crashes = 0 if was_loaded else crashes + 1
                if crashes == MAX_CRASHES and not self._is_off:
                    crashed = f"The engine process crashed {crashes} times in a row while loading; the log may say why."
                    self._set(EngineStatus("off", f"{crashed} Choose another engine, model or device, then restart the engine."))
                elif not self._is_off:
                    await anyio.sleep(BACKOFF_S[crashes])
        finally:
            if not self._is_off:  # somebody may still wait for it to be loaded
                self._set(EngineStatus("off", "The engine was stopped."))

    async def loaded(self) -> Loaded:
        """Waits until there is a model. Raises EngineError, with the reason, when there will be none."""
        self.wake()
        while self.status.loaded is None:
            if self._is_off:
                raise EngineError(self.status.detail)
            await self._changed.wait()
        return self.status.loaded

    def wake(self) -> None:
        """Has the model loaded again, if it was unloaded for lack of use; otherwise it is kept a while longer."""
        self._used_at = time.monotonic()
        self._woken.set()

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        max_prompt_tokens: int | None = None,
        priority: Priority = Priority.COMPLETION,
        stop: tuple[str, ...] = (),
        heal: str = "",
        temperature: float = 0.0,
        deadline_ms: float | None = None,
        prefill_only: bool = False,
    ) -> "Generation":
        """Asks the engine for an answer; see messages.Generate. The request is sent at once, so wait for `loaded` before.

        Raises EngineError when there is no engine to ask. The stream raises EngineError or WorkerDied.
        """
        if self._outbox is None or self.status.state != "ready":
            raise EngineError(self.status.detail)
        self._used_at = time.monotonic()
        message = Generate(
            next(self._requests), prompt, max_tokens, max_prompt_tokens, priority, stop, heal, temperature, deadline_ms, prefill_only
        )
        generation = Generation(message.request, self._forget)
        self._running[message.request] = generation
        self._priorities[message.request] = priority
        self._outbox.put_nowait(message)
        return generation

    def runs(self, priority: Priority) -> bool:
        """Whether the engine has a request of that priority that has not ended."""
        return priority in self._priorities.values()

    def _forget(self, request: int) -> None:
        if self._running.pop(request, None) is not None and self._outbox is not None:
            self._outbox.put_nowait(Cancel(request))

    @property
    def _is_off(self) -> bool:
        return self.status.state == "off"

    def _set(self, status: EngineStatus) -> None:
        self.status = status
        self._changed.set()
        self._changed = anyio.Event()
        self._on_status(status)

    async def _one_life(self) -> bool:
        """From start to end of one process. Returns whether it had a model loaded."""
        command = worker_command(self._load.engine, self._python)
        try:
            process = await anyio.open_process(command, stderr=None, cwd=Path(sys.executable).anchor, creationflags=_NO_WINDOW)
        except OSError as error:
            self._set(EngineStatus("off", f"The engine process could not be started ({error}). Check the interpreter {command[0]}."))
            return False
        was_loaded = False
        self.pid = process.pid
        self._set(EngineStatus("starting", "The engine process has been started."))
        self._outbox = asyncio.Queue()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, process, self._outbox)
                tasks.start_soon(self._unload_when_unused, tasks.cancel_scope)
                self._outbox.put_nowait(self._load)
                assert process.stdout is not None
                await self._read(process.stdout)  # its end is the reliable sign of the process's; `returncode` can lag
                was_loaded = self.status.loaded is not None
                if not self._is_off:
                    self._set(EngineStatus("restarting", "The engine process ended unexpectedly and is being started again."))
                tasks.cancel_scope.cancel()
        finally:
            self.pid = self._outbox = None
            for generation in self._running.values():
                generation._fail(WorkerDied("The engine process has ended in the middle of this. Please try again in a moment."))
            self._running.clear()
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await _end(process)
            self._priorities.clear()
        return was_loaded

    async def _unload_when_unused(self, life: anyio.CancelScope) -> None:
        """Ends the process's life when nothing was asked of it for the time that is set, which may change."""
        while True:
            unused_s = time.monotonic() - self._used_at
            if self.unload_after_s and unused_s >= self.unload_after_s and self.status.state == "ready" and not self._priorities:
                self._woken = anyio.Event()
                self._set(EngineStatus("asleep", "The model was unloaded, as it was not used. It is loaded again when it is needed."))
                life.cancel()
            left_s = self.unload_after_s - unused_s if self.unload_after_s else LONGEST_NAP_S
            await anyio.sleep(min(LONGEST_NAP_S, max(SHORTEST_NAP_S, left_s)))

    def _count(self, done: Done) -> None:
        work = self.work[self._priorities.pop(done.request)]
        work.requests += 1
        work.prefilled_tokens += done.timings.prompt_tokens - done.timings.reused_tokens
        work.answer_tokens += done.timings.answer_tokens
        self.decode_token_ms = done.timings.decode_token_ms

    async def _write(self, process: Process, outbox: "asyncio.Queue[ToWorker]") -> None:
        assert process.stdin is not None
        try:
            while True:
                await process.stdin.send(encode(await outbox.get()))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass  # the reader sees the end of the process too, and deals with it

    async def _read(self, stdout: ByteReceiveStream) -> None:
        lines = BufferedByteReceiveStream(stdout)
        while True:
            try:
                line = await lines.receive_until(b"\n", MAX_LINE_BYTES)
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                return
            message = decode(line)
            if isinstance(message, Text | Done):
                if (generation := self._running.get(message.request)) is not None:
                    generation._receive(message)
                if isinstance(message, Done):
                    self._running.pop(message.request, None)
                    self._count(message)
            elif isinstance(message, Failed) and message.request is not None:
                self._priorities.pop(message.request, None)
                if (generation := self._running.pop(message.request, None)) is not None:
                    generation._fail(EngineError(message.message))
            elif isinstance(message, Failed):
                self._set(EngineStatus("off", message.message))
            elif isinstance(message, Loading):
                self._set(EngineStatus("loading", f"The engine is getting ready: {message.stage}."))
            elif isinstance(message, Loaded):
                detail = f"{message.model} runs on {message.device} with {message.engine}: {message.reason}."
                self.decode_token_ms = message.decode_token_ms
                self._set(EngineStatus("ready", detail, message))


class Generation:
    """The stream of an answer: an async iterator over messages.Text. Leaving its `with` block early cancels the request."""

    def __init__(self, request: int, forget: Callable[[int], None]) -> None:
        self._request = request
        self._forget = forget
        self._inbox: asyncio.Queue[Text | Done | PhiError] = asyncio.Queue()
        self.done: Done | None = None
        """Set when the stream has ended by itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.cancel()

    def cancel(self) -> None:
        """The engine stops within one step. Does no harm to a generation that has ended."""
        self._forget(self._request)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Text:
        if self.done is not None:
            raise StopAsyncIteration
        message = await self._inbox.get()
        if isinstance(message, Text):
            return message
        if isinstance(message, PhiError):
            raise message
        self.done = message
        raise StopAsyncIteration

    def _receive(self, message: Text | Done) -> None:
        self._inbox.put_nowait(message)

    def _fail(self, error: PhiError) -> None:
        self._inbox.put_nowait(error)


async def _end(process: Process) -> None:
    """Closing its stdin ends the process; if not at once, it is killed."""
    assert process.stdin is not None
    await process.stdin.aclose()
    with anyio.move_on_after(0.3):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()
