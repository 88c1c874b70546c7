"""The engine processes of a server: the one that completes and, where `auto` finds that better and memory holds it, another that explains
and edits (phi_backends/auto.py says when). That one is started when it is first asked for, so who never asks never pays for it.

Not here: what is told of them (status.py), the process itself (phi_backends/client.py).
"""

import asyncio
import logging
from collections.abc import Callable, Collection

from phi_backends.auto import choices, for_answers
from phi_backends.client import Client, EngineStatus
from phi_backends.errors import EngineError, PhiError
from phi_backends.messages import Load
from phi_server.protocol import PhiLanguageServer
from phi_server.settings import Settings
from phi_server.status import Reporter, Status, status_of

logger = logging.getLogger(__name__)

_NOT_STARTED = EngineStatus("starting", "The engine process has not been started yet.")
_Task = asyncio.Task[None]


class EngineProcesses:
    def __init__(self, server: PhiLanguageServer, on_ready: Callable[[], None], may_measure: Callable[[], bool]) -> None:
        """`on_ready` is called when there is a model that completes. `may_measure`: whether unused engines may be measured now."""
        self._server = server
        self._on_ready = on_ready
        self._may_measure = may_measure
        self._settings = Settings()
        self._completing: Client | None = None
        self._answering: Client | None = None
        """None: the one that completes answers too."""
        self._tasks: dict[Client, _Task] = {}
        self._measuring: _Task | None = None
        self._reporter = Reporter(server, self._settings)

    def start(self, settings: Settings) -> None:
        """Starts the process that the settings ask for, in place of those that run."""
        before = self.stop()
        load, self._settings, self._reporter = settings.load(), settings, Reporter(self._server, settings)
        self._completing = self._client(load)
        try:
            if (answers := for_answers(load)) is not None:
                best = choices(answers)[0]
                self._answering = self._client(answers)
                self._answering.status = EngineStatus("asleep", f"{best.model} is loaded when it is first needed: {best.reason}.")
        except PhiError as error:
            logger.info("Nothing else explains: %s", error)  # loading says the same to the user
        self._tell()
        self._tasks[self._completing] = asyncio.create_task(self._run(self._completing, before))

    def stop(self) -> Collection[_Task]:
        """Returns what ends when the processes have."""
        tasks = self._tasks.values()
        for task in tasks:
            task.cancel()
        self._stop_measuring()
        self._completing, self._answering, self._tasks = None, None, {}
        return tasks

    async def close(self) -> None:
        if tasks := self.stop():
            await asyncio.wait(tasks)

    def unload_after(self, unused_s: float) -> None:
        for client in self._clients:
            client.unload_after_s = unused_s

    def wake(self) -> None:
        """A model that completes and was unloaded for lack of use is loaded again."""
        if self._completing is not None:
            self._completing.wake()

    @property
    def are_started(self) -> bool:
        return self._completing is not None

    @property
    def completing(self) -> Client:
        """Raises EngineError when none was started yet."""
        if self._completing is None:
            raise EngineError(_NOT_STARTED.detail)
        return self._completing

    @property
    def answering(self) -> Client:
        """For explanations and edits. Raises EngineError when none was started yet."""
        if self._answering is None:
            return self.completing
        if self._answering not in self._tasks:
            self._tasks[self._answering] = asyncio.create_task(self._run(self._answering, ()))
        return self._answering

    @property
    def status(self) -> EngineStatus:
        """Of the one that completes."""
        return _NOT_STARTED if self._completing is None else self._completing.status

    @property
    def answer_status(self) -> EngineStatus:
        """Of the one that explains and edits, which may be the same."""
        return self.status if self._answering is None else self._answering.status

    def told(self) -> Status:
        """What the editor was last told."""
        return status_of(self.status, self._settings, self._apart)

    @property
    def decode_token_ms(self) -> float:
        """Of the one that completes."""
        return 0.0 if self._completing is None else self._completing.decode_token_ms

    @property
    def work(self) -> dict[str, dict[str, int]]:
        """What they did, by the priority of the requests: `completion`, `answer`, `idle`."""
        found: dict[str, dict[str, int]] = {}
        for client in self._clients:
            for priority, work in client.work.items():
                before = found.setdefault(priority.name.lower(), {})
                before |= {name: count + before.get(name, 0) for name, count in vars(work).items()}
        return found

    @property
    def _clients(self) -> list[Client]:
        return [client for client in (self._completing, self._answering) if client is not None]

    def _client(self, load: Load) -> Client:
        def on_status(status: EngineStatus) -> None:
            if client in self._clients:  # an engine that was replaced has nothing to say any more
                self._tell()
                self._measure_when_unused()
                if client is self._completing and status.state == "ready":
                    self._on_ready()

        client = Client(load, on_status, unload_after_s=self._settings.unload_after_s)
        return client

    async def _run(self, client: Client, before: Collection[_Task]) -> None:
        try:
            if before:
                await asyncio.wait(before)  # two models at a time may be more than the memory holds
            await client.run()
        except Exception as error:
            logger.exception("The engine's client failed.")
            detail = f"phi-ls failed unexpectedly ({type(error).__name__}). Restart the engine, and report it with the log."
            client.status = EngineStatus("off", detail)
            if client in self._clients:
                self._tell()

    def _tell(self) -> None:
        self._reporter.tell(self.status, self._apart)

    @property
    def _apart(self) -> EngineStatus | None:
        return None if self._answering is None else self._answering.status

    def _measure_when_unused(self) -> None:
        """While no model is loaded, for lack of use, there is time to learn what is fast; the next load makes use of it."""
        self._stop_measuring()
        if all(client.status.state == "asleep" for client in self._clients) and self._may_measure():
            self._measuring = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        from phi_server.measuring import measure_unknown  # which a server that starts has no use for

        try:
            await measure_unknown(self._settings)
        except Exception:
            logger.exception("Measuring failed.")

    def _stop_measuring(self) -> None:
        if self._measuring is not None:
            self._measuring.cancel()  # the process that is measured ends at once
        self._measuring = None
