"""Docstrings: the syntax gives the parts, the file the style, the model the words."""

import pytest
from test_server_edits import CODE, applied, document, lines

from phi_server.docstring import Style, holes_of, rendered, style_of, template_of
from phi_server.edits import documented

FUNCTION = """\
def total(items: list[int], *rates, tax=0.2) -> float:
    if tax > 1:
        raise ValueError(tax)
    return sum(items) * tax
"""
GOOGLE = """\
Adds up the prices.

More about it.

Args:
    items: The prices,
        without tax.
    *rates: Exchange rates.
    nothing: There is no such parameter.

Returns:
    float: The sum.

Raises:
    ValueError: If the tax is too high.
    KeyError: Never.

Example:
    total([1])
"""
NUMPY = """\
Adds up the prices.

More about it.

Parameters
----------
items : list[int]
    The prices,
    without tax.
*rates
    Exchange rates.

Returns
-------
float
    The sum.

Raises
------
ValueError
    If the tax is too high.
"""
SPHINX = """\
Adds up the prices.

More about it.

:param items: The prices,
    without tax.
:type items: list[int]
:param rates: Exchange rates.
:returns: The sum.
:raises ValueError: If the tax is too high.
"""
TOLD = {"items": "The prices, without tax.", "*rates": "Exchange rates.", "return": "The sum.", "ValueError": "If the tax is too high."}


@pytest.mark.parametrize("answer", [GOOGLE, NUMPY, SPHINX, '"""' + GOOGLE + '"""\nreturn 1'])
def test_what_is_there_is_found_in_any_style(answer: str) -> None:
    template = template_of(FUNCTION)
    assert template is not None
    assert holes_of(answer, template) == ("Adds up the prices.\n\nMore about it.", TOLD)


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("google", "It.\n\nArgs:\n    items: The prices, without tax.\n    *rates: Exchange rates.\n\nReturns:\n    The sum.\n\n"
         "Raises:\n    ValueError: If the tax is too high."),
        ("numpy", "It.\n\nParameters\n----------\nitems : list[int]\n    The prices, without tax.\n*rates\n    Exchange rates.\n\n"
         "Returns\n-------\nfloat\n    The sum.\n\nRaises\n------\nValueError\n    If the tax is too high."),
        ("sphinx", "It.\n\n:param items: The prices, without tax.\n:param rates: Exchange rates.\n:returns: The sum.\n"
         ":raises ValueError: If the tax is too high."),
    ],
)  # fmt: skip
def test_parts_are_written_in_each_style(style: Style, text: str) -> None:
    template = template_of(FUNCTION)
    assert template is not None
    assert rendered(template, style, "It.", TOLD, todo=False) == text


@pytest.mark.parametrize("style", ["google", "numpy", "sphinx"])
def test_what_is_written_is_understood(style: Style) -> None:
    template = template_of(FUNCTION)
    assert template is not None
    assert holes_of(rendered(template, style, "It.", TOLD, todo=False), template) == ("It.", TOLD)


def test_the_style_is_the_files() -> None:
    assert style_of(["x = 1\n"]) == "google"
    assert style_of(["def f(x):\n", '    """F.\n', "\n", "    :param x: it\n", '    """\n']) == "sphinx"
    assert style_of(["    Parameters\n", "    ----------\n", "    x : int\n"]) == "numpy"


def test_a_docstring_in_the_style_of_the_file() -> None:
    other = '\n\ndef other(x):\n    """Other.\n\n    :param x: it\n    """\n'
    snapshot = document(CODE + other)
    proposal = documented(snapshot, lines(1, 7), 'Adds up.\n\nArgs:\n    items: The prices.\n    nonsense: No.\n"""', small=False)
    inside = '        """Adds up.\n\n        :param items: The prices.\n        """\n'
    assert applied(snapshot, proposal) == (CODE + other).replace("        sum = 0\n", inside + "        sum = 0\n")
