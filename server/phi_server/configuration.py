"""The editor's settings, by each of the ways that editors send them: initializationOptions, workspace/didChangeConfiguration with the
settings inside or without, and workspace/configuration, which we ask when it is offered.
"""

from collections.abc import Mapping
from typing import Any

import anyio
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from phi_server.session import Session
from phi_server.settings import SECTION

ANSWERED_WITHIN_S = 5.0
"""An editor that does not answer gets the defaults."""


async def initialized(session: Session) -> None:
    """Puts the settings in force, and then starts the engine that they ask for."""
    if session.editor.register_configuration:
        options = types.DidChangeConfigurationRegistrationOptions(section=SECTION)
        registration = types.Registration("phi-ls-settings", types.WORKSPACE_DID_CHANGE_CONFIGURATION, options)
        session.server.client_register_capability(types.RegistrationParams([registration]))
    session.configure(await _asked(session))
    session.start_engine()


async def did_change_configuration(session: Session, params: types.DidChangeConfigurationParams) -> None:
    values = plain(params.settings)
    if isinstance(values, Mapping) and SECTION in values:
        session.configure(values[SECTION])
    elif session.editor.configuration:
        session.configure(await _asked(session))
    elif values:
        session.configure(values)


def plain(value: Any) -> Any:
    """Any JSON value of a message as plain dicts and lists, which is not what every way of decoding gives."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    return value


async def _asked(session: Session) -> Any:
    """The section as the editor has it; None when it has none or does not say."""
    if not session.editor.configuration:
        return None
    with anyio.move_on_after(ANSWERED_WITHIN_S):
        try:
            params = types.ConfigurationParams([types.ConfigurationItem(section=SECTION)])
            answers = await session.server.workspace_configuration_async(params)
        except JsonRpcException:
            return None
        return plain(answers[0]) if answers else None
    return None
