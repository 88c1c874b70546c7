"""A language server built on protocol.py that does what tests/test_protocol.py wants to see, and nothing useful.

Methods named `test/…` exist in no real server.
"""

import asyncio
import sys
import threading
import time
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from phi_backends.errors import BadInput
from phi_server.protocol import PhiLanguageServer, serve

server = PhiLanguageServer("fixture", "1", max_workers=2)
release_threads = threading.Event()


@server.feature("test/text")
async def text(params: Any) -> str:
    return server.workspace.get_text_document(params.uri).source


@server.feature("test/version")
async def version(params: Any) -> int | None:
    """Of the document when the handler began, answered after others had their turn."""
    number = server.workspace.get_text_document(params.uri).version
    await asyncio.sleep(0)
    return number


@server.feature("test/ping")
async def ping(params: Any) -> str:
    print("a stray print", flush=True)
    return "pong"


@server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
async def inline_completion(params: types.InlineCompletionParams) -> list[types.InlineCompletionItem]:
    return [types.InlineCompletionItem(params.context.trigger_kind.name)]


@server.feature(types.TEXT_DOCUMENT_HOVER)
async def hover(params: types.HoverParams) -> types.Hover:
    return types.Hover("hover")


@server.feature(types.TEXT_DOCUMENT_DID_OPEN)
async def did_open(params: types.DidOpenTextDocumentParams) -> None:
    if params.text_document.text == "bad":
        raise BadInput("This text is bad: write another.")
    if params.text_document.text == "secret":
        raise ValueError("secret")


@server.feature("test/fail")
async def fail(params: Any) -> None:
    raise ValueError(f"secret {params}")


@server.feature("test/unserialisable")
async def unserialisable(params: Any) -> Any:
    return threading


@server.feature("test/refuse")
async def refuse(params: Any) -> None:
    raise BadInput("There is no such file: name another.")


@server.feature("test/supersede")
async def supersede(params: Any) -> None:
    raise JsonRpcException("superseded", types.LSPErrorCodes.ServerCancelled, {"retriggerRequest": False})


async def hang() -> None:
    server.protocol.notify("test/began", {})
    try:
        await asyncio.Event().wait()
    finally:
        server.protocol.notify("test/ended", {})


@server.feature("test/hang")
async def hang_feature(params: Any) -> None:
    await hang()


@server.command("test.hang")
async def hang_command() -> None:
    await hang()


@server.command("test.add")
async def add(left: int, right: int) -> int:
    return left + right


@server.feature("test/ask")
async def ask(params: Any) -> Any:
    """What the client says on `workspace/configuration`."""
    question = types.ConfigurationParams([types.ConfigurationItem(section="x")])
    return await server.workspace_configuration_async(question)


@server.feature("test/progress")
async def progress(params: Any) -> None:
    await server.work_done_progress.create_async("token")
    server.work_done_progress.begin("token", types.WorkDoneProgressBegin("work"))
    server.work_done_progress.end("token", types.WorkDoneProgressEnd())


@server.feature("test/kept")
async def kept(params: Any) -> list[int]:
    """How much is remembered of what is over; this request itself is one future."""
    return [len(server.work_done_progress.tokens), len(server.protocol._request_futures), len(server.protocol._result_types)]


@server.feature("test/flood")
async def flood(params: Any) -> int:
    """Sends far more than a pipe holds."""
    for number in range(200):
        server.protocol.notify("test/water", {"number": number, "drops": "." * 10_000})
    return 200


@server.feature("test/busyThread")
@server.thread()
def busy_thread(params: Any) -> bool:
    server.protocol.notify("test/threadBegan", {})
    return release_threads.wait(60)


@server.feature("test/releaseThreads")
async def release(params: Any) -> None:
    release_threads.set()


@server.feature("test/stubbornThread")
async def stubborn_thread(params: Any) -> None:
    """No daemon: Python would wait for it at the end."""
    threading.Thread(target=time.sleep, args=(60,)).start()


@server.feature("test/child")
async def child(params: Any) -> int:
    """The id of a child process that `on_exit` kills."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")

    async def kill() -> None:
        process.kill()
        await process.wait()

    server.on_exit.append(kill)
    return process.pid


async def main() -> int:
    return await serve(server)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
