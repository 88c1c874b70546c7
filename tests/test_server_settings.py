"""Settings: what is wrong is refused by name, and the rest stays in force."""

from typing import Any

import pytest

from phi_server.settings import Settings, parse


def test_values_are_laid_over_the_defaults() -> None:
    settings, problems = parse({"engine": "echo", "debounce_ms": 5, "engine_options": {"reply": "x"}, "device": None})
    assert settings == Settings(engine="echo", debounce_ms=5, engine_options={"reply": "x"})
    assert problems == []


def test_the_section_may_be_inside() -> None:
    assert parse({"phi-ls": {"engine": "echo"}})[0].engine == "echo"


def test_an_unknown_key_is_named_with_the_known_ones_and_the_rest_is_in_force() -> None:
    settings, problems = parse({"debouncems": 5, "engine": "echo"})
    assert settings == Settings(engine="echo")
    assert len(problems) == 1
    assert '"phi-ls.debouncems"' in problems[0]
    assert 'Did you mean "debounce_ms"?' in problems[0]
    assert "engine, model, device" in problems[0]


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("debounce_ms", "soon", "a whole number from 0 to 10000"),
        ("debounce_ms", True, "a whole number"),
        ("debounce_ms", -1, "a whole number"),
        ("debounce_ms", 1.5, "a whole number"),
        ("debounce_ms", float("nan"), "a whole number"),
        ("min_probability", 1.5, "a number from 0 to 1"),
        ("min_probability", True, "a number"),
        ("inline_completion", "yes", "true or false"),
        ("inline_completion", 1, "true or false"),
        ("model", 3, "a text"),
        ("model", "", "a text"),
        ("engine_options", [1], "an object"),
        ("engine_options", {"a": {}}, "an object"),
    ],
)
def test_a_bad_value_is_named_and_the_one_before_stays(key: str, value: Any, wanted: str) -> None:
    before = Settings(debounce_ms=42, engine="echo")
    settings, problems = parse({key: value, "max_completion_tokens": 7}, before)
    assert settings == Settings(debounce_ms=42, engine="echo", max_completion_tokens=7)
    assert len(problems) == 1
    assert f"phi-ls.{key} must be {wanted}" in problems[0]
    assert repr(getattr(before, key)) in problems[0]


@pytest.mark.parametrize("values", [3, "engine", ["engine"], True])
def test_what_is_no_object_changes_nothing(values: Any) -> None:
    settings, problems = parse(values)
    assert settings == Settings()
    assert len(problems) == 1


def test_nothing_given_is_no_problem() -> None:
    assert parse(None) == (Settings(), [])


def test_whole_numbers_may_be_written_as_floats_and_an_empty_table_as_a_list() -> None:
    assert parse({"debounce_ms": 20.0, "engine_options": []}) == (Settings(debounce_ms=20), [])


def test_probabilities_are_numbers() -> None:
    assert parse({"min_probability": 1})[0].min_probability == 1.0


def test_every_setting_is_described() -> None:
    assert all(Settings.describe(key).endswith(".") for key in Settings.__dataclass_fields__)
