"""What the syntax tells of code, and where definitions begin and end."""

import ast

import pytest

from phi_server.actions import target
from phi_server.definitions import Definition, definition_at, has_docstring
from phi_server.documents import Position, Range, Snapshot
from phi_server.outline import Outline, outline, parameters, parse_python, to_markdown

FUNCTION = '''\
    @cache
    async def load(self, path: Path, *names: str, strict: bool = True, **more) -> list[Item]:
        """Reads the items. More words.

        Details.
        """
        global seen
        for name in names:
            if not name:
                raise BadName(name)
            self.items[name], seen = await parse(path.read_text()), 1
            self.count += 1

        def inner():
            raise KeyError
            return 5

        yield self.items
        return sorted(self.items)
'''


def test_a_python_function() -> None:
    assert outline(FUNCTION, "python") == Outline(
        "function",
        "load",
        19,
        takes=("path: Path", "*names: str", "strict: bool = True", "**more"),
        calls=("parse", "path.read_text", "sorted"),
        returns=("list[Item]", "self.items", "sorted(self.items)"),
        raises=("BadName",),
        writes=("self.items[name]", "seen", "self.count"),
        says="Reads the items.",
    )


def test_a_python_class() -> None:
    code = "class Shop(Base):\n    size = 3\n\n    def buy(self):\n        self.sold = 1\n        raise Empty\n"
    found = outline(code, "python")
    assert (found.kind, found.name, found.takes) == ("class", "Shop", ("Base",))
    assert found.writes == ("size", "buy", "self.sold")
    assert found.raises == ("Empty",)


def test_a_piece_of_python_takes_what_it_does_not_define() -> None:
    found = outline("        total = price * len(items)\n        print(total)\n        return total\n", "python")
    assert (found.kind, found.takes, found.calls) == ("code", ("price", "items"), ("len", "print"))
    assert (found.returns, found.writes) == (("total",), ("total",))


def test_python_that_does_not_parse_is_looked_at_line_by_line() -> None:
    found = outline("def broken(a, b):\n    return helper(a\n", "python")
    assert (found.name, found.takes, found.calls) == ("broken", ("a", "b"), ("helper",))


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        (
            "typescript",
            "export async function save(item: Item, tries = 3): Promise<void> {\n"
            "  if (!item) {\n    throw new BadItem('no (item)');\n  }\n  this.last = item;\n  return store.put(item);\n}\n",
            Outline(
                "function",
                "save",
                7,
                takes=("item: Item", "tries = 3"),
                calls=("BadItem", "store.put"),
                returns=("store.put(item)",),
                raises=("BadItem",),
                writes=("this.last",),
            ),
        ),
        (
            "go",
            "func (s *Server) Run(port int) error {\n\treturn s.listen(port)\n}\n",
            Outline("function", "Run", 3, takes=("port int",), calls=("s.listen",), returns=("s.listen(port)",)),
        ),
        ("rust", "pub struct Point {\n    x: f64,\n}\n", Outline("class", "Point", 3)),
    ],
)
def test_other_languages(language: str, code: str, expected: Outline) -> None:
    assert outline(code, language) == expected


def test_the_markdown_names_every_fact_and_shortens_long_lists() -> None:
    text = to_markdown(Outline("function", "f", 2, takes=("a",), calls=tuple("abcdefghij"), says="Does it."))
    assert text.startswith("**`f`** is a function of 2 lines.\n\nIts docstring says: Does it.\n\n- takes `a`\n- calls `a`, `b`")
    assert text.endswith("and 2 more\n")


@pytest.mark.parametrize("code", ["", "\n", "   ", "x" * 300_000, "(" * 5000, "\0", "'\\d'\n"])
def test_nothing_makes_it_fail(code: str) -> None:
    assert outline(code, "python").kind == "code"
    assert to_markdown(outline(code, "c"))


def test_parameters_without_self() -> None:
    tree = parse_python("def f(self, a, /, b: int = 1, *, c, **d): pass")
    assert tree is not None
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    assert list(parameters(function)) == [("a", "", ""), ("b", "int", "1"), ("c", "", ""), ("**d", "", "")]


PYTHON = '''\
import os

@decorated
@decorated(with_arguments)
def first(
    a,
    b,
):
    text = """
not indented
"""
    return a

    # still in it


class Second:
    def method(self): return 1

    def documented(self):
        "Says it."


async def last(): # opens
    pass
'''


def at(text: str, language: str, line: int) -> Definition | None:
    return definition_at(Snapshot.of_text("file:///a", 1, language, text), line)


def test_python_definitions_by_their_lines() -> None:
    first = Definition("function", "first", 2, 4, 8, 14)
    assert [at(PYTHON, "python", line) for line in range(2, 8)] == [first] * 6
    assert at(PYTHON, "python", 0) is None
    assert at(PYTHON, "python", 8) is None
    assert at(PYTHON, "python", 11) is None
    assert at(PYTHON, "python", 16) == Definition("class", "Second", 16, 16, 17, 21)
    assert at(PYTHON, "python", 17) is None  # its body is on the same line
    assert at(PYTHON, "python", 23) == Definition("function", "last", 23, 23, 24, 25)


@pytest.mark.parametrize(
    ("language", "text", "line", "expected"),
    [
        ("javascript", "const add = (a, b) => {\n  return a;\n};\n", 0, Definition("function", "add", 0, 0, 1, 3)),
        ("java", "@Test\npublic int add(int a, int b) {\n  return '{';\n}\nint x;\n", 1, Definition("function", "add", 0, 1, 2, 4)),
        ("c", "static char *copy(const char *s)\n{\n  if (s) { x(); }\n}\n", 0, Definition("function", "copy", 0, 0, 2, 4)),
        ("rust", "#[test]\npub(crate) fn go<T>(t: T) {\n}\n", 1, Definition("function", "go", 0, 1, 2, 3)),
        ("go", "func (s *S) Run() error {\n}\n", 0, Definition("function", "Run", 0, 0, 1, 2)),
        ("typescript", "export interface Shape {\n  a: number;\n}\n", 0, Definition("class", "Shape", 0, 0, 1, 3)),
        ("ruby", "def add(a)\n  a\nend\n", 0, Definition("function", "add", 0, 0, 1, 2)),
    ],
)
def test_definitions_of_other_languages(language: str, text: str, line: int, expected: Definition) -> None:
    assert at(text, language, line) == expected


@pytest.mark.parametrize(
    ("language", "line"), [("c", "return add(1, 2);"), ("java", "else if (x) {"), ("markdown", "class of 1999"), ("c", "x = f(a);")]
)
def test_what_is_no_definition(language: str, line: str) -> None:
    assert at(line + "\n", language, 0) is None


def test_docstrings_are_seen() -> None:
    python = Snapshot.of_text("file:///a.py", 1, "python", PYTHON)
    documented = definition_at(python, 19)
    undocumented = definition_at(python, 4)
    assert documented is not None
    assert undocumented is not None
    assert has_docstring(python, documented)
    assert not has_docstring(python, undocumented)
    rust = Snapshot.of_text("file:///a.rs", 1, "rust", "/// Says it.\n#[test]\nfn f() {\n}\nfn g() {\n}\n")
    first, second = definition_at(rust, 2), definition_at(rust, 4)
    assert first is not None
    assert second is not None
    assert has_docstring(rust, first)
    assert not has_docstring(rust, second)


def test_each_action_applies_where_it_makes_sense() -> None:
    snapshot = Snapshot.of_text("file:///a.py", 1, "python", PYTHON)

    def applies(task: str, first: int, last: int, character: int = 0) -> tuple[int, int] | None:
        lines = target(task, snapshot, Range(Position(first, 0), Position(last, character)))  # type: ignore[arg-type]
        return None if lines is None else (lines.start.line, lines.end.line)

    assert applies("explain", 11, 11, 9) == (11, 11)
    assert applies("explain", 11, 11) is None
    assert applies("explain", 4, 4) == (2, 13)
    assert applies("explain", 12, 13) is None  # a blank line
    assert applies("simplify", 4, 4) is None
    assert applies("docstring", 4, 4) == (2, 13)
    assert applies("docstring", 19, 19) is None  # it has one
    assert applies("tests", 16, 16) == (16, 20)
    assert applies("fix", 4, 4) is None
