#!/usr/bin/env python3
"""The commands of this repository, with nothing but Python 3.11 or newer and a package index:

    python3 dev.py demo          see it work: completions and an explanation by a local model
    python3 dev.py test          ruff, mypy --strict, import-linter and all tests (--fast leaves the slow ones out)
    python3 dev.py editors       drive real editors; fetches them into `.editors` (Debian and npm packages, 1.7 GB); `--deep`: Kate, Helix
    python3 dev.py runtimes      what needs PyTorch: engines side by side, conversions, a toy model trained (in `.venv-runtimes`, 2 GB);
                                 `--deep`: engines that are compiled first (intel-npu, llama.cpp's server as `remote`), half an hour

Each makes `.venv` if needed and installs the pinned dependencies into it. Further arguments go to `phi-ls demo` or to pytest.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
EXTRAS = {"demo": "openvino", "test": "openvino,onnx,bench,dev", "editors": "openvino,dev", "runtimes": "train,openvino,onnx,dev"}
APART = sys.argv[1:2] == ["runtimes"]
"""What needs PyTorch needs older packages than the rest, so it has an environment of its own."""
VENV = ROOT / (".venv-runtimes" if APART else ".venv")
CONSTRAINTS = ROOT / ("tests/runtimes/constraints.txt" if APART else "constraints.txt")
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


def main() -> int:
    command, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if command not in EXTRAS:
        print(__doc__)
        return 0 if command in ("-h", "--help", "help") else 2
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one gets a sentence
        print(f"phi-ls needs Python 3.11 or newer; this is {sys.version.split()[0]}. Run dev.py with a newer one.", file=sys.stderr)
        return 2
    if not install(EXTRAS[command]):
        return 2
    if command in ("editors", "runtimes"):
        marked = f"{command} and {'deep' if '--deep' in arguments else 'not deep'}"
        return run(PYTHON, "-m", "pytest", "-m", marked, f"tests/{command}", *(each for each in arguments if each != "--deep"))
    return run(PYTHON, "-P", "-m", "phi_server", "demo", *arguments) if command == "demo" else test(arguments)


def install(extras: str) -> bool:
    """Makes the environment and installs into it, unless that was done before with the same files. Says what it does."""
    wanted = extras + hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + CONSTRAINTS.read_bytes()).hexdigest()
    stamp = VENV / "installed"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") in (wanted, wanted.replace(extras, EXTRAS["test"], 1)):
        return True
    if not PYTHON.exists():
        say(f"Making a Python environment in {VENV}")
        try:
            venv.create(VENV, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"That failed ({error}). On Debian: apt install python3-venv; then delete .venv and try again.", file=sys.stderr)
            return False
    size = "2 GB, most of it PyTorch" if APART else "about 300 MB, most of it OpenVINO"
    say(f"Installing phi-ls with [{extras}] into it ({size}; once)")
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", CONSTRAINTS)
    if run(*pip, "-e", f"{ROOT}[{extras}]"):
        print("Installing failed; pip says why above. Without a network, give pip a local index and try again.", file=sys.stderr)
        return False
    stamp.write_text(wanted, encoding="utf-8")
    return True


def test(arguments: list[str]) -> int:
    """Every check, all of them even when one fails. Returns the number of those that failed."""
    if "--fast" in arguments:
        arguments = ["-m", "not slow", *(argument for argument in arguments if argument != "--fast")]
    checks: dict[str, list[str | Path]] = {
        "ruff check": [BIN / "ruff", "check", "."],
        "ruff format": [BIN / "ruff", "format", "--check", "."],
        "mypy": [BIN / "mypy"],
        "import-linter": [BIN / "lint-imports"],
        "pytest": [PYTHON, "-m", "pytest", *arguments],
    }
    failed = []
    for name, command in checks.items():
        say(name)
        if run(*command):
            failed.append(name)
    say("Failed: " + ", ".join(failed) if failed else "All checks passed")
    return len(failed)


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def run(*command: str | Path) -> int:
    """Runs it in the root of the repository, with its output on this terminal. Returns its exit code."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
