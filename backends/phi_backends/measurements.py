"""How fast engines were on this machine: a small file in the user's cache folder, which `auto` chooses by.

Standard library only: the worker reads it before it has a runtime. Not here: measuring (phi_server/measuring.py).
"""

import importlib.metadata
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from phi_backends.cache_folder import cache_folder
from phi_backends.memory import machine_bytes
from phi_backends.model_folder import ModelFolder

PROMPT_TOKENS = 256
"""What a prompt is made shorter to at most, for the deadline: so this is how long a suggestion takes in a document never seen."""
FIRST_LINE_TOKENS = 4
"""As in scheduler.py: with these there is something to show."""
LONG_ANSWER_TOKENS = 200
DISTRIBUTIONS = {
    "openvino": ("openvino", "openvino-genai"),
    "onnx": ("onnxruntime-genai", "onnxruntime-genai-directml"),
    "optimum": ("optimum-intel", "openvino"),
}
"""By engine: the packages whose versions decide how fast it is."""


@dataclass(frozen=True)
class Measurement:
    engine: str
    model: str
    """The path of its folder."""
    device: str
    conditions: str
    """Machine, versions of the runtime, size of the model: what was measured under others says nothing."""
    driver: str
    """The device's full name and its driver's version, which are looked at only when there is time (probe.py)."""
    failed: str = ""
    """Why it does not run; empty when it does."""
    load_ms: float = 0.0
    first_token_ms: float = 0.0
    """Of an unknown prompt of PROMPT_TOKENS."""
    token_ms: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def suggestion_ms(self) -> float:
        """To a suggestion that can be shown, in a document never seen."""
        return self.first_token_ms + FIRST_LINE_TOKENS * self.token_ms

    @property
    def answer_ms(self) -> float:
        """To the end of a long explanation of some code."""
        return 2 * self.first_token_ms + LONG_ANSWER_TOKENS * self.token_ms


def conditions(engine: str, folder: ModelFolder) -> str:
    return f"{platform.node()}, {os.cpu_count()} cores, {machine_bytes()} bytes; {_versions(engine)}; {folder.bytes} bytes"


@cache
def _versions(engine: str) -> str:
    """Of its packages; looking them up takes 10 ms."""
    found = []
    for name in DISTRIBUTIONS.get(engine, ()):
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def file() -> Path:
    return cache_folder() / "measurements.json"


def read() -> list[Measurement]:
    """Nothing, where there is no file or one of another version of phi-ls: what was measured can be measured again."""
    try:
        return [Measurement(**fields) for fields in json.loads(file().read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def add(new: Measurement) -> None:
    """In place of an earlier one of the same. Raises OSError when it cannot be written."""
    key = (new.engine, new.model, new.device)
    kept = [known for known in read() if (known.engine, known.model, known.device) != key]
    file().parent.mkdir(parents=True, exist_ok=True)
    written = file().with_suffix(f".{os.getpid()}.part")  # another editor's server may read, or write too
    written.write_text(json.dumps([asdict(each) for each in (*kept, new)], indent=1), encoding="utf-8")
    written.replace(file())
