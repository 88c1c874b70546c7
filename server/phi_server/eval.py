"""`phi-ls eval`: how good the suggestions of an engine and a model are, on any set, as an editor would get them.

Each case goes through all of `complete`: gate, prompt, model, post-processing. One JSON line for each is written as it is done, so that a
run that was broken off goes on where it was. Not here: the sets (eval_sets.py), the program that runs tests (eval_tests.py).
"""

import argparse
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import comb
from pathlib import Path
from statistics import mean, median
from typing import Any, cast

import anyio

from phi_backends.client import Client
from phi_backends.errors import BadInput
from phi_backends.messages import Loaded
from phi_server.documents import Position, Snapshot
from phi_server.eval_replay import HABITS, Replay, copied
from phi_server.eval_sets import Case, read
from phi_server.eval_tests import passes
from phi_server.inline_completion import complete
from phi_server.local_completion import Guess, guess
from phi_server.settings import Settings
from phi_server.site import Site

THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Result:
    id: str
    shown: bool
    text: str
    exact: bool
    """Equal to what was there, but for blanks at the ends of lines."""
    similarity: float
    """1 - edit distance / length of the longer; 0 for silence."""
    passed: bool | None
    """Whether the case's own tests pass; None: it has none."""
    probability: float | None
    first_text_ms: float
    total_ms: float


@dataclass(frozen=True)
class Figures:
    """Of a run. Shares are of all cases, where not said otherwise."""

    cases: int
    suggestion_rate: float
    exact_match: float
    right_when_shown: float
    """Exact, or passed where the cases have tests, of those shown."""
    edit_similarity: float
    pass_at_1: float | None
    first_text_ms: float
    """Median, of those shown."""
    total_ms: float
    total_ms_p95: float


def command(
    options: argparse.Namespace,
    settings: Settings,
    with_engine: Callable[[argparse.Namespace, Callable[[Client, Loaded], Awaitable[int]]], int],
) -> int:
    """`phi-ls eval`. Raises BadInput."""
    cases = read(options.set, options.limit, options.seed)
    if not cases:
        raise BadInput(f'"{options.set}" holds no cases. Give a folder with source files, or a file of infilling cases.')
    if all(case.lines == 1 for case in cases):
        settings = replace(settings, max_completion_lines=1)
    if options.replay:
        habits = anyio.run(replay, cases, settings)
        print(json.dumps(_by_habit(habits)) if options.json else habits_to_text(habits))
        return 0
    before = read_results(options.compare) if options.compare else []
    if options.copy:
        _print(options, {"copy": anyio.run(baseline, cases, settings)}, before)
        return 0

    async def with_client(client: Client, loaded: Loaded) -> int:
        found = await run(cases, client, settings, options.results, _tell)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        _print(options, {loaded.model: found}, before)
        return 0

    return with_engine(options, with_client)


async def run(cases: Sequence[Case], client: Client, settings: Settings, results: Path | None, tell: Callable[[str], None]) -> list[Result]:
    """Asks `client` for each case that `results` does not hold yet. Raises BadInput when `results` is of something else."""
    loaded = await client.loaded()
    about = {"engine": loaded.engine, "model": loaded.model, "device": loaded.device, "settings": _relevant(settings)}
    done = await _resumed(results, about)
    found: list[Result] = []
    for number, case in enumerate(cases):
        if case.id not in done:
            done[case.id] = await judge(case, client, settings)
            if results is not None:
                async with await anyio.open_file(results, "a", encoding="utf-8") as file:
                    await file.write(json.dumps(asdict(done[case.id])) + "\n")
        found.append(done[case.id])
        tell(f"{number + 1} of {len(cases)}, {mean(result.exact for result in found):.1%} exact")
    return found


async def replay(cases: Sequence[Case], settings: Settings, habits: Iterable[str] = HABITS) -> dict[str, list[Result]]:
    """The results by habit, without their tests."""
    found: dict[str, list[Result]] = {}
    for habit in habits:
        answers = [cast(Client, Replay(HABITS[habit](case))) for case in cases]
        found[habit] = [await judge(case, client, settings, False, no_copy) for case, client in zip(cases, answers, strict=True)]
    return found


async def baseline(cases: Sequence[Case], settings: Settings) -> list[Result]:
    """The results of copying."""
    return [await judge(case, cast(Client, Replay(copied(case), "small")), settings, copies=no_copy) for case in cases]


def no_copy(snapshot: Snapshot, position: Position, site: Site) -> Guess | None:
    """For what is to be judged by itself."""
    return None


async def judge(
    case: Case,
    client: Client,
    settings: Settings,
    with_tests: bool = True,
    copies: Callable[[Snapshot, Position, Site], Guess | None] = guess,
) -> Result:
    """Asks for one case. Where several lines are wanted it counts as asked for by hand."""
    snapshot, cursor = case.document()
    started = time.perf_counter()
    found = await complete(snapshot, cursor, client, settings, invoked=case.lines > 1, local=copies)
    total_ms = 1000 * (time.perf_counter() - started)
    text = "" if found is None else found.text.replace("\r\n", "\n")
    suffix = case.suffix[found.range.end.character - found.range.start.character :] if found is not None else case.suffix
    passed = None
    if case.test and with_tests:
        program = f"{case.prefix}{text}{suffix}\n{case.test}"
        passed = await anyio.to_thread.run_sync(passes, program) if found is not None else False
    return Result(
        case.id,
        found is not None,
        text,
        found is not None and _same(text, case.reference),
        similarity(text, case.reference) if found is not None else 0.0,
        passed,
        None if found is None else found.probability,
        0.0 if found is None else found.timings_ms["first_text"],
        total_ms,
    )


def figures(results: Sequence[Result]) -> Figures:
    shown = [result for result in results if result.shown]
    tested = [result.passed for result in results if result.passed is not None]
    right = [result.exact if result.passed is None else result.passed for result in shown]
    times = sorted(result.total_ms for result in results)
    return Figures(
        len(results),
        len(shown) / max(1, len(results)),
        _mean(result.exact for result in results),
        _mean(right),
        _mean(result.similarity for result in results),
        _mean(tested) if tested else None,
        median([result.first_text_ms for result in shown] or [0.0]),
        median(times or [0.0]),
        times[int(0.95 * (len(times) - 1))] if times else 0.0,
    )


def calibration(results: Sequence[Result]) -> list[tuple[float, float, float]]:
    """(min_probability, share of cases that would be shown, share of those that are right); empty where no probabilities are known."""
    known = [result for result in results if result.probability is not None]
    found = []
    for least in THRESHOLDS if known else ():
        shown = [result for result in known if result.probability is not None and result.probability >= least]
        found.append((least, len(shown) / len(results), _mean(r.exact if r.passed is None else r.passed for r in shown)))
    return found


def compare(before: Sequence[Result], now: Sequence[Result]) -> dict[str, float]:
    """Of the cases in both: how many became right and wrong, and how likely such a difference is by chance (McNemar's exact test)."""
    old = {result.id: result for result in before}
    pairs = [(_right(old[result.id]), _right(result)) for result in now if result.id in old]
    better = sum(not was and is_ for was, is_ in pairs)
    worse = sum(was and not is_ for was, is_ in pairs)
    changed = better + worse
    tail = sum(comb(changed, count) for count in range(min(better, worse) + 1)) / 2**changed
    return {"cases": len(pairs), "became_right": better, "became_wrong": worse, "chance": min(1.0, 2 * tail)}


def similarity(text: str, reference: str) -> float:
    """1 - edit distance / length of the longer."""
    text, reference = text.strip(), reference.strip()
    row = list(range(len(reference) + 1))
    for at, character in enumerate(text, 1):
        before, row[0] = row[0], at
        for other, wanted in enumerate(reference, 1):
            before, row[other] = row[other], min(row[other] + 1, row[other - 1] + 1, before + (character != wanted))
    longest = max(len(text), len(reference))
    return 1 - row[-1] / longest if longest else 1.0


def read_results(file: Path) -> list[Result]:
    """Of a run. Raises BadInput."""
    try:
        *whole, _ = file.read_text(encoding="utf-8").split("\n")  # the last may be half written
        return [_result(line) for line in map(json.loads, whole) if "id" in line]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f'"{file}" holds no results of phi-ls eval. Give the file that --results has written.') from error


def to_text(named: dict[str, Figures], calibrated: Sequence[tuple[float, float, float]] = ()) -> str:
    """A table: a column for each run."""
    width = max(16, *(len(name) for name in named))
    lines = [f"{'':18}" + "".join(f"{name:>{width + 2}}" for name in named)]
    for field in fields(Figures):
        values = [getattr(one, field.name) for one in named.values()]
        if any(value is not None for value in values):
            lines.append(f"{field.name:18}" + "".join(f"{_shown(field.name, value):>{width + 2}}" for value in values))
    if calibrated:
        lines += ["", "min_probability   shown   right when shown"]
        lines += [f"{least:15.2f} {rate:7.1%} {right:18.1%}" for least, rate, right in calibrated]
    return "\n".join(lines)


def habits_to_text(found: dict[str, list[Result]]) -> str:
    """The share of exact answers for each habit."""
    lines = [f"{habit:42} {share:7.1%}" for habit, share in _by_habit(found).items()]
    return "\n".join([*lines, f"{'all':42} {exact_share(found):7.1%}"])


def exact_share(found: dict[str, list[Result]]) -> float:
    return _mean(result.exact for results in found.values() for result in results)


def _print(options: argparse.Namespace, named: dict[str, list[Result]], before: Sequence[Result]) -> None:
    ((name, found),) = named.items()
    columns = {name: figures(found), **({"compared with": figures(before)} if before else {})}
    calibrated = calibration(found)
    difference = compare(before, found) if before else None
    if options.json:
        tables = {name: asdict(one) for name, one in columns.items()}
        print(json.dumps({"figures": tables, "min_probability": calibrated, "difference": difference}))
        return
    print(to_text(columns, calibrated))
    if difference:
        right, wrong, chance = (difference[key] for key in ("became_right", "became_wrong", "chance"))
        print(f"\nOf {difference['cases']} cases in both {right} became right and {wrong} wrong; by chance: {chance:.2g}.")


def _by_habit(found: dict[str, list[Result]]) -> dict[str, float]:
    return {habit: _mean(result.exact for result in results) for habit, results in found.items()}


def _tell(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)


async def _resumed(results: Path | None, about: dict[str, Any]) -> dict[str, Result]:
    """What the file holds already, by id; a new file begins with a line about the run. A half-written last line is taken off."""
    if results is None:
        return {}
    file = anyio.Path(results)
    if not await file.exists():
        await file.write_text(json.dumps(about) + "\n", encoding="utf-8")
        return {}
    text = await file.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        await file.write_text(text, encoding="utf-8")
    first = text.split("\n", 1)[0]
    if not first or json.loads(first) != about:
        raise BadInput(f'"{results}" holds the results of another engine, model or settings. Give another file with --results.')
    return {result.id: result for result in read_results(results)}


def _relevant(settings: Settings) -> dict[str, object]:
    """The settings that change suggestions."""
    names = ("min_probability", "max_completion_tokens", "max_completion_lines")
    return {**{name: getattr(settings, name) for name in names}, "engine_options": dict(settings.engine_options)}


def _result(values: dict[str, Any]) -> Result:
    return Result(**{field.name: values[field.name] for field in fields(Result)})


def _right(result: Result) -> bool:
    return result.exact if result.passed is None else result.passed


def _same(text: str, reference: str) -> bool:
    return [line.rstrip() for line in text.rstrip().split("\n")] == [line.rstrip() for line in reference.rstrip().split("\n")]


def _mean(values: Iterable[float | bool | None]) -> float:
    known = [float(value) for value in values if value is not None]
    return mean(known) if known else 0.0


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value}" if name == "cases" else f"{value:.1f}" if "_ms" in name else f"{value:.1%}"
