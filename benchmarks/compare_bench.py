"""What a key costs with phi-ls, and with what else runs the same weights, in one run. `python benchmarks/compare_bench.py --model FOLDER`

Each way answers the same keys in turn, so whatever else the machine does falls on all: a key adds one to three tokens to a document and
asks for a line of 12. The ways:

- `phi-ls`: our engine process, asked through its pipe as the server asks it, without drafted tokens;
- `genai`, `genai, no reuse`: openvino_genai as it comes, with its prefix cache, and the pipeline that reuses nothing;
- `llama.cpp`: its server with its prompt cache, over HTTP, where --llama-server and --gguf are given (see openvino_to_gguf.py);
- `ort, no reuse`: plain ONNX Runtime GenAI calls, where --onnx is given. Its weights are others, of the same size.

Not here: what somebody who types gets (`phi-ls bench typing`).
"""

import argparse
import http.client
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import anyio
import numpy as np
import openvino as ov
import openvino_genai
from latency_bench import WORDS, document, prompt

from phi_backends.client import Client
from phi_backends.messages import Load
from phi_backends.tokenizer import FolderTokenizer
from phi_prompts.prompt import fit

LINE_TOKENS = 12
ROUNDS_WITHOUT_REUSE = 2
"""All rounds of those cost the same, and each costs as much as the document did the first time."""
SERVER_START_S = 120
REST_S = 0.2
"""Between two ways: threads that spin while they wait for work would slow the next one down."""


class Way(Protocol):
    reuses: bool

    async def ask(self, words: Sequence[str], ids: list[int]) -> tuple[float, float]:
        """Milliseconds to the first token, and to the whole line."""
        ...


class _Own:
    reuses = True

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, words: Sequence[str], ids: list[int]) -> tuple[float, float]:
        started, first = time.perf_counter(), 0.0
        with self._client.generate(prompt(list(words)), max_tokens=LINE_TOKENS, temperature=1.0) as generation:
            async for _ in generation:
                first = first or time.perf_counter()
        return 1000 * (first - started), 1000 * (time.perf_counter() - started)


class _Clock(openvino_genai.StreamerBase):  # type: ignore[misc]  # the package has no types
    """Notes when the first token came."""

    def __init__(self) -> None:
        super().__init__()
        self.first: float | None = None

    def write(self, token: int | Sequence[int]) -> Any:
        self.first = self.first or time.perf_counter()
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Part of the pipeline's interface."""


class _Genai:
    def __init__(self, folder: Path, *, reuses: bool) -> None:
        self.reuses = reuses
        properties = {} if reuses else {"ATTENTION_BACKEND": "SDPA"}
        self._pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", **properties)
        self._config = openvino_genai.GenerationConfig()
        self._config.max_new_tokens, self._config.ignore_eos, self._config.apply_chat_template = LINE_TOKENS, True, False

    async def ask(self, words: Sequence[str], ids: list[int]) -> tuple[float, float]:
        clock, started = _Clock(), time.perf_counter()
        self._pipeline.generate(ov.Tensor(np.array([ids], np.int64)), self._config, clock)
        assert clock.first is not None
        return 1000 * (clock.first - started), 1000 * (time.perf_counter() - started)


class _OrtWithoutReuse:
    reuses = False

    def __init__(self, folder: Path) -> None:
        import onnxruntime_genai

        self._og = onnxruntime_genai
        self._model = self._og.Model(str(folder))

    async def ask(self, words: Sequence[str], ids: list[int]) -> tuple[float, float]:
        started = time.perf_counter()
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(ids) + LINE_TOKENS, min_length=len(ids) + LINE_TOKENS, do_sample=False)
        generator = self._og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(LINE_TOKENS - 1):
            generator.generate_next_token()
        return 1000 * (first - started), 1000 * (time.perf_counter() - started)


class _LlamaServer:
    reuses = True

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, words: Sequence[str], ids: list[int]) -> tuple[float, float]:
        wanted = {"prompt": ids, "n_predict": LINE_TOKENS, "cache_prompt": True, "temperature": 0, "ignore_eos": True, "stream": True}
        started, first = time.perf_counter(), 0.0
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request("POST", "/completion", json.dumps(wanted), {"Content-Type": "application/json"})
        for line in connection.getresponse():
            if line.startswith(b"data:"):
                first = first or time.perf_counter()
        connection.close()
        return 1000 * (first - started), 1000 * (time.perf_counter() - started)


@contextmanager
def llama_server(program: Path, gguf: Path, threads: int) -> Iterator[int]:
    """The port of llama.cpp's server, which runs until the end of this."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(program), "-m", str(gguf), "-c", "4096", "-np", "1", "-t", str(threads), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SERVER_START_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.2)
        else:
            raise SystemExit(f"{program} did not start with {gguf}. Run it by hand to see why.")
        yield port
    finally:
        process.terminate()
        process.wait()


async def measure(ways: dict[str, Way], tokenizer: FolderTokenizer, tokens: int, rounds: int) -> dict[str, dict[str, float]]:
    async def all_asked(words: list[str], wanted: Sequence[str]) -> dict[str, tuple[float, float]]:
        ids = fit(prompt(words), tokenizer.encode, tokenizer.control_id, 1 << 20, tokenizer.space_eaters)
        found = {}
        for name in random.sample(wanted, len(wanted)):
            await anyio.sleep(REST_S)
            found[name] = await ways[name].ask(words, ids)
        return found

    words = document(tokens, 1)
    await all_asked(document(tokens, 3)[:64], list(ways))  # first passes are slow with each
    cold = await all_asked(words, list(ways))
    keys: list[dict[str, tuple[float, float]]] = []
    for at in range(rounds):
        words += random.choices(WORDS, k=1 + at % 3)
        keys.append(await all_asked(words, [name for name, way in ways.items() if way.reuses or at < ROUNDS_WITHOUT_REUSE]))
    report = {}
    for name in ways:
        pairs = [(round[name], round["phi-ls"]) for round in keys if name in round]
        report[name] = {
            "cold_ms": cold[name][0],
            "first_token_ms": median(theirs[0] for theirs, _ in pairs),
            "line_ms": median(theirs[1] for theirs, _ in pairs),
            "cold_ratio": cold[name][0] / cold["phi-ls"][0],
            "first_token_ratio": median(theirs[0] / ours[0] for theirs, ours in pairs),
            "line_ratio": median(theirs[1] / ours[1] for theirs, ours in pairs),
        }
    return report


def to_text(report: dict[str, dict[str, float]]) -> str:
    rows = [f"{'':17}{'cold':>18}{'key: first token':>22}{'line of ' + str(LINE_TOKENS):>20}"]
    for name, f in report.items():
        cells = ((f["cold_ms"], f["cold_ratio"]), (f["first_token_ms"], f["first_token_ratio"]), (f["line_ms"], f["line_ratio"]))
        rows.append(f"{name:17}" + "  ".join(f"{ms:9.0f} ms {ratio:5.2f} ×" for ms, ratio in cells))
    return "\n".join(rows)


async def run(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    random.seed(1)
    with ExitStack() as servers:
        client = Client(Load("openvino", str(options.model.absolute()), "CPU"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            await client.loaded()
            ways: dict[str, Way] = {"phi-ls": _Own(client)}
            wanted = options.only or ["genai", "genai, no reuse"]
            if options.gguf:
                ways["llama.cpp"] = _LlamaServer(servers.enter_context(llama_server(options.llama_server, options.gguf, options.threads)))
            for name in ("genai", "genai, no reuse"):
                if name in wanted:
                    ways[name] = _Genai(options.model, reuses=name == "genai")
            if options.onnx:
                ways["ort, no reuse"] = _OrtWithoutReuse(options.onnx)
            report = await measure(ways, FolderTokenizer(options.model), options.tokens, options.rounds)
            tasks.cancel_scope.cancel()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares phi-ls with what else can run the same weights.")
    parser.add_argument("--model", type=Path, required=True, help="the path of an OpenVINO model folder")
    parser.add_argument("--llama-server", type=Path, default=Path("llama-server"), help="the program")
    parser.add_argument("--gguf", type=Path, help="the same weights for it")
    parser.add_argument("--onnx", type=Path, help="a model folder for ONNX Runtime GenAI")
    parser.add_argument("--only", action="append", metavar="WAY", help="genai; `genai, no reuse`; none: where memory holds no more models")
    parser.add_argument("--threads", type=int, default=2, help="of llama.cpp, which does not know how many cores are real")
    parser.add_argument("--tokens", type=int, default=1000, help="of the document")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    report = anyio.run(run, options)
    print(json.dumps(report) if options.json else to_text(report))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
