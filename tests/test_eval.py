"""`phi-ls eval`: sets, judging, the program that runs tests, resuming and comparing. No model but replayed answers and the echo engine."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import cast

import anyio
import pytest

from phi_backends.client import Client
from phi_backends.errors import BadInput
from phi_server import eval
from phi_server.eval_replay import HABITS, Replay, copied
from phi_server.eval_sets import Case, read
from phi_server.eval_tests import passes
from phi_server.settings import Settings

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT.parent / "shared" / "eval" / "humaneval_infill_singleline.sample.jsonl"
INFILLING = [
    {"task_id": "a", "prompt": "def add(a, b):\n", "canonical_solution": "    return a + b\n", "suffix": "", "entry_point": "add",
     "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n"},
    {"id": "b", "prefix": "def double(x):\n    y = 2 * x\n", "middle": "    return y\n", "suffix": "\n\nprint(double(1))\n"},
]  # fmt: skip
ONE_LINE = Settings(max_completion_lines=1)


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    file = tmp_path / "set.jsonl"
    file.write_text("\n".join(json.dumps(case) for case in INFILLING), encoding="utf-8")
    return read(file, 10, 1)


def client(answer: str) -> Client:
    return cast(Client, Replay(answer))


def test_a_set_of_either_form_is_read(cases: list[Case]) -> None:
    assert [(case.id, case.reference, case.suffix, bool(case.test)) for case in cases] == [
        ("a", "    return a + b", "\n", True),
        ("b", "    return y", "\n\n\nprint(double(1))\n", False),
    ]
    snapshot, cursor = cases[0].document()
    assert (cursor.line, cursor.character, "".join(snapshot.lines)) == (1, 0, "def add(a, b):\n\n")


def test_what_is_no_set_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.jsonl").write_text('{"x": 1}\n', encoding="utf-8")
    with pytest.raises(BadInput, match="no set of infilling cases"):
        read(tmp_path / "no.jsonl", 1, 1)
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "absent.jsonl", 1, 1)


def test_a_folder_gives_the_same_places_for_the_same_seed() -> None:
    folder = ROOT / "prompts"
    first, again, other = (read(folder, 20, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 20
    for case in first:
        text = (folder / case.id.split(":")[0]).read_text(encoding="utf-8")
        assert text.startswith(case.prefix + case.reference)


def test_an_answer_is_judged(cases: list[Case]) -> None:
    right = anyio.run(eval.judge, cases[0], client("    return a + b"), ONE_LINE)
    assert (right.shown, right.exact, right.similarity, right.passed) == (True, True, 1.0, True)
    other = anyio.run(eval.judge, cases[0], client("    return b + a"), ONE_LINE)
    assert (other.exact, other.passed) == (False, True)
    wrong = anyio.run(eval.judge, cases[0], client("    return a - b"), ONE_LINE)
    assert (wrong.exact, wrong.passed) == (False, False)
    silent = anyio.run(eval.judge, cases[0], client(""), ONE_LINE)
    assert (silent.shown, silent.exact, silent.similarity, silent.passed) == (False, False, 0.0, False)


@pytest.mark.parametrize("habit", HABITS)
def test_no_bad_habit_changes_an_answer(cases: list[Case], habit: str) -> None:
    (results,) = anyio.run(eval.replay, cases, ONE_LINE, [habit]).values()
    assert all(result.exact for result in results)


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_file(), reason=f"the sample of infilling cases is not at {SAMPLE}")
def test_of_right_answers_in_bad_habits_hardly_any_is_lost() -> None:
    found = anyio.run(eval.replay, read(SAMPLE, 1000, 1), ONE_LINE)
    assert eval.exact_share(found) >= 0.98


def test_figures_calibration_and_comparison(cases: list[Case]) -> None:
    one = anyio.run(eval.judge, cases[0], client("    return a + b"), ONE_LINE)
    results = [
        replace(one, probability=0.9),
        replace(one, id="b", exact=False, passed=False, probability=0.4),
        replace(one, id="c", shown=False, exact=False, passed=False, probability=None),
        replace(one, id="d", shown=False, exact=False, passed=None, probability=None),
    ]
    found = eval.figures(results)
    assert (found.cases, found.suggestion_rate, found.exact_match, found.right_when_shown) == (4, 0.5, 0.25, 0.5)
    assert found.pass_at_1 == pytest.approx(1 / 3)
    table = {least: (rate, right) for least, rate, right in eval.calibration(results)}
    assert table[0.0] == (0.5, 0.5)
    assert table[0.5] == (0.25, 1.0)
    assert eval.compare([replace(one, passed=False)], [one]) == {"cases": 1, "became_right": 1, "became_wrong": 0, "chance": 1.0}


def test_similarity() -> None:
    assert eval.similarity("abc", "abc") == 1
    assert eval.similarity("abcd", "abc") == 0.75
    assert eval.similarity("", "abc") == 0


def test_copying_goes_on_as_the_file_does_elsewhere() -> None:
    case = Case("x", "a.py", "python", "total = add(first, second)\nother = 1\ntotal = add(first, ", "second)", "\n")
    assert copied(case) == "second)"


# Running tests


@pytest.mark.parametrize(
    "program",
    [
        "import socket\nsocket.create_connection(('127.0.0.1', 9))", "import subprocess\nsubprocess.run(['true'])", "open('x', 'w')",
        "import os\nos.system('true')", "import os\nos._exit(0)", "raise SystemExit", "while True: pass", "1 / 0", "(",
        "x = 'x' * (1 << 31)",
        "import os\nos.remove('/nowhere')", "from pathlib import Path\nPath('x').write_text('x')",
    ],
)  # fmt: skip
def test_what_fails_or_reaches_out_does_not_pass(program: str) -> None:
    assert not passes(program, timeout_s=1.5)


def test_what_runs_to_its_end_passes() -> None:
    assert passes("import math\nprint('noise')\nassert math.sqrt(4) == 2")


# The command


def phi_ls(*arguments: str) -> str:
    done = run([sys.executable, "-P", "-m", "phi_server", *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_goes_on_where_it_was_and_can_be_compared(tmp_path: Path) -> None:
    file, results = tmp_path / "set.jsonl", tmp_path / "results.jsonl"
    file.write_text("\n".join(json.dumps(case) for case in INFILLING), encoding="utf-8")
    options = ["eval", str(file), "--engine=echo", "--engine-option=reply=    return a + b", "--results", str(results)]
    assert "50.0%" in phi_ls(*options)
    lines = results.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 3
    results.write_text("".join(lines[:2]) + lines[2][:10], encoding="utf-8")
    report = json.loads(phi_ls(*options, "--compare", str(results), "--json"))
    assert report["figures"]["echo"]["exact_match"] == 0.5
    assert report["figures"]["echo"]["pass_at_1"] == 1.0
    assert len(results.read_text(encoding="utf-8").splitlines()) == 3
    other = run(
        [sys.executable, "-P", "-m", "phi_server", *options, "--min-probability", "0.5"], capture_output=True, text=True, check=False
    )
    assert other.returncode == 2
    assert "another engine, model or settings" in other.stderr


def test_the_command_replays_and_copies() -> None:
    folder = str(ROOT / "prompts" / "phi_prompts")
    assert "in backticks" in phi_ls("eval", folder, "--limit", "5", "--replay")
    assert "suggestion_rate" in phi_ls("eval", folder, "--limit", "5", "--copy")
