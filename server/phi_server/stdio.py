"""Bytes in, bytes out, and the end of the process. Nothing of JSON-RPC, LSP or pygls.

Works on Linux, macOS and Windows: blocking reads and writes happen in threads of their own, because asyncio cannot wait for
an inherited stdin everywhere, and threads shared with anything else could be busy.
"""

import asyncio
import contextlib
import os
import queue
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from phi_backends.errors import BadInput

MAX_MESSAGE_BYTES = 128 * 1024 * 1024
"""A 50 MB file can be opened; a header that promises more is taken for garbage."""


class Unreadable(str):
    """Why some bytes are no message: a sentence."""

    __slots__ = ()


class Framing:
    """Cuts a byte stream into the bodies of messages. After garbage it goes on at the next header."""

    _LENGTH = re.compile(rb"(.*?)content-length[ \t]*:[ \t]*(\d{1,12})[ \t]*\r?\n", re.IGNORECASE | re.DOTALL)
    _OTHER = re.compile(rb"(content-type[ \t]*:.*)?\r?\n", re.IGNORECASE)

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None
        self._in_body = False
        self._complained = False

    def feed(self, data: bytes) -> Iterator[bytes | Unreadable]:
        """The messages that `data` completes."""
        self._buffer += data
        while True:
            if self._in_body and self._length is not None:
                if len(self._buffer) < self._length:
                    return
                body = bytes(self._buffer[: self._length])
                del self._buffer[: self._length]
                self._length, self._in_body, self._complained = None, False, False
                yield body
            else:
                end = self._buffer.find(b"\n") + 1
                if not end:
                    del self._buffer[:-65536]  # no header is that long, but one may begin in what is kept
                    return
                line = bytes(self._buffer[:end])
                del self._buffer[:end]
                yield from self._header(line)

    def _header(self, line: bytes) -> Iterator[Unreadable]:
        header = self._LENGTH.fullmatch(line)
        if header and int(header[2]) <= MAX_MESSAGE_BYTES:
            self._length = int(header[2])
            garbage = bool(header[1])
        else:
            garbage = not self._OTHER.fullmatch(line)
        if garbage and not self._complained:
            self._complained = True  # once until the next message: no flood of answers to a flood of garbage
            yield Unreadable(f"A message begins with Content-Length: N, where N is at most {MAX_MESSAGE_BYTES}.")
        self._in_body = not line.strip() and self._length is not None


def read_messages(descriptor: int, on_message: Callable[[bytes | Unreadable | None], None]) -> None:
    """Calls `on_message` in the running loop with each message and, at the end of the stream, with None."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        framing = Framing()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            # Not through a file object: its lock, held by a blocked read, aborts the interpreter's exit.
            with contextlib.suppress(OSError):
                while data := os.read(descriptor, 65536):
                    for message in framing.feed(data):
                        loop.call_soon_threadsafe(on_message, message)
            loop.call_soon_threadsafe(on_message, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()


class Writer:
    """Sends from a thread of its own: a client that stops reading stalls that thread, never the loop, and loses nothing."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()
        """Done when all is sent after `close`, or when the client is gone."""
        threading.Thread(target=self._run, name="stdout", daemon=True).start()

    def write(self, data: bytes) -> None:
        self._queue.put(data)

    def close(self) -> None:
        self._queue.put(None)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while (data := self._queue.get()) is not None:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.ended.set_result, None)


def take_over_stdio() -> tuple[int, int]:
    """Our own copies of stdin and stdout. A stray `print` then lands in the log, and no child can eat the editor's messages.

    Raises BadInput when one of them is closed.
    """
    if sys.stdin is None or sys.stdout is None:
        raise BadInput("An editor speaks to phi-ls over stdin and stdout, and one of them is closed. Start it with both open.")
    sys.stdout.flush()
    stdin, stdout = os.dup(0), os.dup(1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(stdin, os.O_BINARY)
        msvcrt.setmode(stdout, os.O_BINARY)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing if sys.stderr is None else 2, 1)
    os.close(nothing)
    return stdin, stdout


def liveness(process_id: int) -> Callable[[], bool] | None:
    """A function that tells whether the process still runs; None when it does not run even now."""
    if sys.platform == "win32":
        import ctypes

        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.restype = ctypes.c_void_p
        handle = kernel32.OpenProcess(0x00100000, False, process_id)  # SYNCHRONIZE
        if not handle:
            return (lambda: True) if ctypes.get_last_error() == 5 else None  # access denied: it runs
        # As long as the handle is open, no other process gets the number.
        return lambda: bool(kernel32.WaitForSingleObject(ctypes.c_void_p(handle), 0) == 258)  # WAIT_TIMEOUT

    def signalled() -> bool:
        try:
            os.kill(process_id, 0)
        except PermissionError:
            return True
        except (ProcessLookupError, OverflowError):
            return False
        return True

    if process_id <= 0 or not signalled():
        return None
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # unlike signals it sees through zombies and reused numbers
            descriptor = os.pidfd_open(process_id)
            return lambda: not select.select([descriptor], [], [], 0)[0]
    return signalled


@contextlib.contextmanager
def on_signals(stop: Callable[[int], None]) -> Iterator[None]:
    """SIGTERM and SIGINT (Ctrl+C and Ctrl+Break on Windows) call `stop(128 + number)` in the running loop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGTERM, signal.SIGINT]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if sys.platform == "win32":
            signal.signal(number, lambda received, _: loop.call_soon_threadsafe(stop, 128 + received) and None)
        else:
            loop.add_signal_handler(number, stop, 128 + number)
    try:
        yield
    finally:
        for number, handler in before.items():
            if sys.platform != "win32":
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def end_process_within(seconds: float, code: int) -> None:
    """Ends the process then, if it has not ended before, whatever threads, tasks or destructors still do."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
