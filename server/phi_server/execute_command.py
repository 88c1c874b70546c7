"""workspace/executeCommand: a command for each action, and `followUp`, `status`, `restart` and `accepted`.

The commands of actions take one object: {uri, range, version?, diagnostics?: [{line, message}], partialResultToken?}.
`version` is what the range is true for; for another one the command is refused.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, cast

import anyio
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams

from phi_backends.errors import BadInput
from phi_prompts.languages import fence, language
from phi_prompts.tasks import Diagnostic, TaskName, has_template
from phi_server.actions import ACTIONS, target
from phi_server.documents import Range, Snapshot
from phi_server.edits import NO_TESTS, Edit, Proposal, pieces, propose, workspace_edit
from phi_server.explanation import Explanation, FollowUp, explain
from phi_server.progress import progress
from phi_server.project_tests import ProjectTests, project_tests
from phi_server.session import Session
from phi_server.views import View

MAX_QUOTED_LINES = 40
TAKEN_WITHIN_S = 60.0
"""Editors may ask the user about an edit first; one that says nothing about edits may not answer at all."""
MOVED_ON = "The document has changed meanwhile, so nothing was done to it. Please try again."


class _MovedOn(BadInput):
    pass


@dataclass(frozen=True)
class Asked:
    """What an action was chosen for, as it travels in `data` and in the arguments of commands."""

    task: TaskName | None
    uri: str
    range: types.Range
    version: int | None
    diagnostics: tuple[Diagnostic, ...]
    partial_result_token: types.ProgressToken | None

    @classmethod
    def of(cls, values: Any, task: TaskName | None = None) -> "Asked | None":
        """From an object of the editor's; None when it is none of ours."""
        plain = _plain(values)
        try:
            ends = [types.Position(int(plain["range"][end]["line"]), int(plain["range"][end]["character"])) for end in ("start", "end")]
            problems = tuple(Diagnostic(int(problem["line"]), str(problem["message"])) for problem in plain.get("diagnostics") or ())
            version, token = plain.get("version"), plain.get("partialResultToken")
            return cls(
                task or (plain["task"] if plain.get("task") in ACTIONS else None),
                str(plain["uri"]),
                types.Range(*ends),
                version if isinstance(version, int) else None,
                problems,
                token if isinstance(token, str | int) else None,
            )
        except (KeyError, TypeError, ValueError):
            return None


Command = Callable[[Session, types.ExecuteCommandParams], Awaitable[Any]]


async def execute_command(session: Session, params: types.ExecuteCommandParams) -> Any:
    """Raises JsonRpcInvalidParams for a command or arguments that are none, PhiError for what cannot be done."""
    if params.command not in COMMANDS:
        raise JsonRpcInvalidParams(f'There is no command "{params.command}". The commands are: {", ".join(COMMANDS)}.')
    return await COMMANDS[params.command](session, params)


async def _explain(session: Session, params: types.ExecuteCommandParams) -> dict[str, Any]:
    """{text, uri, model, engine, device, cancelled, thread}: all of the text, wherever it was shown, and its number for further questions,
    null where the model takes none."""
    asked = _asked(params, "explain")
    snapshot, lines = _place(session, asked)
    first, last = lines.start.line + 1, lines.end.line + 1
    place = f"{snapshot.path}, " + (f"line {first}" if first == last else f"lines {first}–{last}")
    explained = explain(snapshot, lines, session.engines.answering, session.settings)
    title = f"Explanation of {snapshot.path.rpartition('/')[2]}"
    heading = f"{place}\n\n{_quoted(snapshot, lines)}"
    return await _told(session, explained, title, heading, f"Explaining {place}", params.work_done_token, asked.partial_result_token)


def _quoted(snapshot: Snapshot, lines: Range) -> str:
    """The code that is explained, once, so that the text can be read beside another document. Long code is begun."""
    code = [snapshot.line(number) for number in range(lines.start.line, lines.end.line + 1)]
    shown = [*code[:MAX_QUOTED_LINES], *(["…"] if len(code) > MAX_QUOTED_LINES else [])]
    marks = fence(snapshot.language_id, "\n".join(code))
    return "\n".join([marks + language(snapshot.language_id).fence, *shown, marks])


async def _follow_up(session: Session, params: types.ExecuteCommandParams) -> dict[str, Any]:
    """As `_explain`, for {thread, question, partialResultToken?}."""
    values = _plain(params.arguments[0]) if params.arguments and len(params.arguments) == 1 else {}
    number, question, token = (values.get(key) for key in ("thread", "question", "partialResultToken"))
    if not isinstance(question, str) or not question.strip():
        raise JsonRpcInvalidParams(f"{params.command} takes one object with thread and question.")
    thread = session.threads.get(number) if isinstance(number, int) else None
    if thread is None:
        raise BadInput("There is no such explanation to ask about any more. Have it explained again.")
    asked = FollowUp(thread, question, session.engines.answering, session.settings)
    token = token if isinstance(token, str | int) else None
    return await _told(session, asked, "Answer", question.strip(), "Answering", params.work_done_token, token)


async def _told(
    session: Session,
    told: Explanation | FollowUp,
    title: str,
    heading: str,
    doing: str,
    work_done_token: types.ProgressToken | None,
    partial_result_token: types.ProgressToken | None,
) -> dict[str, Any]:
    """Shows a text while it is written, and returns what the command does."""
    view = session.views.open(session.editor, title, streamed=partial_result_token is not None)
    view.write(f"# {heading}\n\n")
    text = ""
    try:
        async with progress(session.server, session.editor, doing, work_done_token) as shown:
            async for piece in told:
                text += piece
                view.write(piece)
                shown.report(f"{len(text)} characters")
                if partial_result_token is not None:
                    session.server.protocol.notify(types.PROGRESS, types.ProgressParams(partial_result_token, {"text": piece}))
        loaded = session.engines.answer_status.loaded
        if shown.cancelled:
            view.write("\n\n*Cancelled.*\n")
        elif loaded is not None:
            view.write(f"\n\n*Written by {loaded.model} on {loaded.device}.*\n")
    finally:
        with anyio.CancelScope(shield=True):
            await view.finish()
    used = {key: getattr(loaded, key, None) for key in ("model", "engine", "device")}
    thread = None if shown.cancelled or told.thread is None else session.remember(told.thread)
    return {"text": text, "uri": view.uri, "cancelled": shown.cancelled, "thread": thread, **used}


def _edit(task: TaskName) -> Command:
    async def run(session: Session, params: types.ExecuteCommandParams) -> dict[str, bool]:
        """{applied}: whether the editor has taken the edit."""
        edit = await edit_for(session, _asked(params, task), params.work_done_token)
        if edit is None:
            return {"applied": False}
        label = ACTIONS[task].title
        answer = types.ApplyWorkspaceEditResult(applied=False)
        with anyio.move_on_after(TAKEN_WITHIN_S), suppress(JsonRpcException):
            answer = await session.server.workspace_apply_edit_async(types.ApplyWorkspaceEditParams(edit, label=label))
        if not answer.applied:
            session.show(f"The editor did not take the edit{': ' + answer.failure_reason if answer.failure_reason else ''}.", _WARNING)
        return {"applied": answer.applied}

    return run


async def edit_for(session: Session, asked: Asked, token: types.ProgressToken | None = None) -> types.WorkspaceEdit | None:
    """The edit, made for the version that the document had when it was asked for; None, and the user told, when there can be none."""
    task = cast(TaskName, asked.task)
    try:
        snapshot, lines = _place(session, asked)
    except _MovedOn as error:
        session.show(str(error), _WARNING)
        return None
    proposal = None
    async with progress(session.server, session.editor, ACTIONS[task].title, token) as shown:
        engine = session.engines.answering
        loaded = await engine.loaded()
        if not has_template(loaded.templates, task):
            raise BadInput(f"{loaded.model} is too small a model for this. Choose a Phi-3 model in the setting phi-ls.model.")
        proposal = await propose(
            task,
            snapshot,
            lines,
            engine,
            session.settings,
            asked.diagnostics,
            on_text=lambda text: shown.report(f"{len(text)} characters"),
            project=_project_tests(session, snapshot) if task == "tests" else NO_TESTS,
        )
    if proposal is None:
        return None  # cancelled by the user, who knows
    if not _is_current(session, snapshot):
        session.show(MOVED_ON, _WARNING)
        return None
    if proposal.edit is None:
        await _show(session, proposal, snapshot)
        return None
    return await _workspace_edit(session, snapshot, proposal.edit, proposal)


async def _workspace_edit(session: Session, snapshot: Snapshot, edit: Edit, proposal: Proposal) -> types.WorkspaceEdit | None:
    editor = session.editor
    if edit.creates:
        path = session.file(edit.uri)
        if path is None or await anyio.Path(path).exists() or not (editor.document_changes and editor.create_files):
            reason = "There is a test file already" if path is not None else "The document is no file"
            reason = reason if editor.create_files else "The editor cannot be asked to create files"
            await _show(session, Proposal(None, proposal.answer, f"{reason}, so the tests are only shown."), snapshot)
            return None
        nowhere = types.Range(types.Position(0, 0), types.Position(0, 0))
        return workspace_edit(edit, [types.TextEdit(nowhere, edit.text)], document_changes=True)
    changes = [types.TextEdit(session.lsp_range(snapshot, range), text) for range, text in pieces(snapshot, edit)]
    return workspace_edit(edit, changes, editor.document_changes)


def _project_tests(session: Session, snapshot: Snapshot) -> ProjectTests:
    path = session.file(snapshot.uri)
    return NO_TESTS if path is None else project_tests(session.related.files, path, snapshot.language_id)


async def _show(session: Session, proposal: Proposal, snapshot: Snapshot) -> None:
    session.show(proposal.problem, _WARNING)
    if proposal.answer.strip():
        view: View = session.views.open(session.editor, f"Answer about {snapshot.path.rpartition('/')[2]}")
        view.write(proposal.answer)
        await view.finish()


async def _status(session: Session, params: types.ExecuteCommandParams) -> dict[str, Any]:
    """The last phi-ls/status, how many suggestions were shown and accepted since the start, and what the engine did for each priority
    since it was started."""
    status = asdict(session.engines.told())
    return {**status, "shown": session.shown, "accepted": session.accepted, "work": session.engines.work}


async def _restart(session: Session, params: types.ExecuteCommandParams) -> None:
    """Starts the engine process again, also when it was given up."""
    session.start_engine()


async def _accepted(session: Session, params: types.ExecuteCommandParams) -> None:
    """Editors send this when a suggestion was accepted. It is counted, and stays here."""
    number = params.arguments[0] if params.arguments else None
    session.note_accepted(number if isinstance(number, int) else None)


COMMANDS: dict[str, Command] = {
    "phi-ls.explain": _explain,
    "phi-ls.followUp": _follow_up,
    **{action.command: _edit(action.task) for action in ACTIONS.values() if action.edits},
    "phi-ls.status": _status,
    "phi-ls.restart": _restart,
    "phi-ls.accepted": _accepted,
}
_WARNING = types.MessageType.Warning


def _asked(params: types.ExecuteCommandParams, task: TaskName) -> Asked:
    asked = Asked.of(params.arguments[0], task) if params.arguments and len(params.arguments) == 1 else None
    if asked is None:
        raise JsonRpcInvalidParams(
            f"{params.command} takes one object with uri and range (and version and diagnostics, where there are any)."
        )
    return asked


def _place(session: Session, asked: Asked) -> tuple[Snapshot, Range]:
    """The document and the lines to work on. Raises BadInput where that makes no sense."""
    snapshot = session.snapshot(asked.uri)
    if asked.version is not None and snapshot.version is not None and asked.version != snapshot.version:
        raise _MovedOn(MOVED_ON)
    if session.related.is_shut(snapshot):
        raise BadInput("phi-ls does not look at this file: its name is one of those kept for secrets, or .phi-lsignore names it.")
    lines = target(cast(TaskName, asked.task), snapshot, session.range(snapshot, asked.range), asked.diagnostics)
    if lines is None:
        raise BadInput("There is nothing here that this could be done with. Select some code, or put the cursor on a definition.")
    return snapshot, lines


def _is_current(session: Session, snapshot: Snapshot) -> bool:
    try:
        now = session.snapshot(snapshot.uri)
    except BadInput:
        return False
    return now.version == snapshot.version and now.lines == snapshot.lines


def _plain(value: Any) -> Any:
    """LSPAny arrives as dicts, or as objects with attributes, by the way that it came."""
    return value if isinstance(value, dict) else getattr(value, "__dict__", None) or getattr(value, "_asdict", dict)()
