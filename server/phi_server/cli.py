"""The command line: `phi-ls serve`, `complete`, `explain`, `doctor`, `models`, `runtimes`, `demo`, `bench`, `eval`.

Lines and characters are counted from 1, as editors show them. Bad input gets one sentence with the remedy on stderr and exit code 2,
an internal failure 1. Progress goes to stderr, and only to a terminal.

Not here: what a completion or an explanation is (inline_completion.py, explanation.py); the same code serves editors.
"""

import argparse
import asyncio
import importlib.metadata
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import anyio

from phi_backends.client import Client
from phi_backends.errors import BadInput, PhiError
from phi_backends.messages import Loaded
from phi_server import models, runtimes
from phi_server.documents import Position, Range, Snapshot, language_of
from phi_server.explanation import explain
from phi_server.inline_completion import complete
from phi_server.settings import Settings, parse

_HELP = {setting.name: setting.metadata["help"] for setting in fields(Settings)}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        code = options.run(options)
    except PhiError as error:
        print(f"phi-ls: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        logging.getLogger(__name__).debug("The failure:", exc_info=True)
        print(f"phi-ls failed unexpectedly ({type(error).__name__}: {error}). --log-level debug says where.", file=sys.stderr)
        code = 1
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="phi-ls", description=importlib.metadata.metadata("phi-ls")["Summary"])
    parser.add_argument("--version", action="version", version=f"phi-ls {importlib.metadata.version('phi-ls')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        added.set_defaults(run=run)
        added.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"), help="of the log on stderr")
        return added

    serve = command("serve", _serve, "run the language server on stdin and stdout, for an editor")
    serve.add_argument("--stdio", action="store_true", help="the default; editors like to say so")
    serve.add_argument("--tcp", type=int, metavar="PORT", help="listen on this port of this machine instead, for debugging")

    completing = command("complete", _complete, "complete the code at a place in a file")
    completing.add_argument("file", type=Path)
    completing.add_argument("--line", type=int, required=True, help="from 1")
    completing.add_argument("--character", type=int, required=True, help="from 1; the cursor stands before this character")

    explaining = command("explain", _explain, "explain lines of a file")
    explaining.add_argument("file", type=Path)
    explaining.add_argument("--lines", required=True, metavar="A-B", help="from 1; B included")

    doctor = command("doctor", _doctor, "say what is installed, what it can run on, what is missing and how to mend it")
    doctor.add_argument("--measure", action="store_true", help="measure what was not measured yet, some seconds each; `auto` chooses by it")
    models.add_commands(command("models", lambda options: int(options.run_models(options)), "list, fetch, convert, check, remove models"))
    runtimes.add_commands(
        command("runtimes", lambda options: int(options.run_runtimes(options)), "make environments for engines that need one of their own")
    )
    demo = command("demo", _demo, "show it at work: completions and an explanation, typed into a sample project")
    demo.add_argument("--quick", action="store_true", help="type without pauses")
    evaluating = command("eval", _eval, "measure how good suggestions are, on infilling cases or on a folder's own lines")
    evaluating.add_argument("set", type=Path, help="a folder with source files, or a file in the form of HumanEval-infilling")
    evaluating.add_argument("--limit", type=int, default=200, help="cases at most (default: 200)")
    evaluating.add_argument("--seed", type=int, default=1, help="of the choice of cases (default: 1)")
    evaluating.add_argument("--results", type=Path, metavar="FILE", help="one JSON line a case; a run that was broken off goes on from it")
    evaluating.add_argument("--compare", type=Path, metavar="FILE", help="the results of another run, to be set against this one")
    evaluating.add_argument("--min-probability", type=float, help=_HELP["min_probability"])
    evaluating.add_argument("--replay", action="store_true", help="no model: the right answers in each bad habit of chat models")
    evaluating.add_argument("--copy", action="store_true", help="no model: the baseline that copies from the same file")
    stats = command("stats", _stats, "show what became of suggestions on this machine")
    stats.add_argument("--json", action="store_true", help="print one JSON list")
    bench = command("bench", _bench, "measure how fast engines are, what the server adds to that, or what somebody who types gets")
    bench.add_argument("what", nargs="?", choices=("engine", "server", "typing"), default="engine", help="default: engine")
    bench.add_argument(
        "--against", action="append", default=[], metavar="KEY=VALUE,…", help="engine, typing: compare with this engine, model, device"
    )
    bench.add_argument("--lengths", type=_lengths, metavar="N,…", help="engine: of prompts, in tokens (default: 32 to 2048)")
    bench.add_argument("--picture", type=Path, metavar="FILE", help="engine, typing: draw the curves into this PNG")
    bench.add_argument("--file", type=Path, help="typing: the file whose text is typed, from the first definition behind a third of it on")
    bench.add_argument("--recording", type=Path, help='typing: recorded keys, a line {"after_ms": 130, "text": "x"} for each')
    bench.add_argument("--keys", type=int, default=250, help="typing: how many at most")
    bench.add_argument("--cancels", action="store_true", help="typing: as an editor that cancels at each key")
    bench.add_argument("--min-probability", type=float, help="typing: show no suggestion that is less likely")

    for each in (completing, explaining, doctor, bench, evaluating):
        each.add_argument("--json", action="store_true", help="print one JSON object")
    for each in (serve, completing, explaining, doctor, demo, bench, evaluating):
        each.add_argument("--engine", help=_HELP["engine"])
        each.add_argument("--model", help=_HELP["model"])
        each.add_argument("--device", help=_HELP["device"])
        each.add_argument("--engine-option", action="append", default=[], metavar="KEY=VALUE", help="of the engine; may be repeated")
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the options stand for. Raises BadInput."""
    values: dict[str, Any] = {key: getattr(options, key) for key in ("engine", "model", "device")}
    if options.model and Path(options.model).exists():
        values["model"] = str(Path(options.model).absolute())  # the engine process works in another folder
    values["engine_options"] = dict(_option(text) for text in options.engine_option)
    values["min_probability"] = getattr(options, "min_probability", None)
    settings, problems = parse(values)
    if problems:
        raise BadInput(problems[0])
    return settings


def _option(text: str) -> tuple[str, str | int | float | bool]:
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--engine-option takes KEY=VALUE, not {text!r}.")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return key, parsed if isinstance(parsed, str | int | float | bool) else value


def _serve(options: argparse.Namespace) -> int:
    from phi_server.app import serve  # pygls and lsprotocol take half a second, which only this command needs

    return asyncio.run(serve(settings_of(options), options.tcp))


def _complete(options: argparse.Namespace) -> int:
    snapshot = _read(options.file)
    cursor = _position(snapshot, options.line, options.character)

    async def run(client: Client, loaded: Loaded) -> int:
        completion = await complete(snapshot, cursor, client, settings_of(options), invoked=True)
        if options.json:
            _print_json(loaded, [(completion.text, completion.range)] if completion else [], completion.timings_ms if completion else {})
        elif completion:
            print(completion.text)
        else:
            print("phi-ls: The model suggests nothing here.", file=sys.stderr)
        return 0

    return _with_engine(options, run)


def _explain(options: argparse.Namespace) -> int:
    snapshot = _read(options.file)
    first, _, last = options.lines.partition("-")
    if not (first.isdigit() and (last or first).isdigit() and 1 <= int(first) <= int(last or first)):
        raise BadInput(f"--lines takes a first and a last line, such as 3-9, not {options.lines!r}.")
    _position(snapshot, int(last or first), 1)
    lines = Range(Position(int(first) - 1, 0), Position(int(last or first) - 1, len(snapshot.line(int(last or first) - 1))))

    async def run(client: Client, loaded: Loaded) -> int:
        explained = explain(snapshot, lines, client, settings_of(options))
        text = ""
        async for piece in explained:
            text += piece
            if not options.json:
                print(piece, end="", flush=True)
        if options.json:
            _print_json(loaded, [(text, lines)], explained.timings_ms)
        else:
            print()
        return 0

    return _with_engine(options, run, "answers")


def _doctor(options: argparse.Namespace) -> int:
    from phi_server import doctor

    with _progress() as show:
        report = asyncio.run(doctor.examine(settings_of(options), show, measures=options.measure))
    print(json.dumps(report) if options.json else doctor.to_text(report))
    return 0 if report["ready"] else 1


def _demo(options: argparse.Namespace) -> int:
    from phi_server import demo

    return asyncio.run(demo.run(_engine_arguments(options), quick=options.quick))


def _bench(options: argparse.Namespace) -> int:
    from phi_server import bench_engine, bench_picture, bench_server, bench_typing

    if options.what == "server":
        report = asyncio.run(bench_server.measure(settings_of(options), _engine_arguments(options)))
        print(json.dumps(report) if options.json else bench_server.to_text(report))
        return 0
    loads = bench_engine.candidates(settings_of(options), options.against)
    if options.picture:
        bench_picture.check(options.picture)
    if options.what == "typing":
        name, text, keys = bench_typing.session(options.file, options.recording)
        how = keys[: options.keys], options.cancels, options.min_probability
        reports = [asyncio.run(bench_typing.measure(load, name, text, *how)) for load in loads]
        print(json.dumps({"runs": reports}) if options.json else bench_typing.to_text(reports))
        if options.picture:
            bench_typing.picture(options.picture, reports)
        return 0
    with _progress() as show:
        measured = asyncio.run(bench_engine.compare(loads, options.lengths or bench_engine.LENGTHS, show))
    print(json.dumps(bench_engine.to_json(measured)) if options.json else bench_engine.to_text(measured))
    if options.picture:
        bench_engine.picture(options.picture, measured)
    return 0


def _lengths(text: str) -> tuple[int, ...]:
    """Raises ValueError."""
    lengths = tuple(int(part) for part in text.split(","))
    if min(lengths) < 1:
        raise ValueError
    return lengths


def _stats(options: argparse.Namespace) -> int:
    from phi_server import stats

    print(json.dumps(stats.report(stats.file())) if options.json else stats.to_text(stats.file()))
    return 0


def _eval(options: argparse.Namespace) -> int:
    from phi_server import eval

    return eval.command(options, settings_of(options), _with_engine)


def _with_engine(
    options: argparse.Namespace, run: Callable[[Client, Loaded], Awaitable[int]], purpose: Literal["completions", "answers"] = "completions"
) -> int:
    """Runs `run` with an engine that is ready, and ends the engine."""
    load = replace(settings_of(options).load(), purpose=purpose)

    async def with_client() -> int:
        with _progress() as show:
            client = Client(load, lambda status: show(status.detail))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.run)
                loaded = await client.loaded()
                show("")
                code = await run(client, loaded)
                tasks.cancel_scope.cancel()
        return code

    try:
        return asyncio.run(with_client())
    except BaseExceptionGroup as group:  # the task group wraps even a single error
        raise group.exceptions[0] from None


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that tells what is being done and goes away; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda doing: None
        return

    def show(doing: str) -> None:
        print(f"\r\x1b[K{doing}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")


def _print_json(loaded: Loaded, items: Sequence[tuple[str, Range]], timings_ms: dict[str, float]) -> None:
    shown = [
        {
            "text": text,
            "range": {
                "start": {"line": range.start.line + 1, "character": range.start.character + 1},
                "end": {"line": range.end.line + 1, "character": range.end.character + 1},
            },
        }
        for text, range in items
    ]
    made_by = {"model": loaded.model, "engine": loaded.engine, "device": loaded.device}
    print(json.dumps({"items": shown, **made_by, "timings_ms": timings_ms}))


def _read(file: Path) -> Snapshot:
    """The file as an editor would have it. Raises BadInput."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f'"{file}" cannot be read ({error.strerror}). Give the path of a source file.') from error
    except UnicodeDecodeError as error:
        raise BadInput(f'"{file}" is no UTF-8 text. Convert it first.') from error
    return Snapshot.of_text(file.absolute().as_uri(), None, language_of(file), text)


def _position(snapshot: Snapshot, line: int, character: int) -> Position:
    """A position given from 1. Raises BadInput when it is not in the file."""
    if not 1 <= line <= snapshot.last_line + 1:
        raise BadInput(f"There is no line {line}: the file has {snapshot.last_line + 1}. Lines are counted from 1.")
    length = len(snapshot.line(line - 1))
    if not 1 <= character <= length + 1:
        raise BadInput(f"Line {line} has no character {character}: it ends at {length + 1}. Characters are counted from 1.")
    return Position(line - 1, character - 1)


def _engine_arguments(options: argparse.Namespace) -> list[str]:
    """The options about the engine, to be given to another phi-ls."""
    arguments = [f"--{name}={getattr(options, name)}" for name in ("engine", "model", "device") if getattr(options, name)]
    return arguments + [f"--engine-option={option}" for option in options.engine_option]
