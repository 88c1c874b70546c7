"""`phi-ls bench typing`, with the echo engine."""

import json
import re
from pathlib import Path

import pytest

from phi_backends.errors import BadInput
from phi_backends.messages import Load
from phi_server import bench_typing
from phi_server.bench_typing import Key, measure, picture, read_keys, session, to_text, typed

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_keys_are_drawn_the_same_each_time_at_a_human_pace() -> None:
    keys = list(typed("def area(radius):\n    return math.pi * radius ** 2\n"))
    assert keys == list(typed("def area(radius):\n    return math.pi * radius ** 2\n"))
    assert 100 < sum(key.after_ms for key in keys) / len(keys) < 400


def test_a_recording_is_read_and_a_broken_one_refused(tmp_path: Path) -> None:
    recording = tmp_path / "keys.jsonl"
    recording.write_text(json.dumps({"after_ms": 130, "text": "x"}) + "\n")
    assert read_keys(recording) == [Key(130.0, "x")]
    assert session(None, recording)[2] == [Key(130.0, "x")]
    recording.write_text("x")
    with pytest.raises(BadInput, match="cannot be read as keys"):
        read_keys(recording)
    with pytest.raises(BadInput, match="cannot be read"):
        session(tmp_path / "nothing.py", None)


def test_what_is_typed_begins_with_code(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('def first():\n    """Says\n' + "    much, and more.\n" * 9 + '    """\n\n\ndef second():\n    return 2\n')
    _, there, keys = session(file, None)
    assert there.endswith('"""\n\n\n')
    assert "".join(key.text for key in keys) == "def second():\n    return 2\n"
    file.write_text("some prose\n" * 9)
    assert session(file, None)[1] == "some prose\n" * 4


@pytest.mark.parametrize("cancels", [False, True])
async def test_what_is_accepted_is_counted(monkeypatch: pytest.MonkeyPatch, cancels: bool) -> None:
    monkeypatch.setattr(bench_typing, "OWN_ROUNDS", 3)
    keys = [Key(400 if character == "r" else 20, character) for character in "    return value + 1"]
    load = Load("echo", "embedded", "auto", {"reply": "return value + 1", "templates": "small"})
    report = await measure(load, "a.py", "def f(value):\n", keys, cancels)
    assert report["saved_keys"] > 5
    assert report["keys"] + report["saved_keys"] == len(keys)
    assert report["accepted"] == 1
    assert 0 < report["on_time_share"] < 1
    assert report["model_runs"]["completion"] < report["keys"]
    assert 0 < report["right_share"] <= 1
    text = to_text([report, {**report, "saved_keys": 0}])
    assert re.search(r"^keystrokes saved +\d+ of \d+, in 1 suggestions +0 of", text, re.MULTILINE)


def test_the_picture_has_a_curve_for_each_engine(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "phi-ls[bench]"')
    points = [(0, 0.0), (10, 20.0)]
    curves = {"ghost_ms": points, "saved_by_key": points, "cpu_by_s": points}
    reports = [
        {"engine": {"engine": name, "model": "a", "device": "CPU"}, "keys": 10, "saved_keys": 2, "curves": curves} for name in ("a", "b")
    ]
    picture(tmp_path / "typing.png", reports)
    assert (tmp_path / "typing.png").read_bytes().startswith(b"\x89PNG")
