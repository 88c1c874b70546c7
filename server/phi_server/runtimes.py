"""`phi-ls runtimes`: environments for engines that cannot share one with the others. Today that is `intel-npu` alone.

Each is a Python environment in the user's cache folder, made where somebody asks for it and says yes. It is made in `NAME.part`, where an
installation that was broken off goes on the next time, and gets its name when the runtime can be imported.

Not here: how the engine process is started in one (phi_backends/elsewhere.py).
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from phi_backends.elsewhere import HAVE_THEIR_OWN, is_installed, python_of, runtimes_folder
from phi_backends.errors import BadInput, EngineError
from phi_backends.model_folder import PART

LIBRARY = "intel-npu-acceleration-library==1.4.0"
PACKAGES = (
    "torch==2.13.0",
    "transformers==4.53.3",  # up to 4.43 it lacks what Phi-3 needs, and newer ones were not tried
    "neural-compressor==3.3.1",  # the newest that has the part that the library imports
    "six",  # which that package uses and does not name
    "openvino==2024.4.0",  # what the library is built against; its type numbers are one off with newer ones
)
BUILD_PACKAGES = ("cmake>=3.27", "ninja", "wheel", "setuptools<80")
PYTHONS = ((3, 11), (3, 12))
"""phi-ls wants 3.11, and openvino 2024.4.0 and the library have no packages for newer ones than 3.12."""
GIGABYTES = 3
"""On the disk, measured 2.3 with a torch for the CPU alone."""
ABOUT = f"""This makes a Python environment for Intel's NPU Acceleration Library, which its makers have archived: what is wrong with it will
stay wrong, and OpenVINO on the NPU (engine openvino, device NPU) is its successor.
It fetches, from pip's package index: {LIBRARY}, {", ".join(PACKAGES)}.
On the disk that takes about {GIGABYTES} GB; more on Linux, where pip's torch comes with CUDA unless PIP_EXTRA_INDEX_URL names an index of
torch for the CPU. On Linux the library is then compiled, which takes minutes.
All of it goes into {{folder}}; nothing else is changed."""


def install(name: str, python: str | None, confirmed: Callable[[str], bool]) -> Path:
    """Makes the environment, or goes on with one that was broken off, and returns its folder. Raises BadInput, EngineError."""
    folder = _folder(name)
    if is_installed(name):
        raise BadInput(f"{name} is installed already, in {folder}. To make it anew, first: phi-ls runtimes remove {name}")
    base = python or sys.executable
    _check(base)
    if not confirmed(ABOUT.format(folder=folder)):
        raise BadInput("Nothing was installed.")
    part = folder.with_name(folder.name + PART)
    part.parent.mkdir(parents=True, exist_ok=True)
    steps: list[tuple[str, list[str], dict[str, str]]] = []
    inside = str(python_of(part))
    if not Path(inside).is_file():
        steps.append(("Making the environment", [base, "-m", "venv", str(part)], {}))
    pip = [inside, "-m", "pip", "install", "--disable-pip-version-check"]
    if sys.platform == "win32":
        steps.append(("Fetching the packages", [*pip, *PACKAGES, LIBRARY], {}))
    else:
        # All at once, as pip would find a neural-compressor that does not fit when it installed the library alone.
        steps.append(("Fetching the packages", [*pip, *PACKAGES, *BUILD_PACKAGES], {}))
        steps.append(("Compiling the library", [*pip, "--no-deps", "--no-build-isolation", LIBRARY], _build_settings(part)))
    steps.append(("Trying it", [inside, "-P", "-c", "import intel_npu_acceleration_library"], {}))
    for number, (what, command, settings) in enumerate(steps, start=1):
        print(f"{number} of {len(steps)}: {what}", file=sys.stderr, flush=True)
        if what == "Compiling the library":
            _shape_openvino(part)
        _run(name, what, command, settings)
    shutil.rmtree(_openvino_archive(part), ignore_errors=True)
    part.rename(folder)
    return folder


def remove(name: str) -> list[Path]:
    """Deletes the environment and what there is of an unfinished one; returns what was deleted. Raises BadInput."""
    folder = _folder(name)
    there = [each for each in (folder, folder.with_name(folder.name + PART)) if each.is_dir()]
    if not there:
        raise BadInput(f"{name} is not installed.")
    for each in there:
        shutil.rmtree(each)
    return there


def listed() -> dict[str, str]:
    """Each runtime that has an environment of its own, and where that is or how to make it."""
    return {name: _state(name) for name in HAVE_THEIR_OWN}


def _state(name: str) -> str:
    folder = runtimes_folder() / name
    if is_installed(name):
        return str(folder)
    begun = "begun and not finished" if folder.with_name(name + PART).is_dir() else "not installed"
    return f"{begun}: phi-ls runtimes install {name}"


def _folder(name: str) -> Path:
    if name not in HAVE_THEIR_OWN:
        raise BadInput(f'There is no runtime "{name}" to be installed so. There is: {", ".join(HAVE_THEIR_OWN)}.')
    return runtimes_folder() / name


def _check(python: str) -> None:
    """Raises BadInput when this machine cannot make the environment."""
    if sys.platform not in ("linux", "win32"):
        raise BadInput("Intel's NPU Acceleration Library runs on Windows and Linux only. Choose another engine.")
    try:
        asked = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True)
        version = tuple(int(number) for number in asked.stdout.split())
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise BadInput(f"{python} cannot be run ({error}). Name the Python to use with --python.") from error
    if version not in PYTHONS:
        raise BadInput(
            f"{python} is Python {version[0]}.{version[1]}, for which the library has no packages. Name a 3.11 or 3.12 with --python."
        )
    if sys.platform == "linux" and not (shutil.which("c++") or shutil.which("g++")):
        raise BadInput("The library has to be compiled here, and there is no C++ compiler. On Debian: apt install g++")
    runtimes_folder().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(runtimes_folder()).free
    if free < GIGABYTES * 1e9:
        raise BadInput(f"The disk of {runtimes_folder()} has {free / 1e9:.1f} GB free, and this takes about {GIGABYTES}. Make room.")


def _run(name: str, what: str, command: Sequence[str], settings: dict[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **settings}, stdout=sys.stderr, check=False)
    if done.returncode:
        raise EngineError(
            f"{what} failed (exit code {done.returncode}), and says why above. What there is stays; to go on: phi-ls runtimes install "
            f"{name}. To give up: phi-ls runtimes remove {name}"
        )


def _build_settings(environment: Path) -> dict[str, str]:
    """CMake takes a file of settings from this variable; so the library's own build needs no change."""
    return {
        "CMAKE_TOOLCHAIN_FILE": str(_openvino_archive(environment) / "settings.cmake"),
        "CMAKE_GENERATOR": "Ninja",
        "PATH": f"{python_of(environment).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def _openvino_archive(environment: Path) -> Path:
    return environment / "openvino-archive"


def _shape_openvino(environment: Path) -> None:
    """Gives pip's OpenVINO the shape of the archive that the library's build would fetch from elsewhere."""
    openvino = next(environment.glob("lib/python3.*/site-packages/openvino"))
    archive = _openvino_archive(environment)
    shutil.rmtree(archive, ignore_errors=True)
    libraries = archive / "runtime" / "lib" / "intel64"
    libraries.mkdir(parents=True)
    for file in (openvino / "libs").glob("*.so*"):
        (libraries / file.name).symlink_to(file)
        if file.name.startswith("libopenvino.so."):
            (libraries / "libopenvino.so").symlink_to(file)
    for name in ("cmake", "include", "libs"):
        (archive / "runtime" / name).symlink_to(openvino / name)
    (archive / "python").mkdir()
    (archive / "python" / "openvino").symlink_to(openvino)
    (archive / "settings.cmake").write_text(
        f'set(FETCHCONTENT_SOURCE_DIR_OPENVINO "{archive}" CACHE PATH "")\n'
        f'set(OpenVINO_DIR "{openvino / "cmake"}" CACHE PATH "")\n'
        'set(OV_LIBRARY_URL "not fetched" CACHE STRING "")\n',
        encoding="utf-8",
    )


def add_commands(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        added.set_defaults(run_runtimes=run)
        return added

    action("list", _list, "the runtimes that have environments of their own, and where those are")
    installing = action("install", _install, "make the environment of one; an installation that was broken off goes on where it was")
    for each in (installing, action("remove", _remove, "delete the environment of one")):
        each.add_argument("name", help=", ".join(HAVE_THEIR_OWN))
    installing.add_argument("--python", metavar="PATH", help="the Python to make it with, 3.11 or 3.12 (default: this one)")
    installing.add_argument("--yes", action="store_true", help="do not ask first")


def _list(options: argparse.Namespace) -> int:
    print("\n".join(f"{name:12} {state}" for name, state in listed().items()))
    return 0


def _install(options: argparse.Namespace) -> int:
    print(install(options.name, options.python, lambda about: options.yes or _says_yes(about)))
    return 0


def _says_yes(about: str) -> bool:
    print(about, file=sys.stderr)
    if not sys.stdin.isatty():
        raise BadInput("Nobody can be asked here. If it is meant, say so: --yes")
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def _remove(options: argparse.Namespace) -> int:
    for folder in remove(options.name):
        print(f"Removed {folder}")
    return 0
