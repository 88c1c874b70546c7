"""`phi-ls doctor`: what is installed, what it can run on, whether the model loads, and how to mend what is missing.

Looks for devices in a process of its own (phi_backends.probe) and loads the model in the real engine process, as an editor would.
"""

import json
import platform
import sys
from typing import Any

import anyio

from phi_backends.client import Client
from phi_backends.errors import EngineError
from phi_server.settings import Settings


async def examine(settings: Settings) -> dict[str, Any]:
    """The report: plain values, `ready` being whether the engine of these settings answers."""
    probed = await anyio.run_process([sys.executable, "-P", "-m", "phi_backends.probe"], check=False)
    found: dict[str, Any] = json.loads(probed.stdout) if probed.returncode == 0 else {"packages": {}, "devices": []}
    problems = [found["problem"]] if found.get("problem") else []
    if probed.returncode:
        problems.append(f"Looking for devices crashed (exit code {probed.returncode}): update the drivers of GPU and NPU.")
    engine: dict[str, Any] = {}
    client = Client(settings.load())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        try:
            engine = vars(await client.loaded())
        except EngineError as error:
            problems.append(str(error))
        tasks.cancel_scope.cancel()
    return {
        "ready": bool(engine),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": found["packages"],
        "devices": found["devices"],
        "engine": engine,
        "problems": problems,
    }


def to_text(report: dict[str, Any]) -> str:
    """The report for people."""
    engine = report["engine"]
    rows = [
        ("System", f"{report['system']}, Python {report['python']}"),
        *(("Package", f"{name} {version or '(not installed)'}") for name, version in report["packages"].items()),
        *(("Device", f"{device['name']}: {device['description']}") for device in report["devices"]),
    ]
    if engine:
        rows += [
            ("Engine", f"{engine['engine']} on {engine['device']}: {engine['reason']}"),
            ("Model", f"{engine['model']}, {engine['context_tokens']} tokens of context, loaded in {engine['load_ms'] / 1000:.1f} s"),
        ]
    rows += [("Problem", problem) for problem in report["problems"]]
    rows.append(("Result", "phi-ls is ready." if report["ready"] else "phi-ls cannot answer yet: see the problems above."))
    return "\n".join(f"{label:8} {text}" for label, text in rows)
