"""pygls 2.1.1, mended: no document is corrupted, no request stays unanswered, no process outlives its editor.

Here: JSON-RPC, cancellation, errors, `serve`. Not here: bytes and processes (stdio.py), documents (text_sync.py), and what the
server can do (app.py). What this module does not name is stock pygls, above all `@server.feature` and `@server.command`.
Handlers are `async`.

| stock pygls 2.1.1                                                | here                                                            |
| ---------------------------------------------------------------- | --------------------------------------------------------------- |
| form feed, U+2028, U+0085, \\x1c are lines: edits go astray       | \\r\\n, \\r and \\n only (text_sync.Document)                      |
| positions behind a line's end land before or inside its break    | at the line's end (text_sync.Codec)                             |
| invalid JSON, batches, ids and params get no answer              | -32700, -32600, -32602 (PhiProtocol.receive)                    |
| trigger kinds 0/1 of vscode-languageclient 9: no answer          | shifted to 1/2 for such a client (_mend_trigger_kind)           |
| stdin is read in the shared thread pool: busy threads stop it    | a thread of its own (stdio.read_messages)                       |
| a client that reads nothing blocks the loop                      | a thread of its own, nothing is dropped (stdio.Writer)          |
| lower-case `content-length` or garbage: hangs                    | any case; goes on at the next header (stdio.Framing)            |
| late answer to a cancelled handler: error toast (pygls #621)     | swallowed (_handle_response)                                    |
| an answer of the client that cannot be read: the handler hangs   | it raises (_receive_response)                                   |
| served before `initialize`, mute after `shutdown`                | -32002, -32600 (_accept)                                        |
| `exit` without `shutdown` returns 0                              | 1 (lsp_exit)                                                    |
| `processId` is not watched                                       | looked at every second (PhiLanguageServer.watch)                |
| EOF waits for threads, SIGTERM cleans nothing up                 | `on_exit` runs, the process ends within EXIT_WITHIN_S (serve)   |
| error `data` holds tracebacks, the log whole messages            | neither holds the user's code (_response_error)                 |
| `$/cancelRequest` leaves a command running                       | cancels it (lsp_workspace__execute_command)                     |
| progress tokens and the futures of notifications are kept        | forgotten at their end (_Progress, _execute_handler)            |
"""

import asyncio
import contextvars
import inspect
import json
import logging
import traceback
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import cattrs
from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcMethodNotFound,
    JsonRpcServerNotInitialized,
)
from pygls.lsp.server import LanguageServer
from pygls.progress import Progress
from pygls.protocol import LanguageServerProtocol, _dict_to_object, lsp_method
from pygls.protocol.language_server import _prepare_command_arguments
from pygls.uris import from_fs_path

from phi_backends.errors import PhiError
from phi_server.stdio import Framing, Unreadable, Writer, end_process_within, liveness, on_signals, read_messages, take_over_stdio
from phi_server.text_sync import Documents

logger = logging.getLogger(__name__)

EXIT_WITHIN_S = 0.45
"""From `exit`, the end of stdin or a signal to the end of the process, whatever still runs."""

MessageId = int | str


class _Progress(Progress):
    def end(self, token: types.ProgressToken, value: types.WorkDoneProgressEnd) -> None:
        self.tokens.pop(token, None)
        super().end(token, value)


class PhiProtocol(LanguageServerProtocol):
    _server: "PhiLanguageServer"

    def __init__(self, server: "PhiLanguageServer", converter: cattrs.Converter):
        super().__init__(server, converter)
        self.progress = _Progress(self)
        self._documents: Documents | None = None
        self._begun: set[str] = set()
        """Of `initialize` and `initialized`, those that came."""
        self._trigger_kinds_from_0 = False

    @property
    def workspace(self) -> Documents:
        if self._documents is None:
            raise RuntimeError("There is no workspace before `initialize`.")
        return self._documents

    @property
    def exit_code(self) -> int:
        """Of a process that ended now."""
        return 0 if self._shutdown else 1

    # From the client

    def receive(self, body: bytes | Unreadable) -> None:
        """Handles one message. A request gets one answer, a notification none; nothing is raised."""
        if isinstance(body, Unreadable):
            self._refuse(None, types.ErrorCodes.ParseError, body)
            return
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            self._refuse(None, types.ErrorCodes.ParseError, "The message is not JSON in UTF-8.")
            return
        if not isinstance(message, dict):
            self._refuse(None, types.ErrorCodes.InvalidRequest, "A message is one JSON object: LSP has no batches.")
            return
        msg_id = message.get("id")
        msg_id = msg_id if type(msg_id) in (int, str) else None
        if "method" not in message and ("result" in message or "error" in message):
            self._receive_response(message, msg_id)
            return
        try:
            self._accept(message, msg_id)
        except JsonRpcException as error:
            if "id" in message or not isinstance(message.get("method"), str):
                self._send_response(msg_id, error=error.to_response_error())
            else:
                logger.warning("Ignoring a notification: %s", error.message)
        except Exception as error:
            answer = _response_error(error)
            if msg_id is not None:
                self._send_response(msg_id, error=answer)

    def _accept(self, message: dict[str, Any], msg_id: MessageId | None) -> None:
        """Hands a request or notification to its handler. Raises JsonRpcException when it must be refused."""
        method, is_request = message.get("method"), "id" in message
        if not isinstance(method, str) or message.get("jsonrpc") != "2.0" or (is_request and msg_id is None):
            raise JsonRpcInvalidRequest('A request has "jsonrpc": "2.0", a method and an id that is a string or an integer.')
        message_type, result_type, params_type = types.METHOD_TO_TYPES.get(method, (None, None, None))[:3]
        if message_type is not None and is_request != (result_type is not None):
            raise JsonRpcInvalidRequest(f"{method} is a {'notification and has no id' if is_request else 'request and has an id'}.")
        if method != types.EXIT:
            if self._shutdown:
                raise JsonRpcInvalidRequest("The server was shut down: only `exit` is left.")
            if types.INITIALIZE not in self._begun and method != types.INITIALIZE:
                raise JsonRpcServerNotInitialized("`initialize` comes first.")
            if method in self._begun:
                raise JsonRpcInvalidRequest(f"`{method}` comes once.")
            if msg_id in self._request_futures:
                raise JsonRpcInvalidRequest("The request of that id is not answered yet.")
        if method not in self.fm.builtin_features and method not in self.fm.features and method != types.CANCEL_REQUEST:
            if is_request:
                raise JsonRpcMethodNotFound(f"This server has no {method}.")
            return
        if method == types.TEXT_DOCUMENT_INLINE_COMPLETION:
            self._mend_trigger_kind(message.get("params"))
        params = self._structure(message.get("params"), params_type, is_known=message_type is not None)
        if method in (types.INITIALIZE, types.INITIALIZED):
            self._begun.add(method)
        context = contextvars.copy_context()
        if msg_id is None:
            context.run(self._handle_notification, method, params)
        else:
            context.run(self._handle_request, msg_id, method, params)
        self._shutdown |= method == types.SHUTDOWN

    def _structure(self, params: Any, params_type: Any, is_known: bool) -> Any:
        try:
            if not is_known:
                return _dict_to_object(params)
            return None if params_type is None else self._converter.structure(params or {}, params_type)
        except Exception as error:
            # Where it is wrong, but not the value, which may be the user's code.
            where = cattrs.transform_error(error, "params", lambda exc, _: "missing" if isinstance(exc, KeyError) else "invalid")
            raise JsonRpcInvalidParams(f"Invalid params: {'; '.join(where[:3])}.") from None

    def _mend_trigger_kind(self, params: Any) -> None:
        """vscode-languageclient 9 sends VS Code's own InlineCompletionTriggerKind, which counts from 0, where LSP counts from 1."""
        context = params.get("context") if isinstance(params, dict) else None
        if isinstance(context, dict) and type(kind := context.get("triggerKind")) is int:
            self._trigger_kinds_from_0 |= kind == 0  # no other client sends it
            if self._trigger_kinds_from_0 and kind < 2:
                context["triggerKind"] = kind + 1

    def _receive_response(self, message: dict[str, Any], msg_id: MessageId | None) -> None:
        if msg_id is None or isinstance(self._request_futures.get(msg_id), asyncio.Future):
            return  # no request of ours: those are concurrent futures
        result_type, error, result = self._result_types.pop(msg_id, None), None, message.get("result")
        try:
            if message.get("error") is not None:
                error = self._converter.structure(message["error"], types.ResponseError)
            elif result_type is not None:
                result = self._converter.structure({"jsonrpc": "2.0", "id": msg_id, "result": result}, result_type).result
            else:
                result = _dict_to_object(result)
        except Exception:
            error = types.ResponseError(types.ErrorCodes.InvalidParams, "The client's answer cannot be read.")
        self._handle_response(msg_id, result, error)

    def _handle_response(self, msg_id: MessageId, result: Any = None, error: types.ResponseError | None = None) -> None:
        future = self._request_futures.get(msg_id)
        if future is not None and future.done():  # the handler that asked was cancelled
            self._request_futures.pop(msg_id)
        else:
            super()._handle_response(msg_id, result, error)

    # Handlers

    def _execute_handler(self, msg_id: Any, handler: Any, callback: Any, args: Any = None, kwargs: Any = None) -> None:
        super()._execute_handler(msg_id, handler, callback, args, kwargs)
        if (future := self._request_futures.get(msg_id)) is not None:
            future.add_done_callback(lambda _: self._request_futures.pop(msg_id, None))

    def _run_generator(self, future: Any, *, gen: Any, result_future: Any) -> None:
        if future is not None and future.cancelled():
            result_future.cancel()
        else:
            super()._run_generator(future, gen=gen, result_future=result_future)

    def _send_handler_result(self, future: Any, *, msg_id: MessageId) -> None:
        self._request_futures.pop(msg_id, None)
        try:
            if future.cancelled():
                self._refuse(msg_id, types.LSPErrorCodes.RequestCancelled, "Cancelled.")
            else:
                self._send_response(msg_id, future.result())
        except Exception as error:
            self._send_response(msg_id, error=_response_error(error))

    def _check_handler_result(self, future: Any) -> None:
        if not future.cancelled() and isinstance(error := future.exception(), Exception):
            answer = _response_error(error)
            if answer.code == types.LSPErrorCodes.RequestFailed:
                self._server.window_show_message(types.ShowMessageParams(types.MessageType.Error, answer.message))
            else:
                logger.warning("A notification failed: %s", answer.message)

    def cancel_requests(self) -> list["asyncio.Task[Any]"]:
        """Cancels all handlers but the one that calls. Returns what to wait for."""
        futures: list[Any] = list(self._request_futures.values())
        tasks = [future for future in futures if isinstance(future, asyncio.Task) and future is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        return tasks

    @lsp_method(types.INITIALIZE)
    def lsp_initialize(self, params: types.InitializeParams) -> Generator[Any, Any, types.InitializeResult]:
        root_uri = params.root_uri or (from_fs_path(params.root_path) if params.root_path else None)
        encoding = ServerCapabilitiesBuilder.choose_position_encoding(params.capabilities)
        self._documents = Documents(root_uri, self._server._text_document_sync_kind, params.workspace_folders or [], encoding)
        self._trigger_kinds_from_0 = _is_languageclient_9(params.capabilities)
        if params.process_id is not None:
            self._server.watch(params.process_id)
        return (yield from super().lsp_initialize(params))

    @lsp_method(types.SHUTDOWN)
    async def lsp_shutdown(self, *args: Any) -> None:  # type: ignore[override]
        if (user_handler := self.fm.features.get(types.SHUTDOWN)) is not None:
            await user_handler(*args)
        self.cancel_requests()

    @lsp_method(types.EXIT)
    def lsp_exit(self, *args: Any) -> Generator[Any, Any, None]:
        if (user_handler := self.fm.features.get(types.EXIT)) is not None:
            yield user_handler, args, None
        self._server.stop(self.exit_code)

    @lsp_method(types.WORKSPACE_EXECUTE_COMMAND)
    async def lsp_workspace__execute_command(self, params: types.ExecuteCommandParams) -> Any:  # type: ignore[override]
        if (handler := self.fm.commands.get(params.command)) is None:
            raise JsonRpcInvalidParams(f"This server has no command {params.command}.")
        try:
            args, kwargs = _prepare_command_arguments(handler, params, self._converter)
        except Exception as error:
            raise JsonRpcInvalidParams(f"{params.command} does not take these arguments ({type(error).__name__}).") from None
        result = handler(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    # To the client

    def _refuse(self, msg_id: MessageId | None, code: int, message: str) -> None:
        self._send_response(msg_id, error=types.ResponseError(code, message))

    def _send_response(self, msg_id: MessageId | None, result: Any = None, error: types.ResponseError | None = None) -> None:
        if error is None and msg_id is not None:
            super()._send_response(msg_id, result)
        elif error is not None:
            fields: dict[str, Any] = {"code": int(error.code), "message": str(error.message)}
            if error.data is not None and error.code != types.ErrorCodes.InternalError:
                fields["data"] = error.data
            self._send_data({"jsonrpc": "2.0", "id": msg_id, "error": fields})

    def _send_data(self, data: Any) -> None:
        """Unlike stock pygls it raises when `data` is no JSON: the request is then answered with an error."""
        body = json.dumps(data, default=self._serialize_message, allow_nan=False, separators=(",", ":")).encode()
        if self.writer is not None:
            self.writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


def _response_error(error: Exception) -> types.ResponseError:
    """What the client is told. What nobody expected is logged: its type and place, but not its text, which may be the user's code."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, JsonRpcException):
        return error.to_response_error()
    if isinstance(error, PhiError):
        return types.ResponseError(types.LSPErrorCodes.RequestFailed, str(error))
    name = type(error).__name__
    logger.error("%s, raised in\n%s", name, "".join(traceback.format_tb(error.__traceback__)))
    return types.ResponseError(types.ErrorCodes.InternalError, f"The server failed ({name}); its log says where.")


def _is_languageclient_9(capabilities: types.ClientCapabilities) -> bool:
    """A client in ECMAScript with inline completion, but without the text document content of version 10, where it is mended."""
    general, text_document, workspace = capabilities.general, capabilities.text_document, capabilities.workspace
    return (
        general is not None
        and general.regular_expressions is not None
        and general.regular_expressions.engine == "ECMAScript"
        and text_document is not None
        and text_document.inline_completion is not None
        and (workspace is None or workspace.text_document_content is None)
    )


class PhiLanguageServer(LanguageServer):
    protocol: PhiProtocol

    def __init__(self, name: str, version: str, **kwargs: Any):
        logging.getLogger("pygls").setLevel(logging.CRITICAL)  # it logs whole messages; what matters is logged here
        super().__init__(name, version, protocol_cls=PhiProtocol, **kwargs)
        self.on_exit: list[Callable[[], Awaitable[object]]] = []
        """Awaited at the end of `serve`, last first. Together they have 0.2 s."""
        self._exit_code: asyncio.Future[int] | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def workspace(self) -> Documents:
        return self.protocol.workspace

    def report_server_error(self, error: Exception, source: Any) -> None:
        """No toast: the text may be the user's code."""
        logger.error("%s: %s", source.__name__, type(error).__name__)

    def stop(self, code: int) -> None:
        """Lets `serve` end and return `code`; the first call counts."""
        if self._exit_code is not None and not self._exit_code.done():
            self._exit_code.set_result(code)

    def watch(self, process_id: int) -> None:
        """Stops the server when the editor that started it is gone."""
        if (is_alive := liveness(process_id)) is None:
            logger.warning("The client's process %d does not run on this machine: not watching it.", process_id)
            return

        async def until_gone() -> None:
            while is_alive():  # noqa: ASYNC110 (nothing tells of it on every platform)
                await asyncio.sleep(1)
            logger.warning("The client's process %d is gone.", process_id)
            self.stop(self.protocol.exit_code)

        self._watcher = asyncio.create_task(until_gone())

    async def run(self, messages: "asyncio.Queue[bytes | Unreadable | None]", writer: Any) -> int:
        """Handles `messages` until None, `stop`, or a signal. Returns the exit code."""
        self._exit_code = asyncio.get_running_loop().create_future()
        self.protocol.set_writer(writer)

        async def pump() -> None:
            try:
                while (message := await messages.get()) is not None:
                    self.protocol.receive(message)
                    await asyncio.sleep(0)  # a handler begins, and looks at its document, before the next message changes that
            finally:
                self.stop(self.protocol.exit_code)

        pumping = asyncio.create_task(pump())
        try:
            with on_signals(self.stop):
                return await self._exit_code
        finally:
            pumping.cancel()
            if self._watcher is not None:
                self._watcher.cancel()

    async def close(self) -> None:
        """Cancels what runs and awaits `on_exit`, neither for long."""
        with anyio.move_on_after(0.1, shield=True):
            if tasks := self.protocol.cancel_requests():
                await asyncio.wait(tasks)
        with anyio.move_on_after(0.2, shield=True):
            for clean_up in reversed(self.on_exit):
                try:
                    await clean_up()
                except Exception:
                    logger.exception("Cleaning up failed.")


async def serve(server: PhiLanguageServer) -> int:
    """Serves one client on stdin and stdout until `exit`, the end of stdin, a signal or the client's death. Returns the exit code.

    It takes over the process, which ends within EXIT_WITHIN_S after the last message even if threads still run. To be called as
    `sys.exit(asyncio.run(…))`.
    """
    stdin, stdout = take_over_stdio()
    messages = asyncio.Queue[bytes | Unreadable | None]()
    writer = Writer(stdout)
    writer.ended.add_done_callback(lambda _: server.stop(1))  # nobody reads any more
    read_messages(stdin, messages.put_nowait)
    code = 1
    try:
        code = await server.run(messages, writer)
    finally:
        end_process_within(EXIT_WITHIN_S, code)
        await server.close()
        writer.close()
        with anyio.move_on_after(0.1, shield=True):
            await asyncio.wait([writer.ended])
    return code


async def serve_tcp(server: PhiLanguageServer, port: int, on_listening: Callable[[int], None]) -> int:
    """As `serve`, for the first client that connects to `port` (0: any free one) of the loopback interface. For debugging."""
    connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.get_running_loop().create_future()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connected.done():
            writer.close()
        else:
            connected.set_result((reader, writer))

    listener = await asyncio.start_server(connect, "127.0.0.1", port)
    on_listening(listener.sockets[0].getsockname()[1])
    reader, writer = await connected
    listener.close()
    messages = asyncio.Queue[bytes | Unreadable | None]()

    async def read() -> None:
        framing = Framing()
        try:
            while data := await reader.read(65536):
                for message in framing.feed(data):
                    # A web page can post to this port: unlike on stdio, nothing is forgiven.
                    messages.put_nowait(None if isinstance(message, Unreadable) else message)
        finally:
            messages.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        return await server.run(messages, writer)
    finally:
        reading.cancel()
        await server.close()
        writer.close()
