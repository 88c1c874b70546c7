"""Code of the project that helps to complete at the cursor, and what else a prompt says about the place.

The order is that of change, for the KV cache: signatures of imported modules, pieces of other open and recently edited files, the
document's own imports and signatures, diagnostics. What was gathered stays for as long as the cursor is near: a better choice of
context would cost more, in a prefill of all that follows, than it gives.

Not here: which files may be read (workspace_files.py), what looks like a key (redact.py), likeness and patterns (phi_prompts).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from phi_prompts.signatures import Import, import_lines, imports, signatures
from phi_prompts.similarity import Chunk, choose, chunks, words
from phi_prompts.tasks import Code, Diagnostic
from phi_server.documents import Position, Snapshot, indent_unit
from phi_server.redact import redacted
from phi_server.workspace_files import SourceFile, WorkspaceFiles

STAY_LINES = 64
"""While the cursor stays between two multiples of this, the context stays."""
AROUND_LINES = 30
"""Above and below the cursor's line; it itself is not looked at, since it changes with each key."""
MAX_MODULES = 6
MAX_MODULE_SIGNATURES = 25
MAX_CHUNKS = 4
MAX_CHARACTERS = 6000
MAX_OWN_SIGNATURES = 40
MAX_OWN_IMPORTS = 30
MAX_DOCUMENTS = 20
"""Open or recently edited; the latest."""
MAX_OTHER_LINES = 8_000
"""Of all other documents together: looking at more would take longer than it helps."""
DIAGNOSTIC_LINES = 3
_ENDINGS = {
    "python": (".py", ".pyi", "/__init__.py"),
    **dict.fromkeys(
        ("javascript", "javascriptreact", "typescript", "typescriptreact"),
        ("", ".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", "/index.ts", "/index.js"),
    ),
    "rust": (".rs", "/mod.rs"),
    "ruby": (".rb",),
}


@dataclass(frozen=True)
class Context:
    """What a completion prompt holds besides the document."""

    code: tuple[Code, ...] = ()
    """The least likely to change first."""
    problems: tuple[Diagnostic, ...] = ()
    indent: str = ""
    """One step of the document's indentation; empty where nothing is said of it."""


NOTHING = Context()


@dataclass
class _Kept:
    where: tuple[object, ...]
    context: Context


@dataclass
class Related:
    """For one editor: the open documents change, what was found of them is remembered."""

    files: WorkspaceFiles
    problems: Mapping[str, tuple[int | None, tuple[Diagnostic, ...]]] = field(default_factory=dict)
    """Of a version of a document, as the editor has last told them."""
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _chunks: dict[str, tuple[object, list[Chunk]]] = field(default_factory=dict)
    _versions: dict[str, int | None] = field(default_factory=dict)
    _recent: dict[str, None] = field(default_factory=dict)
    """URIs, the last edited last."""

    def is_shut(self, snapshot: Snapshot) -> bool:
        """Whether nothing of this document may be shown to a model."""
        path = path_of(snapshot.uri)
        return path is not None and self.files.is_shut(path)

    def at(self, snapshot: Snapshot, position: Position, others: Mapping[str, Snapshot]) -> Context:
        """The context at the cursor. `others` are the open documents by URI; this one may be among them."""
        self._notice(snapshot, others)
        where = (position.line // STAY_LINES, *((uri, other.version) for uri, other in others.items() if uri != snapshot.uri))
        kept = self._kept.get(snapshot.uri)
        if kept is None or kept.where != where:
            kept = self._kept[snapshot.uri] = _Kept(where, self._gather(snapshot, position, others))
        return kept.context

    def _gather(self, snapshot: Snapshot, position: Position, others: Mapping[str, Snapshot]) -> Context:
        own = path_of(snapshot.uri)
        modules = self._modules(snapshot, own) if own is not None and self.files.allows(own) else []
        around = [*snapshot.lines[max(0, position.line - AROUND_LINES) : position.line]]
        around += snapshot.lines[position.line + 1 : position.line + 1 + AROUND_LINES]
        pieces = choose(words(around), self._others(snapshot, others), MAX_CHUNKS, MAX_CHARACTERS)
        pieces.sort(key=lambda chunk: (chunk.path, chunk.first_line))
        code = [*modules, *(Code(chunk.path, chunk.language_id, redacted(chunk.lines), chunk.first_line) for chunk in pieces)]
        code += _own(snapshot, position)
        return Context(tuple(code), self._problems(snapshot, position), indent_unit(snapshot.lines))

    def _notice(self, snapshot: Snapshot, others: Mapping[str, Snapshot]) -> None:
        for uri, other in others.items():
            if self._versions.get(uri) != other.version:
                if uri in self._versions or uri == snapshot.uri:
                    self._recent.pop(uri, None)
                    self._recent[uri] = None
                self._versions[uri] = other.version

    def _modules(self, snapshot: Snapshot, own: Path) -> list[Code]:
        """The signatures of what is imported from the project."""
        found: dict[Path, Code] = {}
        for imported in imports(snapshot.lines, snapshot.language_id):
            if len(found) == MAX_MODULES:
                break
            for module, names in _places(imported, snapshot.language_id):
                file = self._file(module, snapshot.language_id, own)
                if file is None or file.path in found or file.path == own:
                    continue
                kept = signatures(file.lines, file.language_id, names, MAX_MODULE_SIGNATURES)
                lines = [line for _, line in kept] or [line for _, line in signatures(file.lines, file.language_id, (), 8)]
                if lines:
                    found[file.path] = Code("/".join(file.path.parts[-2:]), file.language_id, redacted(lines))
        return list(found.values())

    def _file(self, module: str, language_id: str, own: Path) -> SourceFile | None:
        """The file that an import means, if it is one of the project's."""
        endings = _ENDINGS.get(language_id, ("",))
        if language_id == "python":
            dots = len(module) - len(module.lstrip("."))
            name = module.lstrip(".").replace(".", "/")
            up = own.parents[dots - 1] if 0 < dots <= len(own.parents) else None
            bases = [up] if up is not None else [*(base / source for base in self.files.folders for source in ("", "src")), own.parent]
        else:
            name, bases = module, [own.parent]
        for base in bases:
            for ending in endings:
                if file := self.files.read(
                    (base / name).with_name(base.joinpath(name).name + ending) if "/" not in ending else base / (name + ending)
                ):
                    return file
        return None

    def _others(self, snapshot: Snapshot, others: Mapping[str, Snapshot]) -> list[Chunk]:
        """The pieces of the other open documents, and of those edited and closed."""
        order = [*reversed(self._recent), *(uri for uri in others if uri not in self._recent)]
        found: list[Chunk] = []
        left = MAX_OTHER_LINES
        for uri in order[:MAX_DOCUMENTS]:
            path = path_of(uri)
            if uri == snapshot.uri or path is None or left <= 0 or not self.files.allows(path):
                continue
            other = others.get(uri)
            if other is not None:
                stamp: object = other.version
                lines: Sequence[str] = other.lines
                language_id = other.language_id
            elif (file := self.files.read(path)) is not None:
                stamp, lines, language_id = file.stamp, file.lines, file.language_id
            else:
                continue
            known = self._chunks.get(uri)
            if known is None or known[0] != stamp or stamp is None:
                lines = lines[:left]
                pieces = chunks("/".join(path.parts[-2:]), language_id, lines)
                known = self._chunks[uri] = (stamp, pieces)
            left -= sum(len(chunk.lines) for chunk in known[1])
            found += known[1]
        return found

    def _problems(self, snapshot: Snapshot, position: Position) -> tuple[Diagnostic, ...]:
        """What the editor has complained of near the cursor, not on its line: that one is being written."""
        version, problems = self.problems.get(snapshot.uri, (None, ()))
        if version is not None and snapshot.version is not None and version != snapshot.version:
            return ()
        near = [one for one in problems if one.line != position.line and abs(one.line - position.line) <= DIAGNOSTIC_LINES]
        return tuple(Diagnostic(one.line, redacted([one.message])[0]) for one in near[:3])


def path_of(uri: str) -> Path | None:
    """The path of a `file:` URI."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return None
    path = unquote(parts.path)
    return Path(path[1:] if len(path) > 2 and path[0] == "/" and path[2] == ":" else path)


def _own(snapshot: Snapshot, position: Position) -> list[Code]:
    """The document's imports and the signatures far from the cursor, where the document is too long to be shown whole."""
    block = position.line // STAY_LINES * STAY_LINES
    near = range(block - 2 * STAY_LINES, block + 2 * STAY_LINES)
    if block < 2 * STAY_LINES and len(snapshot.lines) < near.stop + STAY_LINES:
        return []
    found = signatures(snapshot.lines, snapshot.language_id, (), 2000)
    lines = import_lines(snapshot.lines[: near.start], snapshot.language_id)[:MAX_OWN_IMPORTS] if near.start > 0 else []
    headers = [(abs(number - block), number, line) for number, line in found if number not in near]
    kept = sorted(headers)[:MAX_OWN_SIGNATURES]
    lines += [line for _, number, line in sorted(kept, key=lambda one: one[1])]
    return [Code(snapshot.path, snapshot.language_id, redacted(lines))] if lines else []


def _places(imported: Import, language_id: str) -> list[tuple[str, tuple[str, ...]]]:
    """The modules that an import may mean: `from a import b` is module a, or module a.b."""
    if language_id != "python" or not imported.names:
        return [(imported.module, ())]
    dot = "" if imported.module.endswith(".") or not imported.module else "."
    modules = [(f"{imported.module}{dot}{name}", ()) for name in imported.names[:MAX_MODULES]]
    return ([(imported.module, imported.names)] if imported.module.strip(".") else []) + modules
