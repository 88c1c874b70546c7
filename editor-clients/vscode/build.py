#!/usr/bin/env python3
"""Builds the VS Code extension: `python3 editor-clients/vscode/build.py` makes dist/phi-ls-VERSION.vsix. Needs Node 20, npm and pip.

The extension is put together in a folder of its own, from what is in this one and from three things that are generated: the settings,
which are the server's (one fact, one place), the version, and a copy of the server with its pure-Python dependencies. The embedded model is
not in it: it would be two thirds of the size, and most people will use another.
"""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAGE = ROOT / ".editors" / "vscode-extension"
MAX_BYTES = 3_000_000
PATHS = ("model", "engine_options")
"""Settings that a workspace must not decide about."""

sys.path[:0] = [str(ROOT / "server"), str(ROOT / "backends"), str(ROOT / "prompts")]
from phi_server.settings import SECTION, Settings  # noqa: E402


def schema() -> dict[str, Any]:
    """The server's settings as VS Code describes them."""
    properties = {}
    for known in fields(Settings):
        default, limits = getattr(Settings(), known.name), known.metadata
        described: dict[str, Any] = {"markdownDescription": limits["help"], "scope": "machine" if known.name in PATHS else "window"}
        if isinstance(default, Mapping):
            described |= {"type": "object", "default": dict(default), "additionalProperties": {"type": ["string", "number", "boolean"]}}
        else:
            names = {bool: "boolean", int: "integer", float: "number", str: "string"}
            described |= {"type": names[type(default)], "default": default}
        if "from" in limits:
            described |= {"minimum": limits["from"], "maximum": limits["to"]}
        if "one of" in limits:
            described["enum"] = list(limits["one of"])
        properties[f"{SECTION}.{known.name}"] = described
    return properties


def build() -> Path:
    """The path of the .vsix."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("Building the extension needs npm; there is none here.")
    if not (HERE / "node_modules").is_dir():
        _run(npm, "ci", "--ignore-scripts", "--no-fund", "--no-audit", "--no-progress")
    _run(npm, "run", "--silent", "check")
    _run(npm, "run", "--silent", "bundle")
    shutil.rmtree(STAGE, ignore_errors=True)
    shutil.copytree(HERE / "walkthrough", STAGE / "walkthrough")
    shutil.copytree(HERE / "out", STAGE / "out")
    shutil.copy(HERE / "README.md", STAGE)
    shutil.copy(ROOT / "LICENSE", STAGE)
    manifest = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    version = manifest["version"] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    manifest["contributes"]["configuration"]["properties"] |= schema()
    del manifest["scripts"], manifest["devDependencies"]
    (STAGE / "package.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    _bundle_server(STAGE / "bundled" / "libs")
    vsix = ROOT / "dist" / f"phi-ls-{version}.vsix"
    vsix.parent.mkdir(exist_ok=True)
    vsce = HERE / "node_modules" / "@vscode" / "vsce" / "vsce"
    _run("node", str(vsce), "package", "--no-dependencies", "--allow-missing-repository", "--out", str(vsix), cwd=STAGE)
    if vsix.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{vsix.name} has {vsix.stat().st_size} bytes; more than {MAX_BYTES} are too many.")
    return vsix


def _bundle_server(libs: Path) -> None:
    """The server and what it imports, which is Python alone and runs anywhere."""
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    _run(*pip, "--target", str(libs), "-c", str(ROOT / "constraints.txt"), str(ROOT))
    shutil.rmtree(libs / "phi_backends" / "models", ignore_errors=True)
    shutil.rmtree(libs / "bin", ignore_errors=True)
    compiled = [path.name for pattern in ("*.so", "*.pyd", "*.dylib") for path in libs.rglob(pattern)]
    if compiled:
        raise SystemExit(f"A dependency is not Python alone any more: {', '.join(compiled)}.")


def _run(*command: str, cwd: Path = HERE) -> None:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed:\n{result.stdout}{result.stderr}")


if __name__ == "__main__":
    print(build())
