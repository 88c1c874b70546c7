"""Snapshots and positions: only the cursor's line is looked at, and only LSP's line ends count."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi_server.documents import (
    Position,
    Range,
    Snapshot,
    from_units,
    indent_unit,
    language_of,
    split_lines,
    to_units,
    whole_lines,
)

TEXT = st.text(st.sampled_from("ab \t\r\n\x0c\x85\u2028é€🙂"))


def document(text: str, uri: str = "file:///home/me/folder/file.py") -> Snapshot:
    return Snapshot.of_text(uri, 1, "python", text)


@given(TEXT)
def test_lines_are_the_text_cut_at_lsp_line_ends_only(text: str) -> None:
    lines = split_lines(text)
    assert "".join(lines) == text
    assert all(line.rstrip("\r\n").count("\n") + line.rstrip("\r\n").count("\r") == 0 for line in lines)
    line_feeds = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    assert len(lines) == (line_feeds.count("\n") + 1 if text else 0)


@pytest.mark.parametrize(
    ("encoding", "units"), [("utf-8", [0, 1, 3, 6, 10, 11]), ("utf-16", [0, 1, 2, 3, 5, 6]), ("utf-32", [0, 1, 2, 3, 4, 5])]
)
def test_positions_in_each_encoding(encoding: str, units: list[int]) -> None:
    line = "aé€🙂b"
    assert [to_units(line, index, encoding) for index in range(6)] == units
    assert [from_units(line, unit, encoding) for unit in units] == list(range(6))
    assert from_units(line, 99, encoding) == 5


def test_a_position_inside_a_character_is_before_it() -> None:
    assert from_units("🙂b", 1, "utf-16") == 0
    assert from_units("€b", 2, "utf-8") == 0


def test_positions_that_do_not_exist_become_the_nearest_that_do() -> None:
    assert document("ab\ncd").clamp(Position(0, 9)) == Position(0, 2)
    assert document("ab\ncd").clamp(Position(9, 0)) == Position(1, 2)
    assert document("ab\ncd\n").clamp(Position(9, 9)) == Position(2, 0)
    assert document("").clamp(Position(3, 3)) == Position(0, 0)


@given(TEXT, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), TEXT)
def test_replacing_leaves_the_rest_alone(text: str, line: int, character: int, line2: int, character2: int, new: str) -> None:
    snapshot = document(text)
    start, end = sorted((snapshot.clamp(Position(line, character)), snapshot.clamp(Position(line2, character2))))
    old = snapshot.text(Range(start, end))
    replaced = snapshot.replaced(Range(start, end), new)
    assert len(replaced) == len(text) - len(old) + len(new)
    assert snapshot.replaced(Range(start, end), old) == text


def test_text_of_a_range_keeps_line_ends() -> None:
    snapshot = document("one\r\ntwo\r\nthree")
    assert snapshot.text(Range(Position(0, 1), Position(2, 2))) == "ne\r\ntwo\r\nth"
    assert snapshot.newline == "\r\n"


def test_whole_lines_leave_out_a_line_that_is_only_touched() -> None:
    snapshot = document("one\ntwo\nthree\n")
    assert whole_lines(snapshot, Range(Position(0, 1), Position(2, 0))) == Range(Position(0, 0), Position(1, 3))
    assert whole_lines(snapshot, Range(Position(1, 1), Position(1, 1))) == Range(Position(1, 0), Position(1, 3))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///home/me/folder/file.py", "folder/file.py"),
        ("file:///file.py", "file.py"),
        ("file:///c%3A/my%20code/a.py", "my code/a.py"),
        ("untitled:Untitled-1", "Untitled-1"),
    ],
)
def test_the_path_that_the_model_reads_is_short(uri: str, path: str) -> None:
    assert document("", uri).path == path


@pytest.mark.parametrize(
    ("text", "unit"),
    [("a:\n\tb", "\t"), ("a {\n  b {\n    c", "  "), ("a:\n    b\n", "    "), ("a\nb", "    "), ("a:\n        b", " " * 8)],
)
def test_the_indent_unit_is_the_documents_own(text: str, unit: str) -> None:
    assert indent_unit(split_lines(text)) == unit


def test_languages_by_ending() -> None:
    assert [language_of(Path(name)) for name in ("a.PY", "b.tsx", "Makefile")] == ["python", "typescriptreact", "plaintext"]
