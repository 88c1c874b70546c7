"""What prompts say about a programming language: its name, its test framework, the form of its documentation comments.

Not here: parsing, and anything that a language server of that language knows better.
"""

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal


@dataclass(frozen=True)
class DocComment:
    """How a language documents a function or class."""

    style: str
    """What the model is asked for."""
    opening: str
    """Its first line; empty where it consists of line comments. With an empty `line` the text begins right behind it."""
    line: str
    """What each line of text begins with."""
    closing: str
    """Its last line; empty where it consists of line comments."""
    place: Literal["above", "inside"] = "above"
    """Above the declaration, or inside, as its body's first statement."""


@dataclass(frozen=True)
class Language:
    name: str
    """For people and models: "TypeScript"."""
    fence: str
    """The tag of a Markdown fence: `tsx`."""
    tests: str = "the language's usual test framework"
    doc: DocComment | None = None
    """None: nothing is known of its documentation comments."""


def _block(style: str) -> DocComment:
    return DocComment(style, "/**", " * ", " */")


def _lines(marker: str, style: str) -> DocComment:
    return DocComment(style, "", marker + " ", "")


_PYTHON_DOC = DocComment(
    "Python docstring in Google style (Args, Returns and Raises where there is something to say)", '"""', "", '"""', "inside"
)
PYTHON_STYLES: Final = {
    "google": _PYTHON_DOC.style,
    "numpy": "Python docstring in NumPy style (Parameters, Returns and Raises, underlined, where there is something to say)",
    "sphinx": "Python docstring with Sphinx fields (:param name:, :returns:, :raises Error:, where there is something to say)",
}
_JSDOC = _block("JSDoc comment (@param, @returns, @throws)")
_TSDOC = _block("TSDoc comment (@param, @returns, @throws, without types)")
_DOXYGEN = _block("Doxygen comment (@param, @return)")

_LANGUAGES: Final = {
    "c": Language("C", "c", "assert.h, called from a main function", _DOXYGEN),
    "clojure": Language("Clojure", "clojure", "clojure.test"),
    "cpp": Language("C++", "cpp", "GoogleTest", _DOXYGEN),
    "csharp": Language("C#", "csharp", "xUnit", _lines("///", "XML documentation comment (<summary>, <param>, <returns>)")),
    "css": Language("CSS", "css"),
    "dart": Language("Dart", "dart", "package:test", _lines("///", "Dart documentation comment")),
    "dockerfile": Language("Dockerfile", "dockerfile"),
    "elixir": Language("Elixir", "elixir", "ExUnit"),
    "erlang": Language("Erlang", "erlang", "EUnit"),
    "fsharp": Language("F#", "fsharp", "xUnit", _lines("///", "XML documentation comment (<summary>, <param>, <returns>)")),
    "go": Language("Go", "go", "the testing package, table-driven", _lines("//", "Go doc comment, which begins with the declared name")),
    "groovy": Language("Groovy", "groovy", "Spock", _block("Groovydoc comment (@param, @return, @throws)")),
    "haskell": Language("Haskell", "haskell", "Hspec", _lines("--", "Haddock comment, which begins with |")),
    "html": Language("HTML", "html"),
    "java": Language("Java", "java", "JUnit 5", _block("Javadoc comment (@param, @return, @throws)")),
    "javascript": Language("JavaScript", "javascript", "Jest", _JSDOC),
    "javascriptreact": Language("JavaScript (React)", "jsx", "Jest and React Testing Library", _JSDOC),
    "json": Language("JSON", "json"),
    "julia": Language("Julia", "julia", "the Test standard library"),
    "kotlin": Language("Kotlin", "kotlin", "kotlin.test", _block("KDoc comment (@param, @return, @throws)")),
    "lua": Language("Lua", "lua", "busted", _lines("---", "LDoc comment (@param, @return)")),
    "makefile": Language("Makefile", "makefile"),
    "markdown": Language("Markdown", "markdown"),
    "ocaml": Language("OCaml", "ocaml", "Alcotest"),
    "perl": Language("Perl", "perl", "Test::More"),
    "php": Language("PHP", "php", "PHPUnit", _block("PHPDoc comment (@param, @return, @throws)")),
    "plaintext": Language("text", ""),
    "powershell": Language("PowerShell", "powershell", "Pester"),
    "python": Language("Python", "python", "pytest", _PYTHON_DOC),
    "r": Language("R", "r", "testthat", _lines("#'", "roxygen2 comment (@param, @return)")),
    "ruby": Language("Ruby", "ruby", "Minitest", _lines("#", "YARD comment (@param, @return)")),
    "rust": Language(
        "Rust", "rust", "a #[cfg(test)] module with #[test] functions", _lines("///", "Rust documentation comment, in Markdown")
    ),
    "scala": Language("Scala", "scala", "ScalaTest", _block("Scaladoc comment (@param, @return, @throws)")),
    "shellscript": Language("shell script", "bash", "Bats", _lines("#", "comment that tells what it does, its arguments and its output")),
    "sql": Language("SQL", "sql"),
    "swift": Language("Swift", "swift", "XCTest", _lines("///", "Swift documentation comment (- Parameters:, - Returns:, - Throws:)")),
    "typescript": Language("TypeScript", "typescript", "Jest", _TSDOC),
    "typescriptreact": Language("TypeScript (React)", "tsx", "Jest and React Testing Library", _TSDOC),
    "yaml": Language("YAML", "yaml"),
}

_LINE_COMMENTS: Final = {
    "#": "python ruby shellscript perl r elixir makefile dockerfile yaml toml julia powershell",
    "//": "c cpp csharp dart fsharp go groovy java javascript javascriptreact kotlin php rust scala swift typescript typescriptreact jsonc",
    "--": "haskell lua sql",
    ";": "clojure",
    "%": "erlang latex",
}

_MARKDOWN: Final = {"markdown", "mdx", "quarto", "rmd"}


def language(language_id: str) -> Language:
    """What is known of an LSP language id; of an unknown one, its own name and no more."""
    known = _LANGUAGES.get(language_id)
    if known:
        return known
    plain = re.sub(r"[^\w+#.-]", "", language_id)[:32]
    return Language(plain or "text", plain)


def fence(language_id: str, code: str = "") -> str:
    """The backticks of a Markdown fence round code of this language: longer ones where the code is likely to hold fences itself."""
    return "````" if language_id in _MARKDOWN or "```" in code else "```"


def conventions(language_id: str, indent: str) -> str:
    """One sentence, with its line feed, that says how a file is written. `indent` is one step of its indentation."""
    step = "tabs" if indent.startswith("\t") else f"{len(indent)} blanks"
    mark = next((mark for mark, ids in _LINE_COMMENTS.items() if language_id in ids.split()), "")
    return f"It is indented with {step}{f', and its comments begin with {mark}' if mark else ''}.\n"


def documentation(language_id: str, text: str) -> str:
    """The documentation comment that says `text`: unindented lines, each with its line feed. Empty where there is nothing to say, or
    where `language(language_id).doc` is None.

    `text` is the answer to `tasks.docstring`. Marks that the model has put at the start of its lines go; line comments end with the
    first line that lacks them, since there the model went on with code.
    """
    doc = language(language_id).doc
    if doc is None:
        return ""
    lines = _said(doc, text)
    if not lines:
        return ""
    if not doc.line:
        one_line = len(lines) == 1 and not lines[0].endswith(doc.closing[0])
        return f"{doc.opening}{lines[0]}{doc.closing}\n" if one_line else "\n".join([doc.opening + lines[0], *lines[1:], doc.closing, ""])
    marked = [(doc.line + line).rstrip() for line in lines]
    return "\n".join([line for line in (doc.opening, *marked, doc.closing) if line] + [""])


def _said(doc: DocComment, text: str) -> list[str]:
    """The lines of the answer without marks, common indentation, and blank lines at both ends."""
    mark = doc.line.strip()
    if doc.closing:
        text = text.split(doc.closing.strip())[0]
    first, *rest = text.strip().split("\n")
    if mark and not doc.opening:
        rest = list(takewhile(lambda line: line.lstrip().startswith(mark), rest))
    if mark:
        first, *rest = (re.sub(rf"^\s*{re.escape(mark)} ?", "", line) for line in (first, *rest))
    indent = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=0)
    lines = [first.strip(), *(line[indent:].rstrip() for line in rest)]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines
