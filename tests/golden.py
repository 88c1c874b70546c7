"""Golden cases in text files: a document with a cursor, what a model wrote, and what may be suggested. Read by people first.

A file of tests/golden is named after its language and holds cases such as

    == a fence behind the answer [invoked, crlf]
    -- document
    def add(a, b):
        return ▮
    -- model
    a + b
    ```
    -- item
    a + b

`-- silence` in place of `-- item` says that nothing is suggested, `-- item over )` that the text takes the place of what follows.
`→` is a tab, `·` at the end of a line a blank. `invoked`: asked for by hand;
`crlf`: the document's line ends; `end`: it has none at its end.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
CURSOR = "▮"


@dataclass(frozen=True)
class Case:
    language_id: str
    name: str
    flags: frozenset[str]
    document: str
    """With the cursor's mark."""
    model: str
    item: str | None
    """None: silence. With line feeds."""
    over: str
    """What of the document the item takes the place of."""

    def __str__(self) -> str:
        return f"{self.language_id}: {self.name}"


def cases() -> Iterator[Case]:
    """All of them. Raises ValueError for a file that is not in the form above."""
    for file in sorted(FOLDER.glob("*.txt")):
        for block in re.split(r"^== ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            yield _case(file.stem, block)


def _case(language_id: str, block: str) -> Case:
    match = re.fullmatch(
        r"(?P<name>[^\[\n]+?)(?: \[(?P<flags>[\w, ]+)\])?\n-- document\n(?P<document>.*?)-- model\n(?P<model>.*?)"
        r"-- (?P<kind>item|silence)(?: over (?P<over>[^\n]+))?\n?(?P<item>.*)",
        block,
        re.DOTALL,
    )
    if match is None or match["document"].count(CURSOR) != 1:
        raise ValueError(f"No golden case: {block[:60]!r}")
    flags = frozenset((match["flags"] or "").replace(" ", "").split(",")) - {""}
    document = _spelled(match["document"])
    if "end" in flags:
        document = document.removesuffix("\n")
    if "crlf" in flags:
        document = document.replace("\n", "\r\n")
    item = None if match["kind"] == "silence" else _spelled(match["item"]).rstrip("\n")
    return Case(language_id, match["name"], flags, document, _spelled(match["model"]).removesuffix("\n"), item, match["over"] or "")


def _spelled(text: str) -> str:
    return re.sub(r"·$", " ", text, flags=re.MULTILINE).replace("→", "\t")
