"""How the project writes its tests, and where a new test file goes."""

from pathlib import Path

import pytest

from phi_server.project_tests import ProjectTests, project_tests
from phi_server.workspace_files import WorkspaceFiles


@pytest.mark.parametrize(
    ("own", "language_id", "example", "text", "framework", "new"),
    [
        ("shop/cart.py", "python", "tests/test_bill.py", "import pytest\n", "pytest", "tests/test_cart.py"),
        ("shop/cart.py", "python", "tests/shop/test_bill.py", "def test_x(): ...\n", "pytest", "tests/shop/test_cart.py"),
        ("src/shop/cart.py", "python", "tests/shop/bill_test.py", "import unittest\n", "unittest", "tests/shop/cart_test.py"),
        ("cart.ts", "typescript", "__tests__/bill.spec.ts", "import { it } from 'vitest';\n", "Vitest", "__tests__/cart.spec.ts"),
        ("cart.js", "javascript", "bill.test.js", "jest.mock('x')\n", "Jest", "cart.test.js"),
        ("cart.go", "go", "bill_test.go", "package shop\n", "", "cart_test.go"),
        ("src/main/java/a/Cart.java", "java", "src/test/java/a/BillTest.java", "import org.junit.jupiter.api.Test;\n", "JUnit 5",
         "src/test/java/a/CartTest.java"),
        ("cart.rb", "ruby", "spec/bill_spec.rb", "RSpec.describe Bill do\nend\n", "RSpec", "spec/cart_spec.rb"),
    ],
)  # fmt: skip
def test_by_the_example_of_others(tmp_path: Path, own: str, language_id: str, example: str, text: str, framework: str, new: str) -> None:
    for name, content in ((own, "x\n"), (example, text)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    found = project_tests(WorkspaceFiles([tmp_path]), tmp_path / own, language_id)
    assert found.framework == framework
    assert found.file == tmp_path / new
    assert found.example[0] == text.splitlines(keepends=True)[0]


def test_without_an_example_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x\n", encoding="utf-8")
    assert project_tests(WorkspaceFiles([tmp_path]), tmp_path / "a.py", "python") == ProjectTests()
    assert project_tests(WorkspaceFiles([]), tmp_path / "a.py", "python") == ProjectTests()
    assert project_tests(WorkspaceFiles([tmp_path]), tmp_path / "a.sql", "sql") == ProjectTests()
