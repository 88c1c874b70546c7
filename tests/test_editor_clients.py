"""The editors' clients, as far as they can be judged without an editor: they start the server with settings that it has."""

import importlib.util
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from phi_server.execute_command import COMMANDS
from phi_server.settings import Settings, parse

CLIENTS = Path(__file__).parents[1] / "editor-clients"


def pasted() -> dict[str, tuple[list[str], Any]]:
    """Of each configuration that people paste: the command, and the settings."""
    helix = tomllib.loads((CLIENTS / "helix/languages.toml").read_text(encoding="utf-8"))["language-server"]["phi-ls"]
    kate = json.loads((CLIENTS / "kate/settings.json").read_text(encoding="utf-8"))["servers"]["python"]
    sublime = json.loads((CLIENTS / "sublime/LSP.sublime-settings").read_text(encoding="utf-8"))["clients"]["phi-ls"]
    zed = json.loads((CLIENTS / "zed/settings.json").read_text(encoding="utf-8"))["lsp"]["pylsp"]
    return {
        "helix": ([helix["command"], *helix["args"]], helix["config"]),
        "kate": (kate["command"], kate["initializationOptions"]),
        "sublime": (sublime["command"], sublime["initializationOptions"]),
        "zed": ([zed["binary"]["path"], *zed["binary"]["arguments"]], zed["initialization_options"]),
    }


@pytest.mark.parametrize("editor", ["helix", "kate", "sublime", "zed"])
def test_a_configuration_to_paste_starts_the_server_with_settings_that_it_has(editor: str) -> None:
    command, settings = pasted()[editor]
    assert command == ["phi-ls", "serve"]
    assert parse(settings) == (Settings(), [])


def test_vs_code_describes_the_settings_as_the_server_has_them() -> None:
    schema = vscode_build().schema()
    assert list(schema) == [f"phi-ls.{known.name}" for known in fields(Settings)]
    for known in fields(Settings):
        described = schema[f"phi-ls.{known.name}"]
        assert described["default"] == getattr(Settings(), known.name)
        assert described["markdownDescription"] == Settings.describe(known.name)
        if "minimum" in described:
            for value, is_right in ((described["minimum"], True), (described["minimum"] - 1, False), (described["maximum"] + 1, False)):
                assert (parse({known.name: value})[1] == []) is is_right
        for value in described.get("enum", []):
            assert parse({known.name: value})[1] == []


def test_vs_code_lets_no_workspace_say_what_is_run() -> None:
    manifest = json.loads((CLIENTS / "vscode/package.json").read_text(encoding="utf-8"))
    properties = manifest["contributes"]["configuration"]["properties"] | vscode_build().schema()
    trust = manifest["capabilities"]["untrustedWorkspaces"]
    assert trust["supported"] == "limited"
    restricted = set(trust["restrictedConfigurations"])
    assert restricted == {name for name, described in properties.items() if described["scope"] == "machine"}
    assert {"phi-ls.command", "phi-ls.interpreter", "phi-ls.model"} <= restricted


def test_vs_code_s_own_commands_and_the_servers_do_not_collide() -> None:
    manifest = json.loads((CLIENTS / "vscode/package.json").read_text(encoding="utf-8"))
    own = {entry["command"] for entry in manifest["contributes"]["commands"]}
    assert not own & set(COMMANDS)
    registered = set(re.findall(r"'(phi-ls\.\w+)': \(", (CLIENTS / "vscode/src/extension.ts").read_text(encoding="utf-8")))
    assert own == registered


def vscode_build() -> Any:
    """The script that builds the extension."""
    spec = importlib.util.spec_from_file_location("vscode_build", CLIENTS / "vscode" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
