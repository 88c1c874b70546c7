"""`phi-ls doctor`: what is installed, what `auto` may choose among and how fast that is, what it takes, whether that loads, and how to mend
what is missing.

Looks for devices in a process of its own (phi_backends.probe) and loads the model in the real engine process, as an editor would.
"""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import anyio

from phi_backends.auto import Candidate, choices, for_answers
from phi_backends.client import Client
from phi_backends.errors import EngineError, PhiError
from phi_server.measuring import allowed, measured, probed
from phi_server.runtimes import listed
from phi_server.settings import Settings


async def examine(settings: Settings, on_progress: Callable[[str], None], *, measures: bool = False) -> dict[str, Any]:
    """The report: plain values, `ready` being whether the engine of these settings answers. `measures`: what was not measured yet is."""
    found = await probed()
    problems = [found["problem"]] if found.get("problem") else []
    candidates = allowed(settings, found)
    if measures:
        for candidate in candidates:
            if not candidate.problem and candidate.measured is None:
                on_progress(f"Measuring {candidate.model} with {candidate.engine} on {candidate.device}")
                await measured(candidate, on_progress)
        candidates = allowed(settings, found)
    engine: dict[str, Any] = {}
    client = Client(settings.load(), lambda status: on_progress(status.detail))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        try:
            engine = vars(await client.loaded())
        except EngineError as error:
            problems.append(str(error))
        tasks.cancel_scope.cancel()
    on_progress("")
    return {
        "ready": bool(engine),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": found["packages"],
        "devices": found["devices"],
        "runtimes": listed(),
        "candidates": [_candidate(each) for each in candidates],
        "answers": _answers(settings),
        "engine": engine,
        "problems": problems,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    """With `suggestion_ms` and `answer_ms` where they are known."""
    known = candidate.measured if candidate.measured is not None and not candidate.measured.failed else None
    times = {"suggestion_ms": known.suggestion_ms, "answer_ms": known.answer_ms} if known is not None else {}
    return {**asdict(candidate), **times}


def _answers(settings: Settings) -> dict[str, str]:
    """What is asked for explanations and edits, where that is another engine process: engine, model, device, reason."""
    try:
        load = for_answers(settings.load())
        best = None if load is None else choices(load)[0]
    except PhiError:
        return {}  # loading says the same
    return {} if best is None else {name: getattr(best, name) for name in ("engine", "model", "device", "reason")}


def to_text(report: dict[str, Any]) -> str:
    """The report for people."""
    engine, answers = report["engine"], report["answers"]
    rows = [
        ("System", f"{report['system']}, Python {report['python']}"),
        *(("Package", f"{name} {version or '(not installed)'}") for name, version in report["packages"].items()),
        *(
            ("Device", f"{device['name']}: {device['description']}{', driver ' + device['driver'] if device['driver'] else ''}")
            for device in report["devices"]
        ),
        *(("Runtime", f"{name}: {where}") for name, where in report["runtimes"].items()),
        *(("Choice", row) for row in _table(report["candidates"])),
    ]
    if any(not each["problem"] and each["measured"] is None for each in report["candidates"]):
        rows.append(("", "phi-ls doctor --measure measures what was not measured yet; `auto` then chooses by it."))
    if engine:
        rows += [
            ("Engine", f"{engine['engine']} on {engine['device']}: {engine['reason']}"),
            ("Model", f"{engine['model']}, {engine['context_tokens']} tokens of context, loaded in {engine['load_ms'] / 1000:.1f} s"),
        ]
    if answers:
        rows.append(("Answers", f"explanations and edits by {answers['model']} with {answers['engine']}: {answers['reason']}"))
    rows += [("Problem", problem) for problem in report["problems"]]
    rows.append(("Result", "phi-ls is ready." if report["ready"] else "phi-ls cannot answer yet: see the problems above."))
    return "\n".join(f"{label:8} {text}".rstrip() for label, text in rows)


def _table(candidates: Sequence[dict[str, Any]]) -> list[str]:
    """What, where, how fast, or why not."""
    width = max((len(each["model"]) for each in candidates), default=0)
    return [f"{each['model']:{width}}  {each['engine']:9} {each['device']:5}  {_speed(each)}" for each in candidates]


def _speed(candidate: dict[str, Any]) -> str:
    if candidate["problem"]:
        return str(candidate["problem"])
    if "suggestion_ms" not in candidate:
        return "not measured yet"
    return (
        f"a suggestion {candidate['suggestion_ms'] / 1000:.2g} s, a long explanation {candidate['answer_ms'] / 1000:.2g} s, "
        f"memory {candidate['measured']['peak_memory_bytes'] / 1e9:.1f} GB, load {candidate['measured']['load_ms'] / 1000:.1f} s"
    )
