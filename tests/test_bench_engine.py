"""`phi-ls bench`: figures of the echo engine, whose speed is known; of real engines side by side; and what cannot be measured."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from phi_backends.errors import BadInput, EngineError
from phi_backends.messages import Load
from phi_backends.model_folder import EMBEDDED, EMBEDDED_FOLDER
from phi_server.bench_engine import LENGTHS, candidates, compare, labels, measure, picture, to_text
from phi_server.settings import Settings

pytestmark = pytest.mark.anyio
MS_PER_TOKEN = 4


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def echo(**options: str | int) -> Load:
    return Load("echo", EMBEDDED, "auto", {"reply": "one two three", "ms_per_token": MS_PER_TOKEN, **options})


@pytest.mark.slow
async def test_what_is_measured_is_what_the_engine_takes() -> None:
    figures = await measure(echo(load_ms=300), [50, 100])
    short, long = figures.lengths
    assert 40 < short.prompt_tokens < 60 < long.prompt_tokens < 120, "the echo engine's tokens are characters"
    for at in figures.lengths:
        of_prompt = MS_PER_TOKEN * at.prompt_tokens  # less for the few letters that two documents may begin with
        assert 0.7 * of_prompt < at.first_token_ms < 3 * of_prompt
        assert MS_PER_TOKEN <= at.token_ms < 3 * MS_PER_TOKEN
    assert 300 <= figures.load_ms < 3000
    assert figures.keys is not None
    assert figures.keys.added_ms[1] < figures.keys.middle_ms < long.first_token_ms
    assert 5_000_000 < figures.peak_memory_bytes < 500_000_000


async def test_lengths_that_the_context_does_not_hold_are_left_out() -> None:
    figures = await measure(echo(context_tokens=400, ms_per_token=0), LENGTHS, with_keys=False)
    assert 0 < len(figures.lengths) < len(LENGTHS)
    with pytest.raises(BadInput, match="too few"):
        await measure(echo(context_tokens=400, ms_per_token=0), [2048])


async def test_an_engine_that_does_not_load_says_why() -> None:
    with pytest.raises(EngineError, match='There is no engine "abacus"'):
        await compare([echo(ms_per_token=0), Load("abacus", EMBEDDED, "auto")], [10], lambda doing: None)


def test_what_is_compared_is_said_in_keys_and_values(tmp_path: Path) -> None:
    settings = Settings(engine="openvino", engine_options={"threads": 1})
    first, second = candidates(settings, [f"engine=onnx,model={tmp_path},threads=2"])
    assert first == settings.load()
    assert second == Load("onnx", str(tmp_path), "auto", {"threads": 2})
    for wrong in ("onnx", "engine=", "engine=onnx,"):
        with pytest.raises(BadInput, match="--against takes KEY=VALUE"):
            candidates(settings, [wrong])


async def test_names_tell_the_candidates_apart_and_the_table_has_a_column_for_each() -> None:
    figures = await compare([echo(ms_per_token=0), echo(ms_per_token=0)], [10], lambda doing: None)
    assert labels(figures) == ["1. echo on none", "2. echo on none"]
    rows = to_text(figures).splitlines()
    assert rows[0].split() == ["engine", "echo", "echo"]
    assert len({len(row) for row in rows}) == 1


async def test_the_picture_shows_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "phi-ls[bench]"')
    picture(tmp_path / "curves.png", await compare([echo(ms_per_token=0)], [10, 20], lambda doing: None))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def phi_ls(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command: Sequence[str | Path] = [sys.executable, "-P", "-m", "phi_server", *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, encoding="utf-8", timeout=120, check=False)


@pytest.mark.skipif(not EMBEDDED_FOLDER.is_dir(), reason="this checkout has no embedded model")
@pytest.mark.slow
def test_real_engines_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    pytest.importorskip("onnxruntime_genai", reason="ONNX Runtime GenAI is not installed")
    pytest.importorskip("onnx", reason="the package onnx, which the model is written with, is not installed")
    from onnx_model import write_onnx_folder

    write_onnx_folder(EMBEDDED_FOLDER, tmp_path / "nano-onnx")
    done = phi_ls("bench", "--model", "embedded", "--against", f"model={tmp_path / 'nano-onnx'}", "--lengths", "32,256", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["candidates"]
    assert [each["engine"] for each in found] == ["openvino", "onnx"]
    for each in found:
        short, long = each["lengths"]
        assert (short["prompt_tokens"], long["prompt_tokens"]) == (32, 256)
        assert min(short["first_token_ms"], long["first_token_ms"], long["token_ms"], *each["keys"]["added_ms"].values()) > 0
        assert 50_000_000 < each["peak_memory_bytes"] < 2_000_000_000


@pytest.mark.parametrize("lengths", ["0", "32,x", ""])
def test_lengths_that_are_none_are_refused(lengths: str) -> None:
    done = phi_ls("bench", "--lengths", lengths, "--engine", "echo")
    assert done.returncode == 2
    assert "--lengths" in done.stderr
