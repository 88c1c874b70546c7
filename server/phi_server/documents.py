"""Documents as they were at one version: immutable, split into lines, with positions in characters.

Positions arrive from editors as UTF-8, UTF-16 or UTF-32 units of one line; only that line is ever looked at, so the cost of a
keystroke does not grow with the file. Here, and everywhere behind here, a position counts Python characters (code points).

Not here: keeping documents in step with the editor (protocol.py).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

_LANGUAGES = {
    ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".cs": "csharp", ".css": "css", ".go": "go", ".html": "html",
    ".java": "java", ".js": "javascript", ".mjs": "javascript", ".jsx": "javascriptreact", ".json": "json", ".kt": "kotlin",
    ".lua": "lua", ".md": "markdown", ".php": "php", ".py": "python", ".pyi": "python", ".rb": "ruby", ".rs": "rust",
    ".sh": "shellscript", ".sql": "sql", ".swift": "swift", ".toml": "toml", ".ts": "typescript", ".tsx": "typescriptreact",
    ".yaml": "yaml", ".yml": "yaml",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Position:
    line: int
    """From 0."""
    character: int
    """Characters (code points) before it on its line."""


@dataclass(frozen=True)
class Range:
    start: Position
    end: Position
    """Behind the last character."""

    @property
    def is_empty(self) -> bool:
        return self.start == self.end


@dataclass(frozen=True)
class Snapshot:
    uri: str
    version: int | None
    """None: the editor does not number its versions, or the text is a file's."""
    language_id: str
    lines: tuple[str, ...]
    """With their line ends. Behind a last line end there is one more line, empty, which is not here but counts in positions."""

    @classmethod
    def of_text(cls, uri: str, version: int | None, language_id: str, text: str) -> "Snapshot":
        return cls(uri, version, language_id, split_lines(text))

    @property
    def path(self) -> str:
        """The last two parts of the path, `folder/file.py`: enough for the model to know what it reads."""
        parts = PurePosixPath(unquote(urlsplit(self.uri).path).replace("\\", "/")).parts
        return "/".join(part for part in parts[-2:] if part != "/")

    @cached_property
    def newline(self) -> str:
        """The document's own line end."""
        return next((line[len(line.rstrip("\r\n")) :] for line in self.lines if line[-1:] in ("\r", "\n")), "\n")

    def line(self, number: int) -> str:
        """A line without its line end; empty behind the end of the document."""
        return self.lines[number].rstrip("\r\n") if 0 <= number < len(self.lines) else ""

    @property
    def last_line(self) -> int:
        """The number of the last line that a cursor can be on."""
        return len(self.lines) - (1 if self.lines and self.lines[-1][-1] not in "\r\n" else 0)

    def clamp(self, position: Position) -> Position:
        """The nearest position that exists."""
        if position.line > self.last_line:
            return Position(self.last_line, len(self.line(self.last_line)))
        return Position(position.line, min(position.character, len(self.line(position.line))))

    def text(self, range: Range) -> str:
        """The text in `range`, line ends included."""
        return self._cut(range)[1]

    def replaced(self, range: Range, text: str) -> str:
        """The whole text as it would be with `text` in place of `range`."""
        before, _, after = self._cut(range)
        return before + text + after

    def edited(self, range: Range, text: str) -> "Snapshot":
        """The document as it would be with `text` in place of `range`. Costs those lines, not the document's."""
        start, end = self.clamp(range.start), self.clamp(range.end)
        first, last = ("".join(self.lines[place.line : place.line + 1]) for place in (start, end))
        middle = split_lines(first[: start.character] + text + last[end.character :])
        return Snapshot(self.uri, None, self.language_id, self.lines[: start.line] + middle + self.lines[end.line + 1 :])

    def _cut(self, range: Range) -> tuple[str, str, str]:
        """The whole text in three: before, in and behind `range`."""
        start, end = self.clamp(range.start), self.clamp(range.end)
        text = "".join(self.lines)
        first, last = (sum(map(len, self.lines[: position.line])) + position.character for position in (start, end))
        return text[:first], text[first:last], text[last:]


def split_lines(text: str) -> tuple[str, ...]:
    r"""The lines of a text with their line ends, which are \r\n, \r and \n alone: str.splitlines knows eight more that editors do not."""
    return tuple(io.StringIO(text, newline=""))


def language_of(path: Path) -> str:
    """The language of a file by its ending, as editors name it; `plaintext` when the ending says nothing."""
    return _LANGUAGES.get(path.suffix.lower(), "plaintext")


def whole_lines(snapshot: Snapshot, range: Range) -> Range:
    """`range` grown to the beginning of its first line and the end of its last. A last line touched at column 0 only is left out."""
    start, end = snapshot.clamp(range.start), snapshot.clamp(range.end)
    last = end.line - 1 if end.character == 0 and end.line > start.line else end.line
    return Range(Position(start.line, 0), Position(last, len(snapshot.line(last))))


def from_units(line: str, units: int, encoding: str) -> int:
    """Characters of `line` that `units` of the encoding (`utf-8`, `utf-16`, `utf-32`) cover; inside a character is before it."""
    if encoding == "utf-32" or line.isascii():
        return max(0, min(units, len(line)))
    for index, character in enumerate(line):
        units -= _width(character, encoding)
        if units < 0:
            return index
    return len(line)


def to_units(line: str, index: int, encoding: str) -> int:
    """Units of the encoding in the first `index` characters of `line`."""
    if encoding == "utf-32" or line.isascii():
        return index
    return sum(_width(character, encoding) for character in line[:index])


def indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def indent_unit(lines: Sequence[str]) -> str:
    """What one step of indentation is in these lines: a tab, or 2, 4 or 8 blanks; four blanks when nothing tells."""
    widths: dict[int, int] = {}
    previous = 0
    for line in lines[:2000]:
        if not line.strip():
            continue
        if line.startswith("\t"):
            return "\t"
        width = len(line) - len(line.lstrip(" "))
        if width - previous in (2, 4, 8):
            widths[width - previous] = widths.get(width - previous, 0) + 1
        previous = width
    return " " * max(widths, key=lambda width: widths[width], default=4)


def _width(character: str, encoding: str) -> int:
    code = ord(character)
    if encoding == "utf-16":
        return 2 if code > 0xFFFF else 1
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
