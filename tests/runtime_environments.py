"""Environments for runtimes that can share one with nothing else here, kept for the next run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phi_backends.elsewhere import python_of

OTHERS = Path(__file__).parents[1] / ".venv-runtimes" / "others"


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment with these packages. Skips where it cannot be made; PHI_LS_TEST_<NAME> may name one that is there."""
    given = os.environ.get(f"PHI_LS_TEST_{name.upper().replace('-', '_')}")
    python = Path(given) if given else python_of(OTHERS / name)
    made = OTHERS / name / "made"
    if given or (made.is_file() and made.read_text() == " ".join(packages)):
        return python
    for command in ([sys.executable, "-m", "venv", str(OTHERS / name)], [str(python), "-m", "pip", "install", "--quiet", *packages]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the environment for {name} cannot be made: {done.stderr.strip().splitlines()[-1]}")
    made.write_text(" ".join(packages))
    return python
