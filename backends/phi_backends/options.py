"""Reading `engine_options`: each engine says what it takes as a dataclass of defaults: whole numbers, texts, truth values.

0, the empty text and False leave the choice to the engine.
"""

from typing import Any, Literal, TypeVar, get_args, get_origin

from phi_backends.engine import Options
from phi_backends.errors import BadInput

Kind = TypeVar("Kind")


def read_options(kind: type[Kind], engine: str, options: Options) -> Kind:
    """A `kind` with what `options` holds. Raises BadInput for a name or a value that it does not take."""
    fields: dict[str, Any] = kind.__annotations__
    for name, value in options.items():
        if name not in fields:
            raise BadInput(f'The {engine} engine has no option "{name}". Its options are {", ".join(fields)}.')
        if not _fits(fields[name], value):
            raise BadInput(f"The engine option {name} is {_described(fields[name])}, not {value!r}.")
    return kind(**options)


def _fits(field: Any, value: object) -> bool:
    if get_origin(field) is Literal:
        return value in get_args(field)
    return type(value) is field and (field is not int or value >= 0)  # type: ignore[operator]  # an int by then


def _described(field: Any) -> str:
    if get_origin(field) is Literal:
        return "one of " + ", ".join(filter(None, get_args(field)))
    return {int: "a whole number from 0 on", str: "a text", bool: "true or false"}[field]
