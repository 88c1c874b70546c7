"""Any server that speaks OpenAI's /v1/completions: OpenVINO Model Server, vLLM, llama.cpp's. For a team that outgrows one machine.

Only where it is asked for by name, and only on this machine unless the option `allow_remote` is true: code leaves this machine then.
The server has the tokens, and sends text. So a token here is a short piece of text, about as long as a real one, and each request holds
the whole text; the server's own prefix cache makes up for that. A request begins with the first `next` and ends when the connection is
closed, which servers understand as: stop. A thread waits for the server, so that a request can be cancelled before its first piece.

Not here: chat requests, which could not go on from code that is begun already. Standard library only.
"""

import http.client
import ipaddress
import json
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from phi_backends.engine import EngineInfo, Options, Progress, Token
from phi_backends.errors import BadInput, EngineError
from phi_backends.options import read_options
from phi_prompts.chat import FORMATS

API_KEY = "PHI_LS_API_KEY"
"""The environment variable for a key, where the server wants one: settings are no place for secrets."""
REQUEST_TOKENS = 256
"""Asked for at a time; an answer that goes on longer goes on with another request."""
NEUTRAL = {"repeat_penalty": 1.0, "repetition_penalty": 1.0}
"""No penalty for repeated tokens, which in code are names and brackets: llama-cpp-python's server has one of 1.1 by default. Spelled as
servers spell it; most ignore what they do not know, and one that refuses is asked without."""
LINGER_S = 0.5
"""A request whose next piece nobody asks for is given up after so long: that is how a cancelled one ends at the server."""


@dataclass(frozen=True)
class RemoteOptions:
    """What `engine_options` may hold."""

    url: str = ""
    """Up to and with `/v1`: `http://127.0.0.1:8080/v1`."""
    allow_remote: bool = False
    """Whether that may be another machine."""
    server_model: str = ""
    """The model's name at the server; the first that it lists, where not given."""
    context_tokens: int = 4096
    """Of the model there; phi-ls counts a little more tokens than it does."""
    chat_format: str = "phi3"
    """One of phi_prompts.chat.FORMATS."""
    timeout_s: int = 60
    """For the next piece of an answer."""


def load(model: str, device: str, options: Options, progress: Progress) -> "RemoteEngine":
    """`model` and `device` are not used: the server has its own. Raises BadInput for options that cannot be, EngineError when no server
    answers."""
    chosen = read_options(RemoteOptions, "remote", options)
    if chosen.chat_format not in FORMATS:
        raise BadInput(f'There is no chat format "{chosen.chat_format}". Choose one of: {", ".join(FORMATS)}.')
    server = Server(chosen)
    progress(f"asking {server.address} for its models")
    name = chosen.server_model or server.first_model()
    where = "on this machine" if server.is_local else "another machine: the code in your prompts leaves this one"
    info = EngineInfo(
        engine="remote",
        model=name,
        device=server.address,
        reason=f"the server {server.address} was asked for, {where}",
        context_tokens=chosen.context_tokens or RemoteOptions.context_tokens,
        chat_format=chosen.chat_format,
        templates="phi3",
    )
    return RemoteEngine(server, info)


class Server:
    """Raises BadInput when the address cannot be, or may not be used."""

    def __init__(self, options: RemoteOptions) -> None:
        try:
            url: SplitResult = urlsplit(options.url)
            self._host, self._port = url.hostname or "", url.port
        except ValueError:
            url = urlsplit("")
        if url.scheme not in ("http", "https") or not self._host:
            raise BadInput(f'The engine option url is the address of a server, such as http://127.0.0.1:8080/v1, not "{options.url}".')
        self.address = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        self.is_local = _is_local(self._host)
        if not (self.is_local or options.allow_remote):
            raise BadInput(
                f"{self.address} is another machine, and code would leave this one. If that is meant, set the engine option allow_remote "
                "to true."
            )
        self._path = url.path.rstrip("/")
        self._secure = url.scheme == "https"
        self._timeout_s = options.timeout_s or RemoteOptions.timeout_s

    def first_model(self) -> str:
        with _Exchange(self, "GET", "/models") as response:
            try:
                return str(json.loads(response.read())["data"][0]["id"])
            except (ValueError, LookupError, TypeError) as error:
                raise EngineError(f"{self.address} lists no models. Give the engine option server_model, or another url.") from error

    def connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout_s)

    def request(self, connection: http.client.HTTPConnection, method: str, path: str, body: object) -> http.client.HTTPResponse:
        """The response, if it is a good one. What the server says of a bad one is not told: it may hold code."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if key := os.environ.get(API_KEY):
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, self._path + path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self.failed(error) from error
        if response.status != 200:
            response.close()
            remedy = _REMEDIES.get(response.status, "The server's own log says why.")
            kind = _Refused if response.status in (400, 422) else EngineError
            raise kind(f"{self.address} answered {path} with {response.status} {response.reason}. {remedy}")
        return response

    def failed(self, error: Exception) -> EngineError:
        if isinstance(error, ValueError | LookupError | TypeError):  # no stream of events, or one that tells of an error of its own
            return EngineError(f"{self.address} broke the answer off. {_REMEDIES[400]} The server's own log says more.")
        if isinstance(error, TimeoutError):
            return EngineError(
                f"{self.address} did not answer in {self._timeout_s} s. Look after the server, or raise the engine option timeout_s."
            )
        what = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        return EngineError(f"{self.address} cannot be reached ({what}). Start the server there, or change the engine option url.")


class _Refused(EngineError):
    """The server does not take the request as it is."""


_REMEDIES = {
    400: "The text may be longer than its context: lower the engine option context_tokens.",
    401: f"Set the environment variable {API_KEY}.",
    403: f"Set the environment variable {API_KEY}.",
    404: "It may lack this path or the model: see the engine options url (with /v1) and server_model.",
}


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Exchange:
    """A request and its response, closed at the end."""

    def __init__(self, server: Server, method: str, path: str, body: object = None) -> None:
        self._server = server
        self._asked = method, path, body
        self._connection = server.connect()
        self._socket: socket.socket | None = None

    def __enter__(self) -> http.client.HTTPResponse:
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            self.response = self._server.request(self._connection, *self._asked)
        except OSError as error:
            raise self._server.failed(error) from error
        except EngineError:
            self._connection.close()
            raise
        return self.response

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self._connection.close()

    def stop(self) -> None:
        """From another thread: whoever reads comes to the end. Closing would wait for them."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


_PIECE = re.compile(r" ?[^\W\d_]{1,4}|[ \t]{1,4}|.", re.DOTALL)
"""Phi-3's own tokens are 3.03 characters long on Python, and one for each digit and most signs."""
_SPELLED_CONTROL = re.compile(r"<(?=\|\w+\|>|/?s>|unk>)")
_BROKEN = "<\u200b"
"""What the server would read as a control token is no longer one with a character of no width in it."""


class RemoteTokenizer:
    """Numbers for pieces of text, in the order of their appearance."""

    space_eaters: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.end = 0
        """Of the answer: the server has ended it."""
        self.stop_ids = frozenset({self.end})
        self._texts = [""]
        self._ids: dict[tuple[bool, str], int] = {}
        self._controls: set[int] = set()

    def encode(self, text: str) -> list[int]:
        return [self._id(piece) for piece in _PIECE.findall(text)]

    def control_id(self, token: str) -> int:
        id = self._id(token, is_control=True)
        self._controls.add(id)
        return id

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._texts[id] for id in ids if id not in self._controls)

    def continuations(self, text: str) -> list[int]:
        return [self._id(text)] if text else []

    def answer_id(self, piece: str) -> int:
        return self._id(piece.replace("\u200b", ""))

    def spell(self, ids: Sequence[int]) -> str:
        """The text for the server, in which only what is one reads as a control token."""
        parts, plain = [], ""
        for id in [*ids, self.end]:
            if id in self._controls or id == self.end:
                parts += [_SPELLED_CONTROL.sub(_BROKEN, plain), self._texts[id]]
                plain = ""
            else:
                plain += self._texts[id]
        return "".join(parts)

    def _id(self, text: str, is_control: bool = False) -> int:
        id = self._ids.setdefault((is_control, text), len(self._texts))
        if id == len(self._texts):
            self._texts.append(text)
        return id


class RemoteEngine:
    can_choose = False

    def __init__(self, server: Server, info: EngineInfo) -> None:
        self.info = info
        self.tokenizer = RemoteTokenizer()
        self._server = server
        self._stop = FORMATS[info.chat_format].stop_tokens
        self._neutral = dict(NEUTRAL)
        self._answer: _Answer | None = None
        """One at a time: whoever asks for another has no use for this one."""

    def open(self) -> "RemoteSequence":
        return RemoteSequence(self)

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()

    def is_ready(self, ids: Sequence[int], temperature: float, wait_s: float) -> bool:
        """Whether `token_after` need not wait. Begins the request, and waits at most so long."""
        return self._answer_to(ids, temperature).is_ready(wait_s)

    def token_after(self, ids: Sequence[int], temperature: float) -> int:
        while True:
            answer = self._answer_to(ids, temperature)
            try:
                piece = answer.next()
            except _Refused:
                self._answer = None
                if not self._neutral:
                    raise
                self._neutral = {}  # refused again, if that was not the reason
                continue
            if piece is not None:
                break
            self._answer = None  # it was given up, or reached REQUEST_TOKENS: another goes on from here
        id = self.tokenizer.answer_id(piece) if piece else self.tokenizer.end
        answer.ids.append(id)
        return id

    def _answer_to(self, ids: Sequence[int], temperature: float) -> "_Answer":
        if self._answer is None or self._answer.ids != ids:
            self._answer = self._ask(ids, temperature)
        return self._answer

    def _ask(self, ids: Sequence[int], temperature: float) -> "_Answer":
        self.close()
        body = {
            "model": self.info.model,
            "prompt": self.tokenizer.spell(ids),
            "max_tokens": REQUEST_TOKENS,
            "temperature": temperature,
            "stop": self._stop,
            "stream": True,
        }
        return _Answer(self._server, {**body, **self._neutral}, ids)


class RemoteSequence:
    def __init__(self, engine: RemoteEngine) -> None:
        self._engine = engine
        self._ids: list[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, ids: Sequence[int]) -> None:
        if len(self._ids) + len(ids) > self._engine.info.context_tokens:
            raise EngineError(
                f"Prompt and answer are longer than the context of {self._engine.info.context_tokens} tokens. "
                "Shorten them, or raise the engine option context_tokens if the server's model has more."
            )
        self._ids += ids

    def rewind(self, length: int) -> None:
        del self._ids[length:]

    def is_ready(self, temperature: float, wait_s: float) -> bool:
        return not self._ids or self._engine.is_ready(self._ids, temperature, wait_s)

    def next(self, temperature: float = 0.0, allowed: Sequence[int] | None = None) -> Token:
        """What the server says, whatever is allowed; see `can_choose`."""
        if not self._ids:
            raise EngineError("The sequence has no token to go on from: append one first.")
        return Token(self._engine.token_after(self._ids, temperature), None)

    def close(self) -> None:
        self._ids.clear()


class _Answer:
    """A request that is running, piece by piece. One thread reads it, another gives it up when it is left alone."""

    def __init__(self, server: Server, body: object, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        """The prompt, and what was handed out."""
        self._server = server
        self._exchange = _Exchange(server, "POST", "/completions", body)
        self._pieces: queue.SimpleQueue[str | EngineError | None] = queue.SimpleQueue()
        self._read_ahead: list[str | EngineError | None] = []
        """One, when it is known that there is one."""
        self._closed = threading.Event()
        self._asked = time.monotonic()
        for work in (self._receive, self._watch):
            threading.Thread(target=work, daemon=True).start()

    def is_ready(self, wait_s: float | None) -> bool:
        """Whether there is a next piece, or never will be. Waits for that so long; None: as long as it takes."""
        self._asked = time.monotonic() if wait_s is not None else float("inf")
        if not self._read_ahead and not self._closed.is_set():
            with suppress(queue.Empty):
                self._read_ahead.append(self._pieces.get(timeout=wait_s))
        self._asked = time.monotonic()
        return bool(self._read_ahead) or self._closed.is_set()

    def next(self) -> str | None:
        """The next piece, empty at the end of the answer; None when there will be none, and yet it is no end."""
        self.is_ready(None)
        piece = self._read_ahead.pop() if self._read_ahead else None
        if not piece or isinstance(piece, EngineError):
            self.close()
        if isinstance(piece, EngineError):
            raise piece
        return piece

    def close(self) -> None:
        self._closed.set()
        self._exchange.stop()

    def _watch(self) -> None:
        while not self._closed.wait(LINGER_S):
            if time.monotonic() - self._asked >= LINGER_S:
                self.close()
                self._pieces.put(None)

    def _receive(self) -> None:
        try:
            with self._exchange as response:
                for piece in self._read(response):
                    if self._closed.is_set():
                        break
                    self._pieces.put(piece)
            self._pieces.put(None)
        except EngineError as error:
            self._pieces.put(error)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            self._pieces.put(self._server.failed(error))

    def _read(self, response: http.client.HTTPResponse) -> Iterator[str]:
        """The texts of the server-sent events; an empty one when the model has ended the answer. Raises ValueError or LookupError for an
        event that is none, and when the server breaks off."""
        reason = None
        for line in response:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                break
            choice = json.loads(data)["choices"][0]
            if choice.get("text"):
                yield str(choice["text"])
            reason = choice.get("finish_reason") or reason
        else:
            if reason is None:
                raise ValueError("the stream has no end")
        if reason != "length":
            yield ""
