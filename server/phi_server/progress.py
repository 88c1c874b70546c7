"""Progress of long work in the editor, with Cancel: on the token that the request brought, or on one that the server creates."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from phi_server.editor import Editor
from phi_server.protocol import PhiLanguageServer

REPORT_EVERY_S = 0.1
CREATED_WITHIN_S = 2.0
"""An editor that does not answer costs the progress, not the work."""


class Progress:
    def __init__(self, server: PhiLanguageServer, token: types.ProgressToken | None, scope: anyio.CancelScope) -> None:
        self._server = server
        self._token = token
        self._scope = scope
        self._reported_s = 0.0

    @property
    def cancelled(self) -> bool:
        """The user has pressed Cancel."""
        return self._scope.cancel_called

    def report(self, message: str) -> None:
        """Not more often than a person can read."""
        now = anyio.current_time()
        if self._token is not None and now - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now
            self._server.work_done_progress.report(self._token, types.WorkDoneProgressReport(message=message))


@asynccontextmanager
async def progress(
    server: PhiLanguageServer, editor: Editor, title: str, token: types.ProgressToken | None = None
) -> AsyncIterator[Progress]:
    """The block is given up when the user cancels; the code behind it runs in either case, and `cancelled` tells."""
    if token is None and editor.work_done_progress:
        token = await _created(server)
    with anyio.CancelScope() as scope:
        if token is None:
            yield Progress(server, None, scope)
            return
        bar = server.work_done_progress
        bar.begin(token, types.WorkDoneProgressBegin(title=title, cancellable=True))
        bar.tokens[token].add_done_callback(lambda _: scope.cancel())
        try:
            yield Progress(server, token, scope)
        finally:
            bar.end(token, types.WorkDoneProgressEnd())


async def _created(server: PhiLanguageServer) -> types.ProgressToken | None:
    token = f"phi-ls/{uuid4()}"
    with anyio.move_on_after(CREATED_WITHIN_S):
        try:
            await server.work_done_progress.create_async(token)
        except JsonRpcException:
            return None
        return token
    return None
