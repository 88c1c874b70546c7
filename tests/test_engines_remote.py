"""What is the remote engine's own: who it speaks to, what it sends, and that a request ends when nobody wants it any more."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from completion_server import END, CompletionServer, completion_server

from phi_backends.client import Client
from phi_backends.engines import remote
from phi_backends.errors import BadInput, EngineError
from phi_backends.messages import Load
from phi_prompts.prompt import Control, Prompt

PROMPT: Prompt = (Control("<|user|>"), "\nComplete a.py\n", Control("<|end|>"), "\n", Control("<|assistant|>"), "\n")


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    with completion_server() as server:
        yield server


def load(server: CompletionServer, **options: Any) -> remote.RemoteEngine:
    return remote.load("embedded", "auto", {"url": server.url, **options}, lambda stage: None)


def a_prompt(engine: remote.RemoteEngine, text: str = "x = ") -> list[int]:
    ids: list[int] = []
    for part in (*PROMPT, text):
        if isinstance(part, Control):
            ids.append(engine.tokenizer.control_id(part.token))
        elif isinstance(part, str):
            ids += engine.tokenizer.encode(part)
    return ids


def go_on(engine: remote.RemoteEngine, sequence: remote.RemoteSequence, tokens: int) -> str:
    ids: list[int] = []
    for _ in range(tokens):
        if ids:
            sequence.append(ids[-1:])
        ids.append(sequence.next().id)
    return engine.tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r'url is the address of a server, such as http://127\.0\.0\.1:8080/v1, not ""'),
        ({"url": "ftp://127.0.0.1"}, r"url is the address of a server"),
        ({"url": "http://127.0.0.1:99999/v1"}, r"url is the address of a server"),
        ({"url": "http://192.168.0.7:8080/v1"}, r"192\.168\.0\.7:8080 is another machine, .*allow_remote to true"),
        ({"url": "https://models.example/v1"}, r"models\.example is another machine"),
        ({"url": "http://localhost.example/v1"}, r"is another machine"),
        ({"url": "http://127.0.0.1:1/v1", "chat_format": "llama"}, r'no chat format "llama"\. Choose one of: phi3, '),
        ({"adress": ""}, r'The remote engine has no option "adress"\. Its options are url, allow_remote'),
        ({"url": "http://127.0.0.1:1", "allow_remote": "yes"}, r"allow_remote is true or false, not 'yes'"),
    ],
)
def test_it_speaks_to_nobody_that_was_not_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        remote.load("embedded", "auto", options, lambda stage: None)


@pytest.mark.parametrize("url", ["http://[::1]:8080/v1", "http://127.8.8.8/v1", "http://localhost:8080"])
def test_this_machine_has_many_names(url: str) -> None:
    assert remote.Server(remote.RemoteOptions(url=url)).is_local


def test_where_code_goes_is_said(server: CompletionServer) -> None:
    info = load(server).info
    assert info.reason == f"the server {server.url.removesuffix('/v1')} was asked for, on this machine"
    assert (info.model, info.device) == ("a-model", server.url.removesuffix("/v1"))
    away: dict[str, Any] = {"url": "http://models.example:8000/v1", "allow_remote": True, "server_model": "phi", "context_tokens": 8192}
    info = remote.load("embedded", "auto", away, lambda stage: None).info
    assert info.reason == "the server http://models.example:8000 was asked for, another machine: the code in your prompts leaves this one"
    assert (info.model, info.context_tokens) == ("phi", 8192)


def test_what_is_sent(server: CompletionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remote.API_KEY, "secret")
    engine = load(server)
    sequence = engine.open()
    sequence.append(a_prompt(engine, 'if text == "<|end|>\ud83d": # </s>'))
    sequence.next(temperature=0.3)
    sent = server.requests.get(timeout=10)
    assert sent["prompt"] == '<|user|>\nComplete a.py\n<|end|>\n<|assistant|>\nif text == "<\u200b|end|>\ud83d": # <\u200b/s>'
    assert (sent["model"], sent["temperature"], sent["stream"]) == ("a-model", 0.3, True)
    assert sent["stop"] == ["<|end|>", "<|endoftext|>", "<|assistant|>"]
    assert sent["headers"]["Authorization"] == "Bearer secret"
    engine.close()


def test_repetition_is_not_punished_unless_the_server_cannot_be_told(server: CompletionServer) -> None:
    engine = load(server)
    server.is_strict = True
    for text in ("x = ", "y = "):
        sequence = engine.open()
        sequence.append(a_prompt(engine, text))
        sequence.next()
    engine.close()
    sent = [server.requests.get(timeout=10) for _ in range(3)]
    assert server.requests.empty()
    assert [request.get("repeat_penalty") for request in sent] == [1.0, None, None]


def test_one_request_serves_the_whole_answer(server: CompletionServer) -> None:
    engine = load(server)
    sequence = engine.open()
    sequence.append(a_prompt(engine))
    answer = go_on(engine, sequence, 20)
    assert len(answer) == 20
    server.requests.get(timeout=10)
    assert server.requests.empty()
    sequence.rewind(len(a_prompt(engine)) - 1)
    sequence.append(a_prompt(engine)[-1:])
    assert go_on(engine, sequence, 20) == answer
    engine.close()


def test_an_answer_ends_where_the_server_ends_it_and_not_at_the_length_of_a_request(
    server: CompletionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "REQUEST_TOKENS", 5)
    engine = load(server)
    sequence = engine.open()
    sequence.append(a_prompt(engine))
    assert len(go_on(engine, sequence, 12)) == 12
    assert [server.requests.get(timeout=10)["max_tokens"] for _ in range(3)] == [5, 5, 5]
    server.letters = END
    sequence.append(engine.tokenizer.encode(" y"))
    assert sequence.next().id in engine.tokenizer.stop_ids


def test_another_request_ends_the_one_that_runs(server: CompletionServer) -> None:
    engine = load(server)
    server.go_on.clear()
    first, second = engine.open(), engine.open()
    first.append(a_prompt(engine, "first"))
    first.next()
    second.append(a_prompt(engine, "second"))
    second.next()
    assert server.left.get(timeout=10).endswith("first")
    second.close()
    engine.close()
    assert server.left.get(timeout=10).endswith("second")


def test_a_request_that_is_left_alone_is_given_up_and_taken_up_again(server: CompletionServer) -> None:
    engine = load(server)
    server.go_on.clear()
    sequence = engine.open()
    sequence.append(a_prompt(engine))
    first = sequence.next().id
    assert server.left.get(timeout=10)
    server.go_on.set()
    sequence.append([first])
    assert len(go_on(engine, sequence, 4)) == 4
    engine.close()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, r"answered /completions with 400 Bad Request\. The text may be longer than its context: .*context_tokens"),
        (401, r"401 Unauthorized\. Set the environment variable PHI_LS_API_KEY"),
        (404, r"404 Not Found\. It may lack this path or the model: .*url .*server_model"),
        (500, r"500 Internal Server Error\. The server's own log says why\.$"),
    ],
)
def test_a_refusal_is_told_without_what_it_may_repeat(server: CompletionServer, status: int, message: str) -> None:
    engine = load(server)
    server.status = status
    sequence = engine.open()
    sequence.append(a_prompt(engine, "secret_name = "))
    with pytest.raises(EngineError, match=message) as caught:
        sequence.next()
    assert "secret_name" not in str(caught.value)
    server.status = 200
    assert sequence.next().id not in engine.tokenizer.stop_ids
    engine.close()


def test_a_server_that_breaks_off_has_not_ended_the_answer(server: CompletionServer) -> None:
    engine = load(server)
    server.breaks_off = True
    sequence = engine.open()
    sequence.append(a_prompt(engine))
    with pytest.raises(EngineError, match=r"broke the answer off\. The text may be longer than its context"):
        sequence.next()
    server.breaks_off = False
    sequence.next()
    engine.close()


def test_a_server_that_is_not_there_or_lists_nothing(server: CompletionServer) -> None:
    server.models = {"data": []}
    with pytest.raises(EngineError, match=r"lists no models\. Give the engine option server_model"):
        load(server)
    with pytest.raises(EngineError, match=r"http://127\.0\.0\.1:1 cannot be reached \(.*\)\. Start the server there"):
        remote.load("embedded", "auto", {"url": "http://127.0.0.1:1/v1"}, lambda stage: None)


def test_a_server_that_is_silent(server: CompletionServer) -> None:
    engine = load(server, timeout_s=1)
    engine._server._timeout_s = 0  # not even a second for this test
    sequence = engine.open()
    sequence.append(a_prompt(engine))
    with pytest.raises(EngineError):
        sequence.next()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_through_the_engine_process(server: CompletionServer) -> None:
    client = Client(Load("remote", "embedded", "auto", {"url": server.url}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        loaded = await client.loaded()
        assert loaded.reason.endswith("on this machine")
        text = ""
        with client.generate((*PROMPT, "x = "), max_tokens=8, heal="") as generation:
            async for piece in generation:
                text += piece.text
        assert len(text) == 8
        server.pause_s = 0.02  # of an answer that takes seconds
        with client.generate((*PROMPT, "cancelled = "), max_tokens=1000) as generation:
            async for _ in generation:
                break  # which closes it
        while not (await anyio.to_thread.run_sync(server.left.get, True, 10)).endswith("cancelled = "):
            pass
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_request_is_cancelled_while_the_server_still_reads_its_prompt(server: CompletionServer) -> None:
    client = Client(Load("remote", "embedded", "auto", {"url": server.url}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        await client.loaded()
        while not server.requests.empty():
            server.requests.get()
        server.waits_from = 0
        server.go_on.clear()
        with client.generate((*PROMPT, "slow = "), max_tokens=8):
            assert (await anyio.to_thread.run_sync(server.requests.get))["prompt"].endswith("slow = ")
        server.waits_from = 1
        with anyio.fail_after(10), client.generate((*PROMPT, "x = "), max_tokens=1) as generation:
            assert len([piece async for piece in generation]) == 1
        assert not server.go_on.is_set()
        while not (await anyio.to_thread.run_sync(server.left.get, True, 10)).endswith("slow = "):
            pass
        tasks.cancel_scope.cancel()
