"""What is the OpenVINO engine's own: agreement with OpenVINO's plain way to run the model, the pool of KV blocks, devices, errors."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine_steps import go_on

from phi_backends.engine import Options
from phi_backends.errors import BadInput, EngineError, EngineFull, ModelError, PhiError
from phi_backends.model_folder import EMBEDDED, find

ov = pytest.importorskip("openvino")
pytest.importorskip("tokenizers")
openvino = pytest.importorskip("phi_backends.engines.openvino")
PROMPT = "import os\nimport sys\n\n\ndef main(argv):\n    for path in argv:\n        with open(path) as file:\n            print("


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return find(os.environ.get("PHI_LS_TEST_MODEL", EMBEDDED)).path
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, to be broken."""
    return shutil.copytree(folder, tmp_path / "model")


def load(folder: Path, device: str = "CPU", **options: Any) -> Any:
    return openvino.load(str(folder), device, options, lambda stage: None)


def test_the_paged_model_says_what_the_plain_one_says(folder: Path) -> None:
    engine = load(folder, inference_precision="f32", kv_cache_precision="f32")
    prompt = engine.tokenizer.encode(PROMPT)
    plain = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"})
    request, ids = plain.create_infer_request(), list(prompt)
    for past in (0, *range(len(prompt), len(prompt) + 31)):
        new = ids[past:]
        inputs = {
            "input_ids": np.array([new], np.int64),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(past, len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        ids.append(int(request.infer(inputs)[0][0, -1].argmax()))
    sequence = engine.open()
    sequence.append(prompt)
    assert go_on(sequence, 32) == ids[len(prompt) :]


def test_the_way_to_a_text_does_not_matter(folder: Path) -> None:
    """The u8 cache rounds each token's keys and values alone, so typing, deleting and typing again leaves no trace."""
    engine = load(folder, inference_precision="f32")
    prompt = engine.tokenizer.encode(PROMPT * 5)[:100]
    at_once = engine.open()
    at_once.append(prompt)
    typed = engine.open()
    for length in range(0, 100, 4):  # by four, since up to three take another kernel, which rounds in another order
        typed.append(prompt[length : length + 4])
        typed.append(prompt[:5])
        typed.rewind(length + 4)
    typed.rewind(96)
    typed.append(prompt[96:])
    assert typed.next().probability == pytest.approx(at_once.next().probability, rel=1e-4)
    assert go_on(typed, 16) == go_on(at_once, 16)


def test_a_full_pool_refuses_and_loses_nothing(folder: Path) -> None:
    engine = load(folder, kv_tokens=128, inference_precision="f32")
    prompt = engine.tokenizer.encode(PROMPT)[:20]
    first, second = engine.open(), engine.open()
    first.append(prompt)
    expected = go_on(first, 4)
    first.rewind(len(prompt))
    first.append((prompt * 5)[:76])  # 96 tokens: three of the four blocks
    second.append(prompt)
    with pytest.raises(EngineFull):
        engine.open()
    with pytest.raises(EngineFull):
        second.append(prompt)
    assert len(second) == len(prompt)
    first.close()
    second.append(prompt)
    second.rewind(len(prompt) - 1)
    second.append(prompt[-1:])
    assert go_on(second, 4) == expected
    second.close()
    engine.open().append([prompt[0]] * 128)


def test_the_pool_holds_a_context_and_no_more_than_memory_allows(folder: Path) -> None:
    engine = load(folder)
    assert engine.kv_tokens >= engine.info.context_tokens
    assert load(folder, context_tokens=64).info.context_tokens == 64
    assert load(folder, context_tokens=10**6).info.context_tokens == engine.info.context_tokens


def test_a_pool_larger_than_memory_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match=r"no memory for a KV cache of \d+ tokens .*kv_tokens"):
        load(folder, kv_tokens=10**12)


@pytest.mark.parametrize(
    ("device", "options", "message"),
    [
        ("TPU", {}, r'no device "TPU" here\. .*CPU \('),
        ("GPU.7", {}, r'no device "GPU.7" here\. .*CPU \('),
        ("CPU", {"thread": 2}, r'no option "thread"\. Its options are threads, '),
        ("CPU", {"threads": "2"}, r"threads is a whole number from 0 on, not '2'"),
        ("CPU", {"threads": True}, r"threads is a whole number from 0 on, not True"),
        ("CPU", {"kv_tokens": -1}, r"kv_tokens is a whole number from 0 on, not -1"),
        ("CPU", {"kv_cache_precision": "u4"}, r"kv_cache_precision is one of u8, bf16, f16, f32, not 'u4'"),
        ("CPU", {"cache_dir": 1}, r"cache_dir is a text, not 1"),
    ],
)
def test_bad_input_is_answered_with_what_there_is(folder: Path, device: str, options: Options, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(folder, device, **options)


def _cut(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return cut


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _replace(name: str, text: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).write_text(text)

    return replace


def _without_a_cache(folder: Path) -> None:
    ids = ov.opset13.parameter([-1, -1], np.int64, "input_ids")
    ov.save_model(ov.Model([ov.opset13.convert(ids, "f32")], [ids], "no language model"), folder / "openvino_model.xml")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_cut("openvino_model.xml"), r"is broken \(.+\)\. Fetch or convert it again"),
        (_cut("openvino_model.bin"), r"is broken \(Incorrect weights in bin file\)\. Fetch or convert it again"),
        (_replace("openvino_model.xml", "version https://git-lfs.github.com/spec/v1\n"), r"is broken \(.+\)\. Fetch or convert it again"),
        (_remove("openvino_model.xml"), r"There is no openvino_model\.xml in .*optimum-cli export openvino"),
        (_remove("openvino_model.bin"), r"There is no openvino_model\.bin in .*optimum-cli export openvino"),
        (_remove("tokenizer.json"), r"There is no tokenizer\.json in .*Copy it from the model"),
        (_cut("tokenizer.json"), r"tokenizer\.json\" cannot be read .*Fetch or convert the model again"),
        (_replace("generation_config.json", "{"), r"generation_config\.json\" cannot be read"),
        (_without_a_cache, r"cannot be given a paged KV cache .*--task text-generation-with-past"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_folder_is_named_with_the_remedy(copy: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(copy)
    with pytest.raises(ModelError, match=message):
        load(copy)


def test_a_failing_gpu_is_replaced_by_the_cpu_and_the_reason_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = openvino.Device("GPU.7", "a test")
    monkeypatch.setattr(openvino, "choose_device", lambda *_: broken)
    engine = load(folder, "AUTO")
    assert engine.info.device == "CPU"
    assert engine.info.reason.startswith("GPU.7 failed (")
    assert engine.info.reason.endswith("so the CPU is used")
    with pytest.raises(PhiError):
        load(folder, "GPU.7")


def test_models_with_a_rescaled_context_stay_below_its_edge(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"max_position_embeddings": 131072, "original_max_position_embeddings": 96}
    (copy / "config.json").write_text(json.dumps(config))
    assert load(copy).info.context_tokens == 96


DEVICES = {
    "CPU": ("Some CPU", "INTEGRATED"),
    "GPU.0": ("Some built-in GPU", "Type.INTEGRATED"),
    "GPU.1": ("Some card", "Type.DISCRETE"),
    "NPU": ("Some NPU", "INTEGRATED"),
}


def fake_core(*names: str) -> Any:
    properties = ("FULL_DEVICE_NAME", "DEVICE_TYPE")
    return SimpleNamespace(available_devices=list(names), get_property=lambda device, name: DEVICES[device][properties.index(name)])


@pytest.mark.parametrize(
    ("found", "asked", "weights_gb", "device", "reason"),
    [
        (["CPU"], "AUTO", 2, "CPU", "no GPU was found, so the CPU is used"),
        (["CPU", "NPU"], "auto", 2, "CPU", "no GPU was found, so the CPU is used; the NPU takes only models that were made for it"),
        (["CPU", "GPU.0", "NPU"], "AUTO", 2, "GPU.0", "the fastest device that OpenVINO finds (Some built-in GPU)"),
        (["CPU", "GPU.0", "GPU.1"], "", 2, "GPU.1", "the fastest device that OpenVINO finds (Some card)"),
        (["CPU", "GPU.0"], "AUTO", 0.03, "CPU", "the model is so small (30 MB) that the CPU is used"),
        (["CPU", "GPU.0", "GPU.1"], "GPU", 2, "GPU", "GPU was asked for"),
        (["CPU", "GPU"], "gpu.0", 2, "GPU.0", "GPU.0 was asked for"),
        (["CPU", "NPU"], "NPU", 0.03, "NPU", "NPU was asked for"),
    ],
)
def test_which_device_is_chosen_and_why(found: list[str], asked: str, weights_gb: float, device: str, reason: str) -> None:
    chosen = openvino.choose_device(fake_core(*found), asked, int(weights_gb * 1e9))
    assert chosen.name == device
    assert chosen.reason.startswith(reason)


def test_a_model_that_was_made_for_the_npu_is_given_to_it() -> None:
    core = fake_core("CPU", "GPU.0", "NPU")
    assert openvino.choose_device(core, "AUTO", 2_000_000_000, True).name == "NPU"
    assert openvino.choose_device(core, "AUTO", 30_000_000, True).name == "CPU"
    assert openvino.choose_device(fake_core("CPU", "GPU.0"), "AUTO", 2_000_000_000, True).name == "GPU.0"
