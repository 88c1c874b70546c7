"""From answers to edits: minimal, checked, and never forced in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from phi_server import edits
from phi_server.definitions import definition_at
from phi_server.documentation import placed, plausible, skeleton
from phi_server.documents import Position, Range, Snapshot
from phi_server.edits import Edit, Proposal, code_of, documented, reindented, rewritten, still_parses, workspace_edit

CODE = """\
class Shop:
    def total(self, items: list[int], tax=0.2) -> float:
        sum = 0
        for item in items:
            sum = sum + item
        if tax > 1:
            raise ValueError(tax)
        return sum * tax

    def close(self): ...
"""


def document(text: str = CODE, language: str = "python", uri: str = "file:///work/shop.py") -> Snapshot:
    return Snapshot.of_text(uri, 7, language, text)


def lines(first: int, last: int) -> Range:
    return Range(Position(first, 0), Position(last, 99))


def applied(snapshot: Snapshot, proposal: Proposal) -> str:
    assert proposal.edit is not None, proposal.problem
    assert proposal.edit.version == 7
    return snapshot.replaced(proposal.edit.range, proposal.edit.text)


def test_only_the_lines_that_differ_are_touched() -> None:
    answer = "        sum = 0\n        for item in items:\n            sum += item\n"
    proposal = rewritten(document(), lines(2, 4), answer)
    assert proposal.edit == Edit("file:///work/shop.py", 7, Range(Position(4, 0), Position(5, 0)), "            sum += item\n")
    assert applied(document(), proposal) == CODE.replace("sum = sum + item", "sum += item")


@pytest.mark.parametrize(
    "answer",
    [
        "total = sum(items)\n",
        "\n\n        total = sum(items)   \n\n",
        "Here it is:\n```python\ntotal = sum(items)\n```\nThis is simpler.",
        "```\n    total = sum(items)\n",
    ],
)
def test_code_is_taken_from_the_answer_and_moved_to_its_place(answer: str) -> None:
    assert applied(document(), rewritten(document(), lines(2, 4), answer)) == CODE.replace(
        "        sum = 0\n        for item in items:\n            sum = sum + item\n", "        total = sum(items)\n"
    )


def test_line_ends_and_a_missing_last_one_stay() -> None:
    text = "def f():\r\n    a = 1\r\n    return a"
    assert applied(document(text), rewritten(document(text), lines(1, 2), "b = 1\nreturn b")) == "def f():\r\n    b = 1\r\n    return b"
    assert (
        applied(document(text), rewritten(document(text), lines(1, 1), "b = 1\nc = 2"))
        == "def f():\r\n    b = 1\r\n    c = 2\r\n    return a"
    )


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "without code"),
        ("```\n```", "without code"),
        ("sum = 0\nfor item in items:\n    sum = sum + item", "change nothing"),
        ("for item in items", "not valid Python"),
        ("sum = 0\nfor item in items:\n    sum = sum + item\nreturn = 1", "not valid Python"),
    ],
)
def test_an_answer_that_cannot_be_applied_is_none(answer: str, problem: str) -> None:
    proposal = rewritten(document(), lines(2, 4), answer)
    assert proposal.edit is None
    assert problem in proposal.problem


def test_a_return_that_has_lost_its_function_is_no_python() -> None:
    assert rewritten(document(), lines(0, 9), "return 1").edit is None


def test_what_did_not_parse_before_need_not_afterwards() -> None:
    broken = document("def f(:\n    a = 1\n")
    assert applied(broken, rewritten(broken, lines(0, 1), "def f(:\n    a = 2")) == "def f(:\n    a = 2\n"
    other = document("a {\n", "c")
    assert still_parses(other, Edit(other.uri, 7, lines(0, 0), "(((("))


@given(st.text("ab (:\n\t", max_size=40), st.integers(0, 9), st.integers(0, 9))
def test_text_outside_of_the_range_is_untouched(answer: str, first: int, last: int) -> None:
    first, last = sorted((first, last))
    snapshot = document(CODE.replace("(", "<"), "c")  # nothing to parse: every answer is taken
    proposal = rewritten(snapshot, Range(Position(first, 0), Position(last, len(snapshot.line(last)))), answer)
    if proposal.edit is not None:
        text = snapshot.replaced(proposal.edit.range, proposal.edit.text)
        assert text.startswith("".join(snapshot.lines[:first]))
        assert text.endswith("".join(snapshot.lines[last + 1 :]))


@given(st.lists(st.sampled_from(["a", "  b", "    c", ""]), max_size=5), st.sampled_from(["", "  ", "\t"]))
def test_moving_code_keeps_it(code: list[str], indent: str) -> None:
    moved = reindented("\n".join(code), indent)
    assert [line.strip() for line in moved if line] == [line.strip() for line in code if line]
    assert not moved or (moved[0] and moved[-1])


@pytest.mark.parametrize(
    ("answer", "code"), [("a\nb", "a\nb"), ("x\n```py\na\n```\n```\nb\n```", "a\n"), ("````\n```\na\n````", "```\na\n"), ("```js\na", "a")]
)
def test_the_code_in_an_answer(answer: str, code: str) -> None:
    assert code_of(answer) == code


def test_a_docstring_goes_inside_at_the_bodys_indentation() -> None:
    proposal = documented(document(), lines(1, 7), 'Adds up the prices.\n\nArgs:\n    items: The prices.\n"""', small=False)
    inside = '        """Adds up the prices.\n\n        Args:\n            items: The prices.\n        """\n'
    assert applied(document(), proposal) == CODE.replace("        sum = 0\n", inside + "        sum = 0\n")


def test_a_documentation_comment_of_another_language_goes_above() -> None:
    snapshot = document("impl A {\n    #[inline]\n    fn f() {\n    }\n}\n", "rust", "file:///a.rs")
    proposal = documented(snapshot, lines(2, 3), " Does it.", small=False)
    assert applied(snapshot, proposal) == "impl A {\n    /// Does it.\n    #[inline]\n    fn f() {\n    }\n}\n"


def test_an_answer_that_is_no_docstring_is_not_forced_in() -> None:
    assert documented(document(), lines(1, 7), "", small=False).edit is None
    assert documented(document(), lines(1, 7), "\\N{no such name}", small=False).edit is None


def test_a_small_model_gets_a_skeleton() -> None:
    proposal = documented(document(), lines(1, 7), "return the total of all items\nblah", small=True)
    inside = """\
        \"\"\"Return the total of all items.

        Args:
            items (list[int]): TODO
            tax: TODO

        Returns:
            float: TODO

        Raises:
            ValueError: TODO
        \"\"\"
"""
    assert applied(document(), proposal) == CODE.replace("        sum = 0\n", inside + "        sum = 0\n")


@pytest.mark.parametrize(
    ("sentence", "used"),
    [
        ("Return the total of all items", "Return the total of all items."),
        ("Adds two numbers. Then more.", "Adds two numbers."),
        ("the the the the the", ""),
        ("x = 1", ""),
        ("", ""),
        ("foo", ""),
        ("a" * 200, ""),
        ('"""Returns the sum."""', "Returns the sum."),
    ],
)
def test_sentences_of_small_models_are_used_when_they_can_be_sentences(sentence: str, used: str) -> None:
    assert plausible(sentence) == used


def test_an_implausible_sentence_leaves_the_work_to_a_person() -> None:
    snapshot = document()
    definition = definition_at(snapshot, 1)
    assert definition is not None
    assert skeleton(snapshot, definition, "= = =").startswith("TODO: say what total does.")


def test_a_docstring_at_the_end_of_a_file_without_line_end() -> None:
    snapshot = document("def f():")
    definition = definition_at(snapshot, 0)
    assert definition is not None
    assert placed(snapshot, definition, "Does it.") == (Range(Position(0, 8), Position(0, 8)), '\n    """Does it."""')


def test_tests_become_a_file_beside_the_document() -> None:
    proposal = edits.tested(document(), "    from shop import Shop\n\n    def test_it():\n        pass")
    assert proposal.edit is not None
    assert proposal.edit.uri == "file:///work/test_shop.py"
    assert proposal.edit.text == "from shop import Shop\n\ndef test_it():\n    pass\n"
    assert proposal.edit.creates


@pytest.mark.parametrize(
    ("snapshot", "answer", "problem"),
    [
        (document("int x;", "c", "file:///x.c"), "void test() {}", "no usual place"),
        (document(), "def test(:", "not valid Python"),
        (document(), "", "without code"),
    ],
)
def test_tests_without_a_place_are_shown(snapshot: Snapshot, answer: str, problem: str) -> None:
    proposal = edits.tested(snapshot, answer)
    assert proposal.edit is None
    assert problem in proposal.problem


def test_edits_name_their_version_where_the_editor_takes_it() -> None:
    edit = Edit("file:///a.py", 7, lines(0, 0), "x")
    here = types.Range(types.Position(0, 0), types.Position(0, 1))
    change = types.TextEdit(here, "x")
    versioned = workspace_edit(edit, [change], document_changes=True).document_changes
    assert versioned is not None
    assert isinstance(versioned[0], types.TextDocumentEdit)
    assert versioned[0].text_document.version == 7
    assert workspace_edit(edit, [change], document_changes=False).changes == {"file:///a.py": [change]}


def test_an_edit_falls_into_pieces_of_what_differs() -> None:
    text = "def f():\n    a = 1\n    b = 2\n    c = 3\n    return a\n"
    proposal = rewritten(document(text), lines(0, 4), "def f():\n    a = 9\n    b = 2\n    c = 8\n    return a")
    assert proposal.edit is not None
    found = edits.pieces(document(text), proposal.edit)
    assert found == [
        (Range(Position(1, 0), Position(2, 0)), "    a = 9\n"),
        (Range(Position(3, 0), Position(4, 0)), "    c = 8\n"),
    ]


@pytest.mark.parametrize(
    ("language_id", "text", "answer", "fits"),
    [
        ("json", '{\n  "a": 1\n}\n', '  "a": 2', True),
        ("json", '{\n  "a": 1\n}\n', '  "a": 2,', False),
        ("go", "func f() {\n\ta()\n}\n", "\tb()", True),
        ("go", "func f() {\n\ta()\n}\n", "\tif x {\n\tb()", False),
        ("rust", "fn f() {\n    a();\n}\n", "    b(')');", True),
        ("typescript", "if (x) {\n  a();\n\n", "  b((", True),
    ],
)
def test_other_languages_stay_whole_where_they_were(language_id: str, text: str, answer: str, fits: bool) -> None:
    proposal = rewritten(document(text, language_id), lines(1, 1), answer)
    assert (proposal.edit is not None) is fits
