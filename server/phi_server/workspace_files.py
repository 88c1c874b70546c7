"""Which files of the disk may be read for a prompt: source files inside the workspace folders that an editor would show.

Left out: what `.gitignore` and `.phi-lsignore` name (same form), hidden files and folders, files kept for secrets, what is no text or too
big. A link that leads out of the workspace leads nowhere. Not here: what is taken from a file (related.py).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from phi_server.documents import language_of, split_lines
from phi_server.redact import is_secret_file

IGNORE_FILES = (".gitignore", ".phi-lsignore")
MAX_BYTES = 256 * 1024
MAX_REMEMBERED = 200
_NEVER = frozenset({"node_modules", "__pycache__", "site-packages", "dist", "build", "target", "venv"})
"""Folders of what others wrote or a tool made, also where nobody ignores them."""


@dataclass(frozen=True)
class SourceFile:
    path: Path
    language_id: str
    lines: tuple[str, ...]
    stamp: tuple[int, int]
    """Changes when the file does."""


class WorkspaceFiles:
    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [Path(os.path.realpath(folder)) for folder in folders]
        self._read: dict[Path, SourceFile] = {}

    @property
    def folders(self) -> Sequence[Path]:
        return self._folders

    def allows(self, path: Path) -> bool:
        """Whether a prompt may hold anything of this file, be it open or on the disk."""
        real = Path(os.path.realpath(path))
        folder = next((folder for folder in self._folders if real.is_relative_to(folder)), None)
        if folder is None or is_secret_file(str(real.relative_to(folder))) or is_secret_file(path.name):
            return False
        parts = real.relative_to(folder).parts
        return not any(part.startswith(".") or part in _NEVER for part in parts) and not is_ignored(folder, parts)

    def is_shut(self, path: Path) -> bool:
        """Whether phi-ls was told not to look at this file even when it is the one being edited."""
        real = Path(os.path.realpath(path))
        folder = next((folder for folder in self._folders if real.is_relative_to(folder)), None)
        if is_secret_file(str(path)):
            return True
        return folder is not None and is_ignored(folder, real.relative_to(folder).parts, (".phi-lsignore",))

    def read(self, path: Path) -> SourceFile | None:
        """The file, if it is there and may be read."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(path)
        if known is not None and known.stamp == stamp and self.allows(path):
            return known
        language_id = language_of(path)
        if status.st_size > MAX_BYTES or language_id == "plaintext" or not path.is_file() or not self.allows(path):
            return None
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            return None
        if "\0" in text:
            return None
        if len(self._read) >= MAX_REMEMBERED:
            self._read.clear()
        found = self._read[path] = SourceFile(path, language_id, split_lines(text), stamp)
        return found


def is_ignored(folder: Path, parts: Sequence[str], names: Sequence[str] = IGNORE_FILES) -> bool:
    """Whether an ignore file in `folder` or below names the path `folder/parts`, or a folder on the way to it. The last word counts."""
    ignored = False
    for depth in range(len(parts)):
        inside = folder.joinpath(*parts[:depth])
        is_folder_until = len(parts) - 1
        for name in names:
            for pattern, negates, folders_only in _patterns(str(inside / name), _stamp(inside / name)):
                for end in range(depth + 1, len(parts) + 1):
                    if (end <= is_folder_until or not folders_only) and pattern.fullmatch("/".join(parts[depth:end])):
                        ignored = not negates
                        break
    return ignored


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=500)
def _patterns(file: str, stamp: int) -> tuple[tuple[re.Pattern[str], bool, bool], ...]:
    """(what it matches, whether it lets in again, whether it is for folders) for each line of an ignore file."""
    if not stamp:
        return ()
    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ()
    found = []
    for line in lines:
        line = line.rstrip("\r")
        line = line.rstrip(" ") if not line.endswith("\\ ") else line
        if not line or line.startswith("#"):
            continue
        negates = line.startswith("!")
        line = line.removeprefix("!").removeprefix("\\")
        folders_only = line.endswith("/")
        line = line.rstrip("/")
        anchored = "/" in line
        body = _translated(line.lstrip("/"))
        try:
            found.append((re.compile(body if anchored else f"(?:.*/)?{body}", re.DOTALL), negates, folders_only))
        except re.error:
            continue
    return tuple(found)


def _translated(glob: str) -> str:
    """A glob of an ignore file as a regular expression: `*` and `?` stop at slashes, `**` does not."""
    result, at = "", 0
    while at < len(glob):
        if glob.startswith("**/", at):
            result, at = result + "(?:.*/)?", at + 3
        elif glob.startswith("/**", at) and at + 3 == len(glob):
            result, at = result + "/.+", at + 3
        elif glob.startswith("**", at):
            result, at = result + ".*", at + 2
        elif glob[at] == "*":
            result, at = result + "[^/]*", at + 1
        elif glob[at] == "?":
            result, at = result + "[^/]", at + 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inner = glob[at + 1 : end].replace("\\", "\\\\")
            inner = "^" + inner[1:] if inner.startswith("!") else inner
            result, at = f"{result}[{inner}]", end + 1
        elif glob[at] == "\\" and at + 1 < len(glob):
            result, at = result + re.escape(glob[at + 1]), at + 2
        else:
            result, at = result + re.escape(glob[at]), at + 1
    return result
