"""Context of the project: what is chosen, that it stays while one types, what is never read, and that no secret reaches the engine."""

import runpy
import sys
from pathlib import Path

import pytest
from server_process import INLINE, at, state

from phi_prompts.tasks import Diagnostic
from phi_server.documents import Position, Snapshot
from phi_server.lsp_client import LspClient
from phi_server.related import Related
from phi_server.workspace_files import WorkspaceFiles


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def document(path: Path, text: str, version: int = 1) -> Snapshot:
    return Snapshot.of_text(path.as_uri(), version, "python", text)


CART = (
    "class Cart:\n    def add(self, item, count=1):\n        self.items.append((item, count))\n\n    def total(self):\n        return 0\n"
)
BILL = """
def bill(cart, customer, discount, country):
    invoice = Invoice(customer.name, customer.address, currency=country.currency)
    for article, count in cart.entries:
        invoice.write(article.title, article.price * count * (1 - discount))
    return invoice.finish(shipping=country.shipping)
"""
MAIN = "from shop.cart import Cart\nfrom . import stock\n\n\ndef main(customer, country):\n    cart = Cart()\n    \n"


def test_signatures_of_imported_modules_come_first(tmp_path: Path) -> None:
    write(tmp_path, {"shop/cart.py": CART, "shop/stock.py": "def left(item): ...\n", "shop/other.py": "def unused(): ...\n"})
    other = document(tmp_path / "shop/bill.py", BILL)
    related = Related(WorkspaceFiles([tmp_path]))
    context = related.at(document(tmp_path / "shop/main.py", MAIN), Position(6, 4), {other.uri: other})
    assert [code.path for code in context.code] == ["shop/cart.py", "shop/stock.py", "shop/bill.py"]
    assert list(context.code[0].lines) == [
        "class Cart:\n",
        "    def add(self, item, count=1):\n",
        "    def total(self):\n",
    ]
    assert context.indent == "    "


def test_context_stays_while_one_types(tmp_path: Path) -> None:
    write(tmp_path, {"shop/cart.py": CART})
    related = Related(WorkspaceFiles([tmp_path]))
    main = tmp_path / "shop/main.py"
    first = related.at(document(main, MAIN), Position(6, 4), {})
    again = related.at(document(main, MAIN + "    cart.add(1)\nimport os\n", 2), Position(8, 0), {})
    assert again is first


def test_a_long_documents_own_imports_and_signatures_are_told(tmp_path: Path) -> None:
    text = "import os\n" + "".join(f"def f{number}(x):\n    return x\n" for number in range(400))
    context = Related(WorkspaceFiles([tmp_path])).at(document(tmp_path / "a.py", text), Position(700, 0), {})
    (own,) = context.code
    assert own.lines[0] == "import os\n"
    assert len(own.lines) == 41


def test_complaints_near_the_cursor_but_not_on_its_line(tmp_path: Path) -> None:
    main = document(tmp_path / "main.py", MAIN)
    problems = {main.uri: (1, (Diagnostic(5, "undefined name"), Diagnostic(6, "expected expression"), Diagnostic(0, "far away")))}
    context = Related(WorkspaceFiles([tmp_path]), problems).at(main, Position(6, 4), {})
    assert [problem.message for problem in context.problems] == ["undefined name"]


def test_edited_documents_are_still_known_when_they_are_closed(tmp_path: Path) -> None:
    write(tmp_path, {"shop/bill.py": BILL})
    related = Related(WorkspaceFiles([tmp_path]))
    main, path = document(tmp_path / "shop/main.py", MAIN), tmp_path / "shop/bill.py"
    for version in (1, 2):
        related.at(main, Position(6, 4), {path.as_uri(): document(path, BILL, version)})
    assert [code.path for code in related.at(main, Position(6, 4), {}).code] == ["shop/bill.py"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("a.py", True), ("src/a.py", True), ("log/a.py", False), ("src/log/a.py", False), ("keep/log/a.py", False), ("tmp1.py", False),
        ("src/tmp1.py", False), ("only/here.py", False), ("src/only/here.py", True), ("important.gen.py", True), ("x.gen.py", False),
        ("deep/a/b/c.py", False), ("private/a.py", False), (".env", False), (".venv/a.py", False), ("node_modules/x/a.js", False),
        ("src/id_rsa.py", False), ("sub/inner.py", False), ("sub/outer.py", True), ("../outside.py", False),
    ],
)  # fmt: skip
def test_which_files_may_be_read(tmp_path: Path, path: str, allowed: bool) -> None:
    ignore = "# comment\nlog/\ntmp?.py\n/only/here.py\n*.gen.py\n!important.gen.py\ndeep/**\n"
    write(tmp_path, {"w/.gitignore": ignore, "w/.phi-lsignore": "private\n", "w/sub/.gitignore": "inner.py\n"})
    assert WorkspaceFiles([tmp_path / "w"]).allows(tmp_path / "w" / path) is allowed


def test_what_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, {"w/big.py": "x = 1\n" * 100_000, "w/ok.py": "x = 1\n", "outside.py": "x = 1\n", "w/data.bin": "x"})
    (tmp_path / "w/binary.py").write_bytes(b"\xff\xfe\0")
    files = WorkspaceFiles([tmp_path / "w"])
    assert files.read(tmp_path / "w/ok.py") is not None
    try:
        (tmp_path / "w/link.py").symlink_to(tmp_path / "outside.py")
    except OSError:
        pytest.skip("This system does not let us make links.")
    for name in ("big.py", "binary.py", "link.py", "data.bin", "absent.py", "../outside.py"):
        assert files.read(tmp_path / "w" / name) is None, name


# Secrets, up to the engine's door

PLANTED = [f"Zq{number:02d}k7Wm3xT9{'abcdefghijklmnopqrstuvwxyz'[number % 26]}Lp" for number in range(30)]
FORMS = ['password = "{}"', "api_key: {}", 'TOKEN = "{}"', 'url = "https://user:{}@example.org/"', 'headers["Authorization"] = "Bearer {}"']


@pytest.mark.anyio
async def test_of_thirty_planted_secrets_none_reaches_the_engine(tmp_path: Path) -> None:
    """In the document, in open and in imported files, in files for secrets, in ignored files and outside the workspace."""

    def planted(first: int, count: int) -> str:
        return "".join(FORMS[at % len(FORMS)].format(PLANTED[at]) + "\n" for at in range(first, first + count))

    names = "def cart_total(cart, item, invoice):\n    return cart.total(item, invoice)\n"
    other = "def cart_weight(cart, item, country, scale):\n    return scale.weigh(item.box, item.paper) + country.surplus\n"
    own = "import config\nimport hidden\nfrom . import shop\n" + planted(0, 8) + names + "\n\ndef main(cart, item, invoice):\n    \n"
    own += "\n\n" + planted(8, 4)
    files = {
        ".gitignore": "hidden.py\n", ".phi-lsignore": "shut/\n", "config.py": names + planted(12, 4).replace("\n", "\ndef f(cart): ...\n"),
        "shop.py": names + f"def cart_login(cart, password='{PLANTED[16]}'): ...\n" + planted(17, 3),
        "hidden.py": names + f"# {PLANTED[20]}\n",
        "shut/a.py": names + f"# {PLANTED[21]}\n", ".env": f"X={PLANTED[22]}\nY={PLANTED[23]}\n", "id_rsa": f"{PLANTED[24]}\n",
    }  # fmt: skip
    workspace, record = tmp_path / "work", tmp_path / "record.txt"
    write(workspace, {**files, "main.py": own})
    write(tmp_path, {"outside.py": names + f"# {PLANTED[25]}\n"})
    opened = {name: files[name] for name in ("shop.py", "hidden.py", "shut/a.py", ".env", "id_rsa")}
    opened["../outside.py"] = names + f"# {PLANTED[25]}\n"
    opened["new.py"] = other + planted(26, 3)
    opened[".npmrc"] = f"//registry/:_authToken={PLANTED[29]}\n"
    options = {"reply": "return cart", "record": str(record)}
    async with await LspClient.spawn([sys.executable, "-P", "-m", "phi_server", "serve"]) as client:
        client.answers["workspace/configuration"] = lambda params: [None]
        settings = {"engine": "echo", "debounce_ms": 0, "engine_options": options}
        folders = [{"uri": workspace.as_uri(), "name": "work"}]
        await client.initialize({"capabilities": INLINE, "initializationOptions": settings, "workspaceFolders": folders})
        await state(client, "ready")
        for name, text in opened.items():
            await client.open((workspace / name).as_uri(), text)
        uri = (workspace / "main.py").as_uri()
        await client.open(uri, own)
        line = own.split("\n").index("    ")
        answer = await client.request("textDocument/inlineCompletion", {**at(line, 4, uri), "context": {"triggerKind": 1}})
        assert answer["items"], "the secrets do not cost the suggestion"
        for name in (".env", "shut/a.py", ".npmrc"):
            place = {**at(0, 0, (workspace / name).as_uri()), "context": {"triggerKind": 1}}
            assert await client.request("textDocument/inlineCompletion", place) is None, name
        asked = {"uri": uri, "range": {"start": {"line": 0, "character": 0}, "end": {"line": line, "character": 4}}}
        await client.request("workspace/executeCommand", {"command": "phi-ls.explain", "arguments": [asked]})
    seen = record.read_text(encoding="utf-8")
    assert "def cart_total" in seen
    assert "From work/new.py:" in seen
    assert "def cart_login(cart" in seen
    assert [secret for secret in PLANTED if secret in seen] == []


@pytest.mark.slow
def test_gathering_meets_its_times() -> None:
    """Twice the limits: the machines that run tests do other things too."""
    times = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "context_bench.py"))["measure"]()
    assert times["cold"] < 160
    assert times["kept"] < 1
    assert all(ms < 40 for name, ms in times.items() if "lines" in name)
