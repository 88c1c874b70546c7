"""What `auto` may choose among on this machine, and measuring that once. For `phi-ls doctor`, and for the server.

The server measures while its own model is unloaded for lack of use and the machine is on mains power: so nobody waits for it, and there
are never two models in memory for its sake. What is found is used by the next load.

Not here: how it is chosen (phi_backends/auto.py), how it is measured (bench_engine.py).
"""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio

from phi_backends import measurements
from phi_backends.auto import AUTO, Candidate, candidates
from phi_backends.errors import PhiError
from phi_backends.measurements import DISTRIBUTIONS, PROMPT_TOKENS, Measurement
from phi_backends.messages import Load
from phi_backends.model_folder import find, here
from phi_server.settings import Settings

logger = logging.getLogger(__name__)

AT_MOST_S = 900.0
"""An NPU compiles a full-size model for minutes, the first time."""


async def probed() -> dict[str, Any]:
    """What phi_backends.probe finds, in a process of its own: drivers may crash."""
    done = await anyio.run_process([sys.executable, "-P", "-m", "phi_backends.probe"], check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    problem = f"Looking for devices crashed (exit code {done.returncode}): update the drivers of GPU and NPU."
    return {"packages": {}, "devices": [], "problem": problem}


def allowed(settings: Settings, found: dict[str, Any]) -> list[Candidate]:
    """What these settings let `auto` choose among, with what cannot be."""
    listed = candidates([*here()] if settings.model == AUTO else [settings.model], found)
    asked = ((settings.engine, "engine"), (settings.device, "device"))
    return [each for each in listed if all(wanted == AUTO or wanted.lower() == getattr(each, name).lower() for wanted, name in asked)]


async def measured(candidate: Candidate, on_progress: Callable[[str], None] = lambda doing: None) -> Measurement:
    """Loads the model, has it answer for two seconds, and keeps what was found, also when it fails. Raises OSError when that cannot be
    written."""
    from phi_server.bench_engine import measure  # 20 ms, which a server that starts has no use for

    folder = find(candidate.model)
    what = Measurement(
        candidate.engine, str(folder.path), candidate.device, measurements.conditions(candidate.engine, folder), candidate.driver
    )
    try:
        with anyio.fail_after(AT_MOST_S):
            figures = await measure(Load(candidate.engine, what.model, candidate.device), [PROMPT_TOKENS], on_progress, with_keys=False)
        (at,) = figures.lengths
        what = replace(
            what,
            load_ms=figures.load_ms,
            first_token_ms=at.first_token_ms,
            token_ms=at.token_ms,
            peak_memory_bytes=figures.peak_memory_bytes,
        )
    except PhiError as error:
        what = replace(what, failed=str(error))
    except TimeoutError:
        what = replace(what, failed=f"There was no answer within {AT_MOST_S / 60:.0f} minutes.")
    measurements.add(what)
    return what


async def measure_unknown(settings: Settings) -> None:
    """Measures what `auto` may choose among and was not measured yet, one after the other; nothing where there is no choice."""
    if settings.engine not in (AUTO, *DISTRIBUTIONS):
        return  # an engine that brings its model
    able = [candidate for candidate in allowed(settings, await probed()) if not candidate.problem]
    for candidate in able if len(able) > 1 else []:
        if candidate.measured is None:
            logger.info("Measuring %s with %s on %s, as nothing else is to be done.", candidate.model, candidate.engine, candidate.device)
            await measured(candidate)
