"""The folders of tests that are run only when asked for, by their marker or their folder: `dev.py editors` and `dev.py runtimes`."""

from pathlib import Path

import pytest

APART = ("editors", "runtimes")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """They are not even imported: what they import may not be installed."""
    name = collection_path.name
    if collection_path.parent != Path(__file__).parent or name not in APART:
        return None
    return None if name in config.option.markexpr or any(name in argument for argument in config.args) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (name := item.path.parent.name) in APART:
            item.add_marker(name)
