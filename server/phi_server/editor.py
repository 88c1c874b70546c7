"""What the editor at the other end can do: its capabilities as plain facts, looked up once.

Not here: what is done about it (each request's own file).
"""

from dataclasses import dataclass
from typing import Any

from lsprotocol import types


@dataclass(frozen=True)
class Editor:
    inline_completion: bool = False
    configuration: bool = False
    """It answers workspace/configuration."""
    register_configuration: bool = False
    """It tells of changed settings only when that was registered."""
    apply_edit: bool = False
    """Kate takes edits without saying so; vim-ale, which does not, says so."""
    document_changes: bool = False
    """It takes edits that name the version they were made for."""
    create_files: bool = False
    action_literals: bool = False
    """It knows CodeAction, not only Command."""
    resolve_edit: bool = False
    """It asks for the edit of a code action when that is chosen."""
    disabled_actions: bool = False
    action_tags: bool = False
    """It knows CodeActionTag.LlmGenerated."""
    show_document: bool = False
    text_document_content: bool = False
    """It can show documents whose text comes from the server."""
    work_done_progress: bool = False
    insert_as_is: bool = False
    """It can be told to leave the indentation of a completion alone."""

    @classmethod
    def of(cls, capabilities: types.ClientCapabilities) -> "Editor":
        def has(path: str) -> Any:
            value: Any = capabilities
            for name in path.split("."):
                value = getattr(value, name, None)
            return value

        insert_modes = has("text_document.completion.completion_item.insert_text_mode_support.value_set") or []
        resolvable = has("text_document.code_action.resolve_support.properties") or []
        return cls(
            inline_completion=has("text_document.inline_completion") is not None,
            configuration=bool(has("workspace.configuration")),
            register_configuration=bool(has("workspace.did_change_configuration.dynamic_registration")),
            apply_edit=has("workspace.apply_edit") is not False,
            document_changes=bool(has("workspace.workspace_edit.document_changes")),
            create_files=types.ResourceOperationKind.Create in (has("workspace.workspace_edit.resource_operations") or []),
            action_literals=has("text_document.code_action.code_action_literal_support") is not None,
            resolve_edit="edit" in resolvable and bool(has("text_document.code_action.data_support")),
            disabled_actions=bool(has("text_document.code_action.disabled_support")),
            action_tags=types.CodeActionTag.LlmGenerated in (has("text_document.code_action.tag_support.value_set") or []),
            show_document=bool(has("window.show_document.support")),
            text_document_content=bool(has("workspace.text_document_content.dynamic_registration")),
            work_done_progress=bool(has("window.work_done_progress")),
            insert_as_is=types.InsertTextMode.AsIs in insert_modes,
        )
