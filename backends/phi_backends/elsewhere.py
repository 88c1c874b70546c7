"""Engines that live in an environment of their own: where that is, and how the engine process is started there.

Run as a script, this file is the engine process of such an environment, which does not have phi-ls. `python -P elsewhere.py FOLDER…` takes
phi_backends and phi_prompts, and nothing else, from those folders; so no package of the other environment comes along.

Not here: making the environments (phi_server/runtimes.py).
"""

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

OURS = ("phi_backends", "phi_prompts")
HAVE_THEIR_OWN = ("intel-npu",)
"""Engines that run in an environment of their own, which has their name."""


def runtimes_folder() -> Path:
    from phi_backends.cache_folder import cache_folder

    return cache_folder() / "runtimes"


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_installed(engine: str) -> bool:
    return python_of(runtimes_folder() / engine).is_file()


def worker_command(engine: str, python: str | None) -> list[str]:
    """How to start the engine process. `python`: the interpreter, where it is given; else that of the engine's own environment, if it has
    one that is installed, or this one, whose engine then says what is missing."""
    if python is None and engine in HAVE_THEIR_OWN and is_installed(engine):
        python = str(python_of(runtimes_folder() / engine))
    if python is None or python == sys.executable:
        return [sys.executable, "-P", "-m", "phi_backends.worker"]
    return [python, "-P", __file__, *_folders()]


def _folders() -> list[str]:
    """Those that hold our packages: one where phi-ls is installed, several in a checkout."""
    found = [spec.submodule_search_locations for name in OURS if (spec := find_spec(name)) is not None]
    return list(dict.fromkeys(str(Path(places[0]).parent) for places in found if places))


class _Finder:
    """Finds our packages, and leaves all others to the environment."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = folders

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, list(self._folders), target) if name in OURS else None


if __name__ == "__main__":
    sys.meta_path.insert(0, _Finder(sys.argv[1:]))
    runpy.run_module("phi_backends.worker", run_name="__main__")
