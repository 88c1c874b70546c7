"""A server for the tests that speaks OpenAI's /v1/completions on loopback. What comes next depends on the whole text, as with a model."""

import json
import queue
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

END = "."
"""With this letter the answer ends, where it is among the server's letters."""


class CompletionServer(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for what it still serves

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.letters = "abcdefghijklmnopqrstuvwxyz"
        self.status = 200
        self.models: Any = {"data": [{"id": "a-model"}]}
        self.requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        """Bodies, and the headers under `headers`, in the order of arrival."""
        self.left: queue.SimpleQueue[str] = queue.SimpleQueue()
        """Prompts of those who closed the connection before the end."""
        self.go_on = threading.Event()
        """Cleared, it makes the server wait before each piece but the first."""
        self.go_on.set()
        self.waits_from = 1
        """The number of the piece from which on it does."""
        self.is_strict = False
        """Keys that OpenAI's interface does not have are refused."""
        self.breaks_off = False
        """Before the first piece, without a word, as llama-cpp-python's server does when the prompt is too long."""
        self.pause_s = 0.0
        """Between two pieces."""


class _Handler(BaseHTTPRequestHandler):
    server: CompletionServer

    def do_GET(self) -> None:
        self._reply(json.dumps(self.server.models).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.put({**body, "headers": dict(self.headers)})
        if self.server.is_strict and "repeat_penalty" in body:
            self.send_error(400)
            return
        if self.server.status != 200:
            self._reply(b"the server repeats the prompt: " + body["prompt"].encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self._stream(body["prompt"], body["max_tokens"])
        except OSError:
            self.server.left.put(body["prompt"])

    def _stream(self, text: str, max_tokens: int) -> None:
        if self.server.breaks_off:
            return
        reason = "length"
        for piece in range(max_tokens):
            while piece >= self.server.waits_from and not self.server.go_on.wait(0.05):
                self.wfile.write(b": still here\n\n")  # as servers do, who learn so whether anybody listens
            time.sleep(self.server.pause_s)
            letter = self.server.letters[zlib.crc32(text.encode(errors="surrogatepass")) % len(self.server.letters)]
            if letter == END:
                reason = "stop"
                break
            text += letter
            self._event({"text": letter, "finish_reason": None})
        self._event({"text": "", "finish_reason": reason})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, choice: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

    def _reply(self, content: bytes) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def completion_server() -> Iterator[CompletionServer]:
    with CompletionServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.go_on.set()
            server.shutdown()
