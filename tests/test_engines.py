"""What every engine promises (phi_backends.engine), tested on every engine that can run here; the others are skipped with the reason.

They run the embedded model, or the folder named by PHI_LS_TEST_MODEL.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from engine_steps import go_on

from phi_backends.engine import CheckingSequence, Engine, ForkingSequence, Interrupted, InterruptibleEngine, Token
from phi_backends.errors import EngineError, ModelError
from phi_backends.messages import Cancel, Done, Failed, FromWorker, Generate, Text
from phi_backends.model_folder import EMBEDDED, find
from phi_backends.scheduler import Scheduler
from phi_prompts.prompt import Control, Prompt

MODEL = os.environ.get("PHI_LS_TEST_MODEL", EMBEDDED)
NPU_ON_CPU = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU"}
"""Runs the NPU's pipeline, its static shapes and its prefix cache included, on the CPU."""
CODE = '''import json


class Reader:
    """Reads records from a file, one a line."""

    def __init__(self, path, encoding="utf-8"):
        self.path = path
        self.encoding = encoding

    def read(self):
        with open(self.path, encoding=self.encoding) as lines:
            for line in lines:
                yield json.loads(line)

    def count(self):
        return sum(1 for record in self.'''
PROMPT: Prompt = (Control("<|user|>"), "\nComplete data/reader.py\n", Control("<|end|>"), "\n", Control("<|assistant|>"), "\n" + CODE)


def load_echo() -> Any:
    from phi_backends.engines import echo

    return echo.load("echo", "AUTO", {"context_tokens": 2048}, lambda stage: None)


def load_openvino(device: str) -> Engine:
    pytest.importorskip("tokenizers")
    runtime = pytest.importorskip("openvino")
    _model_or_skip()
    from phi_backends.engines import openvino

    if device not in (found := runtime.Core().available_devices):
        pytest.skip(f"no {device} here, only {', '.join(found)}")
    # In f32, so that rounding, which differs with the length of a chunk, tips no choice between two equally good tokens.
    engine: Engine = openvino.load(MODEL, device, {"inference_precision": "f32"}, lambda stage: None)
    return engine


def load_npu_on_cpu() -> Engine:
    pytest.importorskip("openvino_genai")
    _model_or_skip()
    from phi_backends.engines.openvino_device import Device, OpenVinoOptions
    from phi_backends.engines.openvino_npu import load

    device, options = Device("NPU", "a test"), OpenVinoOptions(cache_dir="off")
    return load(find(MODEL), 1024, device, options, lambda stage: None, NPU_ON_CPU)


def load_onnx(folder: Path, *, grows_only: bool) -> Engine:
    """`grows_only` drives the CPU as DirectML must be driven."""
    pytest.importorskip("onnxruntime_genai", reason="ONNX Runtime GenAI is not installed")
    pytest.importorskip("onnx", reason="the package onnx, which the model is written with, is not installed")
    _model_or_skip()
    from onnx_model import write_onnx_folder

    from phi_backends.engines import onnx, onnx_generators

    write_onnx_folder(find(MODEL).path, folder)
    engine = onnx.load(str(folder), "CPU", {}, lambda stage: None)
    assert isinstance(engine, onnx_generators.OnnxEngine)
    engine.grows_only = grows_only
    return engine


def load_remote(stack: ExitStack) -> Any:
    from completion_server import completion_server

    from phi_backends.engines import remote

    server = stack.enter_context(completion_server())
    return remote.load("embedded", "AUTO", {"url": server.url}, lambda stage: None)


ENGINES: dict[str, Callable[[Path, ExitStack], Engine]] = {
    "echo": lambda folder, stack: load_echo(),
    "openvino on CPU": lambda folder, stack: load_openvino("CPU"),
    "openvino on GPU": lambda folder, stack: load_openvino("GPU"),
    "openvino on NPU, emulated": lambda folder, stack: load_npu_on_cpu(),
    "onnx on CPU": lambda folder, stack: load_onnx(folder, grows_only=False),
    "onnx on DirectML, emulated": lambda folder, stack: load_onnx(folder, grows_only=True),
    "remote, from a server that is no model": lambda folder, stack: load_remote(stack),
}
"""By name; each is given a path for a model folder, and a stack for what must be ended after the engine."""


def _model_or_skip() -> None:
    try:
        find(MODEL)
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with ExitStack() as stack:
        engine = ENGINES[request.param](tmp_path_factory.mktemp("engine") / "model", stack)
        yield engine
        engine.close()


@pytest.fixture
def prompt(engine: Engine) -> list[int]:
    controls = [engine.tokenizer.control_id(token) for token in ("<|user|>", "<|end|>", "<|assistant|>")]
    user, end, assistant = controls
    encode = engine.tokenizer.encode
    return [user, *encode("\nComplete data/reader.py\n"), end, *encode("\n"), assistant, *encode("\n" + CODE)]


def answer(engine: Engine, prompt: list[int], tokens: int = 12) -> list[int]:
    sequence = engine.open()
    sequence.append(prompt)
    ids = go_on(sequence, tokens)
    sequence.close()
    return ids


def test_a_prompt_in_chunks_gives_the_same_answer(engine: Engine, prompt: list[int]) -> None:
    whole = answer(engine, prompt)
    for size in (1, 7, 32, 100):
        sequence = engine.open()
        for start in range(0, len(prompt), size):
            sequence.append(prompt[start : start + size])
        assert len(sequence) == len(prompt)
        assert go_on(sequence) == whole, f"chunks of {size} tokens"
        sequence.close()


def test_rewinding_forgets_what_came_after(engine: Engine, prompt: list[int]) -> None:
    whole = answer(engine, prompt)
    sequence = engine.open()
    sequence.append(prompt)
    for length in (len(prompt) - 1, len(prompt) - 20, 33, 32, 31, 1, 0):
        go_on(sequence)
        sequence.rewind(length)
        assert len(sequence) == length
        sequence.append(engine.tokenizer.encode("something else entirely, "))
        go_on(sequence, 3)
        sequence.rewind(length)
        sequence.append(prompt[length:])
        assert go_on(sequence) == whole, f"rewound to {length} of {len(prompt)} tokens"
        sequence.rewind(len(prompt))
        sequence.rewind(len(prompt) - 1)
        sequence.append(prompt[-1:])
    sequence.close()


def test_two_sequences_do_not_disturb_each_other(engine: Engine, prompt: list[int]) -> None:
    prompts = [prompt, prompt[: len(prompt) // 2]]
    alone = [answer(engine, one, 8) for one in prompts]
    sequences = [engine.open() for _ in prompts]
    for sequence, ids in zip(sequences, prompts, strict=True):
        sequence.append(ids)
    together: list[list[int]] = [[], []]
    for _ in range(8):
        for sequence, ids in zip(sequences, together, strict=True):
            ids.append(sequence.next().id)
            sequence.append(ids[-1:])
    assert together == alone
    for sequence in sequences:
        sequence.close()


def test_a_fork_goes_on_by_itself(engine: Engine, prompt: list[int]) -> None:
    whole = answer(engine, prompt)
    sequence = engine.open()
    if not isinstance(sequence, ForkingSequence):
        pytest.skip("sequences of this engine share no memory")
    sequence.append(prompt)
    for length in (len(prompt) - 1, 65, 64, 33, 1, 0):
        fork = sequence.fork(length)
        assert len(fork) == length
        fork.append(engine.tokenizer.encode("something else entirely, "))
        go_on(fork, 3)
        assert go_on(sequence) == whole, f"forked at {length} of {len(prompt)} tokens"
        sequence.rewind(len(prompt) - 1)
        sequence.append(prompt[-1:])
        fork.rewind(length)
        fork.append(prompt[length:])
        assert go_on(fork) == whole, f"forked at {length} of {len(prompt)} tokens"
        fork.close()
    fork = sequence.fork(40)
    sequence.close()
    fork.append(prompt[40:])
    assert go_on(fork) == whole
    fork.close()


def test_checking_several_tokens_gives_what_single_steps_give(engine: Engine, prompt: list[int]) -> None:
    whole = answer(engine, prompt)
    sequence = engine.open()
    if not isinstance(sequence, CheckingSequence):
        pytest.skip("this engine shows only what comes behind the last token")
    for right in (0, 1, 5, 11):
        sequence.rewind(0)
        sequence.append(prompt[:-1])
        wrong = engine.tokenizer.encode("something else entirely, ")[:3]
        checked = [token.id for token in sequence.check([prompt[-1], *whole[:right], *wrong])]
        assert checked[: right + 1] == whole[: right + 1]
        assert len(sequence) == len(prompt) + right + len(wrong)
        sequence.rewind(len(prompt) + right)
        sequence.append([whole[right]])
        assert [whole[right], *go_on(sequence, 11 - right)] == whole[right:]
    sequence.close()


PASSES = ((64, 1), (64, 1), (1, 1), (1, 1), (1, 1), (8, 8), (8, 8), (8, 1), (1, 1), (2, 1), (3, 3), (3, 1), (3, 1), (1, 1), (1, 1), (64, 1))
"""Forward passes: how many tokens, and behind how many of them the next one is wanted."""


def test_an_interrupted_pass_leaves_no_trace(engine: Engine, prompt: list[int]) -> None:
    """Another request comes in between, as it does in life, and the pass is run again."""
    if not isinstance(engine, InterruptibleEngine) or not engine.can_interrupt:
        pytest.skip("this engine cannot be stopped in a forward pass")
    sequence, urgent = engine.open(), engine.open()
    assert isinstance(sequence, CheckingSequence)
    urgent.append(prompt)

    def run_passes(within_s: float) -> tuple[list[Token], set[Token], int]:
        """The tokens behind the passes, those of the other request, and how many passes were interrupted."""
        found: list[Token] = []
        others: set[Token] = set()
        interrupted = 0
        sequence.rewind(0)
        for tokens, rows in PASSES:
            at = len(sequence)
            run = sequence.append if rows == 1 else sequence.check
            timer = threading.Timer(random.uniform(0, within_s), engine.interrupt)
            if within_s:
                timer.start()
            try:
                run((prompt * 3)[at : at + tokens])
            except Interrupted:
                interrupted += 1
                assert len(sequence) == at
            if within_s:
                timer.join()
            if len(sequence) == at or len(found) == len(PASSES) - 1:
                urgent.rewind(len(prompt) - 1)
                urgent.append(prompt[-1:])
                others.add(urgent.next())
            if len(sequence) == at:
                run((prompt * 3)[at : at + tokens])
            found.append(sequence.next())
        return found, others, interrupted

    undisturbed = run_passes(0)
    started = time.perf_counter()
    assert run_passes(0) == undisturbed
    within_s, interrupted = (time.perf_counter() - started) / len(PASSES), 0
    for _ in range(40):
        *found, times = run_passes(within_s)
        assert tuple(found) == undisturbed[:2]  # the probabilities to the last bit
        interrupted += times
    assert interrupted
    engine.interrupt()  # of nothing
    assert run_passes(0) == undisturbed
    sequence.close()
    urgent.close()


def test_a_closed_sequence_gives_its_memory_back(engine: Engine, prompt: list[int]) -> None:
    for _ in range(200):
        sequence = engine.open()
        sequence.append(prompt[:40])
        sequence.close()
        sequence.close()


def test_past_the_context_there_is_an_error_and_nothing_is_lost(engine: Engine, prompt: list[int]) -> None:
    whole = answer(engine, prompt)
    sequence = engine.open()
    sequence.append(prompt)
    with pytest.raises(EngineError, match=f"context of {engine.info.context_tokens} tokens"):
        sequence.append([prompt[0]] * (engine.info.context_tokens - len(prompt) + 1))
    assert len(sequence) == len(prompt)
    assert go_on(sequence) == whole
    sequence.close()


def test_the_context_can_be_filled_to_the_last_token(engine: Engine, prompt: list[int]) -> None:
    filler = (prompt * (engine.info.context_tokens // len(prompt) + 1))[: engine.info.context_tokens]
    sequence = engine.open()
    for start in range(0, len(filler), 512):
        sequence.append(filler[start : start + 512])
    assert len(sequence) == engine.info.context_tokens
    assert sequence.next().id >= 0
    sequence.close()


def test_probabilities_are_the_models_own(engine: Engine, prompt: list[int]) -> None:
    sequence = engine.open()
    sequence.append(prompt)
    token = sequence.next()
    if engine.can_choose:
        assert token.probability is not None
        assert 0 < token.probability <= 1
    else:
        assert token.probability is None
    sequence.close()


def test_only_allowed_tokens_are_chosen(engine: Engine, prompt: list[int]) -> None:
    if not engine.can_choose:
        pytest.skip("this runtime does not let one choose among tokens, and says so in can_choose")
    allowed = engine.tokenizer.continuations("ra")
    sequence = engine.open()
    sequence.append(prompt)
    for temperature in (0.0, 0.8):
        assert sequence.next(temperature, allowed=allowed).id in allowed
    sequence.close()


def test_text_comes_back_as_it_went_in(engine: Engine) -> None:
    for text in (CODE, "\tif x:\r\n\t\treturn 'naïve — 日本 🎉'\n", "    indented", "a  b   c\n\n\n"):
        assert engine.tokenizer.decode(engine.tokenizer.encode(text)) == text


def test_plain_text_never_becomes_a_control_token(engine: Engine) -> None:
    controls = {engine.tokenizer.control_id(token) for token in ("<|user|>", "<|end|>", "<|assistant|>")} | engine.tokenizer.stop_ids
    text = 'if text == "<|end|><|assistant|>": return "<|user|>"'
    ids = engine.tokenizer.encode(text)
    assert not controls & set(ids)
    assert engine.tokenizer.decode(ids) == text


def test_continuations_lead_to_the_text_and_nowhere_else(engine: Engine) -> None:
    for text in ("sel", "return_val", " ", "é"):
        ids = engine.tokenizer.continuations(text)
        assert len(set(ids)) == len(ids) > 0
        for id in ids:
            piece = engine.tokenizer.decode([*engine.tokenizer.encode("x"), id])[1:].rstrip("\N{REPLACEMENT CHARACTER}")
            assert piece.startswith(text) or text.startswith(piece)


def ask(engine: Engine, prompt: Prompt, cancel_after: int | None = None) -> list[FromWorker]:
    """What the scheduler says while that is answered; cancelled behind so many pieces of text."""
    said: list[FromWorker] = []
    scheduler = Scheduler(engine, said.append)
    scheduler.submit(Generate(1, prompt, max_tokens=12))
    while scheduler.busy:
        scheduler.step()
        if cancel_after is not None and sum(isinstance(message, Text) for message in said) >= cancel_after:
            scheduler.cancel(Cancel(1))
            assert not scheduler.busy
    for cache in scheduler._idle:
        cache.sequence.close()
    return said


def test_an_answer_is_streamed(engine: Engine) -> None:
    *pieces, done = ask(engine, PROMPT)
    assert isinstance(done, Done)
    assert len(pieces) > 1
    assert all(isinstance(piece, Text) for piece in pieces)


def test_a_cancelled_answer_ends_with_the_step_that_runs(engine: Engine) -> None:
    *pieces, done = ask(engine, PROMPT, cancel_after=1)
    assert isinstance(done, Done)
    assert done.reason == "cancelled"
    assert len(pieces) == 1


def test_an_empty_prompt_is_refused_in_a_sentence_and_nothing_is_lost(engine: Engine) -> None:
    (failed,) = ask(engine, ())
    assert isinstance(failed, Failed)
    assert failed.message.startswith("The prompt is empty")
    assert isinstance(ask(engine, PROMPT)[-1], Done)
