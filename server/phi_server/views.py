"""Where answers are shown that are no edits: Markdown that grows while the model writes.

| the editor has                     | it is shown in                                                              |
| workspace/textDocumentContent      | a virtual document, refreshed as text arrives                               |
| window/showDocument                | a file in the cache folder, shown when it is complete                       |
| neither                            | a message                                                                   |
| asked for partial results          | whatever it makes of them                                                   |
"""

import asyncio
import time
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

import anyio
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from phi_backends.cache_folder import cache_folder
from phi_server.editor import Editor
from phi_server.protocol import PhiLanguageServer

SCHEME = "phi-ls"
REFRESH_EVERY_S = 0.1
"""VS Code takes a little over 1 ms for a refresh; ten a second read as writing."""
SHOWN_WITHIN_S = 10.0
"""An editor that does not answer gets the text as the result of the command."""
KEPT = 20
"""Answers that can still be looked at; older ones are forgotten."""


class Views:
    """The answers of one session."""

    def __init__(self, server: PhiLanguageServer) -> None:
        self._server = server
        self._numbers = count(1)
        self._texts: dict[str, str] = {}

    def register(self) -> "Future[None]":
        """Tells the editor that documents of our scheme come from here; it can only be told after `initialize`."""
        options = types.TextDocumentContentRegistrationOptions(schemes=[SCHEME])
        registration = types.Registration("phi-ls-answers", types.WORKSPACE_TEXT_DOCUMENT_CONTENT, options)
        return self._server.client_register_capability(types.RegistrationParams([registration]))

    def text(self, uri: str) -> str:
        """What the virtual document holds now; a sentence when it is not known any more."""
        return self._texts.get(uri, "This answer is not kept any more. Ask again.\n")

    def open(self, editor: Editor, name: str, *, streamed: bool = False) -> "View":
        """A new view. `name` is what the document is called, `Explanation of file.py`, without an ending; `streamed`: the editor shows
        the text itself, from partial results."""
        if streamed:
            return _NoView(self._server)
        if not (editor.text_document_content and editor.show_document):
            return _FileView(self._server, name) if editor.show_document else View(self._server)
        uri = f"{SCHEME}:/{next(self._numbers)}/{quote(name)}.md"
        while len(self._texts) >= KEPT:
            del self._texts[next(iter(self._texts))]
        self._texts[uri] = ""
        return _VirtualView(self._server, uri, self._texts)


class View:
    """One answer, shown as a message when it is complete."""

    uri: str | None = None

    def __init__(self, server: PhiLanguageServer) -> None:
        self._server = server
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    async def finish(self) -> None:
        """The text is complete, as far as it will ever be."""
        self._server.window_show_message(types.ShowMessageParams(types.MessageType.Info, self.text.strip()))


class _NoView(View):
    async def finish(self) -> None:
        pass


class _VirtualView(View):
    def __init__(self, server: PhiLanguageServer, uri: str, texts: dict[str, str]) -> None:
        super().__init__(server)
        self.uri: str = uri
        self._texts = texts
        self._refreshed_s = 0.0
        self._refresh: Future[None] | None = None
        self._shown: Future[types.ShowDocumentResult] | None = None

    def write(self, text: str) -> None:
        super().write(text)
        self._texts[self.uri] = self.text
        if self._shown is None:
            self._refreshed_s = time.monotonic()
            self._shown = self._server.window_show_document(types.ShowDocumentParams(self.uri, external=False, take_focus=False))
        elif time.monotonic() - self._refreshed_s >= REFRESH_EVERY_S and (self._refresh is None or self._refresh.done()):
            self._send_refresh()  # one at a time: an editor that is slow gets fewer

    async def finish(self) -> None:
        if self._shown is not None:  # VS Code ignores the refresh of a document that it is only about to open
            with anyio.move_on_after(SHOWN_WITHIN_S), suppress(JsonRpcException):
                await asyncio.wrap_future(self._shown)
        self._send_refresh()

    def _send_refresh(self) -> None:
        self._refreshed_s = time.monotonic()
        self._refresh = self._server.workspace_text_document_content_refresh(types.TextDocumentContentRefreshParams(self.uri))


class _FileView(View):
    def __init__(self, server: PhiLanguageServer, name: str) -> None:
        super().__init__(server)
        self._name = name

    async def finish(self) -> None:
        shown = False
        with anyio.move_on_after(SHOWN_WITHIN_S), suppress(OSError, JsonRpcException):
            path = await anyio.to_thread.run_sync(_write_file, self._name, self.text)
            params = types.ShowDocumentParams(path.as_uri(), external=False, take_focus=False)
            shown = (await self._server.window_show_document_async(params)).success
        if shown:
            self.uri = path.as_uri()
        else:
            await super().finish()


def _write_file(name: str, text: str) -> Path:
    """Writes the answer where only the user can read it, and removes the oldest ones."""
    folder = cache_folder() / "answers"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    safe = "".join(character if character.isalnum() or character in " .-_" else "_" for character in name)
    path = folder / f"{safe[:80]} {time.time_ns()}.md"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8", newline="\n")
    answers = sorted(folder.glob("*.md"), key=lambda file: file.stat().st_mtime_ns)
    for old in answers[:-KEPT]:
        old.unlink(missing_ok=True)
    return path
