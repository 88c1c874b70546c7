"""What `auto` takes: by what is here, and by what was measured. The folders hold no weights (their files are as large as such weights are);
the figures are made up; packages and devices are those of an AI PC."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phi_backends import auto, measurements, model_folder
from phi_backends.auto import candidates, choices, for_answers
from phi_backends.errors import ModelError
from phi_backends.measurements import Measurement
from phi_backends.messages import Load
from phi_backends.probe import missing_npu

GB = 1_000_000_000
FOUND: dict[str, Any] = {
    "packages": {"openvino-genai": "1"},
    "devices": [
        {"name": "CPU", "description": "a CPU", "driver": ""},
        {"name": "GPU", "description": "a GPU", "driver": "7"},
        {"name": "NPU", "description": "an NPU", "driver": "42"},
    ],
    "npu": "",
}
NOTES = '<weight_compression><mode value="{}" /><group_size value="{}" /><ratio value="1.0" /></weight_compression>'
Machine = Callable[..., None]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Empty caches, both runtimes, and the embedded model's folder; called with how much memory there is."""
    for module in (model_folder, measurements):
        monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(model_folder, "EMBEDDED_FOLDER", folder(tmp_path / "nano", hidden_size=256, size=8_000_000))
    monkeypatch.setattr(auto, "is_installed", lambda engine: True)

    def has(memory_gb: float) -> None:
        for module in (auto, measurements):
            monkeypatch.setattr(module, "machine_bytes", lambda: int(memory_gb * GB))

    has(16)
    return has


def folder(path: Path, *, hidden_size: int = 3072, size: int = 2 * GB, weights: tuple[str, str] = ("int4_asym", "128")) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096, "hidden_size": hidden_size}))
    template = "{% for m in messages %}<|user|>\n{{ m }}<|end|>\n<|assistant|>\n{% endfor %}"
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (path / "openvino_model.xml").write_text(NOTES.format(*weights))
    with (path / "openvino_model.bin").open("wb") as weights_file:
        weights_file.truncate(size)
    return path


def pulled(name: str, **how: Any) -> str:
    folder(model_folder.models_folder() / name, **how)
    return name


def measured(model: str, device: str, first_token_ms: float, token_ms: float, **more: Any) -> None:
    found = model_folder.find(model)
    driver = {"CPU": "a CPU, ", "GPU": "a GPU, 7", "NPU": "an NPU, 42"}[device]
    known = {"conditions": measurements.conditions("openvino", found), "driver": driver, **more}
    measurements.add(Measurement("openvino", str(found.path), device, **known, first_token_ms=first_token_ms, token_ms=token_ms))


AUTO = Load("auto", "auto", "auto")


def test_a_newcomer_gets_the_embedded_model_and_nothing_is_waited_for() -> None:
    (choice,) = choices(AUTO)
    assert (choice.engine, choice.model, choice.device) == ("openvino", "embedded", "auto")
    assert for_answers(AUTO) is None


def test_a_model_that_was_not_measured_explains_and_does_not_complete_yet() -> None:
    phi = pulled("phi")
    best = choices(AUTO)[0]
    assert best.model == "embedded"
    assert best.reason.startswith("phi was not measured yet (phi-ls doctor --measure)")
    answers = for_answers(AUTO)
    assert answers is not None
    assert choices(answers)[0].model == phi


def test_a_model_that_is_soon_enough_completes_and_a_slow_one_only_explains() -> None:
    phi = pulled("phi")
    measured(phi, "CPU", first_token_ms=2400, token_ms=110)
    assert choices(AUTO)[0].model == "embedded"
    assert choices(AUTO)[0].reason.startswith("phi takes 2.8 s for a suggestion here")
    assert for_answers(AUTO) is not None
    measured(phi, "GPU", first_token_ms=300, token_ms=50)
    best = choices(AUTO)[0]
    assert (best.model, best.device) == (phi, "GPU")
    assert best.reason == "the fastest of the 2 that were measured here: a suggestion takes 0.5 s"
    assert for_answers(AUTO) is None, "the same model on the same device does both"


def test_the_npu_is_preferred_while_it_is_fast_enough() -> None:
    phi = pulled("phi", weights=("int4_sym", "-1"))
    measured(phi, "GPU", first_token_ms=200, token_ms=40)
    measured(phi, "NPU", first_token_ms=600, token_ms=90)
    best = choices(AUTO)[0]
    assert best.device == "NPU"
    assert best.reason.startswith("the NPU is fast enough, as measured here (a suggestion takes 0.96 s)")
    measured(phi, "NPU", first_token_ms=900, token_ms=90)
    assert choices(AUTO)[0].device == "GPU"


def test_another_device_explains_where_that_pays_and_memory_holds_both(machine: Machine) -> None:
    phi = pulled("phi", weights=("int4_sym", "-1"))
    measured(phi, "NPU", first_token_ms=500, token_ms=100, peak_memory_bytes=4 * GB)
    measured(phi, "GPU", first_token_ms=300, token_ms=40, peak_memory_bytes=5 * GB)
    assert for_answers(AUTO) is None, "9 GB of 16"
    machine(32)
    for device, first_token_ms, token_ms, peak in (("NPU", 500, 100, 4), ("GPU", 300, 40, 5)):
        measured(phi, device, first_token_ms=first_token_ms, token_ms=token_ms, peak_memory_bytes=peak * GB)
    answers = for_answers(AUTO)
    assert answers is not None
    assert (choices(AUTO)[0].device, choices(answers)[0].device) == ("NPU", "GPU")
    measured(phi, "GPU", first_token_ms=300, token_ms=80, peak_memory_bytes=5 * GB)
    assert for_answers(AUTO) is None, "1.2 times as fast is not worth 5 GB"


def test_what_was_measured_under_other_conditions_or_failed_counts_for_nothing(machine: Machine) -> None:
    phi = pulled("phi")
    measured(phi, "GPU", first_token_ms=100, token_ms=20)
    machine(15)
    assert choices(AUTO)[0].model == "embedded"
    measured(phi, "GPU", first_token_ms=0, token_ms=0, failed="The driver says no.")
    assert choices(AUTO)[0].model == "embedded"
    measurements.file().write_text("no JSON")
    assert choices(AUTO)[0].model == "embedded"


def test_what_is_asked_for_by_name_is_taken() -> None:
    phi = pulled("phi")
    measured(phi, "GPU", first_token_ms=100, token_ms=20)
    measured(phi, "CPU", first_token_ms=2000, token_ms=100)
    assert choices(Load("auto", "embedded", "auto"))[0].model == "embedded"
    assert for_answers(Load("auto", "embedded", "auto")) is None
    best = choices(Load("openvino", phi, "CPU"))
    assert [(each.model, each.device, each.reason) for each in best] == [(phi, "CPU", "")]
    assert [each.device for each in choices(Load("auto", phi, "CPU"))] == ["CPU", "CPU"]
    assert choices(Load("auto", phi, "auto"))[0].device == "GPU"
    assert choices(Load("echo", "auto", "auto"))[0].engine == "echo"
    assert for_answers(Load("auto", "auto", "auto", {"threads": 1})) is None


def test_a_model_that_the_machine_does_not_hold_or_has_no_runtime_for_is_left_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled("phi")
    machine(6)
    assert {choice.model for choice in choices(AUTO)} == {"embedded"}
    machine(16)
    assert {choice.model for choice in choices(AUTO)} == {"embedded", "phi"}
    monkeypatch.setattr(auto, "is_installed", lambda engine: False)
    assert {choice.model for choice in choices(AUTO)} == {"embedded"}


def test_an_engine_that_is_asked_for_gets_a_model_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pulled("phi")
    onnx = model_folder.models_folder() / pulled("phi-onnx")
    (onnx / "openvino_model.xml").rename(onnx / "genai_config.json")
    (onnx / "genai_config.json").write_text(json.dumps({"model": {"context_length": 4096, "decoder": {"hidden_size": 3072}}}))
    assert {each.model for each in choices(Load("onnx", "auto", "auto"))} == {"phi-onnx"}
    assert {each.model for each in choices(Load("openvino", "auto", "auto"))} == {"phi", "embedded"}
    weights = model_folder.models_folder() / pulled("weights")
    (weights / "openvino_model.xml").rename(weights / "model.safetensors")
    assert [each.engine for each in choices(Load("auto", "weights", "auto"))] == ["optimum"]
    monkeypatch.setattr(auto, "is_installed", lambda engine: engine != "optimum")
    with pytest.raises(ModelError, match="phi-ls models convert"):
        choices(Load("auto", "weights", "auto"))
    missing = 'optimum-intel is not installed: pip install "phi-ls[optimum]"'
    assert problems("weights") == {("weights", "CPU"): missing, ("weights", "GPU"): missing}


def test_a_broken_folder_among_those_that_are_here_keeps_nothing_from_running() -> None:
    (model_folder.models_folder() / "broken").mkdir(parents=True)
    assert [choice.model for choice in choices(AUTO)] == ["embedded"]


def problems(*models: str, found: dict[str, Any] = FOUND) -> dict[tuple[str, str], str]:
    return {(each.model, each.device): each.problem for each in candidates(models, found)}


def test_candidates_are_told_with_what_keeps_them_from_running(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for_cpu, for_npu = pulled("phi"), pulled("phi-npu", weights=("int4_sym", "128"))
    told = problems("embedded", for_cpu, for_npu)
    assert [key for key, problem in told.items() if problem] == [(for_cpu, "NPU")]
    assert told[for_cpu, "NPU"].endswith("phi-ls models pull phi-3.5-mini-npu")
    without = {**FOUND, "devices": FOUND["devices"][:1], "npu": "Its driver is missing: install it."}
    assert problems(for_cpu, found=without) == {(for_cpu, "CPU"): ""}
    assert problems(for_npu, found=without) == {(for_npu, "CPU"): "", (for_npu, "NPU"): "Its driver is missing: install it."}
    machine(6)
    assert "needs about 5 GB of memory, of which this machine has 6" in problems(for_cpu)[for_cpu, "CPU"]
    monkeypatch.setattr(auto, "is_installed", lambda engine: False)
    assert problems("embedded") == {("embedded", "CPU"): 'OpenVINO is not installed: pip install "phi-ls[openvino]"'}
    assert "no model folder" in problems("nowhere")["nowhere", "-"]


def test_another_driver_is_a_reason_to_measure_again() -> None:
    phi = pulled("phi")
    measured(phi, "GPU", first_token_ms=100, token_ms=20)
    known = {each.device: each.measured is not None for each in candidates([phi], FOUND)}
    assert known == {"CPU": False, "GPU": True, "NPU": False}
    newer = {**FOUND, "devices": [{**device, "driver": "8"} for device in FOUND["devices"]]}
    assert not any(each.measured for each in candidates([phi], newer))
    measured(phi, "CPU", first_token_ms=0, token_ms=0, failed="Out of memory.")
    assert problems(phi)[phi, "CPU"] == "It failed when it was measured: Out of memory."


def test_why_there_is_no_npu_is_said_as_far_as_it_can_be_told(tmp_path: Path) -> None:
    assert "no NPU here" in missing_npu("linux", tmp_path / "none")
    (tmp_path / "accel0").touch()
    assert "driver is missing or too old" in missing_npu("linux", tmp_path)
    assert "newest NPU driver" in missing_npu("win32", tmp_path)
