"""Whether the machine runs on battery, from what Linux says, and when nothing is done ahead of time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from phi_backends.messages import Loaded
from phi_server.power import linux, on_battery
from phi_server.session import Session
from phi_server.settings import Settings


def supply(folder: Path, name: str, **values: str) -> None:
    (folder / name).mkdir()
    for key, value in values.items():
        (folder / name / key).write_text(value + "\n")


@pytest.mark.parametrize(("status", "online", "saves"), [("Discharging", "0", True), ("Charging", "1", False), ("Full", "1", False)])
def test_a_laptop(tmp_path: Path, status: str, online: str, saves: bool) -> None:
    supply(tmp_path, "BAT0", type="Battery", status=status)
    supply(tmp_path, "AC", type="Mains", online=online)
    assert linux(tmp_path) is saves


def test_the_battery_of_a_mouse_is_none_of_the_machine(tmp_path: Path) -> None:
    supply(tmp_path, "hidpp_battery_0", type="Battery", scope="Device", status="Discharging")
    assert not linux(tmp_path)


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    supply(tmp_path, "odd")
    assert not linux(tmp_path)
    assert not linux(tmp_path / "nothing")
    assert on_battery() in (True, False)


@pytest.mark.parametrize(
    ("engine", "changed", "works"),
    [
        ("openvino", {}, True),
        ("openvino", {"saves_power": lambda: True}, False),
        ("openvino", {"settings": Settings(inline_completion=False)}, False),
        ("openvino", {"loaded": None}, False),
        ("remote", {}, False),
    ],
)
def test_what_nobody_asked_for_is_not_asked_of_a_server_of_others(engine: str, changed: dict[str, Any], works: bool) -> None:
    loaded = Loaded(engine, "a model", "CPU", "asked for", 2048, "phi3", "phi3", 0.0)
    session = SimpleNamespace(**{"loaded": loaded, "settings": Settings(), "saves_power": lambda: False, **changed})
    assert Session.works_ahead(cast(Session, session)) is works
