"""What looks like a key is hidden, ordinary code is not, and answers get their values back."""

import sysconfig
from pathlib import Path

import pytest

from phi_server.redact import begins_secret, is_secret_file, redacted, redacted_line, restored

SECRETS = {
    'password = "hunter2!"': "hunter2!",
    "db_password: swordfish99": "swordfish99",
    'aws = "AKIAIOSFODNN7EXAMPLE"': "AKIAIOSFODNN7EXAMPLE",
    "GITHUB=ghp_16C7e42F292c6912E7710c838347Ae178B4a": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    'url = "postgres://admin:s3cr3tpw@db:5432/x"': "s3cr3tpw",
    '"Authorization": "Bearer abcdef0123456789abcdef",': "abcdef0123456789abcdef",
    'headers = {"x": "Basic dXNlcjpwYXNzd29yZDEyMw=="}': "dXNlcjpwYXNzd29yZDEyMw==",
    'config["secret_key"] = "django-insecure-9d8f7g6h"': "django-insecure-9d8f7g6h",
    "AccountName=x;AccountKey=Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
    'stripe.api_key = "sk_live_4eC39HqLyjWDarjtT1zdp7dc"': "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "const s = 'xoxb-123456789012-abcdefABCDEF';": "xoxb-123456789012-abcdefABCDEF",
    'x = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6y"': "eyJhbGciOiJIUzI1NiJ9",
    'let token: &str = "tok-9f8e7d6c5b";': "tok-9f8e7d6c5b",
    'private static final String API_KEY = "k3y-abcdef";': "k3y-abcdef",
    "export SECRET_TOKEN=abc123def456": "abc123def456",
}


@pytest.mark.parametrize(("line", "secret"), SECRETS.items())
def test_a_secret_is_hidden(line: str, secret: str) -> None:
    hidden = redacted_line(line)
    assert secret not in hidden
    assert "REDACTED_" in hidden
    assert redacted_line(hidden) == hidden
    assert restored(hidden, [line]) == line


@pytest.mark.parametrize(
    "line",
    [
        "token = get_token()", "token = tokens[0]", "self.password = password", "def login(user, password):", 'key = "name"',
        'TOKEN = os.environ["TOKEN"]', "tokens = tokenize(line)", 'if token == "end":',
        "from package.sub_package.another_long_module import x",
        "password: str", "password: string;", 'password = ""', '__author__ = "A. N. Author <author@example.org>"', "return self.api_key",
        'https://example.org/path/to/page', "class PasswordResetTokenGenerator:", "passwords = [user.password for user in users]",
    ],
)  # fmt: skip
def test_code_is_not_hidden(line: str) -> None:
    assert redacted_line(line) == line


@pytest.mark.parametrize("before", [0, 1000, 1495, 1800, 30_000])
def test_a_secret_far_right_is_hidden(before: int) -> None:
    line = "x; " * (before // 3) + 'password = "hunter2!"; AKIAIOSFODNN7EXAMPLE; y'
    hidden = redacted_line(line)
    assert "hunter2" not in hidden
    assert "AKIA" not in hidden
    assert hidden.endswith("; y")


@pytest.mark.parametrize(
    ("head", "secret"), [('password = "hunt', True), ("key = 'x", False), ("x = AKIAIOSFODNN7EXAMPLE", True), ("f(", False)]
)
def test_a_secret_that_is_being_typed(head: str, secret: bool) -> None:
    assert begins_secret(head) is secret


def test_secrets_that_overlap_are_hidden_whole() -> None:
    line = 'token = "Bearer AKIAIOSFODNN7EXAMPLE0123456789abcdefABCDEF"'
    assert redacted_line(line).startswith('token = "REDACTED_')
    assert "AKIA" not in redacted_line(line)
    assert "cdefABCDEF" not in redacted_line(line)


def test_a_private_key_is_hidden_whole_and_in_part() -> None:
    key = ["-----BEGIN RSA PRIVATE KEY-----\n", *[f"MIIEowIBAAKCAQEAx{number}fGkRtY\n" for number in range(5)], "q9Zw==aaaa\n"]
    key.append("-----END RSA PRIVATE KEY-----\n")
    for lines in (key, key[2:], key[:-2]):
        assert not any("fGkRtY" in line or "q9Zw" in line for line in redacted(lines))


def test_hardly_any_line_of_python_itself_is_hidden() -> None:
    lines = [line for file in Path(sysconfig.get_path("stdlib")).glob("[a-f]*.py") for line in file.read_text("utf-8").splitlines(True)]
    assert sum(a != b for a, b in zip(lines, redacted(lines), strict=True)) < len(lines) / 1000


@pytest.mark.parametrize("path", [".env", "a/.env.local", "id_rsa", "server.pem", "x/credentials.json", ".ssh/config", "C:\\x\\.npmrc"])
def test_files_that_hold_secrets(path: str) -> None:
    assert is_secret_file(path)
    assert not is_secret_file("src/environment.py")
