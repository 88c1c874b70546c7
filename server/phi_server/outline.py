"""What code does, as far as its syntax tells: takes, calls, returns, raises, writes. No model: every line of it is true.

Python is parsed; for other languages, and for Python that does not parse, patterns look at each line.
Not here: where a definition begins and ends (definitions.py).
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_NAMES = 8
"""Of each kind in the Markdown; more would bury the first."""
MAX_PARSED_CHARACTERS = 200_000
"""Parsing takes about half a second for a million, and nothing else is answered meanwhile."""
MAX_LINE_CHARACTERS = 500
"""Of lines that are looked at with patterns, some of which take the square of a line's length."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Scope = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_DEFINITION = re.compile(
    r"^\s*(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([^)]*\))?|unsafe|override|virtual|inline)\s+)*"
    r"(?P<kind>def|fn|func|function|fun|sub|class|struct|interface|trait|enum|impl|module)\b\s*\*?\s*(?:\([^)]*\)\s*)?(?P<name>[A-Za-z_$][\w$]*)"
)
_PARAMETERS = re.compile(r"\(([^()]*)\)")
_CALL = re.compile(r"([A-Za-z_$][\w$]*(?:(?:\.|::|->)[A-Za-z_$][\w$]*)*)\s*!?\(")
_NO_CALLS = {
    *("if", "for", "while", "switch", "catch", "return", "function", "fn", "func", "def", "match", "and", "or", "not", "in", "with"),
    *("elif", "sizeof", "typeof", "await", "yield", "new", "throw", "class", "except", "lambda", "foreach", "until", "unless", "when"),
    *("using", "lock", "fun", "sub", "defer", "go", "else", "do", "case"),
}
_STRING_OR_COMMENT = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?://|#).*""")
_RETURN = re.compile(r"\breturn\b\s*([^;}]*)")
_RAISE = re.compile(r"\b(?:throw|raise|panic!?)\b\s*\(?\s*(?:new\s+)?([A-Za-z_$][\w.$:]*)?")
_WRITE = re.compile(r"^\s*((?:this|self|[A-Za-z_$][\w$]*)(?:(?:\.|->)[A-Za-z_$][\w$]*|\[[^\]]*\])+)\s*(?:[-+*/|&^%]|<<|>>)?=(?!=)")


@dataclass(frozen=True)
class Outline:
    kind: str
    """`function`, `class` or `code`."""
    name: str
    """Empty for `code`."""
    line_count: int
    takes: tuple[str, ...] = ()
    """Parameters as they are written; for `code`, names from outside."""
    calls: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    raises: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    """What outlives the call: attributes, items, globals; for a class or `code` also the names that it defines."""
    says: str = ""
    """The first sentence of its own docstring."""


def outline(code: str, language_id: str) -> Outline:
    """The outline of some lines of code: a definition, or any piece."""
    if language_id == "python" and (tree := parse_python(code)) is not None:
        return _of_tree(tree, len(code.strip("\r\n").splitlines()))
    return _of_lines(code)


def parse_python(code: str) -> ast.Module | None:
    """The syntax tree of whole lines at any indentation; None when they do not parse."""
    if len(code) > MAX_PARSED_CHARACTERS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user's invalid escapes are none of our log's business
        try:
            return ast.parse(textwrap.dedent(code).strip("\r\n") + "\n")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def parameters(function: _Function) -> Iterator[tuple[str, str, str]]:
    """Name with its stars, annotation and default (`` where there is none) of each parameter, `self` and `cls` left out."""
    spec = function.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults: list[ast.expr | None] = [*([None] * (len(positional) - len(spec.defaults))), *spec.defaults]
    named = [*zip(positional, defaults, [""] * len(positional), strict=True)]
    named += [(spec.vararg, None, "*")] if spec.vararg else []
    named += [*zip(spec.kwonlyargs, spec.kw_defaults, [""] * len(spec.kwonlyargs), strict=True)]
    named += [(spec.kwarg, None, "**")] if spec.kwarg else []
    for index, (parameter, default, stars) in enumerate(named):
        if index == 0 and parameter.arg in ("self", "cls") and not stars:
            continue
        yield stars + parameter.arg, _source(parameter.annotation), _source(default)


def to_markdown(found: Outline) -> str:
    """A heading line and one item for each fact."""
    lines = "1 line" if found.line_count == 1 else f"{found.line_count} lines"
    kind = "class" if found.kind == "class" else found.kind
    text = f"**`{found.name}`** is a {kind} of {lines}.\n" if found.name else f"{lines} of code.\n".capitalize()
    if found.says:
        text += f"\nIts docstring says: {found.says}\n"
    facts = [
        ("takes", found.takes, "`(…)`"),
        ("calls", found.calls, ""),
        ("returns", found.returns, ""),
        ("raises", found.raises, ""),
        ("writes", found.writes, ""),
    ]
    items = [f"- {verb} {_listed(names)}\n" for verb, names, _ in facts if names]
    return text + ("\n" + "".join(items) if items else "")


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:MAX_NAMES])
    return f"{shown} and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else shown


def _of_tree(tree: ast.Module, line_count: int) -> Outline:
    body = tree.body
    only = body[0] if len(body) == 1 else None
    if isinstance(only, _Function):
        return _of_function(only, line_count)
    if isinstance(only, ast.ClassDef):
        return _of_class(only, line_count)
    bound = _bound_names(tree)
    read = _unique(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    called = _calls(tree)
    own = list(_own_nodes(tree))
    return Outline(
        "code",
        "",
        line_count,
        takes=tuple(name for name in read if name not in bound and name not in called and not _is_builtin(name)),
        calls=tuple(name for name in called if name.split(".")[0] not in bound or "." in name),
        returns=_returns(own),
        raises=_raises(own),
        writes=_unique([*_writes(own), *_defined(body)]),
    )


def _of_function(function: _Function, line_count: int) -> Outline:
    own = list(_own_nodes(function))
    annotation = _source(function.returns)
    return Outline(
        "function",
        function.name,
        line_count,
        takes=tuple(
            name + (f": {annotation}" if annotation else "") + (f" = {default}" if default else "")
            for name, annotation, default in parameters(function)
        ),
        calls=_calls(*function.body),
        returns=_unique([*([annotation] if annotation and annotation != "None" else []), *_returns(own)]),
        raises=_raises(own),
        writes=_writes(own),
        says=_first_sentence(ast.get_docstring(function)),
    )


def _of_class(definition: ast.ClassDef, line_count: int) -> Outline:
    methods = [node for node in definition.body if isinstance(node, _Function)]
    own = [node for method in methods for node in _own_nodes(method)]
    return Outline(
        "class",
        definition.name,
        line_count,
        takes=tuple(_source(base) for base in definition.bases),
        calls=_calls(*definition.body),
        raises=_raises(own),
        writes=_unique([*_defined(definition.body), *_writes(own)]),
        says=_first_sentence(ast.get_docstring(definition)),
    )


def _own_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those inside a nested function or class: its returns are not ours."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if not isinstance(child, _Scope):
            yield from _own_nodes(child)


def _calls(*trees: ast.AST) -> tuple[str, ...]:
    raised = {id(node.exc) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in raised]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return _unique(_source(call.func) for call in calls if isinstance(call.func, ast.Name | ast.Attribute))


def _returns(own: list[ast.AST]) -> tuple[str, ...]:
    values = [node.value for node in own if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) and node.value is not None]
    return _unique(_source(value) for value in values)


def _raises(own: list[ast.AST]) -> tuple[str, ...]:
    raised = (node.exc for node in own if isinstance(node, ast.Raise) and node.exc is not None)
    return _unique(_source(error.func if isinstance(error, ast.Call) else error) for error in raised)


def _writes(own: list[ast.AST]) -> tuple[str, ...]:
    outside = {name for node in own if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    targets: list[ast.AST] = []
    for node in own:
        if isinstance(node, ast.Assign | ast.Delete):
            targets += node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets.append(node.target)
    leaves = [leaf for target in targets for leaf in _leaves(target)]
    outlives = (leaf for leaf in leaves if not isinstance(leaf, ast.Name) or leaf.id in outside)
    return _unique(_source(leaf) for leaf in outlives if isinstance(leaf, ast.expr))


def _leaves(target: ast.AST) -> Iterator[ast.AST]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _leaves(element)
    else:
        yield target


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (leaf.id for target in targets for leaf in _leaves(target) if isinstance(leaf, ast.Name))


def _bound_names(tree: ast.AST) -> set[str]:
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {(node.asname or node.name).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.alias)}
    named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler
    return bound | {node.name for node in ast.walk(tree) if isinstance(node, named) and node.name}


def _is_builtin(name: str) -> bool:
    return name in {"self", "cls", "True", "False", "None"} or name in dir(__import__("builtins"))


def _source(node: ast.expr | None) -> str:
    """The expression on one line, shortened; empty for none."""
    text = "" if node is None else " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else text[:57] + "…"


def _first_sentence(text: str | None) -> str:
    first = " ".join((text or "").strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", first)[0]


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))


def _of_lines(code: str) -> Outline:
    lines = [line[:MAX_LINE_CHARACTERS] for line in code.strip("\r\n").splitlines()]
    head = next((match for line in lines[:5] if (match := _DEFINITION.match(line))), None)
    plain = [_STRING_OR_COMMENT.sub(lambda match: '""' if match[1] else "", line) for line in lines]
    name = head["name"] if head else ""
    kind = "code" if head is None else "function" if head["kind"] in ("def", "fn", "func", "function", "fun", "sub") else "class"
    takes: tuple[str, ...] = ()
    if head is not None and kind == "function":
        after = "\n".join(lines)[("\n".join(lines)).find(head[0]) + len(head[0]) :]
        if match := _PARAMETERS.match(after.lstrip()):
            takes = _unique(" ".join(part.split()) for part in match[1].split(","))
    calls = (call for line in plain for call in _CALL.findall(line) if call not in _NO_CALLS and call != name)
    return Outline(
        kind,
        name,
        len(lines),
        takes=takes,
        calls=_unique(call for call in calls if not _DEFINITION.match(call)),
        returns=_unique(value.strip()[:60] for line in plain for value in _RETURN.findall(line)),
        raises=_unique(error for line in plain for error in _RAISE.findall(line)),
        writes=_unique(match[1] for line in plain if (match := _WRITE.match(line))),
    )
