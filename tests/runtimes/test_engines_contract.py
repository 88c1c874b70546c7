"""The contract of tests/test_engines.py on the engines that need PyTorch, and the same greedy tokens from all.

`intel-npu` is skipped here and run by test_engines_intel_npu.py, which starts this file in that engine's own environment.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import test_engines

from phi_backends.engine import Engine

ORIGINAL = os.environ.get("PHI_LS_TEST_ORIGINAL", "")
"""The model's folder, where this file runs in an environment that cannot make it."""
EXACT: dict[str, Any] = {"inference_precision": "f32", "kv_cache_precision": "f32"}
"""So that rounding, which differs with the length of a chunk, tips no choice between two equally good tokens."""


def load_optimum(folder: Path) -> Engine:
    if find_spec("optimum") is None:
        pytest.skip("optimum-intel is not installed")
    from phi_backends.engines import optimum

    return optimum.load(str(folder), "CPU", EXACT, lambda stage: None)


def load_intel_npu(folder: Path) -> Engine:
    if find_spec("intel_npu_acceleration_library") is None:
        pytest.skip("intel-npu-acceleration-library has an environment of its own, where test_engines_intel_npu.py runs this")
    from phi_backends.engines import intel_npu

    return intel_npu.load(str(folder), "AUTO", {"weights": "fp16"}, lambda stage: None)


ENGINES: dict[str, Callable[[Path], Engine]] = {"optimum on CPU": load_optimum, "intel-npu": load_intel_npu}


globals().update({name: each for name, each in vars(test_engines).items() if name.startswith("test_") or name == "prompt"})


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    folder = Path(ORIGINAL) if ORIGINAL else request.getfixturevalue("original")
    engine = ENGINES[request.param](folder)
    yield engine
    with suppress(Exception):
        engine.close()
