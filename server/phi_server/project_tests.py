"""How the project writes its tests: an example, the framework it uses, and where a new test file goes.

A few folders are looked into, the nearest first, none deeply. Not here: which files may be read (workspace_files.py).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phi_server.redact import redacted
from phi_server.workspace_files import WorkspaceFiles

MAX_ENTRIES = 500
"""Of a folder."""
EXAMPLE_LINES = 40
_SCRIPTS = frozenset({"javascript", "javascriptreact", "typescript", "typescriptreact"})
_TESTS = {
    "python": re.compile(r"test_.*\.py|.*_test\.py"),
    "go": re.compile(r".*_test\.go"),
    "java": re.compile(r".*Tests?\.java"),
    "ruby": re.compile(r"test_.*\.rb|.*_(?:test|spec)\.rb"),
    **dict.fromkeys(_SCRIPTS, re.compile(r".*\.(?:test|spec)\.[cm]?[jt]sx?")),
}
_FRAMEWORKS = (
    ("unittest", re.compile(r"\bunittest\.TestCase\b|^import unittest|\(TestCase\)", re.MULTILINE), "unittest"),
    ("pytest", re.compile(r"^import pytest|^from pytest|^def test_|^async def test_", re.MULTILINE), "pytest"),
    ("Vitest", re.compile(r"[\"']vitest[\"']"), "Vitest"),
    ("Jest", re.compile(r"@jest/globals|\bjest\."), "Jest"),
    ("node:test", re.compile(r"[\"']node:test[\"']"), "the node:test module"),
    ("Mocha", re.compile(r"[\"'](?:chai|mocha)[\"']"), "Mocha and Chai"),
    ("JUnit 4", re.compile(r"^import org\.junit\.Test", re.MULTILINE), "JUnit 4"),
    ("JUnit 5", re.compile(r"^import org\.junit\.jupiter", re.MULTILINE), "JUnit 5"),
    ("TestNG", re.compile(r"^import org\.testng", re.MULTILINE), "TestNG"),
    ("RSpec", re.compile(r"\bRSpec\.describe|^describe ", re.MULTILINE), "RSpec"),
)


@dataclass(frozen=True)
class ProjectTests:
    framework: str = ""
    """Empty: not known."""
    example: tuple[str, ...] = ()
    """The first lines of a test file."""
    file: Path | None = None
    """Where tests of the document go, by the example of the others; None: there is no example."""


def project_tests(files: WorkspaceFiles, own: Path, language_id: str) -> ProjectTests:
    """What is found for the document at `own`."""
    pattern = _TESTS.get(language_id)
    if pattern is None or not files.allows(own):
        return ProjectTests()
    for folder in _folders(files, own):
        names = sorted(_names(folder))
        tests = [name for name in names if pattern.fullmatch(name) and name != own.name]
        tests.sort(key=lambda name: own.stem not in name)
        for name in tests[:5]:
            file = files.read(folder / name)
            if file is None or not any(line.strip() for line in file.lines):
                continue
            text = "".join(file.lines)
            framework = next((words for _, found, words in _FRAMEWORKS if found.search(text)), "")
            return ProjectTests(framework, redacted(file.lines[:EXAMPLE_LINES]), folder / _name_like(name, own, language_id))
    return ProjectTests()


def _folders(files: WorkspaceFiles, own: Path) -> Iterator[Path]:
    """Where tests of the document may be, the nearest first."""
    yield own.parent
    for name in ("tests", "test", "__tests__", "spec"):
        yield own.parent / name
    for root in files.folders:
        if not own.is_relative_to(root):
            continue
        inside = own.parent.relative_to(root)
        for name in ("tests", "test", "spec"):
            yield root / name / inside
            yield root / name
            if inside.parts:
                yield root / name / Path(*inside.parts[1:])
        if "main" in inside.parts:  # src/main/java/… → src/test/java/…
            at = inside.parts.index("main")
            yield root / Path(*inside.parts[:at], "test", *inside.parts[at + 1 :])


def _names(folder: Path) -> Iterator[str]:
    try:
        for count, entry in enumerate(folder.iterdir()):
            if count == MAX_ENTRIES:
                return
            yield entry.name
    except OSError:
        return


def _name_like(example: str, own: Path, language_id: str) -> str:
    """The name of the document's test file, in the form of another's."""
    stem, suffix = own.stem, own.suffix
    if language_id in _SCRIPTS:
        return f"{stem}.{'spec' if '.spec.' in example else 'test'}{suffix}"
    if language_id == "java":
        return f"{stem}{'Tests' if example.endswith('Tests.java') else 'Test'}{suffix}"
    if example.startswith("test_"):
        return f"test_{stem}{suffix}"
    return f"{stem}_{'spec' if example.endswith('_spec.rb') else 'test'}{suffix}"
