"""The README stays true: each source file has its line in the file map, each setting its row, each command exists."""

import re
from dataclasses import fields
from pathlib import Path

from phi_server.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_source_file_has_a_line_in_the_file_map_and_none_is_made_up() -> None:
    packages = ("server/phi_server", "backends/phi_backends", "backends/phi_backends/engines", "prompts/phi_prompts", "training/phi_train")
    there = {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).glob("*.py")
        if not path.name.startswith("__")
    }
    mapped = set(re.findall(r"^\| `([\w/]+\.py)` \|", README, re.MULTILINE))
    assert mapped == there


def test_every_setting_has_its_row_with_its_default_and_none_is_made_up() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^|`]*)` \|", README, re.MULTILINE))
    assert rows == {setting.name: _default(getattr(Settings(), setting.name)) for setting in fields(Settings)}


def _default(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
