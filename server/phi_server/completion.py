"""textDocument/completion, for editors without inline completion: the same suggestion, as one item at the end of the list.

Registered only for those editors: two ways of suggesting the same would get in each other's way.
"""

import re

from lsprotocol import types

from phi_server.documents import Position, Range, Snapshot
from phi_server.inline_completion import Completion, when_typing_pauses
from phi_server.session import Session

TRIGGER_CHARACTERS = [".", "(", "[", "=", ",", ":"]
LABEL_CHARACTERS = 40
_WORD = re.compile(r"\w*$")


async def completion(session: Session, params: types.CompletionParams) -> types.CompletionList:
    """One item or none; `isIncomplete`, for the next character changes it."""
    nothing = types.CompletionList(is_incomplete=True, items=[])
    if not session.settings.inline_completion:
        return nothing
    session.wake()
    snapshot = session.snapshot(params.text_document.uri)
    position = session.position(snapshot, params.position)
    found = None
    with session.newest(snapshot.uri):
        found = await when_typing_pauses(snapshot, position, session, invoked=False)
    if found is None:
        return nothing
    session.shown += not found.is_rest
    return types.CompletionList(is_incomplete=True, items=[_item(session, snapshot, position, found)])


def _item(session: Session, snapshot: Snapshot, position: Position, found: Completion) -> types.CompletionItem:
    """Editors filter by the word before the cursor, so the item begins with it."""
    match = _WORD.search(snapshot.line(position.line)[: position.character])
    word = match[0] if match else ""
    text = word + found.text
    first = text.strip().split("\n", 1)[0].strip()
    label = first if len(first) <= LABEL_CHARACTERS and first == text.strip() else first[: LABEL_CHARACTERS - 1] + "…"
    replaced = Range(Position(position.line, position.character - len(word)), found.range.end)
    source = session.loaded.model if session.loaded and not found.is_copy else "open documents"
    return types.CompletionItem(
        label,
        kind=types.CompletionItemKind.Text,
        detail=f"phi-ls · {source}",
        documentation=types.MarkupContent(types.MarkupKind.PlainText, text),
        sort_text="~",  # behind everything that a language server for the language offers
        filter_text=word + first[len(word) :] if word else first,
        insert_text_format=types.InsertTextFormat.PlainText,
        insert_text_mode=types.InsertTextMode.AsIs if session.editor.insert_as_is else None,
        text_edit=types.TextEdit(session.lsp_range(snapshot, replaced), text),
        command=types.Command(title="Accepted", command="phi-ls.accepted", arguments=session.note_shown(snapshot, found.range, found.text)),
    )
