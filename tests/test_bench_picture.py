import builtins
import struct
from pathlib import Path
from typing import Any

import pytest

from phi_backends.errors import BadInput
from phi_server.bench_picture import Panel, check, draw

PANELS = [
    Panel("First token", "prompt, tokens", "ms", {"one": [(32, 10), (2048, 400)], "two": [(32, 20), (2048, 900)]}, doubling=True),
    Panel("Each token", "position", "ms", {"one": [(32, 10.0), (2048, 12.0)]}),
]


def test_the_picture_is_a_png_of_curves_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "phi-ls[bench]"')
    file = tmp_path / "curves.png"
    draw(file, "An engine", PANELS)
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 2 * height, "two panels beside each other"


def test_without_matplotlib_the_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadInput, match=r'pip install "phi-ls\[bench\]"'):
        check(tmp_path / "curves.png")


@pytest.mark.parametrize(("name", "complaint"), [("curves.svg", "ends in .png"), ("nowhere/curves.png", "no folder")])
def test_a_place_where_no_picture_can_be_is_refused(tmp_path: Path, name: str, complaint: str) -> None:
    pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "phi-ls[bench]"')
    with pytest.raises(BadInput, match=complaint):
        check(tmp_path / name)
