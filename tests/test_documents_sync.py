"""Incremental edits leave the server with the text that the editor has, whatever the text and the position encoding.

The model is a list of code units, edited by offsets: slow, and simple enough to be believed.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lsprotocol import types

from phi_server.documents import split_lines
from phi_server.lsp_client import LspClient
from phi_server.text_sync import Documents

SERVER = [sys.executable, "-P", str(Path(__file__).parent / "fixture_server.py")]
URI = "file:///a.py"
Encoding = Literal["utf-8", "utf-16", "utf-32"]
Edit = tuple[tuple[int, int], tuple[int, int], str]
"""From (line, character) to (line, character), and what to put there."""
ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")
WIDTHS = {"utf-8": 1, "utf-16": 2, "utf-32": 4}
BREAKS = ("\n", "\r", "\r\n")
NO_BREAKS = ("\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
"""str.splitlines splits at these; editors do not."""
CHARACTERS = ("a", "b", " ", "é", "€", "\U0001f600", "\U0001f601", "\N{COMBINING ACUTE ACCENT}")


class Model:
    """A document in the editor."""

    def __init__(self, text: str, encoding: Encoding):
        self._codec, self._width = f"{encoding}-le" if encoding != "utf-8" else encoding, WIDTHS[encoding]
        self.units = self._units(text)

    def _units(self, text: str) -> list[bytes]:
        data = text.encode(self._codec, "surrogatepass")
        return [data[at : at + self._width] for at in range(0, len(data), self._width)]

    @property
    def text(self) -> str:
        return b"".join(self.units).decode(self._codec, "surrogatepass")

    def offset(self, line: int, character: int) -> int:
        at = 0
        for _ in range(line):
            at = self._line_end(at)
            if at == len(self.units):
                return at
            at += 2 if self.units[at : at + 2] == self._units("\r\n") else 1
        return min(at + character, self._line_end(at))

    def _line_end(self, at: int) -> int:
        while at < len(self.units) and self.units[at] not in self._units("\r\n"):
            at += 1
        return at

    def apply(self, edit: Edit) -> None:
        start, end = sorted((self.offset(*edit[0]), self.offset(*edit[1])))
        self.units[start:end] = self._units(edit[2])

    def boundary(self, line: int, character: int) -> tuple[int, int]:
        """The position, or the next one behind it that does not cut a character."""
        at = self.offset(line, character)
        while at < len(self.units) and self._width == 1 and self.units[at][0] & 0xC0 == 0x80:
            at, character = at + 1, character + 1
        return line, character


def change(edit: Edit) -> dict[str, Any]:
    start, end = ({"line": line, "character": character} for line, character in sorted(edit[:2]))
    return {"range": {"start": start, "end": end}, "text": edit[2]}


def texts(encoding: Encoding) -> st.SearchStrategy[str]:
    halves = ("\ud83d", "\ude00") if encoding == "utf-16" else ()
    pieces = st.lists(st.sampled_from((*BREAKS, *NO_BREAKS, *CHARACTERS, *halves)), max_size=12)
    return pieces.map(lambda parts: str(json.loads(json.dumps("".join(parts)))))  # in JSON, halves that meet are one character


def positions() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, 6), st.integers(0, 12))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_random_edits(encoding: Encoding) -> None:
    @settings(deadline=None)
    @given(texts(encoding), st.lists(st.tuples(positions(), positions(), texts(encoding)), max_size=8))
    @example("a\r", [((1, 0), (1, 0), "\nb")])
    @example("a\r\nb", [((0, 1), (0, 9), "\r"), ((1, 0), (1, 0), "\n")])
    @example("a", [((7, 0), (7, 0), "b"), ((0, 9), (0, 9), "c")])
    @example("", [((0, 0), (3, 3), "\f\n"), ((1, 0), (1, 0), "x")])
    def edited(text: str, edits: list[Edit]) -> None:
        workspace = Documents(None, types.TextDocumentSyncKind.Incremental, [], types.PositionEncodingKind(encoding))
        workspace.put_text_document(types.TextDocumentItem(URI, "python", 1, text))
        model = Model(text, encoding)
        for version, (start, end, new) in enumerate(edits, 2):
            edit = (model.boundary(*start), model.boundary(*end), new)
            model.apply(edit)
            at = [types.Position(*position) for position in sorted(edit[:2])]
            workspace.update_text_document(
                types.VersionedTextDocumentIdentifier(uri=URI, version=version),
                types.TextDocumentContentChangePartial(types.Range(at[0], at[1]), new),
            )
            document = workspace.get_text_document(URI)
            assert document.version == version
            assert document.source == model.text
            assert document.lines == split_lines(model.text)

    edited()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_edits_over_the_wire(encoding: Encoding) -> None:
    chance = random.Random(encoding)
    pieces = (*BREAKS, *NO_BREAKS, *CHARACTERS) * 2 + (("\ud83d", "\ude00") if encoding == "utf-16" else ())
    text = "".join(chance.choices(pieces, k=40))
    model = Model(text, encoding)
    initialize = {"rootUri": None, "capabilities": {"general": {"positionEncodings": ["utf-7", encoding]}}}
    async with await LspClient.start(SERVER, initialize) as client:
        assert client.capabilities["positionEncoding"] == encoding
        await client.open(URI, text)
        for version in range(2, 102):
            changes = []
            for _ in range(chance.randrange(1, 4)):
                start, end = (model.boundary(chance.randrange(20), chance.randrange(12)) for _ in range(2))
                end = end if chance.random() < 0.3 else start
                edit = start, end, "".join(chance.choices(pieces, k=chance.randrange(4)))
                model.apply(edit)
                changes.append(change(edit))
            if version == 50:
                model = Model("a\fb\u2028c\r\n\U0001f600\x85\x1cd", encoding)
                changes.append({"text": model.text})
            document = {"uri": URI, "version": version}
            await client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": changes})
            assert await client.request("test/text", {"uri": URI}) == model.text


def test_positions_behind_the_end_are_at_the_end() -> None:
    workspace = Documents(None, types.TextDocumentSyncKind.Incremental, [], types.PositionEncodingKind.Utf16)
    workspace.put_text_document(types.TextDocumentItem(URI, "python", 1, "\U0001f600b\r\ncd"))
    document = workspace.get_text_document(URI)
    assert [document.offset_at_position(types.Position(0, at)) for at in range(6)] == [0, 1, 1, 2, 2, 2]
    assert [document.offset_at_position(types.Position(1, at)) for at in range(4)] == [4, 5, 6, 6]
    assert document.offset_at_position(types.Position(9, 9)) == 6
