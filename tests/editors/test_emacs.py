"""Emacs 30 in batch mode: each test of emacs/phi-ls-test.el in an Emacs of its own, with Eglot or with lsp-mode."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from editors.conftest import CLIENTS, SERVER, available, echo, pasted
from editors.install import debian, program

TESTS = Path(__file__).parent / "emacs" / "phi-ls-test.el"
LONG = "It adds an item. " * 400
Run = Callable[..., None]


@pytest.fixture
def run(folder: Path, home: dict[str, str], record_property: Callable[[str, object], None]) -> Run:
    """Runs one ERT test with the settings given."""
    binary = program(available("Emacs", lambda: debian("emacs", "emacs-nox", "elpa-lsp-mode", suite="sid")), "usr/bin/emacs-nox")
    usr = Path(binary[-1]).parents[1]
    (share,) = usr.glob("share/emacs/[0-9]*")
    (dump,) = usr.glob("libexec/emacs/*/*/*.pdmp")
    packages = [path for path in usr.glob("share/emacs/site-lisp/elpa-src/*") if path.is_dir()]
    lisp = [share / "lisp", *(path for path in (share / "lisp").rglob("*") if path.is_dir())]
    env = {**home, "EMACSDATA": str(share / "etc"), "EMACSDOC": str(share / "etc"), "EMACSPATH": str(dump.parent)}
    env["EMACSLOADPATH"] = ":".join(map(str, [*packages, *lisp]))
    no_compiler = "(setq native-comp-enable-subr-trampolines nil native-comp-jit-compilation nil)"  # it would start Emacs without `program`
    emacs = [*binary, f"--dump-file={dump}", "--quick", "--batch", "--eval", no_compiler]
    version = subprocess.run([*emacs, "--eval", "(princ emacs-version)"], env=env, capture_output=True, text=True, check=True).stdout
    record_property("editor", f"Emacs {version} with " + " and ".join(path.name for path in packages if path.name.startswith("lsp-mode")))

    def test(name: str, settings: dict[str, Any], command: list[str] = SERVER) -> None:
        changes = {
            "/path/to/phi-ls/editor-clients/emacs": str(CLIENTS / "emacs"),
            """'("/path/to/environment/bin/phi-ls" "serve")""": f"'({' '.join(map(json.dumps, command))})",
            """'(:model "/path/to/phi-3" :device "NPU")""": f"(json-parse-string {json.dumps(json.dumps(settings))} :object-type 'plist)",
        }
        init = folder.parent / "init.el"
        init.write_text(pasted(CLIENTS / "emacs" / "README.md", "elisp", changes))
        running = {**env, "PHI_LS_INIT": str(init), "PHI_LS_FILE": str(folder / "inventory.py")}
        testing = [*emacs, "-l", str(TESTS), "--eval", f"(ert-run-tests-batch-and-exit '{name})"]
        result = subprocess.run(testing, env=running, cwd=folder, capture_output=True, text=True, timeout=150, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "Ran 1 tests, 1 results as expected" in result.stderr + result.stdout

    return test


@pytest.mark.parametrize(
    "name",
    [
        "eglot-completes-as-the-embedded-model-says",
        "eglot-writes-a-docstring",
        "eglot-explains-by-a-code-action",
        "lsp-mode-shows-ghost-text-of-the-embedded-model-and-accepts-it",
        "lsp-mode-streams-an-explanation",
    ],
)
def test_with_the_embedded_model(run: Run, embedded: dict[str, Any], name: str) -> None:
    run(name, embedded)


def test_an_explanation_streams_and_is_stopped(run: Run) -> None:
    run("eglot-streams-an-explanation-and-stops-it", echo(LONG, ms_per_token=2))


@pytest.mark.parametrize("name", ["eglot-answers-a-further-question", "lsp-mode-answers-a-further-question"])
def test_a_further_question(run: Run, name: str) -> None:
    run(name, echo("It adds an item."))


def test_without_a_model_and_a_runtime_there_is_one_message(run: Run, bare: list[str]) -> None:
    run("without-a-model-and-a-runtime-there-is-one-message", {}, command=bare)


def test_the_engine_process_may_die(run: Run) -> None:
    run("eglot-survives-the-death-of-the-engine-process", echo("price + tax"))


def test_a_model_that_is_not_there_is_one_message(run: Run) -> None:
    run("a-model-that-is-not-there-is-one-message", {"model": "/no/such/folder"})


def test_a_program_that_is_not_there_is_one_message(run: Run) -> None:
    run("a-program-that-is-not-there-is-one-message", {}, command=["no-such-program"])
