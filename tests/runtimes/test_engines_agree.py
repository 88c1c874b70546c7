"""The same weights in f32, the same prompts, and the same greedy tokens from every engine: those that transformers itself gives.

In f32 everywhere but on the NPU's ways, which compute in f16 whatever they are given: close enough for these tokens, not for all. Also:
that a key costs less than its prompt, measured on each.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from engine_steps import go_on

from phi_backends.client import Client
from phi_backends.elsewhere import is_installed, runtimes_folder
from phi_backends.engine import Engine, TokenSequence
from phi_backends.messages import Load
from phi_backends.model_folder import EMBEDDED_FOLDER
from phi_backends.tokenizer import FolderTokenizer
from phi_prompts.prompt import Control, Prompt

TOKENS = 24
CODES = (
    "import os\nimport sys\n\n\ndef main(argv):\n    for path in argv:\n        with open(path) as file:\n            print(",
    'class Reader:\n    """Reads records from a file."""\n\n    def __init__(self, path, encoding="utf-8"):\n        self.path =',
    "def test_sum():\n    assert sum([1, 2, 3]) == 6\n\n\ndef test_",
)
EXACT: dict[str, Any] = {"inference_precision": "f32", "kv_cache_precision": "f32"}


def prompt_of(code: str) -> Prompt:
    return (Control("<|user|>"), "\nComplete a.py\n", Control("<|end|>"), "\n", Control("<|assistant|>"), "\n" + code)


def ids_of(tokenizer: Any, prompt: Prompt) -> list[int]:
    ids: list[int] = []
    for part in prompt:
        ids += [tokenizer.control_id(part.token)] if isinstance(part, Control) else tokenizer.encode(str(part))
    return ids


@pytest.fixture(scope="module")
def expected(original: Path) -> list[list[int]]:
    """What transformers says behind each of CODES."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(str(original))
    tokenizer = FolderTokenizer(original)
    answers = []
    for code in CODES:
        ids = torch.tensor([ids_of(tokenizer, prompt_of(code))])
        generated = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, eos_token_id=None)
        answers.append(generated[0, ids.shape[1] :].tolist())
    return answers


def load_openvino(original: Path, exported: Path, folder: Path) -> Engine:
    from phi_backends.engines import openvino

    return openvino.load(str(exported), "CPU", {**EXACT}, lambda stage: None)


def load_npu_on_cpu(original: Path, exported: Path, folder: Path) -> Engine:
    from test_engines import NPU_ON_CPU

    from phi_backends.engines.openvino_device import Device, OpenVinoOptions
    from phi_backends.engines.openvino_npu import load
    from phi_backends.model_folder import find

    device, options = Device("NPU", "a test"), OpenVinoOptions(cache_dir="off")
    return load(find(str(exported)), 1024, device, options, lambda stage: None, NPU_ON_CPU)


def load_optimum(original: Path, exported: Path, folder: Path) -> Engine:
    from phi_backends.engines import optimum

    return optimum.load(str(exported), "CPU", {**EXACT, "performance_hint": "LATENCY", "num_streams": 1}, lambda stage: None)


def load_optimum_original(original: Path, exported: Path, folder: Path) -> Engine:
    from phi_backends.engines import optimum

    return optimum.load(str(original), "AUTO", {**EXACT, "weights": "fp32"}, lambda stage: None)


def load_onnx(original: Path, exported: Path, folder: Path) -> Engine:
    from onnx_model import write_onnx_folder

    from phi_backends.engines import onnx

    write_onnx_folder(EMBEDDED_FOLDER, folder / "onnx")
    return onnx.load(str(folder / "onnx"), "CPU", {}, lambda stage: None)


ENGINES: dict[str, Callable[[Path, Path, Path], Engine]] = {
    "openvino on CPU": load_openvino,
    "openvino on NPU, emulated": load_npu_on_cpu,
    "optimum on CPU": load_optimum,
    "optimum on CPU, from original weights": load_optimum_original,
    "onnx on CPU": load_onnx,
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, original: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = ENGINES[request.param](original, exported, tmp_path_factory.mktemp("model"))
    yield engine
    engine.close()


@pytest.mark.parametrize("number", range(len(CODES)))
def test_the_same_tokens(engine: Engine, expected: list[list[int]], number: int) -> None:
    sequence = engine.open()
    sequence.append(ids_of(engine.tokenizer, prompt_of(CODES[number])))
    assert go_on(sequence, TOKENS) == expected[number]
    sequence.close()


def test_a_key_costs_less_than_its_prompt(engine: Engine, record_property: Callable[[str, object], None]) -> None:
    text = engine.tokenizer.encode("\n\n".join(CODES) * 20)[:896]
    sequence = engine.open()
    cold_s = _seconds(sequence, text)
    keys_s = []
    for _ in range(5):
        sequence.rewind(len(text))
        keys_s.append(_seconds(sequence, text[:1]))
        sequence.append([sequence.next().id])
        go_on(sequence, 4)  # a suggestion, which nobody takes
    sequence.close()
    ratio = sorted(keys_s)[2] / cold_s
    record_property("a key, of its prompt", f"{ratio:.3f}")
    print(f"\n{engine.info.engine} on {engine.info.device}: a key costs {ratio:.3f} of its prompt ({1000 * cold_s:.0f} ms)")
    assert ratio < 0.5


def _seconds(sequence: TokenSequence, ids: list[int]) -> float:
    """To the first token behind `ids`."""
    started = time.perf_counter()
    sequence.append(ids)
    sequence.next()
    return time.perf_counter() - started


def through_the_engine_process(load: Load) -> tuple[Any, list[str]]:
    """What is said of the engine, and its answers to CODES. The last is asked again, and then costs one token of prefill."""

    async def ask() -> tuple[Any, list[str]]:
        client, answers = Client(load), []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            loaded = await client.loaded()
            for code in CODES:
                text = ""
                with client.generate(prompt_of(code), max_tokens=TOKENS) as generation:
                    async for piece in generation:
                        text += piece.text
                answers.append(text)
            with client.generate(prompt_of(CODES[-1]), max_tokens=1) as generation:
                async for _ in generation:
                    pass
            assert generation.done is not None
            assert generation.done.timings.reused_tokens == generation.done.timings.prompt_tokens - 1
            tasks.cancel_scope.cancel()
        return loaded, answers

    return anyio.run(ask)


def as_texts(original: Path, expected: list[list[int]]) -> list[str]:
    """As an answer is told: up to the first token that ends it."""
    tokenizer = FolderTokenizer(original)
    ends = [next((at for at, id in enumerate(ids) if id in tokenizer.stop_ids), len(ids)) for ids in expected]
    return [tokenizer.decode(ids[:end]) for ids, end in zip(expected, ends, strict=True)]


@pytest.mark.deep
def test_the_same_text_from_intel_npu(original: Path, expected: list[list[int]]) -> None:
    """In the environment that `phi-ls runtimes` made, started as an editor has it started."""
    if not is_installed("intel-npu"):
        pytest.skip(f"nobody has installed it in {runtimes_folder()}: phi-ls runtimes install intel-npu (test_engines_intel_npu.py does)")
    loaded, answers = through_the_engine_process(Load("intel-npu", str(original), "auto", {"weights": "fp16"}))
    assert (loaded.engine, loaded.device) in (("intel-npu", "NPU"), ("intel-npu", "CPU"))
    if loaded.device == "CPU":
        assert "no NPU and has fallen back to the CPU" in loaded.reason
    assert answers == as_texts(original, expected)


@contextmanager
def llama_server(folder: Path) -> Iterator[str]:
    """llama-cpp-python's server with the same weights. Its build takes nine minutes, once."""
    from onnx_model import weights
    from runtime_environments import environment

    python = environment("llama", "llama-cpp-python[server]==0.3.36", "gguf==0.19.0")
    matrices, norms = weights(EMBEDDED_FOLDER)
    arrays: dict[str, Any] = {**matrices, **{f"norm.{at}": norm for at, norm in enumerate(norms)}}
    np.savez(folder / "weights.npz", **arrays)
    write = "import sys; from pathlib import Path; from gguf_model import write_gguf; write_gguf(*map(Path, sys.argv[1:]))"
    settings = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([python, "-c", write, EMBEDDED_FOLDER, folder / "weights.npz", folder / "model.gguf"], env=settings, check=True)
    command: list[str | Path] = [python, "-m", "llama_cpp.server", "--model", folder / "model.gguf", "--n_ctx", "1024", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield next(line for line in process.stderr if "running on" in line).partition("running on ")[2].split()[0] + "/v1"
        finally:
            process.kill()


@pytest.mark.deep
def test_the_same_text_from_a_real_server(original: Path, expected: list[list[int]], tmp_path: Path) -> None:
    with llama_server(tmp_path) as url:
        loaded, answers = through_the_engine_process(Load("remote", "embedded", "auto", {"url": url, "context_tokens": 1024}))
    assert loaded.reason.endswith("on this machine")
    for answer, text in zip(answers, as_texts(original, expected), strict=True):
        assert answer.startswith(text[: len(answer)])  # its pieces are counted as tokens, and some are shorter
        assert len(answer) > len(text) / 3
