"""`phi-ls/status`: which engine, model and device are in use and why, told at every change. A fallback is never silent.

Editors that do not know the notification find the same in their log of the server; what needs the user's attention is a message.
"""

from dataclasses import asdict, dataclass

from lsprotocol import types

from phi_backends.client import EngineStatus
from phi_server.protocol import PhiLanguageServer
from phi_server.settings import Settings

METHOD = "phi-ls/status"
WITHOUT_A_MODEL = "Until then, suggestions are lines copied from the open documents where that is likely to be right."


@dataclass(frozen=True)
class Status:
    state: str
    """`starting`, `loading`, `ready`, `restarting`, or `off`."""
    engine: str
    """In use, or asked for where nothing is in use yet; `model` and `device` likewise."""
    model: str
    device: str
    reason: str
    """Why this engine and device; empty until there is one."""
    detail: str
    """One sentence that says all of it."""


class Reporter:
    """Tells the editor about the engine."""

    def __init__(self, server: PhiLanguageServer, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        self._warned: set[str] = set()

    def tell(self, engine_status: EngineStatus, answers: EngineStatus | None = None) -> None:
        """`answers`: of the process that explains and edits, where that is another."""
        status = status_of(engine_status, self._settings, answers)
        self._server.protocol.notify(METHOD, asdict(status))
        needs_attention = "off" in (status.state, answers and answers.state) or is_fallback(engine_status, self._settings)
        kind = types.MessageType.Warning if needs_attention else types.MessageType.Info
        self._server.window_log_message(types.LogMessageParams(kind, f"{status.state}: {status.detail}"))
        if needs_attention and status.detail not in self._warned:
            self._warned.add(status.detail)
            self._server.window_show_message(types.ShowMessageParams(kind, f"phi-ls: {status.detail}"))


def status_of(status: EngineStatus, settings: Settings, answers: EngineStatus | None = None) -> Status:
    loaded = status.loaded
    detail = status.detail
    if status.state == "off" and settings.inline_completion:
        detail = f"{detail} {WITHOUT_A_MODEL}"
    if answers is not None:
        detail = f"{detail} Explanations and edits: {answers.detail}"
    if loaded is None:
        return Status(status.state, settings.engine, settings.model, settings.device, "", detail)
    return Status(status.state, loaded.engine, loaded.model, loaded.device, loaded.reason, detail)


def is_fallback(status: EngineStatus, settings: Settings) -> bool:
    """Whether an engine or a device was asked for by name and another one is in use."""
    if status.loaded is None:
        return False
    asked = ((settings.engine, status.loaded.engine), (settings.device, status.loaded.device))
    return any(wanted.lower() != "auto" and used != "none" and not used.lower().startswith(wanted.lower()) for wanted, used in asked)
