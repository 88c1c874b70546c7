"""What no model sees: files that hold secrets, and values that look like keys, each replaced by a word of its own. Pure.

A name and a value that look like `password = "…"`, the forms in which services hand out keys, private key blocks, and long texts of
random letters. Too much hidden costs a worse suggestion; too little cannot be taken back. In an answer the words are put back.

Not here: which files of a project may be read at all (workspace_files.py).
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

PREFIX = "REDACTED_"
_SALT = secrets.token_bytes(16)
"""Of this process: a word stands for the same value all the time, which keeps prompts the same, and tells nothing about it."""

_FILES = (
    ".env", ".env.*", "*.env", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.asc", "*.gpg",
    "*.ovpn",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "credentials", "credentials.*", "*credentials.json", "secrets.*", "secret.*",
    "*.secret", "*.secrets", ".netrc", "_netrc", ".npmrc", ".pypirc", ".htpasswd", ".pgpass", ".my.cnf", ".git-credentials", "*.tfvars",
    "*.tfstate", "kubeconfig", "*.kubeconfig", ".dockercfg", "service-account*.json", "service_account*.json", "vault.yml", "vault.yaml",
    "*.mobileprovision", "authorized_keys", ".vault_pass*", "*token.json", "*tokens.json",
)  # fmt: skip
_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".kube", ".azure", ".docker", ".gcloud", ".password-store", "secrets"})

_NAME = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|encryption[_-]?key|signing[_-]?key|"
    r"account[_-]?key|client[_-]?secret|credentials?|auth(?!or(?!iz))(?:orization)?|bearer|cookie|session[_-]?id|dsn|connection[_-]?string|salt)"
)
_KNOWN = (
    r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bgl(?:pat|dt|rt)-[\w-]{16,}",
    r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant|or)[-_][\w-]{10,}|\bsk-[\w-]{20,}|\bwhsec_\w{16,}",
    r"\bxox[abeoprs]-[\w-]{10,}|\bxapp-[\w-]{10,}",
    r"\bAIza[\w-]{30,}|\bya29\.[\w-]{10,}|\bGOCSPX-[\w-]{10,}",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?",
    r"\bnpm_\w{20,}|\bpypi-[\w-]{16,}|\bhf_[A-Za-z0-9]{16,}|\bdop_v1_\w{16,}|\bSG\.[\w-]{10,}\.[\w-]{10,}|\bshpat_\w{16,}|\bkey-[0-9a-f]{24,}",
    r"\bAC[0-9a-f]{32}\b|\bSK[0-9a-f]{32}\b|\b\d{8,10}:AA[\w-]{30,}",
    r"hooks\.slack\.com/services/[\w/]+|discord(?:app)?\.com/api/webhooks/[\w/-]+",
)
_PATTERNS = (
    *(f"({known})" for known in _KNOWN),
    rf"(?i:{_NAME})[\w.-]{{0,40}}[\"'\]]{{0,3}}\s*(?::\s*[&\w<>\[\]. |]{{1,40}})?(?:[:=]=?>?|\bis\b)\s*"
    rf"(?:[A-Za-z]{{1,2}})?[\"'`]([^\"'`\s{{}}][^\"'`{{}}]{{3,}})[\"'`]",
    rf"(?i:{_NAME})[\"']?\s*[,(]\s*[\"'`]((?=[^\"'`]*\d)[^\"'`\s{{}}][^\"'`{{}}]{{5,}})[\"'`]",
    rf"^\s*(?:export\s+|set\s+|-\s+)?[\w.-]{{0,40}}(?i:{_NAME})[\w.-]{{0,40}}\s*(?:=\s*(?![A-Za-z_.]+\s*$)|:\s*(?![A-Z][A-Za-z]*\s*$))"
    r"([^\s\"'`(){}\[\]$<>;,#]{6,})\s*(?:#.*)?$",
    r"(?i:\b(?:bearer|basic|token)\s+)((?=[^\s\"']*\d)[A-Za-z0-9+/=._~-]{12,})",
    r"\b[A-Za-z][\w+.-]{0,20}://[^\s/:@\"'{}]{0,64}:([^\s/@\"'{}]{3,})@",
    rf"(?i:{_NAME}=)([^\s\"'&;,{{}}()<>$]{{6,}})",
)  # fmt: skip
_VALUE = re.compile("|".join(_PATTERNS))
_HINTS = ("pass", "pwd", "secret", "token", "key", "cred", "auth", "bearer", "basic", "cookie", "session", "dsn", "connection", "salt",
          "://", "hooks", "webhook", "akia", "asia", "agpa", "aida", "aroa")  # fmt: skip
"""Lines without any of these, and without a long word, are not looked at more closely: nearly all of them."""
_LONG_WORD = re.compile(r"[A-Za-z0-9+/_.-]{20}")
_LONG = re.compile(r"(?<![\w+/=.-])(?=[\w+/-]*\d)(?=[\w+/-]*[A-Za-z])[A-Za-z0-9+/_-]{32,}={0,2}(?![\w+/=.-])")
_PATH = re.compile(r"[a-z]{4,}[/_-][a-z]{4,}|[A-Z][a-z]{3,}[A-Z][a-z]{3,}|[A-Z]{3,}_[A-Z]{3,}_")
STEP, OVERLAP = 1500, 500
"""Characters of a line that are looked at together."""
_LEAST_DISTINCT = 12
"""Different characters in a long text that is taken for random. Words have blanks, names have words in them."""
_BEGIN, _END = re.compile(r"-----BEGIN [A-Z0-9 ]*(?:PRIVATE KEY|KEY BLOCK)"), re.compile(r"-----END ")
_BASE64 = re.compile(r"^[\s\"'+]*[A-Za-z0-9+/=]{8,}(?:\\n)?[\s\"',;+]*$")
_NO_SECRET = re.compile(
    r"(?i)^(?:none|null|true|false|undefined|string|str|int|bool|bytes|required|optional|self\.\w+|os\.environ.*|process\.env.*|"
    r"<.*>|\*+|x+|\.+|%\w|\$.*|your[-_ ].*|change[-_ ]?me|example|placeholder|password|secret|token|[a-z_]+\(.*)$"
)
_NAME_LIKE = re.compile(r"^[A-Za-z_]\w*(?:(?:\.|::)[A-Za-z_]\w*)+$|^[A-Z][A-Za-z]*\[.*$")


def is_secret_file(path: str) -> bool:
    """Whether files of such names are kept to hold secrets. Either slash."""
    *folders, name = path.lower().replace("\\", "/").split("/")
    return bool(_FOLDERS.intersection(folders)) or any(fnmatchcase(name, pattern) for pattern in _FILES)


def redacted(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines, each with its line end, without what looks like a key."""
    result: list[str] = []
    in_key = False
    for line in lines:
        if "-----" in line:
            if _END.search(line) and not in_key:  # the lines begin inside a key
                start = next((at for at in range(len(result) - 1, -1, -1) if not _BASE64.match(result[at])), -1) + 1
                result[start:] = [_whole(one) for one in result[start:]]
            in_key = bool(_BEGIN.search(line)) and not _END.search(line)
        elif in_key and _BASE64.match(line):
            result.append(_whole(line))
            continue
        result.append(redacted_line(line))
    return tuple(result)


@lru_cache(maxsize=1 << 16)
def redacted_line(line: str) -> str:
    """One line. Remembered: a prompt is made of the same lines again and again."""
    lower = line.lower()
    if not any(hint in lower for hint in _HINTS) and not _LONG_WORD.search(line):
        return line
    result, at = "", 0
    for start, stop in _merged(span for first in range(0, len(line), STEP) for span in _spans(line, first)):
        result, at = result + line[at:start] + _word(line[start:stop]), stop
    return result + line[at:]


def _spans(line: str, first: int) -> Iterator[tuple[int, int]]:
    """Where secrets begin and end in the part of a line that begins at `first`: patterns take the square of a length."""
    part = line[first : first + STEP + OVERLAP]
    for match in _VALUE.finditer(part):
        group = match.lastindex or 0
        value = match[group]
        if group <= len(_KNOWN) or not (_NO_SECRET.match(value) or _NAME_LIKE.match(value) or value.startswith(PREFIX)):
            yield first + match.start(group), first + match.end(group)
    for match in _LONG.finditer(part):
        if len(set(match[0])) >= _LEAST_DISTINCT and not _PATH.search(match[0]):
            yield first + match.start(), first + match.end()


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that overlap, made one."""
    result: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if result and start < result[-1][1]:
            result[-1] = (result[-1][0], max(stop, result[-1][1]))
        else:
            result.append((start, stop))
    return result


def begins_secret(head: str) -> bool:
    """Whether a line that begins so holds a secret: one that is being typed has no closing quote yet."""
    return any(redacted_line(head + quote) != head + quote for quote in ("", '"', "'"))


def restored(text: str, lines: Sequence[str]) -> str:
    """An answer about these lines, with their own values for the words that stood for them."""
    if PREFIX not in text:
        return text
    original = "".join(lines)
    hidden = "".join(redacted(lines))
    for word in set(re.findall(PREFIX + r"[0-9a-f]{8}", text)) & set(re.findall(PREFIX + r"[0-9a-f]{8}", hidden)):
        value = _value_of(word, original, hidden)
        text = text.replace(word, value) if value is not None else text
    return text


def _value_of(word: str, original: str, hidden: str) -> str | None:
    """The value whose word this is: lines keep their order, so what is before and behind the word finds it."""
    for line, cover in zip(original.split("\n"), hidden.split("\n"), strict=False):
        if word in cover:
            before, _, after = cover.partition(word)
            pattern = re.escape(before) + "(.+?)" + re.escape(after)
            pattern = re.sub(PREFIX + r"[0-9a-f]{8}", ".+?", pattern)
            if (match := re.fullmatch(pattern, line)) and _word(match[1]) == word:
                return match[1]
    return None


def _word(value: str) -> str:
    return PREFIX + hashlib.blake2s(value.encode("utf-8", "surrogatepass"), key=_SALT, digest_size=4).hexdigest()


def _whole(line: str) -> str:
    text = line.strip()
    return line if text.startswith(PREFIX) else line.replace(text, _word(text))
