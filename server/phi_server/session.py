"""What the server holds for its one editor: settings, the engine processes, the running completions.

Not here: documents, which the protocol keeps in step with the editor; this only takes snapshots of them.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import unquote

import anyio
from lsprotocol import types
from pygls.uris import to_fs_path

from phi_backends.client import Client, EngineStatus
from phi_backends.errors import BadInput
from phi_backends.messages import Loaded
from phi_prompts.tasks import Diagnostic
from phi_server import stats
from phi_server.ahead import Ahead
from phi_server.documents import Position, Range, Snapshot, from_units, to_units
from phi_server.editor import Editor
from phi_server.engine_processes import EngineProcesses
from phi_server.explanation import SMALL, Thread
from phi_server.ladder import Ladder
from phi_server.local_completion import Guess, guess
from phi_server.power import Battery
from phi_server.protocol import PhiLanguageServer
from phi_server.related import NOTHING, Context, Related
from phi_server.settings import Settings, parse
from phi_server.site import Site
from phi_server.statistics import LOOK_AGAIN_S, Shown, Statistics
from phi_server.views import Views
from phi_server.workspace_files import WorkspaceFiles

logger = logging.getLogger(__name__)

MAX_THREADS = 16


class Session:
    def __init__(self, server: PhiLanguageServer, command_line: Settings) -> None:
        """What `command_line` says other than the defaults is stronger than the editor's settings."""
        self.server = server
        self.editor = Editor()
        self.views = Views(server)
        self.ladder = Ladder(self)
        self.ahead = Ahead(self)
        self._battery = Battery()
        self.settings = command_line
        self.problems: dict[str, tuple[int | None, tuple[Diagnostic, ...]]] = {}
        """What the editor has last complained of in a document, and in which version of it."""
        self._related: Related | None = None
        self._related_to: list[str] = []
        self.statistics = Statistics(stats.file())
        self.threads: dict[int, Thread] = {}
        """Explanations that can be asked about further, by number; the last few."""
        self.shown = self.accepted = 0
        """Suggestions, since the start."""
        self._command_line = {
            key.name: getattr(command_line, key.name)
            for key in fields(Settings)
            if getattr(command_line, key.name) != getattr(Settings(), key.name)
        }
        self._initial = Settings()
        self._problems: list[str] = []
        """Of the initial settings; nothing may be shown before `initialized`."""
        self.engines = EngineProcesses(server, self.ahead.engine_ready, lambda: not self.saves_power())
        self._completing: dict[str, anyio.CancelScope] = {}

    # Settings and the engine

    def take_initial_settings(self, values: object) -> None:
        """Settings of initializationOptions: other settings are laid over them. The user is told what was refused."""
        self._initial, self._problems = parse(values)
        self.settings = replace(self._initial, **self._command_line)

    def configure(self, values: object) -> None:
        """Puts the editor's settings in force, tells the user what of them was refused, and starts another engine if they ask for it."""
        settings, problems = parse(values, self._initial)
        for problem in (*self._problems, *problems):
            self.show(problem, types.MessageType.Warning)
        self._problems = []
        before, self.settings = self.settings, replace(settings, **self._command_line)
        if before != self.settings:
            self.ladder.forget()
        if self.engines.are_started and before.load() != self.settings.load():
            self.start_engine()
        else:
            self.engines.unload_after(self.settings.unload_after_s)

    def start_engine(self) -> None:
        """Starts the engine process that the settings ask for, in place of the one that runs."""
        self.engines.start(self.settings)

    async def close(self) -> None:
        """Ends the engine process."""
        if self.settings.statistics:
            self.statistics.save()
        await self.engines.close()

    @property
    def client(self) -> Client:
        """The engine that completes. Raises EngineError when none was started yet."""
        return self.engines.completing

    @property
    def status(self) -> EngineStatus:
        return self.engines.status

    @property
    def loaded(self) -> Loaded | None:
        """The model that can answer now."""
        return self.status.loaded

    def wake(self) -> None:
        """A model that was unloaded for lack of use is loaded again."""
        self.engines.wake()

    def saves_power(self) -> bool:
        return self.settings.power == "saving" or (self.settings.power == "auto" and self._battery.in_use)

    def works_ahead(self) -> bool:
        """Whether the engine may be given work that nobody has asked for: not the server of others, who would wait for it."""
        is_ours = self.loaded is not None and self.loaded.engine != "remote"
        return is_ours and self.settings.inline_completion and not self.saves_power()

    @property
    def decode_token_ms(self) -> float:
        """How long the model takes for a token of an answer."""
        return self.engines.decode_token_ms

    # Documents

    def version(self, uri: str) -> int | None:
        """Of an open document as it is now; None also when it is closed."""
        document = self.server.workspace.text_documents.get(unquote(uri))
        return None if document is None else document.version

    def snapshot(self, uri: str) -> Snapshot:
        """An open document as it is now. Raises BadInput when it is not open."""
        document = self.server.workspace.text_documents.get(unquote(uri))
        if document is None:
            raise BadInput("The document is not open in the editor. Open it and try again.")
        return Snapshot(uri, document.version, document.language_id or "plaintext", tuple(document.lines))

    def context(self, snapshot: Snapshot, position: Position) -> Context | None:
        """What of the project a completion at `position` may see; None when it may not see the document itself."""
        if self.related.is_shut(snapshot):
            return None
        if self.loaded is None or self.loaded.templates == SMALL:
            return NOTHING  # a model that was trained without
        return self.related.at(snapshot, position, {uri: self.snapshot(uri) for uri in self.server.workspace.text_documents})

    def guess(self, snapshot: Snapshot, position: Position, site: Site) -> Guess | None:
        """A line copied from the open documents; None also where nothing of this one may be used."""
        if self.related.is_shut(snapshot):
            return None
        others = (self.snapshot(uri) for uri in reversed(self.server.workspace.text_documents) if uri != unquote(snapshot.uri))
        return guess(snapshot, position, site, (other for other in others if not self.related.is_shut(other)))

    def note_shown(self, snapshot: Snapshot, place: Range, text: str) -> list[int]:
        """Counts a suggestion. Returns the arguments of the command that tells that it was accepted."""
        if not self.settings.statistics or self.loaded is None:
            return []
        start = self.lsp_range(snapshot, place).start
        text = text.replace("\r\n", "\n")
        shown = Shown(snapshot.uri, start.line, start.character, text, self.loaded.model, snapshot.language_id)
        return [self.statistics.shown(shown)]

    def note_changes(self, params: types.DidChangeTextDocumentParams) -> None:
        """Looks whether a beginning of the suggestion on show was inserted at once."""
        if self.settings.statistics and len(params.content_changes) == 1:
            change = params.content_changes[0]
            if isinstance(change, types.TextDocumentContentChangePartial) and change.range.start == change.range.end:
                start = change.range.start
                self.statistics.inserted(params.text_document.uri, start.line, start.character, change.text.replace("\r\n", "\n"))

    def note_accepted(self, number: int | None) -> None:
        """Counts it, and looks later whether it is still there."""
        self.accepted += 1
        if self.settings.statistics and (suggestion := self.statistics.accepted(number)) is not None:
            for after_s in LOOK_AGAIN_S:
                asyncio.get_running_loop().call_later(after_s, self._look_for, suggestion, after_s)

    def _look_for(self, suggestion: Shown, after_s: float) -> None:
        if suggestion.uri in self.server.workspace.text_documents:  # else nothing is known
            self.statistics.looked_for(suggestion, self.snapshot(suggestion.uri).lines, after_s)

    def eager_settings(self, language_id: str) -> Settings:
        """The settings, with how sure the model must be by how often its suggestions are taken."""
        if not self.settings.statistics or self.loaded is None or not self.settings.min_probability:
            return self.settings
        factor = self.statistics.eagerness(self.loaded.model, language_id)
        return replace(self.settings, min_probability=min(0.9, factor * self.settings.min_probability))

    def remember(self, thread: Thread) -> int:
        """The thread's number, by which it can be asked further."""
        number = max(self.threads, default=0) + 1
        self.threads[number] = thread
        self.threads.pop(number - MAX_THREADS, None)
        return number

    @property
    def related(self) -> Related:
        """Made when it is first asked for, and anew when the workspace folders have changed."""
        workspace = self.server.workspace
        uris = [folder.uri for folder in workspace.folders.values()] or ([workspace.root_uri] if workspace.root_uri else [])
        if self._related is None or self._related_to != uris:
            self._related = Related(WorkspaceFiles([path for uri in uris if (path := self.file(uri)) is not None]), self.problems)
            self._related_to = uris
        return self._related

    def position(self, snapshot: Snapshot, position: types.Position) -> Position:
        """A position of the editor's, in characters."""
        return snapshot.clamp(Position(position.line, from_units(snapshot.line(position.line), position.character, self._encoding)))

    def cursor_at(self, uri: str, position: types.Position) -> None:
        """Editors ask for code actions where the cursor is. To somebody who types, a suggestion there will want its prompt in the KV cache;
        who only reads and clicks is left in peace: a prompt can cost 20 s of two cores."""
        snapshot = self.snapshot(uri)
        if self.ladder.is_typing():
            self.ahead.moved(snapshot, self.position(snapshot, position))

    def range(self, snapshot: Snapshot, range: types.Range) -> Range:
        start, end = sorted((self.position(snapshot, range.start), self.position(snapshot, range.end)))
        return Range(start, end)

    def lsp_range(self, snapshot: Snapshot, range: Range) -> types.Range:
        """A range in the editor's units."""
        start, end = (
            types.Position(place.line, to_units(snapshot.line(place.line), place.character, self._encoding))
            for place in (range.start, range.end)
        )
        return types.Range(start, end)

    def file(self, uri: str) -> Path | None:
        """The path of a `file:` URI."""
        path = to_fs_path(uri) if uri.startswith("file:") else None
        return None if path is None else Path(path)

    @property
    def _encoding(self) -> str:
        return str(getattr(self.server.workspace.position_encoding, "value", self.server.workspace.position_encoding))

    @contextmanager
    def newest(self, uri: str) -> Iterator[None]:
        """The block is given up as soon as another begins for the same document; the code behind it runs in either case.

        One completion runs for each document: editors do not always cancel the one that nobody waits for any more.
        """
        with anyio.CancelScope() as scope:
            if (older := self._completing.get(uri)) is not None:
                older.cancel()
            self._completing[uri] = scope
            try:
                yield
            finally:
                if self._completing.get(uri) is scope:
                    del self._completing[uri]

    # The user

    def show(self, message: str, kind: types.MessageType = types.MessageType.Info) -> None:
        self.server.window_show_message(types.ShowMessageParams(kind, f"phi-ls: {message}"))
