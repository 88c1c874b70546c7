"""The language server: each request and notification, tied to the file that answers it. Handlers are async, without exception.

Not here: pygls and the life of the process (protocol.py), what the requests share (session.py).
"""

import importlib.metadata
import sys
from typing import Any

from lsprotocol import types

from phi_server import protocol
from phi_server.code_action import code_action, code_action_resolve
from phi_server.completion import TRIGGER_CHARACTERS, completion
from phi_server.configuration import did_change_configuration, initialized, plain
from phi_server.editor import Editor
from phi_server.execute_command import COMMANDS, execute_command
from phi_server.inline_completion import inline_completion
from phi_server.protocol import PhiLanguageServer
from phi_server.session import Session
from phi_server.settings import Settings

CODE_ACTIONS = types.CodeActionOptions(code_action_kinds=["quickfix", "refactor.explain", "refactor.rewrite"], resolve_provider=True)


def create_server(command_line: Settings | None = None) -> PhiLanguageServer:
    """A server for one editor. What `command_line` says other than the defaults is stronger than the editor's settings."""
    server = PhiLanguageServer("phi-ls", importlib.metadata.version("phi-ls"))
    session = Session(server, command_line or Settings())
    server.on_exit.append(session.close)

    @server.feature(types.INITIALIZE)
    async def _(params: types.InitializeParams) -> None:
        session.editor = Editor.of(params.capabilities)
        session.take_initial_settings(plain(params.initialization_options))
        if not session.editor.inline_completion:

            @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=TRIGGER_CHARACTERS))
            async def _(params: types.CompletionParams) -> types.CompletionList:
                return await completion(session, params)

    @server.feature(types.INITIALIZED)
    async def _(params: types.InitializedParams) -> None:
        if session.editor.text_document_content:
            session.views.register()
        await initialized(session)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    async def _(params: types.DidOpenTextDocumentParams) -> None:
        session.ahead.opened(session.snapshot(params.text_document.uri))

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def _(params: types.DidChangeTextDocumentParams) -> None:
        session.note_changes(params)

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def _(params: types.DidChangeConfigurationParams) -> None:
        await did_change_configuration(session, params)

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def _(params: types.InlineCompletionParams) -> types.InlineCompletionList | None:
        return await inline_completion(session, params)

    @server.feature(types.TEXT_DOCUMENT_CODE_ACTION, CODE_ACTIONS)
    async def _(params: types.CodeActionParams) -> list[types.CodeAction | types.Command]:
        session.cursor_at(params.text_document.uri, params.range.start)
        return await code_action(session, params)

    @server.feature(types.CODE_ACTION_RESOLVE)
    async def _(action: types.CodeAction) -> types.CodeAction:
        return await code_action_resolve(session, action)

    @server.feature(types.WORKSPACE_TEXT_DOCUMENT_CONTENT)
    async def _(params: types.TextDocumentContentParams) -> types.TextDocumentContentResult:
        return types.TextDocumentContentResult(session.views.text(params.uri))

    async def run(params: types.ExecuteCommandParams) -> Any:
        return await execute_command(session, params)

    for name in COMMANDS:
        server.command(name)(run)  # has it advertised
    server.protocol.fm.add_builtin_feature(types.WORKSPACE_EXECUTE_COMMAND, run)  # pygls's own keeps the progress token from us
    return server


async def serve(command_line: Settings, tcp: int | None = None) -> int:
    """Serves one editor on stdin and stdout, or on a port of this machine; returns the exit code."""
    server = create_server(command_line)
    if tcp is None:
        return await protocol.serve(server)
    return await protocol.serve_tcp(server, tcp, lambda port: print(f"phi-ls listens on 127.0.0.1:{port}", file=sys.stderr, flush=True))
