"""What files import and define, and which pieces of others are like the code at the cursor."""

import pytest

from phi_prompts.languages import conventions
from phi_prompts.signatures import Import, import_lines, imports, signatures
from phi_prompts.similarity import choose, chunks, dice, words


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@pytest.mark.parametrize(
    ("language_id", "code", "found"),
    [
        ("python", "import os, shop.cart as c\nfrom . import stock\nfrom ..a.b import (\n    C,\n    d as e,\n)\nx = 1\n",
         [Import(".", ("stock",)), Import("..a.b", ("C", "d")), Import("os"), Import("shop.cart")]),
        ("typescript", 'import { a } from "./cart";\nimport fs from "node:fs";\nexport * from "../shop";\n',
         [Import("./cart"), Import("../shop")]),
        ("javascript", "const cart = require('./cart');\n", [Import("./cart")]),
        ("c", '#include <stdio.h>\n#include "cart.h"\n', [Import("cart.h")]),
        ("rust", "mod cart;\nuse std::fs;\n", [Import("cart")]),
        ("ruby", "require_relative 'cart'\n", [Import("cart")]),
        ("json", "{}\n", []),
    ],
)  # fmt: skip
def test_imports_that_may_be_files_of_the_project(language_id: str, code: str, found: list[Import]) -> None:
    assert imports(lines(code), language_id) == found


def test_an_import_in_brackets_is_whole() -> None:
    code = lines("import os\nfrom a import (\n    b,\n)\n\n\nclass C: ...\n")
    assert import_lines(code, "python") == code[:4]


@pytest.mark.parametrize(
    ("language_id", "code", "headers"),
    [
        ("python", "x = 1\nclass A(B):\n    async def f(self,\n          a=1,\n    ):\n        return g()\n",
         ["class A(B):\n", "    async def f(self, a=1, ):\n"]),
        ("typescript", "export interface A {\n  b: string;\n}\nexport const f = (x: number) => x;\nfunction g() {\n  if (x) {\n  }\n}\n",
         ["export interface A {\n", "export const f = (x: number) => x;\n", "function g() {\n"]),
        ("java", "public class A {\n    int f(int x) {\n        return g(x);\n    }\n}\n", ["public class A {\n", "    int f(int x) {\n"]),
        ("go", "type A struct {\n}\nfunc (a *A) F(x int) error {\n\treturn nil\n}\n",
         ["type A struct {\n", "func (a *A) F(x int) error {\n"]),
        ("rust", "pub struct A;\nimpl A {\n    pub fn f(&self) {}\n}\n", ["pub struct A;\n", "impl A {\n", "    pub fn f(&self) {}\n"]),
        ("c", "static int f(int x) {\n    return g(x);\n}\n", ["static int f(int x) {\n"]),
    ],
)  # fmt: skip
def test_signatures(language_id: str, code: str, headers: list[str]) -> None:
    assert [header for _, header in signatures(lines(code), language_id)] == headers


def test_signatures_of_some_names_have_their_members() -> None:
    code = lines("def a():\n    pass\nclass B:\n    def c(self):\n        pass\ndef d():\n    pass\n")
    assert [number for number, _ in signatures(code, "python", ["B"])] == [2, 3]


def test_the_most_alike_pieces_are_chosen_and_copies_are_not() -> None:
    code = ["total = cart.price(item) + shipping(address)\n", "invoice = Invoice(customer, currency, discount, language)\n"]
    around = words(code)
    alike = chunks("shop/a.py", "python", ["def price(item): return item.value\n", "def shipping(address): return address.zone * weight\n"])
    other = chunks("shop/b.py", "python", ["def draw(canvas): canvas.line(0, 1)\n"])
    copy = chunks("shop/c.py", "python", code)
    again = chunks("shop/d.py", "python", alike[0].lines)
    assert choose(around, [*other, *copy, *alike, *again], 5, 10_000) == alike
    assert choose(around, alike, 5, 10) == []
    assert dice({"a", "b"}, {"b", "c"}) == 0.5


def test_pieces_begin_where_code_does() -> None:
    code = [line for number in range(9) for line in (f"def f{number}():\n", *["    pass\n"] * 6, "\n")]
    pieces = chunks("a.py", "python", code)
    assert [line for piece in pieces for line in piece.lines] == code
    assert all(piece.lines[0].startswith("def ") for piece in pieces)


def test_how_a_file_is_written() -> None:
    assert conventions("go", "\t") == "It is indented with tabs, and its comments begin with //.\n"
    assert conventions("json", "  ") == "It is indented with 2 blanks.\n"
