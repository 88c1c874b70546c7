"""`auto`: which engine, model and device are used for completions, and which for explanations and edits.

By what is here, and by what was measured here (measurements.py). Where nothing was measured, the model's folder says which engine runs it,
and that engine takes the device it finds best; so nothing is ever waited for.

Nothing is imported here but names: the worker calls this before it has a runtime.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from phi_backends import measurements
from phi_backends.errors import ModelError
from phi_backends.measurements import Measurement
from phi_backends.memory import machine_bytes
from phi_backends.messages import Load
from phi_backends.model_folder import EMBEDDED, MADE_FOR, SMALL_MODEL_BYTES, ModelFolder, compression, find, has_original_weights, here

AUTO = "auto"
SOON_MS = 1000.0
"""A suggestion should be there by then; the default of the setting `deadline_ms`."""
WORTH_A_SECOND = 1.5
"""The same model is loaded a second time, on another device, where it explains so many times as fast there."""
MOST_OF_MEMORY = 0.75
"""A model that takes more of it would have the rest of the machine swapped out."""
_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime_genai", "optimum": "optimum"}
"""By engine: the module without which it does not start."""
_FORMATS = {"openvino": "OpenVINO", "onnx": "ONNX Runtime GenAI", "optimum": "optimum-intel"}


@dataclass(frozen=True)
class Choice:
    engine: str
    model: str
    """As in Load: a name or the path of a folder."""
    device: str
    reason: str
    """A clause that says why; empty where it was asked for."""
    measured: Measurement | None = None


def choose_engine(model: str) -> tuple[str, str]:
    """The engine for a model of which nothing was measured, and a clause that says why it. Raises ModelError when there is no such model,
    or no engine for it."""
    folder = find(model)
    if not folder.engines and has_original_weights(folder.path) and is_installed("optimum"):
        return "optimum", "these are original weights, which are turned into OpenVINO's form at each load"
    if not folder.engines:
        raise ModelError(
            f'"{folder.path}" is in no format that phi-ls runs: it holds neither of {", ".join(MADE_FOR)}. '
            f"If these are the model's original weights, convert them: phi-ls models convert {folder.path} --for cpu"
        )
    there = [engine for engine in folder.engines if is_installed(engine)]
    engine = (there or folder.engines)[0]  # with none there, the engine's own module says how to install it
    reason = f"the model is in the format of {_FORMATS[engine]}"
    if there and engine != folder.engines[0]:
        reason = f"{reason} too, and {_FORMATS[folder.engines[0]]} is not installed"
    return engine, reason


def is_installed(engine: str) -> bool:
    return find_spec(_PACKAGES[engine]) is not None


def choices(load: Load) -> list[Choice]:
    """What the request allows, best first; to be tried in this order. Raises ModelError when there is no such model."""
    if load.engine != AUTO and load.engine not in _PACKAGES:  # engines that bring their model, or that are not known
        return [Choice(load.engine, EMBEDDED if load.model == AUTO else load.model, load.device, "")]
    if load.model != AUTO:
        return _of_model(load, load.model)
    large, small = [], []
    for name in here():
        try:
            if load.engine not in (AUTO, *_engines(find(name))):
                continue
            of_model = _of_model(load, name)
            if is_small(name):
                small += of_model
            elif is_installed(of_model[0].engine) and _needed_bytes(of_model[0]) < MOST_OF_MEMORY * machine_bytes():
                large += of_model
        except ModelError:
            continue  # `phi-ls doctor` says what is wrong with it, and with what was passed over
    if not large and not small:
        return _of_model(load, EMBEDDED)  # which says that it is not here
    if load.purpose == "answers":
        return [*sorted(large, key=_answers), *small]
    soon = [choice for choice in large if choice.measured is not None and choice.measured.suggestion_ms <= SOON_MS]
    if large and not soon:
        small = [replace(choice, reason=f"{_not_soon(large)}; {choice.reason}") for choice in small]
    return [*sorted(soon, key=_completions), *small, *(choice for choice in large if choice not in soon)]


def for_answers(load: Load) -> Load | None:
    """What an engine process of its own is asked for, for explanations and edits; None where the one for completions does those as well:
    because it is the best for both, because it was asked for by name, or because memory does not hold two."""
    if load.options or (load.engine != AUTO and load.engine not in _PACKAGES):
        return None
    answers = replace(load, purpose="answers")
    completing, answering = choices(load)[0], choices(answers)[0]
    if (completing.engine, completing.model, completing.device) == (answering.engine, answering.model, answering.device):
        return None
    if completing.model == answering.model and not (
        completing.measured and answering.measured and completing.measured.answer_ms > WORTH_A_SECOND * answering.measured.answer_ms
    ):
        return None
    # Half of the memory is left to the editor, its language servers and the browser: on 16 GB, two full-size models are one too many.
    if _needed_bytes(completing) + _needed_bytes(answering) > machine_bytes() / 2:
        return None
    return answers


def _engines(folder: ModelFolder) -> tuple[str, ...]:
    """Those that can run it. `optimum` is not the first choice for what others run as well, and only taken where it is asked for."""
    also = "openvino" in folder.engines or has_original_weights(folder.path)
    return (*folder.engines, "optimum") if also else folder.engines


def is_small(model: str) -> bool:
    """Whether it follows no instructions."""
    return find(model).templates == "small"


def _of_model(load: Load, model: str) -> list[Choice]:
    """The ways to run one model: those that were measured and run, best first; then the way that its folder tells."""
    folder = find(model)
    engine, reason = choose_engine(model) if load.engine == AUTO else (load.engine, "")
    default = Choice(engine, model, load.device, reason)
    if load.device != AUTO and load.engine != AUTO:
        return [default]
    engines = [each for each in folder.engines if is_installed(each)] if load.engine == AUTO else [load.engine]
    current = {each: measurements.conditions(each, folder) for each in engines} if (known := measurements.read()) else {}
    fit = [
        Choice(each.engine, model, each.device, "", each)
        for each in known
        if each.model == str(folder.path) and current.get(each.engine) == each.conditions and not each.failed
        if load.device in (AUTO, each.device)
    ]
    fit.sort(key=_answers if load.purpose == "answers" else _completions)
    return [*(replace(choice, reason=_why(choice, fit, load.purpose)) for choice in fit), default]


def _completions(choice: Choice) -> tuple[bool, float]:
    """The NPU, as long as it is fast enough: it leaves the CPU and the GPU to others, and lets the battery last. Otherwise the fastest."""
    assert choice.measured is not None
    return not (choice.device == "NPU" and choice.measured.suggestion_ms <= SOON_MS), choice.measured.suggestion_ms


def _answers(choice: Choice) -> tuple[bool, float]:
    """The fastest; what was not measured comes last."""
    return choice.measured is None, choice.measured.answer_ms if choice.measured else 0.0


def _why(choice: Choice, among: Sequence[Choice], purpose: str) -> str:
    assert choice.measured is not None
    ms, what = (
        (choice.measured.answer_ms, "a long explanation") if purpose == "answers" else (choice.measured.suggestion_ms, "a suggestion")
    )
    takes = f"{what} takes {ms / 1000:.2g} s"
    fastest = min((each.measured.suggestion_ms for each in among if each.measured), default=ms)
    if purpose != "answers" and choice.device == "NPU" and ms > fastest:
        return f"the NPU is fast enough, as measured here ({takes}), and leaves the rest of the machine free"
    return f"measured here: {takes}" if len(among) == 1 else f"the fastest of the {len(among)} that were measured here: {takes}"


def _not_soon(large: Sequence[Choice]) -> str:
    """Why none of the larger models completes."""
    measured = [choice for choice in large if choice.measured is not None]
    if not measured:
        return f"{large[0].model} was not measured yet (phi-ls doctor --measure)"
    best = min(measured, key=_completions)
    assert best.measured is not None
    return f"{best.model} takes {best.measured.suggestion_ms / 1000:.2g} s for a suggestion here"


def _needed_bytes(choice: Choice) -> float:
    """Of memory, as was measured, or a guess."""
    measured = choice.measured.peak_memory_bytes if choice.measured is not None else 0
    return measured or _estimated_bytes(find(choice.model))


def _estimated_bytes(folder: ModelFolder) -> float:
    """With KV caches. Phi-3-mini in 4 bits (2.1 GB) takes 5.4 GB at most, the embedded model 0.2 GB."""
    return 2.5 * folder.bytes + 0.3e9


@dataclass(frozen=True)
class Candidate:
    """A way to run a model on this machine, for people to look at and to be measured."""

    engine: str
    model: str
    device: str
    problem: str
    """Why it cannot be, and what to do about it; empty when it can."""
    driver: str
    measured: Measurement | None


def candidates(models: Sequence[str], found: Mapping[str, Any]) -> list[Candidate]:
    """All ways to run these models, by what probe.py has found."""
    known = {(each.engine, each.model, each.device): each for each in measurements.read()}
    listed = []
    for model in models:
        try:
            folder = find(model)
        except ModelError as error:
            listed.append(Candidate("-", model, "-", str(error), "", None))
            continue
        for engine in folder.engines or _engines(folder):
            for device, driver in _devices(engine, folder, found).items():
                measured = known.get((engine, str(folder.path), device))
                is_current = measured is not None and (measured.conditions, measured.driver) == (
                    measurements.conditions(engine, folder),
                    driver,
                )
                problem = _problem(engine, folder, device, found)
                if not problem and measured is not None and is_current and measured.failed:
                    problem = f"It failed when it was measured: {measured.failed}"
                listed.append(Candidate(engine, model, device, problem, driver, measured if is_current else None))
    return listed


def _devices(engine: str, folder: ModelFolder, found: Mapping[str, Any]) -> dict[str, str]:
    """By name, with what tells one driver from another. An NPU or DirectML is listed also where it is missing, if the model is for it."""
    known = {device["name"]: f"{device['description']}, {device.get('driver', '')}" for device in found["devices"]}
    cpu = {"CPU": known.get("CPU", "")}
    if engine == "onnx":
        return cpu | ({"DML": known.get("DML", "")} if "DML" in known or "dml" in _providers(folder) else {})
    if folder.bytes < SMALL_MODEL_BYTES:
        return cpu
    others = {name: driver for name, driver in known.items() if name.startswith("GPU")}
    if engine == "optimum":
        return cpu | others
    others |= {name: driver for name, driver in known.items() if name.startswith("NPU")}
    return cpu | others | ({"NPU": known.get("NPU", "")} if compression(folder.path)[1] else {})


def _providers(folder: ModelFolder) -> str:
    try:
        return (folder.path / "genai_config.json").read_text(encoding="utf-8").lower()
    except OSError:
        return ""


def _problem(engine: str, folder: ModelFolder, device: str, found: Mapping[str, Any]) -> str:
    if engine not in _PACKAGES or not is_installed(engine):
        return f'{_FORMATS.get(engine, engine)} is not installed: pip install "phi-ls[{engine}]"'
    there = {each["name"] for each in found["devices"]}
    if device == "NPU" and "NPU" not in there:
        return str(found.get("npu") or "OpenVINO finds no NPU here.")
    if device == "NPU" and not compression(folder.path)[1]:
        return (
            "The NPU takes weights of 4 bits throughout, symmetric, by channel or in groups of 128, as these are not. "
            "phi-ls models pull phi-3.5-mini-npu"
        )
    if device == "NPU" and not found["packages"].get("openvino-genai"):
        return 'The NPU needs openvino-genai: pip install "phi-ls[openvino]"'
    if device == "DML" and "DML" not in there:
        return 'DirectML needs Windows and, in an environment of its own: pip install "phi-ls[directml]"'
    needed = _estimated_bytes(folder)
    if needed > MOST_OF_MEMORY * machine_bytes():
        return f"It needs about {needed / 1e9:.0f} GB of memory, of which this machine has {machine_bytes() / 1e9:.0f}."
    return ""
