"""From what the model wrote to what may be inserted, step by step; and the gate in front."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi_server.gate import reason_for_silence
from phi_server.postprocess import (
    Cleaned,
    Site,
    clean,
    cut_block,
    cut_deep_indent,
    cut_fence,
    cut_loops,
    cut_next_lines,
    cut_previous_lines,
    cut_prose,
    cut_repeated_lines,
    cut_rest_of_line,
    is_noise,
    opens_block,
    overwritten,
    same_indent_unit,
    strip_blanks,
)


def site(
    head: str = "",
    rest: str = "",
    before: tuple[str, ...] = (),
    after: tuple[str, ...] = (),
    max_lines: int = 1,
    language_id: str = "python",
    newline: str = "\n",
) -> Site:
    return Site(language_id, before, head, rest, after, newline, max_lines)


HERE = site()


def test_a_fence_ends_the_code() -> None:
    assert cut_fence("x = 1\n```\nThis code", HERE) == "x = 1\n"
    assert cut_fence("```python\nx", HERE) == ""
    assert cut_fence("a = '```'", HERE) == "a = '```'"


@pytest.mark.parametrize("prose", ["Here's the code", "This code adds", "Explanation:", "Sure, here", "**Note**", "Note that x"])
def test_lines_that_speak_to_the_reader_go(prose: str) -> None:
    assert cut_prose(f"x = 1\n{prose}\ny", HERE) == "x = 1"


def test_code_is_not_taken_for_prose() -> None:
    assert cut_prose("This code", site(head="# ")) == "This code"
    assert cut_prose("a\n    # Note that", HERE) == "a\n    # Note that"
    assert cut_prose("a\nThis code", site(language_id="markdown")) == "a\nThis code"


def test_a_loop_goes_with_its_line() -> None:
    assert cut_loops("y\nx = " + "foo, " * 9, HERE) == "y"
    assert cut_loops("x = " + "foo, " * 9, HERE) == ""
    assert cut_loops("foo, foo, foo", HERE) == "foo, foo, foo"
    assert cut_loops(" " * 40, HERE) == " " * 40


def test_a_line_that_repeats_itself_is_kept_once() -> None:
    assert cut_repeated_lines("a()\nb()\nb()\nb()\nc()", HERE) == "a()\nb()"
    assert cut_repeated_lines("b()\nb()\nc()", HERE) == "b()\nb()\nc()"
    assert cut_repeated_lines("}\n}\n}", HERE) == "}\n}\n}"


def test_one_line_is_one_line() -> None:
    assert cut_block("a\nb", site(max_lines=1)) == "a"


def test_a_block_ends_where_the_indentation_does() -> None:
    block = site(head="    ", before=("def f():",), max_lines=9)
    assert cut_block("a = 1\n    b = 2\n\n    c", block) == "a = 1\n    b = 2"
    assert cut_block("a = 1\n    if a:\n        b\n    c\ndef g():", block) == "a = 1\n    if a:\n        b\n    c"
    assert cut_block("a = 1\nb\n", block) == "a = 1"


def test_a_block_has_no_more_lines_than_wanted() -> None:
    assert cut_block("a\n    b\n    c\n    d", site(head="    ", max_lines=3)) == "a\n    b\n    c"


def test_behind_code_only_deeper_lines_and_closers_belong() -> None:
    assert cut_block("\n    a,\n    b\n)\nc", site(head="x = f(", max_lines=9)) == "\n    a,\n    b\n)"
    assert cut_block("a,\n    b,\n)\nc", site(head="x = f(", max_lines=9)) == "a,\n    b,\n)"
    assert cut_block("1\ny = 2", site(head="x = ", max_lines=9)) == "1"


def test_indentation_without_a_reason_goes_from_all_lines() -> None:
    assert cut_deep_indent("        a\n            b", site(before=("    x = 1",))) == "    a\n        b"
    assert cut_deep_indent("    a", site(head="    ", before=("    x = 1",))) == "a"
    assert cut_deep_indent("    a", site(before=("def f():",))) == "    a"
    assert cut_deep_indent("        a", site(before=("    x = f(",))) == "        a"


def test_what_is_below_already_is_not_said_again() -> None:
    below = ("", "    return total", "", "print(x)")
    assert cut_next_lines("x += 1\n    return total", site(head="    ", after=below)) == "x += 1"
    assert cut_next_lines("turn total", site(head="    re", after=below)) == ""
    assert cut_next_lines("return total\n    more", site(head="    ", after=below)) == ""
    assert cut_next_lines("return 1", site(head="    ", after=below)) == "return 1"


def test_a_closer_that_is_below_at_the_same_depth_goes() -> None:
    braces = site(head="    ", after=("}",), language_id="c", max_lines=5)
    assert cut_next_lines("f();\n}", braces) == "f();"
    assert cut_next_lines("if (x) {\n    }\n}", braces) == "if (x) {\n    }"


def test_what_is_above_is_not_said_again() -> None:
    above = ("import os", "import sys")
    assert cut_previous_lines("port sys", site(head="im", before=above)) == ""
    assert cut_previous_lines("import os\nimport sys\nx", site(before=above)) == ""
    assert cut_previous_lines("import re", site(before=above)) == "import re"
    assert cut_previous_lines("else:", site(before=("else:",))) == "else:"


def test_what_is_right_of_the_cursor_is_not_said_again() -> None:
    assert cut_rest_of_line("a + foo(b)", site(rest="foo(b)")) == "a + "
    assert cut_rest_of_line("a)", site(rest=")")) == "a)"


def test_white_space_at_ends_goes_except_in_front_of_a_word() -> None:
    assert strip_blanks("a  \n  b \n\n", HERE) == "a\n  b"
    assert strip_blanks("a + ", site(rest="foo")) == "a + "
    assert strip_blanks("a + ", site(rest=")")) == "a +"


def test_tabs_and_blanks_as_in_the_document() -> None:
    assert same_indent_unit("a\n    b\n        c", site(head="\t", before=("if x:", "\tif y:"))) == "a\n\tb\n\t\tc"
    assert same_indent_unit("a\n\tb", site(head="  ", before=("if x {", "  if y {"))) == "a\n  b"
    assert same_indent_unit("a\n  b", site(before=("x",))) == "a\n  b"


@pytest.mark.parametrize("text", ["", "  ", ")", "):", "\n"])
def test_noise(text: str) -> None:
    assert is_noise(text)
    assert not is_noise("x")


@pytest.mark.parametrize(
    ("text", "rest", "count"),
    [
        ("x)", ")", 1),
        ("x", ")", 0),
        ("f(x)", ")", 0),
        ("f(x))", ")", 1),
        ('hello")', '")', 2),
        ('hello", "b', '"', 0),
        ("x), (y", ")", 0),
        ("x):", "):", 2),
        ("x", "):", 0),
        ("0])", "])", 2),
        ("x;", ";", 1),
        ("it's)", ")", 1),
        ("x)", " )", 2),
    ],
)
def test_closers_that_the_text_brings_are_overwritten(text: str, rest: str, count: int) -> None:
    assert overwritten(text, rest) == count


def test_all_steps_together() -> None:
    fresh = site(head="    ", before=("def add(a, b):",), after=("", "print(add(1, 2))"), max_lines=8, newline="\r\n")
    raw = "total = a + b\n    return total\n\nprint(add(1, 2))\n```\nThis code adds."
    assert clean(raw, fresh) == Cleaned("total = a + b\r\n    return total", 0)
    assert clean("name)\nmore", site(head="print(", rest=")")) == Cleaned("name)", 1)
    assert clean("```", HERE) is None


LINES = st.lists(st.sampled_from(["a = 1", "    b(", ")", "}", "", "\tc", "return x", "```", "Here is"]), max_size=6).map("\n".join)


@given(LINES, st.sampled_from(["", "    ", "x = f(", "\t"]), st.sampled_from(["", ")", '")', "foo"]), LINES, LINES, st.sampled_from([1, 4]))
def test_post_processing_only_takes_away(raw: str, head: str, rest: str, before: str, after: str, max_lines: int) -> None:
    where = site(head, rest, tuple(before.split("\n")), tuple(after.split("\n")), max_lines)
    cleaned = clean(raw, where)
    if cleaned is not None:
        assert cleaned.overwrites <= len(rest)
        assert cleaned.text.count("\n") < max_lines + 1 + raw.count("\n\n")
        letters = [character for character in cleaned.text if not character.isspace()]
        assert "".join(letters) in "".join(raw.split())  # nothing but white space is ever changed


@pytest.mark.parametrize("line", ["if x:", "f(x) {", "for x in y:  # why", "x = [", "() => {", "fn f() -> i32 {"])
def test_lines_that_open_a_block(line: str) -> None:
    assert opens_block(line, "python")
    assert not opens_block("x = 1", "python")


@pytest.mark.parametrize("rest", ["", ")", ")]}", '")', "):", ");", "  ", ") {", "`)"])
def test_the_gate_is_open_at_the_end_of_a_line(rest: str) -> None:
    assert reason_for_silence(site(head="x = f(a", rest=rest), invoked=False) is None


@pytest.mark.parametrize(("head", "rest"), [("x = ", "foo(b)"), ("pri", "nt(x)"), ("f(", "a, b)"), ("", ""), ("    ", "")])
def test_the_gate_is_closed_inside_lines_and_words_and_in_empty_documents(head: str, rest: str) -> None:
    assert reason_for_silence(site(head=head, rest=rest), invoked=False)
    assert reason_for_silence(site(head=head, rest=rest), invoked=True) is None


def test_the_gate_is_closed_on_lines_that_no_person_wrote() -> None:
    assert reason_for_silence(site(head="x" * 2000), invoked=True)
