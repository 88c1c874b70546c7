"""The embedded model made again at toy scale: every stage, from the corpus to the model card, and the preset for a GPU for a few steps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from phi_backends.client import Client
from phi_backends.messages import Load

TRAINING = Path(__file__).resolve().parents[2] / "training"
STEPS, TOKENS_A_STEP = 12, 1024


def phi_train(stage: str, work: Path, *options: str) -> None:
    command = [sys.executable, "-m", "phi_train", stage, "--work", str(work), *options]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TRAINING)}, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr[-4000:]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    phi_train("all", folder, "--toy")
    return folder


def test_the_folder_has_all_that_ships(work: Path) -> None:
    names = {file.name for file in (work / "model").iterdir()}
    assert {"openvino_model.xml", "openvino_model.bin", "tokenizer.json", "config.json", "NOTICE", "MODEL_CARD.md"} <= names
    card = (work / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "from a probability of" in card and "{" not in card.replace("{key", "").split("## Samples")[0]


def test_it_has_learnt_something_and_int8_loses_next_to_nothing(work: Path) -> None:
    facts = json.loads((work / "evaluation.json").read_text(encoding="utf-8"))
    curve = facts["training"]["held_out_bits_per_byte"]
    assert curve[-1]["bits_per_byte"] < 5.0, "an untrained model needs more than 5 bits for a byte"
    assert abs(facts["bits_per_byte"]["int8"] - facts["bits_per_byte"]["fp32"]) < 0.05


def test_what_ships_is_measured_at_every_cursor(work: Path) -> None:
    facts = json.loads((work / "evaluation.json").read_text(encoding="utf-8"))
    best = facts["next_line"]
    assert best["cursors"] == facts["precision"]["cursors"] == 16
    assert max(best["model"], best["copy"]) <= best["either"] + 1e-9
    shown = [row["ships_shown"] for row in facts["gate"]]
    assert shown == sorted(shown, reverse=True)


async def said(engine: str, folder: Path) -> tuple[str, float]:
    """The first piece of an answer, and its probability."""
    client = Client(Load(engine, str(folder), "CPU"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        await client.loaded()
        with client.generate(("import os\n\n\ndef f(self",), max_tokens=4) as generation:
            piece = await anext(generation)
        tasks.cancel_scope.cancel()
    return piece.text, piece.probability or 0.0


def test_the_onnx_folder_says_the_same(work: Path) -> None:
    text, probability = anyio.run(said, "openvino", work / "model")
    same_text, same_probability = anyio.run(said, "onnx", work / "model-onnx")
    assert same_text == text
    assert same_probability == pytest.approx(probability, abs=0.05)


def test_the_preset_for_a_gpu_trains(work: Path, tmp_path: Path) -> None:
    for name in ("rows-512.npy", "rows-1024.npy", "rows-held-out.npy", "tokenizer.json"):
        shutil.copy(work / name, tmp_path)
    sizes = ("--tokens", str(STEPS * TOKENS_A_STEP), "--tokens-a-step", str(TOKENS_A_STEP), "--tokens-a-pass", str(TOKENS_A_STEP))
    phi_train("train", tmp_path, "--preset", "small", "--workers", "1", *sizes)
    log = [json.loads(line) for line in (tmp_path / "train-log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["step"] == STEPS
    assert log[-1]["held_out_bits_per_byte"] < log[0]["held_out_bits_per_byte"] or len(log) == 1
