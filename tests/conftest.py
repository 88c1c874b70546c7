"""The folders of tests that run only when asked for, by their marker or their folder: `dev.py editors` and `dev.py runtimes`."""

from pathlib import Path

import pytest

APART = ("editors", "runtimes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for name in APART:
        theirs = [item for item in items if item.path.is_relative_to(Path(__file__).parent / name)]
        for item in theirs:
            item.add_marker(name)
        if name not in config.option.markexpr and not any(name in argument for argument in config.args):
            items[:] = [item for item in items if item not in theirs]
            config.hook.pytest_deselected(items=theirs)
