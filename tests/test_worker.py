"""The engine process from the server's side: streams, priorities, cancelling, and a process that is killed at any moment.

Everything here runs the real worker in a real process, with the echo engine in it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest

from phi_backends.client import MAX_CRASHES, Client, EngineStatus, Generation
from phi_backends.engine import Engine, Interrupted, Token
from phi_backends.engines.echo import EchoEngine, EchoSequence
from phi_backends.errors import EngineError, WorkerDied
from phi_backends.messages import Cancel, Done, FromWorker, Generate, Load, Priority, Text, decode
from phi_backends.scheduler import IDLE_CACHES, LEAST_PROMPT_TOKENS, Scheduler
from phi_prompts.prompt import Control, Prompt, Window

pytestmark = pytest.mark.anyio
QUESTION: Prompt = (Control("<|user|>"), "\nsay something\n", Control("<|end|>"), Control("<|assistant|>"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def echo(**options: str | int) -> Load:
    return Load("echo", "embedded", "auto", {"reply": "one two three", **options})


class Statuses:
    """The statuses that a client went through, to wait for one of them."""

    def __init__(self) -> None:
        self.seen: list[EngineStatus] = []
        self._news = anyio.Event()

    def __call__(self, status: EngineStatus) -> None:
        self.seen.append(status)
        self._news.set()

    async def wait_for(self, met: Callable[[EngineStatus], bool], after: int = 0) -> EngineStatus:
        with anyio.fail_after(20):
            while True:
                self._news = anyio.Event()
                for status in self.seen[after:]:
                    if met(status):
                        return status
                await self._news.wait()


@asynccontextmanager
async def running(load: Load) -> AsyncIterator[tuple[Client, Statuses]]:
    statuses = Statuses()
    client = Client(load, statuses)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        with anyio.fail_after(60):
            yield client, statuses
        tasks.cancel_scope.cancel()


async def answer(generation: Generation) -> str:
    with generation:
        return "".join([piece.text async for piece in generation])


async def test_streams_an_answer_with_its_timings() -> None:
    async with running(echo()) as (client, _):
        loaded = await client.loaded()
        assert (loaded.engine, loaded.model) == ("echo", "echo")
        generation = client.generate(QUESTION, max_tokens=50)
        assert await answer(generation) == "one two three"
        assert generation.done is not None
        assert generation.done.reason == "stop"
        assert generation.done.timings.answer_tokens == len("one two three")
        assert generation.done.timings.prompt_tokens == 3 + len("\nsay something\n")


async def test_the_same_prompt_again_is_found_in_the_kv_cache() -> None:
    async with running(echo()) as (client, _):
        await client.loaded()
        await answer(client.generate(QUESTION, max_tokens=50))
        again = client.generate(QUESTION, max_tokens=50)
        await answer(again)
        assert again.done is not None
        assert again.done.timings.reused_tokens == again.done.timings.prompt_tokens - 1


async def test_stop_texts_and_the_healed_beginning_are_not_part_of_the_answer() -> None:
    async with running(echo()) as (client, _):
        await client.loaded()
        assert await answer(client.generate(QUESTION, max_tokens=50, stop=("three", "wo t"))) == "one t"
        assert await answer(client.generate(QUESTION, max_tokens=50, heal="on")) == "e two three"


async def test_an_answer_ends_at_its_limit() -> None:
    async with running(echo()) as (client, _):
        await client.loaded()
        generation = client.generate(QUESTION, max_tokens=3)
        assert await answer(generation) == "one"
        assert generation.done is not None
        assert generation.done.reason == "length"


async def test_a_prompt_that_cannot_fit_is_refused_with_a_sentence_and_the_next_request_works() -> None:
    async with running(echo(context_tokens=100)) as (client, _):
        await client.loaded()
        with pytest.raises(EngineError, match=r"."):
            await answer(client.generate((Control("<|user|>"), "x" * 500), max_tokens=5))
        assert await answer(client.generate(QUESTION, max_tokens=3)) == "one"


async def test_a_completion_overtakes_an_explanation_which_then_goes_on_from_where_it_was() -> None:
    async with running(echo(reply="long " * 40, ms_per_token=2)) as (client, _):
        await client.loaded()
        order: list[str] = []

        async def explain() -> None:
            with client.generate(QUESTION, max_tokens=200, priority=Priority.ANSWER) as explanation:
                text = ""
                async for piece in explanation:
                    text += piece.text
                    first.set()
            order.append("explanation")
            assert text == "long " * 40
            assert explanation.done is not None
            assert explanation.done.timings.prompt_tokens == 3 + len("\nsay something\n")

        first = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(explain)
            await first.wait()
            completion = client.generate((*QUESTION, "long lo"), max_tokens=5)
            assert await answer(completion) == "ng lo"
            order.append("completion")
        assert order == ["completion", "explanation"]


async def prefilled(client: Client, prompt: Prompt, **how: Any) -> int:
    """Tokens of the prompt that were not in a KV cache, one of which always has to run."""
    generation = client.generate(prompt, max_tokens=2, **how)
    await answer(generation)
    assert generation.done is not None
    return generation.done.timings.prompt_tokens - generation.done.timings.reused_tokens


def code(name: str, changed: str = "") -> Prompt:
    lines = [f"{name}_{number} = {number}\n" for number in range(60)]
    return (Control("<|user|>"), "complete\n", Control("<|assistant|>"), "".join([*lines[:30], changed, *lines[30:]]))


async def test_going_back_costs_a_step_and_no_prefill() -> None:
    """To another file, to what an edit in the middle has undone, and to both again."""
    async with running(echo()) as (client, _):
        await client.loaded()
        assert await prefilled(client, code("first")) > 500
        assert await prefilled(client, code("second")) > 500
        assert 300 < await prefilled(client, code("first", "edited = True\n")) < 500  # from the edit on
        for prompt in (code("second"), code("first"), code("first", "edited = True\n"), code("second")):
            assert await prefilled(client, prompt) == 1


async def test_more_states_than_are_kept_lose_the_oldest() -> None:
    async with running(echo()) as (client, _):
        await client.loaded()
        for number in range(IDLE_CACHES + 1):
            await prefilled(client, code(f"file{number}"))
        assert await prefilled(client, code("file1")) == 1
        assert await prefilled(client, code("file0")) > 500


async def test_work_ahead_is_of_use_though_it_was_overtaken() -> None:
    async with running(echo(ms_per_token=2)) as (client, _):
        await client.loaded()
        ahead = client.generate(code("file"), max_tokens=5, priority=Priority.IDLE, prefill_only=True)
        other = client.generate(QUESTION, max_tokens=5)
        await answer(other)  # begun after the other, ended before it
        assert ahead.done is None
        assert await prefilled(client, code("file")) < 900
        assert await answer(ahead) == ""
        assert await prefilled(client, code("file")) == 1


async def test_a_prompt_that_is_run_ahead_is_cut_as_the_request_will_be() -> None:
    lines = tuple(f"value_{number} = {number}\n" for number in range(200))
    prompt: Prompt = (Control("<|user|>"), "complete\n", Control("<|assistant|>"), Window(lines, "end", 1.0))
    async with running(echo(context_tokens=1000)) as (client, _):
        await client.loaded()
        await answer(client.generate(prompt, max_tokens=400, priority=Priority.IDLE, prefill_only=True))
        later = client.generate(prompt, max_tokens=400)
        await answer(later)
        assert later.done is not None
        timings = later.done.timings
        assert 300 < timings.prompt_tokens <= 600
        assert timings.reused_tokens == timings.prompt_tokens - 1


async def test_a_prompt_that_would_miss_the_deadline_is_shortened_until_it_is_in_the_cache() -> None:
    lines = tuple(f"value_{number} = {number}\n" for number in range(200))
    prompt: Prompt = (Control("<|user|>"), "complete\n", Control("<|assistant|>"), Window(lines, "end", 1.0))
    async with running(echo(ms_per_token=1)) as (client, _):
        await client.loaded()

        async def tokens(deadline_ms: float | None) -> int:
            generation = client.generate(prompt, max_tokens=1, deadline_ms=deadline_ms)
            await answer(generation)
            assert generation.done is not None
            return generation.done.timings.prompt_tokens

        assert LEAST_PROMPT_TOKENS // 2 < await tokens(300) <= LEAST_PROMPT_TOKENS
        whole = await tokens(None)
        assert whole > 2000
        assert await tokens(300) == whole


async def test_the_engine_tells_how_fast_it_is() -> None:
    async with running(echo(ms_per_token=2)) as (client, _):
        loaded = await client.loaded()
        assert 2 <= loaded.prefill_token_ms < 20
        assert 2 <= loaded.decode_token_ms < 20
        generation = client.generate(QUESTION, max_tokens=5)
        await answer(generation)
        assert generation.done is not None
        assert generation.done.timings.decode_token_ms >= 2


class LazyEngine(EchoEngine):
    """Runs nothing until somebody asks for the next token, as the NPU's pipeline."""

    def open(self) -> EchoSequence:
        return LazySequence(self.tokenizer, "reply", 0.0, self.info.context_tokens, "")


class LazySequence(EchoSequence):
    ran = 0

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        time.sleep(0.001 * (len(self) - self.ran))
        self.ran = len(self)
        return super().next(temperature, allowed)


def test_the_speed_of_an_engine_that_only_stores_what_is_appended_is_known_too() -> None:
    scheduler = Scheduler(cast(Engine, LazyEngine("reply", 0, 2048, "phi3")), lambda message: None)
    scheduler.submit(Generate(1, (*QUESTION, "x" * 200), max_tokens=4))
    while scheduler.busy:
        scheduler.step()
    assert 1 <= scheduler.speed.prefill_token_ms < 50  # 211 tokens in all
    assert scheduler.speed.decode_token_ms >= 1


@pytest.mark.parametrize(("priority", "ms_per_token", "pauses"), [(0, 110, [3]), (0, 20, []), (1, 110, [])])
def test_where_the_server_may_have_enough_a_slow_model_waits_for_its_cancel(priority: int, ms_per_token: int, pauses: list[int]) -> None:
    scheduler = Scheduler(cast(Engine, EchoEngine("one\ntwo", 0, 2048, "phi3")), lambda message: None)
    scheduler.speed.measured(1, ms_per_token)
    scheduler.submit(Generate(1, QUESTION, max_tokens=6, priority=Priority(priority)))
    found = []
    while scheduler.busy:
        scheduler.step()
        scheduler.speed.decode_token_ms = ms_per_token
        found.append(scheduler.pause_s > 0)
    assert [at for at, pause in enumerate(found) if pause] == pauses


class StoppableEngine(EchoEngine):
    """Once it is slow, a forward pass takes until it is interrupted."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply, 0, 2048, "phi3")
        self.is_slow, self.can_interrupt = False, True
        self.is_running, self.is_stopped = threading.Event(), threading.Event()

    def open(self) -> "StoppableSequence":
        return StoppableSequence(self)

    def interrupt(self) -> None:
        self.is_stopped.set()


class StoppableSequence(EchoSequence):
    def __init__(self, engine: StoppableEngine) -> None:
        super().__init__(engine.tokenizer, "abc", 0.0, 2048, "")
        self._engine = engine

    def append(self, ids: Sequence[int]) -> None:
        if self._engine.is_slow:
            self._engine.is_running.set()
            if self._engine.is_stopped.wait(5):
                raise Interrupted
        super().append(ids)


@pytest.mark.parametrize(
    ("running", "in_answer", "comes", "stops"),
    [
        (Priority.ANSWER, True, Generate(2, QUESTION, 3), True),
        (Priority.ANSWER, False, Generate(2, QUESTION, 3), True),
        (Priority.IDLE, True, Generate(2, QUESTION, 3), True),
        (Priority.IDLE, False, Generate(2, QUESTION, 3), False),  # it may well be the beginning of what comes
        (Priority.ANSWER, True, Generate(2, QUESTION, 3, priority=Priority.IDLE), False),
        (Priority.COMPLETION, True, Generate(2, QUESTION, 3), False),
        (Priority.COMPLETION, True, Cancel(1), True),
        (Priority.COMPLETION, False, Cancel(1), False),  # the next key's prompt begins the same
        (Priority.COMPLETION, True, Cancel(7), False),
    ],
)
def test_what_is_in_vain_or_in_the_way_is_stopped_in_its_forward_pass(
    running: Priority, in_answer: bool, comes: Generate | Cancel, stops: bool
) -> None:
    engine = StoppableEngine("abc")
    messages: list[FromWorker] = []
    scheduler = Scheduler(cast(Engine, engine), messages.append)
    scheduler.submit(Generate(1, QUESTION, max_tokens=3, priority=running))
    if in_answer:
        while not messages:
            scheduler.step()
    engine.is_slow = True
    thread = threading.Thread(target=scheduler.step)
    thread.start()
    assert engine.is_running.wait(5)
    scheduler.interrupt_for(comes)
    assert engine.is_stopped.is_set() == stops
    engine.is_slow = False
    engine.interrupt()
    thread.join()
    engine.is_stopped.clear()
    scheduler.interrupt_for(comes)
    assert not engine.is_stopped.is_set(), "between two passes there is nothing to be stopped"
    while scheduler.busy:
        scheduler.step()
    assert "".join(message.text for message in messages if isinstance(message, Text)) == "abc"  # the stopped pass was run again


async def test_cancelling_ends_a_request_within_a_step() -> None:
    async with running(echo(reply="x" * 1000, ms_per_token=1)) as (client, _):
        await client.loaded()
        with client.generate(QUESTION, max_tokens=1000) as generation:
            assert (await anext(generation)).text == "x"
        after = client.generate(QUESTION, max_tokens=1)
        assert await answer(after) == "x"
        assert after.done is not None
        assert after.done.timings.queued_ms < 500  # 1,000 tokens would have taken a second


async def test_cancelling_the_task_that_reads_cancels_the_request() -> None:
    async with running(echo(reply="x" * 100_000, ms_per_token=1)) as (client, _):
        await client.loaded()
        with anyio.move_on_after(0.05):
            await answer(client.generate(QUESTION, max_tokens=10_000))
        assert await answer(client.generate(QUESTION, max_tokens=1)) == "x"


async def test_a_load_that_is_refused_switches_the_engine_off_with_its_reason() -> None:
    async with running(Load("echo", "embedded", "auto", {"colour": "red"})) as (client, statuses):
        off = await statuses.wait_for(lambda status: status.state == "off")
        assert 'no option "colour"' in off.detail
        with pytest.raises(EngineError, match="no option"):
            await client.loaded()


async def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    async with running(Load("abacus", "embedded", "auto")) as (_, statuses):
        off = await statuses.wait_for(lambda status: status.state == "off")
        assert '"abacus"' in off.detail
        assert "openvino" in off.detail


async def test_who_waits_for_an_engine_that_is_stopped_is_told() -> None:
    client = Client(echo(load_ms=60_000))
    told: list[str] = []

    async def wait() -> None:
        with pytest.raises(EngineError) as error:
            await client.loaded()
        told.append(str(error.value))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(wait)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.run)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
    assert told == ["The engine was stopped."]


async def test_a_missing_interpreter_switches_the_engine_off() -> None:
    client = Client(echo(), python="/no/such/python")
    with anyio.fail_after(10):
        await client.run()
    assert client.status.state == "off"
    assert "/no/such/python" in client.status.detail


def kill(client: Client) -> None:
    assert client.pid is not None
    os.kill(client.pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)


async def test_three_crashes_in_a_row_while_loading_switch_the_engine_off() -> None:
    async with running(echo(load_ms=60_000)) as (client, statuses):
        seen = 0
        for _ in range(MAX_CRASHES):
            await statuses.wait_for(lambda status: status.state == "loading", after=seen)
            kill(client)
            seen = len(statuses.seen)
        off = await statuses.wait_for(lambda status: status.state == "off")
        assert "crashed 3 times in a row" in off.detail


MOMENTS = ["idle", "decode", "prefill", "load", "before load"]


@pytest.mark.slow
async def test_killing_the_engine_process_20_times_costs_only_the_running_requests() -> None:
    """At each moment in turn, so that every kind of death follows every other; after each one a request is answered."""
    async with running(echo(reply="y" * 300, ms_per_token=1, load_ms=30)) as (client, statuses):
        await client.loaded()
        for moment in MOMENTS * 4:
            long_prompt: Prompt = (Control("<|user|>"), "p" * 5000, Control("<|assistant|>"))
            seen = len(statuses.seen)
            if moment in ("decode", "prefill"):
                with client.generate(QUESTION if moment == "decode" else long_prompt, max_tokens=300) as generation:
                    if moment == "decode":
                        await anext(generation)
                    kill(client)
                    with pytest.raises(WorkerDied, match="try again"):
                        async for _ in generation:
                            pass
            else:
                kill(client)
                if moment == "load":
                    await statuses.wait_for(lambda status: status.state == "loading", after=seen)
                    kill(client)
                elif moment == "before load":
                    await statuses.wait_for(lambda status: status.state == "starting", after=seen)
                    kill(client)
            await statuses.wait_for(lambda status: status.state == "restarting", after=seen)
            await statuses.wait_for(lambda status: status.state == "ready", after=seen)
            assert await answer(client.generate(QUESTION, max_tokens=2)) == "yy", moment


def test_the_worker_ends_when_its_stdin_does_even_while_loading() -> None:
    worker = subprocess.Popen([sys.executable, "-P", "-m", "phi_backends.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(b'{"kind":"Load","engine":"echo","model":"","device":"","options":{"load_ms":60000}}\n')
    worker.stdin.flush()
    assert worker.stdout.readline()  # Loading
    worker.stdin.close()
    started = time.perf_counter()
    assert worker.wait(10) == 0
    assert time.perf_counter() - started < 2
    worker.stdout.close()


def test_the_worker_never_imports_a_module_of_the_folder_it_is_started_in(tmp_path: "os.PathLike[str]") -> None:
    for name in ("phi_backends", "json", "queue"):
        with open(os.path.join(tmp_path, f"{name}.py"), "w", encoding="utf-8") as file:  # noqa: PTH123, PTH118
            file.write("raise SystemExit('the code of the user ran')")
    command = [sys.executable, "-P", "-m", "phi_backends.worker"]
    messages = (
        b'{"kind":"Load","engine":"echo","model":"","device":"","options":{"reply":"hi"}}\n'
        b'{"kind":"Generate","request":1,"prompt":[{"token":"<|assistant|>"}],"max_tokens":9,"priority":0,"stop":[]}\n'
    )
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(messages)
    worker.stdin.flush()
    received: list[Any] = []
    while not (received and isinstance(received[-1], Done)):
        received.append(decode(worker.stdout.readline()))
    assert "".join(message.text for message in received if isinstance(message, Text)) == "hi"
    worker.stdin.close()
    worker.wait(10)
    worker.stdout.close()
