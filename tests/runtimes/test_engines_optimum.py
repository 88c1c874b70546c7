"""What is the optimum engine's own: devices, options, broken folders, the two ways of going back, and that it connects to nobody."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_steps import go_on
from test_no_network import run_watched

from phi_backends.auto import choose_engine
from phi_backends.engines import optimum, optimum_sequences
from phi_backends.errors import BadInput, EngineError, EngineFull, ModelError

EXACT = {"inference_precision": "f32", "kv_cache_precision": "f32"}


def load(folder: Path, device: str = "CPU", **options: Any) -> Any:
    return optimum.load(str(folder), device, options, lambda stage: None)


@pytest.fixture(scope="module")
def engine(exported: Path) -> Any:
    return load(exported, **EXACT, context_tokens=256, sequences=2)


@pytest.mark.parametrize(
    ("device", "options", "message"),
    [
        ("NPU", {}, r"no language models on the NPU\. Choose the engine openvino"),
        ("TPU", {}, r'no device "TPU" here\. .*CPU \('),
        ("CPU", {"streams": 2}, r'The optimum engine has no option "streams"\. Its options are performance_hint, num_streams, cache_dir'),
        ("CPU", {"performance_hint": "FAST"}, r"performance_hint is one of LATENCY, THROUGHPUT"),
        ("CPU", {"weights": "int3"}, r"weights is one of fp32, int8, int4"),
    ],
)
def test_bad_input_is_answered_with_what_there_is(exported: Path, device: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(exported, device, **options)


def _cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:1000])


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_remove("model.safetensors"), r"neither original weights .*Fetch the model whole"),
        (_cut("model.safetensors"), r"cannot be loaded on CPU \(.+\)\. Fetch the model again, whole"),
        (_remove("config.json"), r"holds neither config\.json"),
        (_cut("tokenizer.json"), r"tokenizer\.json\" cannot be read"),
        (_remove("tokenizer.json"), r"no tokenizer\.json"),
    ],
)
def test_a_broken_folder_is_named_with_the_remedy(original: Path, tmp_path: Path, harm: Callable[[Path], object], message: str) -> None:
    copy = shutil.copytree(original, tmp_path / "model")
    harm(copy)
    with pytest.raises(ModelError, match=message):
        load(copy)


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="There is no model folder"):
        load(Path("/no/such/folder"))


def test_the_context_and_the_empty_prompt(engine: Any) -> None:
    sequence = engine.open()
    with pytest.raises(EngineError, match="append one first"):
        sequence.next()
    with pytest.raises(EngineError, match="longer than the context of 256 tokens"):
        sequence.append([5] * 257)
    sequence.append([5] * 256)
    assert sequence.next().id >= 0
    sequence.close()


def test_as_many_sequences_as_were_asked_for(engine: Any) -> None:
    first, second = engine.open(), engine.open()
    with pytest.raises(EngineFull):
        engine.open()
    first.close()
    engine.open().close()
    second.close()


def test_little_is_hidden_and_much_is_cut_out(engine: Any) -> None:
    ids = engine.tokenizer.encode("def add(a, b):\n    return a + b\n" * 30)[:200]
    sequence = engine.open()
    sequence.append(ids)
    expected = go_on(sequence, 6)
    states = []
    for length in (195, 150, 100, 1):
        sequence.rewind(length)
        sequence.append(ids[length:])
        states.append(len(sequence._visible))
        assert go_on(sequence, 6) == expected
    # 205 tokens; 10 hidden; 50 + 5 more would be 65, so what is hidden is cut out first; and so on.
    assert states[0] == 210
    assert max(states) <= 200 + optimum_sequences.HIDDEN_TOKENS + 5
    sequence.close()


def test_original_weights_say_what_they_cost(original: Path) -> None:
    info = load(original, "AUTO", weights="int4").info
    assert "no GPU was found, so the CPU is used" in info.reason or info.device != "CPU"
    assert info.reason.endswith("converted at each start, which `phi-ls models convert` does once")


def test_auto_takes_it_for_original_weights_alone(original: Path, exported: Path) -> None:
    engine, reason = choose_engine(str(original))
    assert engine == "optimum"
    assert reason.startswith("these are original weights")
    assert choose_engine(str(exported))[0] == "openvino"


def test_loading_connects_to_nobody(original: Path, tmp_path: Path) -> None:
    """Importing optimum, transformers and nncf, converting and compressing: no connection, and no identifier in the user's folders."""
    script = f"from phi_backends.engines.optimum import load; load({str(original)!r}, 'CPU', {{'weights': 'int4'}}, lambda stage: None)"
    assert run_watched(tmp_path, "-c", script) == ""
