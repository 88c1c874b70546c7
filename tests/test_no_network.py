"""Nothing is ever sent to another machine: the processes of phi-ls, watched while they load, complete and explain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phi_backends.model_folder import EMBEDDED_FOLDER

WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "os.fork"):
        with open(os.environ["PHI_LS_TEST_EVENTS"], "a") as events:
            print(event, *arguments, file=events)

sys.addaudithook(watch)
"""
"""Run by every Python process at its start (sitecustomize), the engine process included."""


def run_watched(tmp_path: Path, *arguments: str) -> str:
    """What the processes of that command did that touches the network; forks too, since runtimes have sent from a fork."""
    (tmp_path / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    events = tmp_path / "events"
    events.touch()
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PHI_LS_TEST_EVENTS": str(events),
        "HOME": str(home),
        "USERPROFILE": str(home),
    }
    done = subprocess.run([sys.executable, "-P", *arguments], env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not (home / "intel").exists(), "a runtime has made an identifier for its telemetry"
    return events.read_text(encoding="utf-8")


def test_the_watch_sees_a_connection(tmp_path: Path) -> None:
    connect = "import socket; s = socket.socket(); s.settimeout(1)\ntry: s.connect(('127.0.0.1', 9))\nexcept OSError: pass"
    assert "socket.connect" in run_watched(tmp_path, "-c", connect)


def test_importing_a_runtime_behind_our_package_sends_nothing(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert run_watched(tmp_path, "-c", "import phi_backends, openvino; openvino.Core().available_devices") == ""


@pytest.mark.skipif(not EMBEDDED_FOLDER.is_dir(), reason="the embedded model is not in this checkout")
def test_a_model_in_onnx_leaves_no_identifier(tmp_path: Path) -> None:
    """The runtime's uploader is native code, which the watch does not see; it begins by writing a device id into the user's folders."""
    pytest.importorskip("onnxruntime_genai", reason="ONNX Runtime GenAI is not installed")
    pytest.importorskip("onnx", reason="the package onnx, which the model is written with, is not installed")
    from onnx_model import write_onnx_folder

    write_onnx_folder(EMBEDDED_FOLDER, tmp_path / "model")
    load = f"from phi_backends.engines.onnx import load; load({str(tmp_path / 'model')!r}, 'CPU', {{}}, print)"
    assert run_watched(tmp_path, "-c", load) == ""
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


@pytest.mark.skipif(not EMBEDDED_FOLDER.is_dir(), reason="the embedded model is not in this checkout")
def test_completing_and_explaining_sends_nothing(tmp_path: Path) -> None:
    source = tmp_path / "sums.py"
    source.write_text("def add(a, b):\n    total = a + b\n    \n", encoding="utf-8")
    assert run_watched(tmp_path, "-m", "phi_server", "complete", str(source), "--line", "3", "--character", "5") == ""
