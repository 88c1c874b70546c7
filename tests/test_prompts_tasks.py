"""What is asked of the model: the words, what of the code is shown, and that typing only appends to it."""

import argparse
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from phi_prompts import tasks
from phi_prompts.chat import FORMATS
from phi_prompts.languages import documentation, fence, language
from phi_prompts.prompt import Control, Prompt, Window, fit
from phi_prompts.tasks import Code, Diagnostic, Question, TaskName

ROOT = Path(__file__).parents[1]
TOKENIZER = ROOT.parent / "shared" / "phi3" / "tokenizer" / "tokenizer.json"
TEMPLATES = ROOT / "prompts" / "phi_prompts" / "templates"
PHI3 = FORMATS["phi3"]

LINES = ["import os\n", "\n", "    def area(self):\n", "        return self.w * self.h\n"]
SELECTION = Code("shapes/square.py", "python", LINES[2:], 2)


def text(prompt: Prompt) -> str:
    return "".join(
        part.token if isinstance(part, Control) else "".join(part.lines) if isinstance(part, Window) else part for part in prompt
    )


def ask(templates: str, task: TaskName, code: Code = SELECTION, chat_format: str = "phi3") -> Question:
    chat = FORMATS[chat_format]
    if task == "complete":
        return tasks.complete(
            chat, templates, path=code.path, language_id=code.language_id, before=LINES[:3], after=LINES[3:], first_line=0, context=[code]
        )
    if task == "fix":
        return tasks.fix(chat, templates, selection=code, before=LINES[:2], after=(), diagnostics=[Diagnostic(3, "no w")])
    asked = {"explain": tasks.explain, "docstring": tasks.docstring, "tests": tasks.tests, "simplify": tasks.simplify}[task]
    return asked(chat, templates, selection=code, before=LINES[:2], after=())


ALL_TASKS: list[TaskName] = ["complete", "explain", "fix", "docstring", "tests", "simplify"]


def test_which_tasks_there_are() -> None:
    assert [task for task in ALL_TASKS if tasks.has_template("phi3", task)] == ALL_TASKS
    assert [task for task in ALL_TASKS if tasks.has_template("small", task)] == ["complete", "explain", "docstring"]
    assert not tasks.has_template("none", "complete")
    assert {path.parent.name for path in TEMPLATES.glob("*/*.txt")} == {"phi3", "small"}
    with pytest.raises(ValueError, match='The templates "small" do not offer the task "tests"'):
        ask("small", "tests")


@pytest.mark.parametrize("chat_format", FORMATS)
@pytest.mark.parametrize(("templates", "task"), [(t, task) for t in ("phi3", "small") for task in ALL_TASKS if tasks.has_template(t, task)])
def test_every_template_is_filled(templates: str, task: TaskName, chat_format: str) -> None:
    prompt = ask(templates, task, chat_format=chat_format).prompt
    said = text(prompt)
    assert "{" not in said
    assert "[user]" not in said
    assert "\n\n\n" not in said
    assert "return self.w * self.h\n" in said
    assert "shapes/square.py" in said or templates == "small"
    fixed = "".join(part for part in prompt if isinstance(part, str))
    assert "def area" not in fixed, "code is in windows, which can be shortened"


def test_how_a_completion_is_asked_for() -> None:
    question = tasks.complete(
        PHI3,
        "phi3",
        path="C:\\project\\shapes\\square.py",
        language_id="python",
        before=["import os\r\n", "x = 1\r\n", "y"],
        after=["\r\n", "z = 3\r\n"],
        context=[Code("shapes/shape.py", "python", ["class Shape: ...\n"])],
    )
    assert (
        text(question.prompt)
        == """<|system|>
You complete code at the cursor of an editor. You go on exactly where the code stops and write nothing but code.<|end|>
<|user|>
Complete the Python file shapes/square.py.

Other code of the project:
From shapes/shape.py:
```python
class Shape: ...
```

Below the cursor the file goes on like this; do not repeat it:
```python

z = 3
```<|end|>
<|assistant|>
```python
import os
x = 1
y"""
    )
    assert question.stop == ("```",)


def test_what_is_missing_is_not_mentioned() -> None:
    said = text(tasks.complete(PHI3, "phi3", path="a.py", language_id="python", before=["x"], after=()).prompt)
    assert said.endswith("Complete the Python file a.py.<|end|>\n<|assistant|>\n```python\nx")
    said = text(tasks.explain(PHI3, "phi3", selection=SELECTION, after=["x\n"]).prompt)
    assert "Above the code" not in said
    assert "Below the code in question:\n```python\nx\n```\n" in said
    said = text(tasks.complete(PHI3, "phi3", path="a.txt", language_id="plaintext", before=["x"], after=["y\n"]).prompt)
    assert "```\ny\n```<|end|>" in said, "an unknown language is no missing line"


def test_the_last_line_of_a_file_is_closed_in_its_fence() -> None:
    assert "```python\nx = 1\n```" in text(tasks.explain(PHI3, "phi3", selection=Code("a.py", "python", ["x = 1"])).prompt)
    assert "it:\n```python\nx = 1\n```" in text(
        tasks.complete(PHI3, "phi3", path="a.py", language_id="python", before=[], after=["x = 1"]).prompt
    )


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "training"))
    return importlib.import_module("phi_train.documents")


def test_the_embedded_model_is_asked_as_it_was_trained(documents: Any) -> None:
    file = [f"line {n}, which has some forty characters\n" for n in range(40)]
    answer = "".join(file[:10]) + "    x ="
    asked = tasks.complete(PHI3, "small", path="/a/b/c.py", language_id="python", before=[*file[:10], "    x ="], after=file[11:])
    question = documents.COMPLETE.format(path="b/c.py", suffix=documents.suffix_after(file, 11))
    assert text(asked.prompt) == f"<|user|>\n{question}<|end|>\n<|assistant|>\n{answer}"

    code = "def area(self):\n    return self.w * self.h\n"
    indented = Code("a/b.py", "python", ["\n", *LINES[2:], "\n"])
    for task, pattern in ((tasks.explain, documents.EXPLAIN), (tasks.docstring, documents.DOCSTRING)):
        asked = task(PHI3, "small", selection=indented, before=LINES[:2])
        assert text(asked.prompt) == f"<|user|>\n{pattern.format(code=code)}<|end|>\n<|assistant|>\n"
        assert asked.stop == ()


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        ([], ""),
        (["x\n"] * 20, "x\n" * 16),
        (["x" * 449 + "\n", "y\n"], "x" * 449 + "\n"),
        (["x" * 450 + "\n", "y\n"], ""),
        (["last"], "last\n"),
    ],
)
def test_small_models_see_a_few_lines_below_the_cursor(after: list[str], shown: str) -> None:
    asked = tasks.complete(PHI3, "small", path="a.py", language_id="python", before=["x"], after=after)
    assert text(asked.prompt) == f"<|user|>\nComplete a.py\n{shown}<|end|>\n<|assistant|>\nx"


def test_code_is_never_taken_for_a_template() -> None:
    nasty = ["{path}{code}{fence}\n", "[assistant]\n", "\n", "[system]\n", "{unknown}\n"]
    said = text(tasks.explain(PHI3, "phi3", selection=Code("{code}/{tag}.py", "python", nasty), before=nasty, after=nasty).prompt)
    assert said.count("".join(nasty)) == 3
    assert "Python file {code}/{tag}.py." in said


def test_code_with_fences_is_fenced_longer() -> None:
    code = Code("a.py", "python", ['"""Use it so:\n', "```\n", "f()\n", "```\n", '"""\n'])
    question = tasks.simplify(PHI3, "phi3", selection=code)
    assert "````python\n" in text(question.prompt)
    assert question.stop == ("````",)
    assert fence("markdown") == "````", "a suggestion in Markdown may open a fence"
    assert fence("python") == "```"


def test_problems_quote_their_lines() -> None:
    diagnostics = [Diagnostic(3, 'Cannot access\n  attribute "w"'), Diagnostic(99, "m" * 1000), *[Diagnostic(2, "again")] * 20]
    said = text(tasks.fix(PHI3, "phi3", selection=SELECTION, diagnostics=diagnostics).prompt)
    assert '- Line 4, `return self.w * self.h`: Cannot access attribute "w"\n' in said
    assert f"- Line 100: {'m' * 300}\n- Line 3, `def area(self):`: again\n" in said
    assert said.count("- Line") == 10


@pytest.mark.parametrize("task", ALL_TASKS[1:])
def test_an_edit_keeps_the_indentation_that_it_takes_the_place_of(task: TaskName) -> None:
    replaces = task in ("fix", "simplify")
    shown = "```python\n    def area(self):\n        return" if replaces else "```python\ndef area(self):\n    return"
    assert shown in text(ask("phi3", task).prompt)


def test_the_framework_and_the_comments_are_those_of_the_language() -> None:
    rust = Code("src/lib.rs", "rust", ["fn f() {}\n"])
    assert "#[cfg(test)]" in text(tasks.tests(PHI3, "phi3", selection=rust).prompt)
    asked = tasks.docstring(PHI3, "phi3", selection=rust)
    assert text(asked.prompt).endswith("<|assistant|>\n```rust\n///")
    assert asked.stop == ("```",)
    asked = tasks.docstring(PHI3, "phi3", selection=Code("a.ts", "typescript", ["function f() {}\n"]))
    assert text(asked.prompt).endswith("<|assistant|>\n```typescript\n/**\n *")
    assert asked.stop == ("```", "*/")
    asked = tasks.docstring(PHI3, "phi3", selection=SELECTION)
    assert text(asked.prompt).endswith('<|assistant|>\n```python\n"""')
    assert asked.stop == ("```", '"""')
    with pytest.raises(ValueError, match="does not know how documentation comments look"):
        tasks.docstring(PHI3, "phi3", selection=Code("a.json", "json", ["{}\n"]))


@pytest.mark.parametrize(
    ("language_id", "answer", "comment"),
    [
        ("python", "Add two numbers.", '"""Add two numbers."""\n'),
        ("python", 'Say "hello"', '"""Say "hello"\n"""\n'),
        (
            "python",
            "Add.\n\n    Args:\n        a: one\n\n    Returns:\n        The sum.\n    ",
            '"""Add.\n\nArgs:\n    a: one\n\nReturns:\n    The sum.\n"""\n',
        ),
        ("python", '\n    Add.\n    """\n    return a + b\n', '"""Add.\n"""\n'.replace("\n", "", 1)),
        (
            "typescript",
            " Adds.\n *\n * @param a one\n * @returns the sum\n ",
            "/**\n * Adds.\n *\n * @param a one\n * @returns the sum\n */\n",
        ),
        ("java", "Adds two numbers.", "/**\n * Adds two numbers.\n */\n"),
        ("rust", " Adds.\n///\n/// # Panics\n/// never\nfn add() {}\n", "/// Adds.\n///\n/// # Panics\n/// never\n"),
        ("go", " Add adds.\nfunc Add() {}", "// Add adds.\n"),
        ("python", "  \n", ""),
        ("json", "Numbers.", ""),
    ],
)
def test_an_answer_becomes_a_documentation_comment(language_id: str, answer: str, comment: str) -> None:
    assert documentation(language_id, answer) == comment


def test_an_unknown_language_is_called_what_the_editor_calls_it() -> None:
    assert language("zig").name == "zig"
    assert language("`` `\n{x}").fence == "x"
    assert language("").name == "text"


def test_the_selection_comes_before_the_code_around_it() -> None:
    lines = [f"line {n} of a long file\n" for n in range(3000)]
    code = Code("a/b.py", "python", lines[1000:1040], 1000)
    prompt = tasks.explain(PHI3, "phi3", selection=code, before=lines[:1000], after=lines[1040:]).prompt
    said = "".join(map(chr, fit(prompt, lambda text: [ord(c) for c in text], lambda token: ord("@"), 3000)))
    assert "".join(lines[1000:1040]) in said
    assert "line 999 of" in said, "and what is left goes to the nearest lines"
    assert "line 1040 of" in said
    said = "".join(map(chr, fit(prompt, lambda text: [ord(c) for c in text], lambda token: ord("@"), 1500)))
    assert "```python\nline 1000 of" in said, "the selection is kept from its start"
    assert "line 999 of" not in said


# ── Typing ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

Fit = Callable[[Prompt, int], list[int]]


def genuine() -> Fit:
    """As Phi-3-mini's own tokenizer does it."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers")
    if not TOKENIZER.is_file():
        pytest.skip(f"needs Phi-3-mini's own tokenizer in {TOKENIZER.parent}")
    tokenizer = tokenizers.Tokenizer.from_file(str(TOKENIZER))
    tokenizer.encode_special_tokens = True
    eaters = {token["content"] for token in json.loads(TOKENIZER.read_text(encoding="utf-8"))["added_tokens"] if token["rstrip"]}
    return fitting(lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids), tokenizer.token_to_id, eaters)


def byte_level() -> Fit:
    """A small tokenizer of the embedded model's kind: tokens may hold a line feed and the indentation behind it."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers")
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|user|>", "<|system|>", "<|assistant|>", "<|end|>"],
    )
    tokenizer.train_from_iterator([SOURCE], trainer)
    tokenizer.encode_special_tokens = True
    return fitting(lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids), tokenizer.token_to_id, set())


def fitting(encode: Callable[[str], list[int]], control_id: Callable[[str], int], eaters: set[str]) -> Fit:
    remembering = lru_cache(2000)(encode)
    return lambda prompt, max_tokens: fit(prompt, remembering, control_id, max_tokens, eaters)


SOURCE = Path(argparse.__file__).read_text(encoding="utf-8")
FILE = SOURCE.splitlines(keepends=True)
CLOSER = {"(": ")", "[": "]", "{": "}", '"': '"'}


def keys(above: Sequence[str], written: str, below: Sequence[str]) -> Iterator[tuple[list[str], str, list[str]]]:
    """The document after each key: the lines before the cursor, the rest of its line, the lines below.

    The editor closes what is opened, and typing the closer walks over it, as in VS Code.
    """
    before, rest = [*above, ""], ""
    for key in written:
        if key == "\n":
            before[-1] += "\n"
            before.append("")
        else:
            before[-1] += key
            if rest.startswith(key):
                rest = rest[1:]
            elif key in CLOSER:
                rest = CLOSER[key] + rest
        yield before, rest, list(below)


@pytest.mark.parametrize(
    ("tokenizer", "templates", "max_tokens"), [(genuine, "phi3", 600), (genuine, "phi3", 1500), (byte_level, "small", 900)]
)
@pytest.mark.parametrize("at", [0, 400], ids=["new file", "in the middle"])
def test_typing_appends_to_the_prompt(tokenizer: Callable[[], Fit], templates: str, max_tokens: int, at: int) -> None:
    fit_it = tokenizer()
    written = "".join(FILE[at : at + 40])
    prompts = [
        fit_it(
            tasks.complete(PHI3, templates, path="a/b.py", language_id="python", before=before, after=below).prompt,
            max_tokens,
        )
        for before, _, below in keys(FILE[:at], written, FILE[at + 40 : at + 500])
    ]
    assert max(map(len, prompts)) <= max_tokens
    lost = [len(old) - common(old, new) for old, new in pairwise(prompts)]
    moves = [count for count in lost if count > RETOKENIZED]
    typed = len(written) / 3.5  # tokens, about
    assert len(written) > 1000
    assert len(moves) <= 2 + 6 * typed / max_tokens, f"the far edge moved {len(moves)} times in {len(written)} keys: {moves}"


RETOKENIZED = 8
"""Tokens at the cursor that the next key may change: `retur` and `n` become `return`."""


def common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_the_prompt_above_the_cursor_does_not_depend_on_its_line() -> None:
    prompts = [
        tasks.complete(PHI3, templates, path="a/b.py", language_id="python", before=[*FILE[:50], line], after=FILE[50:60]).prompt
        for templates in ("phi3", "small")
        for line in ("", "  ", "x = f(", "```", "[user]", "x" * 1000)
    ]
    assert len({prompt[:-1] for prompt in prompts}) == 2
    assert {part for prompt in prompts for part in prompt[-1:] if not isinstance(part, Window)} == set()
