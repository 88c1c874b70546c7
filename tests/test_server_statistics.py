"""What becomes of suggestions: what is counted, what is kept, and how eager it makes. Nothing of the code is written."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from server_process import INLINE, at, server

from phi_server import stats
from phi_server.lsp_client import LspClient
from phi_server.statistics import Counts, Shown, Statistics, read

KEY = ("phi", "python")
SHOWN = Shown("file:///a.py", 3, 4, "total = a + b\n    return total", *KEY)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def statistics(tmp_path: Path) -> Statistics:
    return Statistics(tmp_path / "folder" / "statistics.json")


def counted(statistics: Statistics) -> dict[str, int]:
    return {name: count for name, count in vars(statistics.counts().get(KEY, Counts())).items() if count}


def test_what_goes_on_is_one_suggestion(statistics: Statistics) -> None:
    first = statistics.shown(replace(SHOWN))
    assert statistics.shown(replace(SHOWN, character=10, text=SHOWN.text[6:])) == first
    assert statistics.shown(replace(SHOWN, line=9, text="other()")) == first + 1
    assert counted(statistics) == {"shown": 2}


def test_accepting_is_counted_once(statistics: Statistics) -> None:
    number = statistics.shown(replace(SHOWN))
    assert statistics.accepted(number) is not None
    assert statistics.accepted(number) is None
    assert statistics.accepted(None) is None
    assert counted(statistics) == {"shown": 1, "accepted": 1}


@pytest.mark.parametrize(
    ("line", "character", "text", "counts"),
    [(3, 4, "total ", True), (3, 4, "t", False), (3, 4, SHOWN.text, False), (3, 5, "total ", False), (3, 4, "other ", False)],
)
def test_a_beginning_that_comes_at_once_was_accepted_in_part(
    statistics: Statistics, line: int, character: int, text: str, counts: bool
) -> None:
    statistics.shown(replace(SHOWN))
    for _ in range(2):
        statistics.inserted("file:///a.py", line, character, text)
    assert counted(statistics) == {"shown": 1, **({"accepted_in_part": 1} if counts else {})}


def test_whether_it_is_still_there(statistics: Statistics) -> None:
    there = ["def f(a, b):\n", "\n", "  x; total = a + b\n", "        return total\n"]
    statistics.looked_for(SHOWN, there, 30.0)
    statistics.looked_for(SHOWN, there[:3], 30.0)
    statistics.looked_for(SHOWN, there, 300.0)
    assert counted(statistics) == {
        "looked_for_after_30_s": 2, "there_after_30_s": 1, "looked_for_after_5_min": 1, "there_after_5_min": 1,
    }  # fmt: skip


def test_servers_share_the_file_and_no_code_is_in_it(statistics: Statistics) -> None:
    other = Statistics(statistics.file)
    for one in (statistics, other, statistics):
        one.accepted(one.shown(replace(SHOWN)))
        one.save()
    assert read(statistics.file) == {KEY: Counts(shown=3, accepted=3)}
    assert counted(statistics) == {"shown": 3, "accepted": 3}
    text = statistics.file.read_text(encoding="utf-8")
    assert "total" not in text
    assert "a.py" not in text


def test_what_echo_says_is_not_kept_and_a_damaged_file_is_none(statistics: Statistics) -> None:
    statistics.shown(replace(SHOWN, model="echo"))
    statistics.save()
    assert not statistics.file.exists()
    statistics.file.parent.mkdir()
    statistics.file.write_text('[{"model": 1}, 2]', encoding="utf-8")
    assert read(statistics.file) == {}


@pytest.mark.parametrize(("shown", "accepted", "low", "high"), [(0, 0, 1, 1), (500, 5, 2.9, 3), (500, 100, 1, 1), (500, 300, 0.5, 0.6)])
def test_who_takes_few_suggestions_is_shown_surer_ones(statistics: Statistics, shown: int, accepted: int, low: float, high: float) -> None:
    statistics._new[KEY] = Counts(shown=shown, accepted=accepted)
    assert low <= statistics.eagerness(*KEY) <= high


def test_the_command_shows_a_table(tmp_path: Path, statistics: Statistics, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No suggestions were counted yet" in stats.to_text(statistics.file)
    statistics.accepted(statistics.shown(replace(SHOWN)))
    statistics.save()
    assert "100.0%" in stats.to_text(statistics.file)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    done = run([sys.executable, "-P", "-m", "phi_server", "stats", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def automatic(line: int, character: int) -> dict[str, Any]:
    return {**at(line, character, "file:///a.py"), "context": {"triggerKind": 2}}


async def suggested(client: LspClient) -> list[Any]:
    await client.open("file:///a.py", "def f(a):\n    ret\n")
    answer = await client.request("textDocument/inlineCompletion", automatic(1, 7))
    arguments: list[Any] = answer["items"][0]["command"]["arguments"]
    return arguments


@pytest.mark.anyio
async def test_each_suggestion_has_its_number_unless_it_is_switched_off() -> None:
    async with server(INLINE, reply="return a") as client:
        assert await suggested(client) == [1]
        await client.request("workspace/executeCommand", {"command": "phi-ls.accepted", "arguments": [1]})
    async with server(INLINE, reply="return a", statistics=False) as client:
        assert await suggested(client) == []
