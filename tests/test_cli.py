"""The command line, as a person or a script uses it: each test starts the real program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phi_backends.model_folder import EMBEDDED_FOLDER

ECHO = ("--engine", "echo", "--engine-option", "reply=return total")
embedded = pytest.mark.skipif(not EMBEDDED_FOLDER.is_dir(), reason="the embedded model is not in this checkout")


def phi_ls(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "phi_server", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False, cwd=cwd)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "sums.py"
    path.write_text("def add(a, b):\n    total = a + b\n    \n", encoding="utf-8")
    return path


def test_complete_prints_what_could_come_next(source: Path) -> None:
    done = phi_ls("complete", source, "--line", "3", "--character", "5", *ECHO)
    assert (done.returncode, done.stdout, done.stderr) == (0, "return total\n", "")


def test_complete_as_json_says_what_made_it_and_how_long_it_took(source: Path) -> None:
    done = phi_ls("complete", source, "--line", "3", "--character", "5", "--json", *ECHO)
    answer = json.loads(done.stdout)
    place = {"line": 3, "character": 5}
    assert answer["items"] == [{"text": "return total", "range": {"start": place, "end": place}}]
    assert (answer["engine"], answer["model"], answer["device"]) == ("echo", "echo", "none")
    assert 0 < answer["timings_ms"]["first_text"] <= answer["timings_ms"]["total"]


def test_complete_with_nothing_to_suggest_says_so_and_succeeds(source: Path) -> None:
    done = phi_ls("complete", source, "--line", "3", "--character", "5", "--engine", "echo", "--engine-option", "reply=```")
    assert (done.returncode, done.stdout) == (0, "")
    assert "suggests nothing" in done.stderr


def test_explain_prints_markdown(source: Path) -> None:
    done = phi_ls("explain", source, "--lines", "1-2", *ECHO)
    assert (done.returncode, done.stdout, done.stderr) == (0, "return total\n", "")
    answer = json.loads(phi_ls("explain", source, "--lines", "1-2", "--json", *ECHO).stdout)
    assert answer["items"][0]["text"] == "return total"
    assert answer["items"][0]["range"] == {"start": {"line": 1, "character": 1}, "end": {"line": 2, "character": 18}}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["complete", "nowhere.py", "--line", "1", "--character", "1"], '"nowhere.py" cannot be read'),
        (["complete", "FILE", "--line", "99", "--character", "1", *ECHO], "There is no line 99: the file has 4."),
        (["complete", "FILE", "--line", "1", "--character", "77", *ECHO], "Line 1 has no character 77: it ends at 15."),
        (["explain", "FILE", "--lines", "3-1", *ECHO], "--lines takes a first and a last line"),
        (["explain", "FILE", "--lines", "0-1", *ECHO], "--lines takes a first and a last line"),
        (["explain", "FILE", "--lines", "1-9", *ECHO], "There is no line 9"),
        (["complete", "FILE", "--line", "1", "--character", "1", "--engine", "abacus"], 'There is no engine "abacus"'),
        (
            ["complete", "FILE", "--line", "1", "--character", "1", "--model", "/no/model", "--engine", "openvino"],
            'no model folder "/no/model"',
        ),
        (["complete", "FILE", "--line", "1", "--character", "1", "--engine", "echo", "--engine-option", "reply"], "takes KEY=VALUE"),
        (["complete", "FILE", "--line", "1", "--character", "1", "--engine", "echo", "--engine-option", "size=1"], 'no option "size"'),
        (["complete", "FILE", "--line", "one", "--character", "1"], "invalid int value"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(source: Path, arguments: list[str], complaint: str) -> None:
    done = phi_ls(*(source if argument == "FILE" else argument for argument in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.py"
    path.write_bytes(b"\xff\xfe\x00\x01")
    done = phi_ls("complete", path, "--line", "1", "--character", "1", *ECHO)
    assert done.returncode == 2
    assert "no UTF-8 text" in done.stderr


@embedded
def test_a_device_that_is_not_there_is_refused_with_those_that_are(source: Path) -> None:
    done = phi_ls("complete", source, "--line", "3", "--character", "5", "--device", "GPU.7")
    assert done.returncode == 2
    assert "GPU.7" in done.stderr
    assert "CPU" in done.stderr


@embedded
def test_a_model_folder_may_be_given_relative_to_where_one_is(source: Path) -> None:
    folder = os.path.relpath(EMBEDDED_FOLDER, source.parent)
    done = phi_ls("complete", source, "--line", "3", "--character", "5", "--model", folder, "--json", cwd=source.parent)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == EMBEDDED_FOLDER.name


def test_a_broken_model_folder_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    done = phi_ls("complete", source, "--line", "3", "--character", "5", "--model", tmp_path)
    assert done.returncode == 2
    assert "config.json" in done.stderr
    assert "again" in done.stderr


def test_doctor_names_packages_devices_and_the_engine_that_is_ready() -> None:
    report = json.loads(phi_ls("doctor", "--json", "--engine", "echo").stdout)
    assert report["ready"] is True
    assert report["engine"]["engine"] == "echo"
    assert set(report["packages"]) >= {"openvino", "tokenizers", "pygls"}
    assert report["problems"] == [] or not report["packages"]["openvino"]


def test_doctor_says_what_is_wrong_and_fails() -> None:
    done = phi_ls("doctor", "--engine", "abacus")
    assert done.returncode == 1
    assert 'There is no engine "abacus"' in done.stdout


@embedded
@pytest.mark.slow
def test_the_demo_shows_completions_of_the_model_and_an_explanation() -> None:
    done = phi_ls("demo", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "phi-ls-nano runs on" in done.stdout
    assert done.stdout.count("⟧   ←") >= 3
    assert "raises `ValueError`" in done.stdout
    assert "a small model that is often wrong" in done.stdout


@embedded
@pytest.mark.slow
def test_the_benchmark_measures_every_ratio() -> None:
    report = json.loads(phi_ls("bench", "server", "--json").stdout)
    ratios = {name: report[name]["ratio"] for name in ("server", "kv_reuse", "cancel", "start")}
    assert all(ratio > 0 for ratio in ratios.values())
    assert ratios["kv_reuse"] > 1.2, "reuse of the KV cache must be faster than none, on any machine"
