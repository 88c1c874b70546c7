"""What is the ONNX engine's own: agreement with OpenVINO, genuine configurations, the two ways to drive a generator, devices, errors.

The model is the embedded one, written as ONNX (onnx_model.py). Nothing here needs Windows: DirectML's folders and its way of being
driven are tried on the CPU.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from engine_steps import go_on

from phi_backends.auto import choose_engine
from phi_backends.client import Client
from phi_backends.errors import BadInput, EngineError, EngineFull, EngineMissing, ModelError
from phi_backends.messages import Load
from phi_backends.model_folder import EMBEDDED, find

pytest.importorskip("onnxruntime_genai", reason="ONNX Runtime GenAI is not installed")
onnx = pytest.importorskip("onnx", reason="the package onnx, which the model is written with, is not installed")
pytest.importorskip("openvino", reason="OpenVINO, from whose model the weights are taken, is not installed")
engine_module = pytest.importorskip("phi_backends.engines.onnx")
SHARED = Path(__file__).parents[2] / "shared" / "phi3"
PROMPT = "import os\nimport sys\n\n\ndef main(argv):\n    for path in argv:\n        with open(path) as file:\n            print("


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By what they were made for."""
    from onnx_model import write_onnx_folder

    try:
        source = find(EMBEDDED).path
    except ModelError as error:
        pytest.skip(str(error))
    made = {provider: tmp_path_factory.mktemp("onnx") / (provider or "cpu") for provider in ("", "dml", "cuda")}
    for provider, folder in made.items():
        write_onnx_folder(source, folder, provider=provider)
    return made


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the model folder, to be broken."""
    return shutil.copytree(folders[""], tmp_path / "model")


def load(folder: Path, device: str = "CPU", **options: Any) -> Any:
    return engine_module.load(str(folder), device, options, lambda stage: None)


def test_it_says_what_openvino_says(folders: dict[str, Path]) -> None:
    """In f32 throughout: by itself, OpenVINO rounds activations to 8 bits where the weights have 8 (a probability of 0.2048 for 0.2121)."""
    import openvino as ov

    engine = load(folders[""], threads=1)
    prompt = engine.tokenizer.encode(PROMPT)
    properties = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    request = ov.Core().compile_model(find(EMBEDDED).path / "openvino_model.xml", "CPU", properties).create_infer_request()
    ids, probabilities = list(prompt), []
    for past in (0, *range(len(prompt), len(prompt) + 31)):
        inputs = {
            "input_ids": np.array([ids[past:]], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(past, len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        logits = request.infer(inputs)[0][0, -1]
        probabilities.append(float(1 / np.exp(logits - logits.max()).sum()))
        ids.append(int(logits.argmax()))
    sequence = engine.open()
    sequence.append(prompt)
    assert sequence.next().probability == pytest.approx(probabilities[0], rel=1e-3)
    assert go_on(sequence, 32) == ids[len(prompt) :]


@pytest.mark.parametrize(("name", "trained_tokens"), [("ort-phi3-mini-4k-cpu-int4", 4096), ("ort-phi3-mini-128k-cpu-int4", 131072)])
def test_the_folders_that_microsoft_publishes_are_understood(tmp_path: Path, name: str, trained_tokens: int) -> None:
    if not SHARED.is_dir():
        pytest.skip("the genuine genai_config.json of Phi-3 (../shared/phi3) is not here")
    shutil.copy(SHARED / "configs" / name / "genai_config.json", tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHARED / "tokenizer" / file, tmp_path)
    (tmp_path / json.loads((tmp_path / "genai_config.json").read_text())["model"]["decoder"]["filename"]).touch()
    folder = find(str(tmp_path))
    config = engine_module.read_config(folder)
    assert (folder.context_tokens, folder.chat_format, folder.templates) == (trained_tokens, "phi3", "phi3")
    assert choose_engine(str(tmp_path)) == ("onnx", "the model is in the format of ONNX Runtime GenAI")
    assert config.context_tokens == 4096  # the 128k model is not used past the edge of its rescaling
    assert config.end_ids == {32000, 32001, 32007}
    assert config.providers == ()
    assert config.token_bytes == 2 * 4 * 32 * 96 * 32
    assert engine_module.FolderTokenizer(tmp_path).stop_ids >= {32000, 32001, 32007}


@pytest.mark.parametrize(
    ("asked", "made_for", "has_directml", "device", "reason"),
    [
        ("AUTO", (), False, "CPU", "the model was made for the CPU"),
        ("auto", ("dml",), True, "DML", "the model was made for DirectML"),
        (
            "",
            ("dml",),
            False,
            "CPU",
            "the model was made for DirectML, without which this package was built, so the CPU is used. On Windows",
        ),
        ("AUTO", ("cuda",), False, "CPU", "the model was made for cuda, which phi-ls does not use, so the CPU is used"),
        ("cpu", ("dml",), True, "CPU", "CPU was asked for"),
        ("dml", (), True, "DML", "DML was asked for"),
    ],
)
def test_which_device_is_chosen_and_why(asked: str, made_for: tuple[str, ...], has_directml: bool, device: str, reason: str) -> None:
    chosen = engine_module.choose_device(asked, made_for, has_directml)
    assert chosen.name == device
    assert chosen.reason.startswith(reason)


def test_a_device_that_is_not_there_is_refused_with_the_remedy(folders: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match=r'no device "NPU"\. Choose CPU, DML'):
        load(folders[""], "NPU")
    if not engine_module.og.is_dml_available():
        with pytest.raises(EngineMissing, match=r'built without DirectML\. On Windows, .*: pip install "phi-ls\[directml\]"'):
            load(folders[""], "DML")


def test_a_failing_directml_is_replaced_by_the_cpu_and_the_reason_told(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    if engine_module.og.is_dml_available():
        pytest.skip("this package has DirectML, which does not fail here")
    monkeypatch.setattr(engine_module, "choose_device", lambda *_: engine_module.Device("DML", "a test"))
    engine = load(folders[""], "AUTO")
    assert engine.info.device == "CPU"
    assert engine.info.reason.startswith("DirectML failed (ONNX Runtime cannot load the model")
    assert engine.info.reason.endswith("so the CPU is used")
    with pytest.raises(ModelError, match="DML provider requested"):
        load(folders[""], "DML")


@pytest.mark.parametrize("provider", ["dml", "cuda"])
def test_a_folder_made_for_another_device_runs_on_the_cpu(folders: dict[str, Path], provider: str) -> None:
    engine = load(folders[provider], "CPU")
    sequence = engine.open()
    sequence.append(engine.tokenizer.encode(PROMPT))
    assert sequence.next().probability > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"provider": "dml"}, r'The ONNX engine has no option "provider"\. Its options are threads, context_tokens, sequences'),
        ({"threads": -1}, r"threads is a whole number from 0 on, not -1"),
        ({"sequences": True}, r"sequences is a whole number from 0 on, not True"),
    ],
)
def test_bad_options_are_answered_with_what_there_is(folders: dict[str, Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(folders[""], **options)


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _cut(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return cut


def _change(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        config = json.loads((folder / "genai_config.json").read_text())
        change(config["model"])
        (folder / "genai_config.json").write_text(json.dumps(config))

    return write


def _without_its_data(folder: Path) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    onnx.save(model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
    (folder / "model.onnx.data").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_remove("model.onnx"), r"There is no model\.onnx in .*genai_config\.json names\. Fetch the model whole"),
        (_cut("model.onnx"), r"cannot load the model in .* on CPU \(.+\)\. Fetch it again, whole"),
        (_without_its_data, r"cannot load the model in .* on CPU \(.*model\.onnx\.data.*\)\. Fetch it again, whole; the file \.onnx\.data"),
        (_cut("genai_config.json"), r"genai_config\.json\" cannot be read .*Fetch or convert the model again"),
        (_change(lambda model: model.pop("decoder")), r"no genai_config\.json that describes a decoder.*Phi-3-mini-4k-instruct-onnx"),
        (_change(lambda model: model.pop("context_length")), r"no usable length of context \(None\)"),
        (_change(lambda model: model.update(vision={})), r"takes vision as well\. Give one that is for text alone"),
        (_remove("tokenizer.json"), r"There is no tokenizer\.json in .*Copy it from the model"),
        (_remove("genai_config.json"), r"holds neither config\.json nor genai_config\.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_folder_is_named_with_the_remedy(copy: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(copy)
    with pytest.raises(ModelError, match=message):
        load(copy)


def test_there_are_as_many_sequences_as_was_said(folders: dict[str, Path]) -> None:
    engine = load(folders[""], sequences=2)
    first, _second = engine.open(), engine.open()
    with pytest.raises(EngineFull):
        engine.open()
    first.close()
    first.close()
    engine.open()
    with pytest.raises(EngineFull):
        engine.open()


def test_without_memory_for_another_sequence_one_has_to_be_closed(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(folders[""])

    def no_memory(*_: Any) -> Any:
        raise RuntimeError("bad allocation")

    first = engine.open()
    monkeypatch.setattr(engine_module.og, "Generator", no_memory)
    with pytest.raises(EngineFull, match=r"no memory for a KV cache of \d+ tokens \(bad allocation\).*context_tokens or sequences"):
        engine.open()
    first.close()
    with pytest.raises(EngineError, match="no memory for a KV cache") as caught:
        engine.open()
    assert not isinstance(caught.value, EngineFull)


def test_the_context_can_be_made_shorter_and_not_longer(folders: dict[str, Path]) -> None:
    assert load(folders[""], context_tokens=128).info.context_tokens == 128
    assert load(folders[""], context_tokens=10**6).info.context_tokens == find(str(folders[""])).context_tokens


@pytest.mark.parametrize("grows_only", [False, True])
def test_a_token_that_there_is_not_fails_and_the_sequence_goes_on(folders: dict[str, Path], grows_only: bool) -> None:
    engine = load(folders[""])
    engine.grows_only = grows_only
    prompt = engine.tokenizer.encode(PROMPT)
    sequence = engine.open()
    sequence.append(prompt)
    expected = go_on(sequence, 4)
    with pytest.raises(EngineError, match="ONNX Runtime failed on CPU"):
        sequence.append([10**6])
        sequence.next()
    sequence.rewind(len(prompt) - 1)
    sequence.append(prompt[-1:])
    assert go_on(sequence, 4) == expected


def test_what_only_grows_runs_the_prompt_again_only_where_it_must(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load(folders[""])
    engine.grows_only = True
    whole_runs: list[int] = []
    make = engine.generator

    def counted() -> Any:
        whole_runs.append(1)
        return make()

    monkeypatch.setattr(engine, "generator", counted)
    prompt = engine.tokenizer.encode(PROMPT)
    sequence = engine.open()
    for start in range(0, len(prompt), 8):
        sequence.append(prompt[start : start + 8])  # in chunks, as the scheduler does
    sequence.next()
    assert len(whole_runs) == 1
    go_on(sequence, 12)  # an answer
    sequence.append(engine.tokenizer.encode("and more"))  # accepted and typed on
    sequence.next()
    assert len(whole_runs) == 1
    sequence.append([min(engine.end_ids)])  # the runtime would refuse to go on behind it
    sequence.next()
    assert len(whole_runs) == 2
    sequence.rewind(len(prompt))
    sequence.append(prompt[:2])
    sequence.next()
    assert len(whole_runs) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_auto_takes_the_engine_that_the_folder_is_made_for(folders: dict[str, Path]) -> None:
    client = Client(Load("auto", str(folders["dml"]), "auto"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        loaded = await client.loaded()
        tasks.cancel_scope.cancel()
    assert (loaded.engine, loaded.device) == ("onnx", "CPU")
    assert loaded.reason.startswith("the model is in the format of ONNX Runtime GenAI; the model was made for DirectML, without which")


def test_a_folder_for_both_engines_goes_to_the_one_that_is_there(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino_model.xml", "openvino_model.bin"):
        shutil.copy(find(EMBEDDED).path / name, copy)
    assert choose_engine(str(copy))[0] == "openvino"
    monkeypatch.setattr("phi_backends.auto.find_spec", lambda name: name == "onnxruntime_genai" or None)
    assert choose_engine(str(copy)) == ("onnx", "the model is in the format of ONNX Runtime GenAI too, and OpenVINO is not installed")


def test_original_weights_are_to_be_converted(copy: Path) -> None:
    (copy / "genai_config.json").unlink()
    shutil.copy(find(EMBEDDED).path / "config.json", copy)
    with pytest.raises(ModelError, match=r"in no format that phi-ls runs.*phi-ls models convert"):
        choose_engine(str(copy))
