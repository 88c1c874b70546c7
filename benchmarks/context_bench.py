"""How long it takes to gather what a prompt says of the project, with CPython's own library as the workspace.

    python benchmarks/context_bench.py

`cold`: nothing was looked at before; `again`: the cursor has moved on, what was read is remembered; `kept`: one types on. Medians, in
milliseconds of a process that shares its cores as the machine does.
"""

import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from phi_prompts.signatures import import_lines, signatures
from phi_prompts.similarity import chunks
from phi_server.documents import Position, Snapshot
from phi_server.redact import redacted_line
from phi_server.related import Related
from phi_server.workspace_files import WorkspaceFiles

LIBRARY = Path(sysconfig.get_path("stdlib"))
OPEN = ["asyncio/base_events.py", "argparse.py", "tarfile.py", "typing.py", "inspect.py", "logging/__init__.py", "subprocess.py"]
PLACES = [("asyncio/streams.py", 300), ("shutil.py", 700), ("json/decoder.py", 200), ("unittest/mock.py", 1500)]
LONG = ["_pydecimal.py", "turtle.py"]
"""Together more than 10,000 lines."""
ROUNDS = 7


def snapshot(path: Path, text: str | None = None) -> Snapshot:
    return Snapshot.of_text(path.as_uri(), 1, "python", path.read_text(encoding="utf-8") if text is None else text)


def measure() -> dict[str, float]:
    """Milliseconds by name."""
    others = {(LIBRARY / name).as_uri(): snapshot(LIBRARY / name) for name in OPEN}
    long = snapshot(LIBRARY / "_long.py", "".join((LIBRARY / name).read_text(encoding="utf-8") for name in LONG))
    places = [(snapshot(LIBRARY / name), line) for name, line in PLACES] + [(long, 9000)]
    times: dict[str, list[float]] = {"cold": [], "again": [], "kept": []}
    for _ in range(ROUNDS):
        for document, line in places:
            related = Related(WorkspaceFiles([LIBRARY]))
            redacted_line.cache_clear()
            for name, at in (("cold", line), ("again", line - 100), ("kept", line - 101)):
                times[name].append(_ms(lambda: related.at(document, Position(at, 0), others)))  # noqa: B023
    found = {name: statistics.median(all_of_it) for name, all_of_it in times.items()}
    found["cold, at worst"] = max(times["cold"])
    pure: list[tuple[str, Callable[[], object]]] = [
        ("imports of 10,000 lines", lambda: import_lines(long.lines, "python")),
        ("signatures of 10,000 lines", lambda: signatures(long.lines, "python", (), 2000)),
        ("pieces of 8,000 lines", lambda: chunks("a.py", "python", long.lines[:8000])),
    ]
    return found | {name: statistics.median(_ms(work) for _ in range(ROUNDS)) for name, work in pure}


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    for name, ms in measure().items():
        print(f"{name:28} {ms:8.2f} ms")
