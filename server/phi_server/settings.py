"""The settings: section `phi-ls`, flat keys. What is wrong is refused by name, and the rest stays in force.

Not here: when an editor is asked for them (configuration.py).
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from phi_backends.messages import Load

SECTION = "phi-ls"


@dataclass(frozen=True)
class Settings:
    engine: str = field(
        default="auto",
        metadata={"help": "`auto`, or the name of an engine: `openvino`, `onnx`, `optimum`, `intel-npu`, `remote`, `echo`."},
    )
    model: str = field(
        default="auto",
        metadata={"help": "`auto`, `embedded`, the path of a model folder, or a name from `phi-ls models list`."},
    )
    device: str = field(default="auto", metadata={"help": "`auto`, or a device of the engine: `CPU`, `GPU.0`, `NPU`, `DML`."})
    engine_options: Mapping[str, str | int | float | bool] = field(
        default_factory=dict, metadata={"help": "Options of the engine, as it names them."}
    )
    inline_completion: bool = field(default=True, metadata={"help": "Suggest code while typing."})
    debounce_ms: int = field(
        default=300,
        metadata={"help": "Pause before a suggestion is made, at most; it adapts to how fast one types.", "from": 0, "to": 10_000},
    )
    deadline_ms: int = field(
        default=1000, metadata={"help": "A suggestion should be there by then; what is written so far is shown.", "from": 50, "to": 60_000}
    )
    min_probability: float = field(
        default=0.35,
        metadata={"help": "Suggestions that are less likely to be right are not shown, unless asked for; 0: all are.", "from": 0, "to": 1},
    )
    statistics: bool = field(
        default=True,
        metadata={"help": "Count, on this machine, what becomes of suggestions, and be as eager as that asks. No code is kept."},
    )
    max_completion_tokens: int = field(default=96, metadata={"help": "Length of a suggestion at most.", "from": 1, "to": 4096})
    max_completion_lines: int = field(default=12, metadata={"help": "Lines of a suggestion at most.", "from": 1, "to": 200})
    power: str = field(
        default="auto",
        metadata={
            "help": "`saving`: longer pauses, no work ahead of time; `full`: neither; `auto`: `saving` on battery.",
            "one of": ("auto", "full", "saving"),
        },
    )
    unload_after_s: int = field(
        default=900, metadata={"help": "An unused model gives its memory back after so long; 0: never.", "from": 0, "to": 1_000_000}
    )
    max_answer_tokens: int = field(default=800, metadata={"help": "Length of an explanation or an edit at most.", "from": 1, "to": 32_768})

    @classmethod
    def describe(cls, key: str) -> str:
        """What the setting is for."""
        return next(str(known.metadata["help"]) for known in fields(cls) if known.name == key)

    def load(self) -> Load:
        """What the engine process is asked for."""
        return Load(self.engine, self.model, self.device, dict(self.engine_options))


def parse(values: object, base: Settings | None = None) -> tuple[Settings, list[str]]:
    """`base` with `values` laid over it, and one sentence for each value that was refused.

    `values` is the section's content or an object that holds the section; null values mean: as if not given.
    """
    settings = base or Settings()
    if values is None:
        return settings, []
    if isinstance(values, Mapping) and isinstance(values.get(SECTION), Mapping):
        values = values[SECTION]
    if not isinstance(values, Mapping):
        return settings, [f"The settings of {SECTION} must be an object with keys and values, not {values!r}."]
    problems = []
    accepted: dict[str, Any] = {}
    known = {known.name: known for known in fields(Settings)}
    for key, value in values.items():
        if key not in known:
            problems.append(_unknown(str(key), list(known)))
        elif value is not None:
            try:
                accepted[key] = _checked(getattr(Settings(), key), known[key].metadata, value)
            except ValueError as error:
                problems.append(f"The setting {SECTION}.{key} must be {error}, not {value!r}; it stays {getattr(settings, key)!r}.")
    return replace(settings, **accepted), problems


def _checked(default: object, limits: Mapping[str, Any], value: object) -> object:
    """`value` as the type of `default`. Raises ValueError with what it should have been."""
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ValueError("true or false")
    if isinstance(default, float):
        low, high = limits["from"], limits["to"]
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        raise ValueError(f"a number from {low} to {high}")
    if isinstance(default, int):
        low, high = limits["from"], limits["to"]
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # Lua and JavaScript write whole numbers as floats at times
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise ValueError(f"a whole number from {low} to {high}")
    if isinstance(default, str):
        choices = limits.get("one of", (value,))
        if isinstance(value, str) and value and value in choices:
            return value
        raise ValueError("a text" if "one of" not in limits else "one of " + ", ".join(choices))
    if value == []:
        return {}  # an empty table of Lua or PHP arrives as a list
    if isinstance(value, Mapping) and all(isinstance(option, str | int | float | bool) for option in value.values()):
        return dict(value)
    raise ValueError("an object whose values are texts, numbers or true and false")


def _unknown(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    meant = f' Did you mean "{close[0]}"?' if close else ""
    return f'There is no setting "{SECTION}.{key}".{meant} The settings are: {", ".join(known)}.'
