"""The engine process: `python -P -m phi_backends.worker`. Reads messages from stdin, writes messages to stdout; see messages.py.

Standard library only, up to the engine's own module: an engine may live in an environment of its own. `-P` keeps the folder that
the editor was started in, which is the user's, off `sys.path`.

Three threads' worth of care in two: one reads stdin, for a message must not wait for a forward pass; the main thread runs the model.
When stdin ends, the server is gone, however it ended: so does this process, in the middle of whatever it does.
"""

import importlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import BinaryIO

from phi_backends.auto import choices
from phi_backends.engine import Engine, Progress
from phi_backends.engines import ENGINES
from phi_backends.errors import BadInput, EngineError, PhiError
from phi_backends.messages import Cancel, Failed, FromWorker, Generate, Load, Loaded, Loading, ToWorker, decode, encode
from phi_backends.scheduler import Scheduler


@dataclass
class Inbox:
    """Messages, and when they came: a forward pass may have been running then."""

    queue: "queue.SimpleQueue[tuple[ToWorker, float]]" = field(default_factory=queue.SimpleQueue)
    on_arrival: Callable[[ToWorker], None] = lambda message: None
    """Called for each, in the thread that reads."""


def main() -> None:
    # Native libraries print to file descriptor 1, and one such line would corrupt the pipe: from here on it goes to stderr.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}  # nothing is looked up while serving
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the server decides when we end
    inbox = Inbox()
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()
    try:
        _serve(pipe, inbox)
    except PhiError as error:  # known before there was a model; the server need not try again
        _emit(pipe, Failed(None, str(error)))
    except BrokenPipeError:
        pass
    except BaseException:  # the server sees the pipe end, and starts a new process
        traceback.print_exc()
    os._exit(1)  # runtimes have been seen to abort or hang in their destructors


def _read(stdin: BinaryIO, inbox: Inbox) -> None:
    try:
        for line in stdin:
            message = decode(line)
            inbox.queue.put((message, time.perf_counter()))
            inbox.on_arrival(message)
    except Exception:
        traceback.print_exc()
    os._exit(0)


def _serve(pipe: BinaryIO, inbox: Inbox) -> None:
    request, _ = inbox.queue.get()
    if not isinstance(request, Load):
        raise EngineError("The first message to the engine process must be Load.")
    scheduler = _load(pipe, request)
    inbox.on_arrival = scheduler.interrupt_for
    while True:
        try:
            message, arrived = inbox.queue.get(timeout=scheduler.pause_s if scheduler.busy else None)
        except queue.Empty:
            scheduler.step()
            continue
        if isinstance(message, Generate):
            scheduler.submit(message, arrived)
        elif isinstance(message, Cancel):
            scheduler.cancel(message)


def _load(pipe: BinaryIO, request: Load) -> Scheduler:
    started = time.perf_counter()

    def progress(stage: str) -> None:
        _emit(pipe, Loading(stage))

    engine, reason = _first_that_loads(request, progress)
    scheduler = Scheduler(engine, lambda message: _emit(pipe, message))
    scheduler.measure()
    info = asdict(replace(engine.info, reason=reason))
    _emit(pipe, Loaded(**info, load_ms=1000 * (time.perf_counter() - started), **vars(scheduler.speed)))
    return scheduler


def _first_that_loads(request: Load, progress: Progress) -> tuple[Engine, str]:
    """The engine, and why it: a fallback is never silent."""
    reasons = []
    for choice in (ways := choices(request)):
        if choice.engine not in ENGINES:
            raise BadInput(f'There is no engine "{choice.engine}". Choose one of: auto, {", ".join(ENGINES)}.')
        progress(f"starting {choice.engine}")
        try:
            engine: Engine = importlib.import_module(ENGINES[choice.engine]).load(choice.model, choice.device, request.options, progress)
        except PhiError as error:
            if choice is ways[-1]:
                raise
            reasons.append(f"{choice.model} with {choice.engine} on {choice.device} failed ({error})")
        else:
            reasons += [choice.reason, "" if choice.measured else engine.info.reason]  # by name is how what was measured is asked for
            return engine, "; ".join(filter(None, reasons))
    raise AssertionError  # there is always a choice


def _emit(pipe: BinaryIO, message: FromWorker) -> None:
    pipe.write(encode(message))
    pipe.flush()


if __name__ == "__main__":
    main()
