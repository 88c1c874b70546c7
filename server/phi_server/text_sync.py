"""Documents as the editor has them: incremental sync that is right for every line separator, encoding and surrogate.

Here: pygls' workspace with other lines and positions. Not here: what is read out of a document (documents.py).
"""

from collections.abc import Sequence
from typing import Any

from lsprotocol import types
from pygls.workspace import PositionCodec, ServerTextPosition, TextDocument, Workspace

from phi_server.documents import split_lines


class Codec(PositionCodec):
    """Positions in the client's units. Behind the end of a line means: at its end, before the line break."""

    def split(self, line: str, character: int) -> tuple[str, str]:
        """`line` before `character` and from it on. In UTF-16 the cut may go through a surrogate pair."""
        text = line.rstrip("\r\n")
        if text.isascii() or self.encoding == types.PositionEncodingKind.Utf32:
            character = min(character, len(text))
            return line[:character], line[character:]
        name, width = ("utf-8", 1) if self.encoding == types.PositionEncodingKind.Utf8 else ("utf-16-le", 2)
        data = text.encode(name, "surrogatepass")
        before, after = data[: character * width], data[character * width :]
        try:
            return before.decode(name, "surrogatepass"), after.decode(name, "surrogatepass") + line[len(text) :]
        except UnicodeDecodeError:  # through a UTF-8 sequence: the client's defect
            return before.decode(name, "replace"), after.decode(name, "replace") + line[len(text) :]

    def position_from_client_units(self, lines: Sequence[str], position: types.Position) -> ServerTextPosition:
        if position.line >= len(lines):
            return ServerTextPosition(len(lines) - 1, len(lines[-1])) if lines else ServerTextPosition(0, 0)
        return ServerTextPosition(position.line, len(self.split(lines[position.line], position.character)[0]))


class Document(TextDocument):
    """`lines` is immutable: a snapshot of the document that costs nothing. An edit costs its own lines, not the file's."""

    _position_codec: Codec

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._lines = None if self._source is None else split_lines(self._source)

    @property
    def lines(self) -> tuple[str, ...]:
        return split_lines(self.source) if self._lines is None else self._lines

    @property
    def source(self) -> str:
        if self._source is None and self._lines is not None:
            self._source = "".join(self._lines)
        return super().source

    def _apply_full_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        self._source, self._lines = change.text, split_lines(change.text)

    def _apply_incremental_change(self, change: types.TextDocumentContentChangePartial) -> None:
        lines = self.lines
        start, end = sorted((change.range.start, change.range.end), key=lambda position: (position.line, position.character))
        first, last = min(start.line, len(lines)), min(end.line, len(lines))
        before, _ = self._position_codec.split(lines[first] if first < len(lines) else "", start.character)
        _, after = self._position_codec.split(lines[last] if last < len(lines) else "", end.character)
        text = before + change.text + after
        if first > 0 and not lines[first - 1].endswith("\n"):  # an unfinished last line, or \r, which a \n may now follow
            first -= 1
            text = lines[first] + text
        if not text.isascii():  # halves of surrogate pairs meet
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        self._lines = lines[:first] + split_lines(text) + lines[last + 1 :]
        self._source = None


class Documents(Workspace):
    """pygls' workspace, of `Document`s."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._position_codec = Codec(self._position_encoding)

    def _create_text_document(
        self, doc_uri: str, source: str | None = None, version: int | None = None, language_id: str | None = None
    ) -> Document:
        return Document(doc_uri, source, version, language_id, sync_kind=self._sync_kind, position_codec=self._position_codec)
