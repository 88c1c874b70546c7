"""An LSP client over the stdio of a server that it starts: for the demo, the benchmark and the tests.

Messages are plain dicts: nothing is decoded into classes, checked or repaired, so what is on the wire is what is seen.
Waits for messages, never for time.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 30.0
"""Far longer than anything takes: only a defect reaches it."""
ANSWERS: dict[str, Callable[[Any], Any]] = {
    "client/registerCapability": lambda params: None,
    "client/unregisterCapability": lambda params: None,
    "window/showDocument": lambda params: {"success": True},
    "window/showMessageRequest": lambda params: None,
    "window/workDoneProgress/create": lambda params: None,
    "workspace/applyEdit": lambda params: {"applied": True},
    "workspace/configuration": lambda params: [None for _ in params["items"]],
    "workspace/textDocumentContent/refresh": lambda params: None,
}


class LspError(Exception):
    """The server's error reply."""

    def __init__(self, error: dict[str, Any]):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


class LspClient:
    """Use as `async with LspClient(process)`, or `await LspClient.start(command)` and `await client.aclose()`."""

    def __init__(self, process: Process):
        self.process = process
        self.timeout_s = TIMEOUT_S
        self.answers: dict[str, Callable[[Any], Any | Awaitable[Any]]] = dict(ANSWERS)
        """How the server's requests are answered; change at will. A raised LspError becomes an error reply."""
        self.requested: list[tuple[str, Any]] = []
        """All requests of the server so far: method and params."""
        self.notifications: list[tuple[str, Any]] = []
        """Notifications that `notification` has not yet taken, and as "$unasked" answers to no request of ours."""
        self.handlers: dict[str, Callable[[Any], None]] = {}
        """Notifications that are handled as they come, by method, and not kept."""
        self.capabilities: dict[str, Any] = {}
        self.stderr = ""
        """Of the server so far, stray prints included."""
        self.reading = asyncio.Event()
        """Cleared: the client reads no more messages, as an editor that hangs."""
        self.reading.set()
        self._last_id = 0
        self._pending: dict[int | str, asyncio.Future[Any]] = {}
        self._news = asyncio.Condition()
        self._tasks = {asyncio.create_task(self._receive_all()), asyncio.create_task(self._read_stderr())}

    @classmethod
    async def spawn(cls, command: Sequence[str], *, env: dict[str, str] | None = None, cwd: str | os.PathLike[str] | None = None) -> Self:
        """A started server that has not got `initialize` yet."""
        environment = {**os.environ, **(env or {})}
        return cls(await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, cwd=cwd))

    @classmethod
    async def start(cls, command: Sequence[str], initialize: dict[str, Any] | None = None, **options: Any) -> Self:
        """A server that was initialized. A `processId` recorded elsewhere becomes ours."""
        client = await cls.spawn(command, **options)
        try:
            await client.initialize(initialize)
        except BaseException:
            await client.kill()
            raise
        return client

    async def initialize(self, params: dict[str, Any] | None = None) -> Any:
        params = {"processId": os.getpid(), "rootUri": None, "capabilities": {}} if params is None else {**params, "processId": os.getpid()}
        result = await self.request("initialize", params)
        self.capabilities = result["capabilities"]
        await self.notify("initialized", {})
        return result

    async def send_bytes(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def send(self, message: Any) -> None:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.send_bytes(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def notify(self, method: str, params: Any = None) -> None:
        await self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def ask(self, method: str, params: Any = None, msg_id: int | str | None = None) -> "asyncio.Future[Any]":
        """Sends a request. The future becomes its result, or raises LspError."""
        if msg_id is None:
            self._last_id += 1
            msg_id = self._last_id
        self._pending[msg_id] = future = asyncio.get_running_loop().create_future()
        await self.send({"jsonrpc": "2.0", "id": msg_id, "method": method, "params": params})
        return future

    async def request(self, method: str, params: Any = None) -> Any:
        async with asyncio.timeout(self.timeout_s):
            return await (await self.ask(method, params))

    async def cancel(self, future: "asyncio.Future[Any]") -> None:
        """Sends `$/cancelRequest` for what `ask` returned."""
        await self.notify("$/cancelRequest", {"id": next(key for key, value in self._pending.items() if value is future)})

    async def notification(self, method: str, met: Callable[[Any], bool] = lambda params: True) -> Any:
        """The params of the first notification of that kind that was not yet taken, as soon as there is one."""
        async with asyncio.timeout(self.timeout_s), self._news:
            while (found := next((n for n in self.notifications if n[0] == method and met(n[1])), None)) is None:
                await self._news.wait()
            self.notifications.remove(found)
            return found[1]

    async def logged(self, text: str) -> None:
        """Waits until the server has written that to stderr."""
        async with asyncio.timeout(self.timeout_s), self._news:
            await self._news.wait_for(lambda: text in self.stderr)

    async def open(self, uri: str, text: str, language_id: str = "python", version: int = 1) -> None:
        item = {"uri": uri, "languageId": language_id, "version": version, "text": text}
        await self.notify("textDocument/didOpen", {"textDocument": item})

    async def wait(self) -> int:
        """The exit code, once the process has ended and its last output is read."""
        async with asyncio.timeout(self.timeout_s):
            code = await self.process.wait()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return code

    async def aclose(self) -> None:
        """Ends the session as the protocol wants it; asserts that the process ended cleanly."""
        assert await self.request("shutdown") is None
        await self.notify("exit")
        code = await self.wait()
        assert code == 0, f"exit code {code}; stderr:\n{self.stderr}"

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            await self.kill()
            print(self.stderr, file=sys.stderr)
        elif self.process.returncode is None:
            await self.aclose()
        else:
            await self.wait()

    async def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        while data := await self.process.stderr.read(65536):
            self.stderr += data.decode("utf-8", "replace")
            await self._tell()

    async def _receive_all(self) -> None:
        assert self.process.stdout is not None
        try:
            while await self.reading.wait() and (header := await self.process.stdout.readline()):
                name, _, value = header.partition(b":")
                assert name.lower() == b"content-length", f"not a header: {header!r}"
                assert (await self.process.stdout.readline()) == b"\r\n"
                await self._receive(json.loads(await self.process.stdout.readexactly(int(value))))
        finally:
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(EOFError("The server has closed its stdout."))
                    future.exception()  # looked at: nobody need wait for it

    async def _receive(self, message: dict[str, Any]) -> None:
        assert message["jsonrpc"] == "2.0"
        if "method" in message and "id" in message:
            self.requested.append((message["method"], message.get("params")))
            task = asyncio.create_task(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif "method" not in message and (future := self._pending.pop(message["id"], None)) is not None:
            assert ("result" in message) != ("error" in message)
            if "error" in message:
                future.set_exception(LspError(message["error"]))
            else:
                future.set_result(message["result"])
        elif (handler := self.handlers.get(message.get("method", ""))) is not None:
            handler(message.get("params"))
        else:
            self.notifications.append((message["method"], message.get("params")) if "method" in message else ("$unasked", message))
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _answer(self, request: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            result = self.answers[request["method"]](request.get("params"))
            reply["result"] = await result if isinstance(result, Awaitable) else result
        except LspError as error:
            reply["error"] = {"code": error.code, "message": error.message}
        await self.send(reply)
