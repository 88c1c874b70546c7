"""`auto` with real engines: one process completes and another explains, what is not used is measured, and a fallback is told.

The second model is the embedded one, written as ONNX and said to be as wide as Phi-3, so that it counts as one that follows instructions.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from server_process import INLINE, URI, at, between, state

from phi_backends import measurements, model_folder
from phi_backends.client import Client
from phi_backends.measurements import Measurement
from phi_backends.messages import Load, Loaded
from phi_backends.model_folder import EMBEDDED_FOLDER, find
from phi_server import doctor, lsp_client
from phi_server.lsp_client import LspClient
from phi_server.settings import Settings

pytest.importorskip("openvino", reason="OpenVINO is not installed")
pytest.importorskip("onnxruntime_genai", reason="ONNX Runtime GenAI is not installed")
pytest.importorskip("onnx", reason="the package onnx, which the model is written with, is not installed")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(not EMBEDDED_FOLDER.is_dir(), reason="the embedded model is not in this checkout"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of processes that find the second model, `phi`; this process finds it too."""
    from onnx_model import write_onnx_folder

    environment = {variable: str(tmp_path) for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME")}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    model_folder.models_folder().mkdir(parents=True)
    target = model_folder.models_folder() / "phi"
    write_onnx_folder(EMBEDDED_FOLDER, target)
    config = json.loads((target / "genai_config.json").read_text())
    config["model"]["decoder"]["hidden_size"] = 3072
    (target / "genai_config.json").write_text(json.dumps(config))
    return environment


@asynccontextmanager
async def serving(environment: dict[str, str], **settings: Any) -> AsyncIterator[LspClient]:
    async with await LspClient.spawn([sys.executable, "-P", "-m", "phi_server", "serve"], env=environment) as client:
        settings = {"debounce_ms": 0, "power": "full", "min_probability": 0, "unload_after_s": 5, **settings}
        await client.initialize({"capabilities": INLINE, "initializationOptions": settings})
        yield client


async def test_one_engine_completes_another_explains_and_what_is_measured_while_they_are_unused_is_used(
    caches: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lsp_client, "TIMEOUT_S", 120)  # three models are loaded while the server waits
    async with serving(caches) as client:
        told = await state(client, "ready")
        assert (told["engine"], told["model"]) == ("openvino", "phi-ls-nano")
        assert "phi was not measured yet (phi-ls doctor --measure)" in told["reason"]
        assert "Explanations and edits: phi is loaded when it is first needed" in told["detail"]
        await client.open(URI, "import os\n\n\ndef names(folder):\n    return os.")
        explained = await client.request(
            "workspace/executeCommand", {"command": "phi-ls.explain", "arguments": [{"uri": URI, "range": between(3, 4)}]}
        )
        assert (explained["engine"], explained["model"]) == ("onnx", "phi")
        told = await client.request("workspace/executeCommand", {"command": "phi-ls.status"})
        assert "Explanations and edits: phi runs on CPU with onnx" in told["detail"]
        assert told["work"]["answer"]["requests"] == 1
        with anyio.fail_after(120):
            while {each.engine for each in measurements.read()} != {"openvino", "onnx"}:  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.1)
        await client.request("textDocument/inlineCompletion", {**at(4, 14), "context": {"triggerKind": 1}})
        told = await client.notification("phi-ls/status", lambda told: told["state"] == "ready" and "measured here" in told["reason"])
    found = {each.engine: each for each in measurements.read()}
    assert not any(each.failed for each in found.values())
    if found["onnx"].suggestion_ms <= 1000:  # as everywhere but on a machine that does much else
        assert (told["engine"], told["model"]) == ("onnx", "phi")
        assert told["reason"].startswith("measured here: a suggestion takes ")


async def test_what_was_fastest_and_does_not_load_any_more_is_told_with_what_is_used_instead(caches: dict[str, str]) -> None:
    folder = find("phi")
    known = Measurement("onnx", str(folder.path), "DML", measurements.conditions("onnx", folder), "a driver", first_token_ms=9, token_ms=1)
    measurements.add(known)
    loaded = await load(Load("auto", "auto", "auto"))
    assert (loaded.engine, loaded.model) == ("openvino", "phi-ls-nano")
    assert loaded.reason.startswith("phi with onnx on DML failed (The installed onnxruntime-genai was built without DirectML.")
    assert (await load(Load("auto", "phi", "auto"))).device == "CPU"


async def load(wanted: Load) -> Loaded:
    client = Client(wanted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        loaded = await client.loaded()
        tasks.cancel_scope.cancel()
    return loaded


async def test_doctor_measures_the_candidates_and_tells_them(caches: dict[str, str]) -> None:
    steps: list[str] = []
    before = await doctor.examine(Settings(), steps.append)
    assert [(each["model"], each["engine"], each["device"], each["measured"]) for each in before["candidates"]] == [
        ("embedded", "openvino", "CPU", None),
        ("phi", "onnx", "CPU", None),
    ]
    assert before["answers"]["model"] == "phi"
    assert "not measured yet" in doctor.to_text(before)
    assert "phi-ls doctor --measure" in doctor.to_text(before)
    after = await doctor.examine(Settings(), steps.append, measures=True)
    assert "Measuring phi with onnx on CPU" in steps
    for each in after["candidates"]:
        assert 0 < each["suggestion_ms"] < each["answer_ms"]
        assert each["measured"]["peak_memory_bytes"] > 50_000_000
    assert "not measured yet" not in doctor.to_text(after)
    again = await doctor.examine(Settings(model="phi"), steps.append, measures=True)
    assert again["engine"]["reason"].startswith("measured here: a suggestion takes ")
    assert steps.count("Measuring phi with onnx on CPU") == 1


async def test_a_model_that_does_not_load_is_measured_once_and_told(caches: dict[str, str]) -> None:
    (find("phi").path / "tokenizer.json").write_text("{")
    report = await doctor.examine(Settings(), lambda doing: None, measures=True)
    (broken,) = [each for each in report["candidates"] if each["model"] == "phi"]
    assert broken["problem"].startswith("It failed when it was measured: ")
    assert "tokenizer.json" in broken["problem"]
    assert report["ready"]
