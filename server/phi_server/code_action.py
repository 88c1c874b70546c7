"""textDocument/codeAction and codeAction/resolve: what can be asked for here. No model runs until something is chosen.

Editors that resolve get the edit when an action is chosen; the others, and explanations, get a command (execute_command.py).
"""

from collections.abc import Sequence
from typing import Any

from lsprotocol import types

from phi_prompts.tasks import Diagnostic, has_template
from phi_server.actions import ACTIONS, Action, definition_in, target
from phi_server.documents import Range, Snapshot
from phi_server.execute_command import Asked, edit_for
from phi_server.session import Session

MAX_PROBLEMS = 5
TITLE_CHARACTERS = 60


async def code_action(session: Session, params: types.CodeActionParams) -> list[types.CodeAction | types.Command]:
    """The actions that apply to the range. Those that the model cannot do are shown as disabled, or not at all."""
    snapshot = session.snapshot(params.text_document.uri)
    selection = session.range(snapshot, params.range)
    session.problems[snapshot.uri] = (
        snapshot.version,
        tuple(Diagnostic(one.range.start.line, one.message) for one in params.context.diagnostics),
    )
    found = []
    for action in ACTIONS.values():
        if action.edits and not (session.editor.apply_edit or session.editor.resolve_edit):
            continue  # nothing could come of it
        if not _wanted(action.kind, params.context.only):
            continue
        problems: Sequence[types.Diagnostic | None] = params.context.diagnostics[:MAX_PROBLEMS] if action.task == "fix" else [None]
        for problem in problems:
            if (offered := _offered(session, action, snapshot, params, selection, problem)) is not None:
                found.append(offered)
    return found


async def code_action_resolve(session: Session, action: types.CodeAction) -> types.CodeAction:
    """The action with its edit, which the model makes now. Unchanged, and the user told, when there can be none."""
    asked = Asked.of(action.data)
    if asked is None or asked.task is None or action.edit is not None:
        return action  # VS Code has actions resolved that are only commands
    action.edit = await edit_for(session, asked)
    return action


def _offered(
    session: Session,
    action: Action,
    snapshot: Snapshot,
    params: types.CodeActionParams,
    selection: Range,
    problem: types.Diagnostic | None,
) -> types.CodeAction | types.Command | None:
    diagnostics = [] if problem is None else [Diagnostic(problem.range.start.line, _text(problem))]
    if target(action.task, snapshot, selection, diagnostics) is None:
        return None
    title = _title(action, snapshot, selection, problem)
    arguments: dict[str, Any] = {"uri": params.text_document.uri, "range": _plain(params.range), "version": snapshot.version}
    if problem is not None:
        arguments["diagnostics"] = [{"line": diagnostic.line, "message": diagnostic.message} for diagnostic in diagnostics]
    command = types.Command(title=title, command=action.command, arguments=[arguments])
    reason = _unable(session, action)
    if not session.editor.action_literals:
        return None if reason else command
    if reason and not session.editor.disabled_actions:
        return None
    resolves = action.edits and session.editor.resolve_edit
    return types.CodeAction(
        title,
        kind=action.kind,
        diagnostics=None if problem is None else [problem],
        disabled=types.CodeActionDisabled(reason) if reason else None,
        command=None if resolves or reason else command,
        data={"task": action.task, **arguments} if resolves and not reason else None,
        tags=[types.CodeActionTag.LlmGenerated] if session.editor.action_tags else None,
    )


def _unable(session: Session, action: Action) -> str:
    """Why the model in use cannot do it; empty when it can, or when that is not known yet."""
    status = session.engines.answer_status
    loaded = status.loaded
    if status.state == "off":
        return status.detail
    if loaded is None or has_template(loaded.templates, action.task):
        return ""
    return f"{loaded.model} is too small a model for this. Choose a Phi-3 model in the setting phi-ls.model."


def _title(action: Action, snapshot: Snapshot, selection: Range, problem: types.Diagnostic | None) -> str:
    if problem is not None:
        message = " ".join(_text(problem).split())
        return f"{action.title}: {message if len(message) <= TITLE_CHARACTERS else message[: TITLE_CHARACTERS - 1] + '…'}"
    if action.task == "explain" and selection.is_empty and (definition := definition_in(snapshot, selection)):
        return f"Explain {definition.name}"
    return action.title


def _wanted(kind: str, only: Sequence[types.CodeActionKind | str] | None) -> bool:
    """Kinds are paths: `refactor` wants `refactor.rewrite` too."""
    if not only:
        return True
    wanted = [str(getattr(each, "value", each)) for each in only]
    return any(each == "" or kind == each or kind.startswith(each + ".") for each in wanted)


def _text(problem: types.Diagnostic) -> str:
    return problem.message


def _plain(range: types.Range) -> dict[str, dict[str, int]]:
    return {
        name: {"line": position.line, "character": position.character} for name, position in (("start", range.start), ("end", range.end))
    }
