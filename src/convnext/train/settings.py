"""Typed settings: converts tables of a recipe file to frozen dataclasses, and back.

A section of a recipe is a frozen dataclass whose fields are made by `setting`, with their
description and range. Misspelt keys are errors.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError

__all__ = ["Described", "check", "describe", "from_table", "parse", "setting", "to_table"]


def setting(
    default: Any, about: str, *, low: float | None = None, high: float | None = None
) -> Any:
    """Define a field of a section.

    Args:
        default: Its default value.
        about: Its description in a line, for users.
        low: The smallest number allowed.
        high: The largest number allowed.
    """
    return field(default=default, metadata={"about": about, "low": low, "high": high})


def check(section: Any) -> None:
    """Check types and ranges of all values; a section's `__post_init__` calls this.

    Raises:
        ArgumentTypeError: A value is of the wrong type.
        ArgumentError: A number is out of range, or a name is not allowed.
    """
    hints = get_type_hints(type(section))
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            continue
        converted = _converted(value, hints[item.name], item.name)
        for number in converted if isinstance(converted, tuple) else (converted,):
            _check_range(number, item.metadata, item.name)
        object.__setattr__(section, item.name, converted)


def from_table(cls: type[Any], table: Mapping[str, Any], where: str = "") -> Any:
    """Create a section, or a recipe of sections, from a table of a TOML file.

    Raises:
        UnknownNameError: The section has no such key; the nearest one is suggested.
        ArgumentError: A value is not allowed; the message names the setting.
    """
    names = [item.name for item in fields(cls)]
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in names:
            raise UnknownNameError(f"setting in [{where or 'recipe'}]", key, names)
        hint = hints[key]
        if isinstance(hint, type) and is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ArgumentTypeError(f"[{key}] is a table of settings, not {value!r}.")
            values[key] = from_table(hint, value, key)
        else:
            values[key] = value
    try:
        return cls(**values)
    except (ArgumentError, ArgumentTypeError) as error:
        if where:
            error.args = (f"[{where}] {error}",)
        raise


def to_table(section: Any) -> dict[str, Any]:
    """Reverse `from_table`; None is left out, as TOML has no null."""
    table: dict[str, Any] = {}
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            table[item.name] = to_table(value)
        elif value is not None:
            table[item.name] = list(value) if isinstance(value, tuple) else value
    return table


def parse(text: str) -> Any:
    """Parse a value of the command line as TOML if possible, else return the text.

    Example:
        >>> parse("0.1"), parse("true"), parse("[0.2, 1]"), parse("bicubic")
        (0.1, True, [0.2, 1], 'bicubic')
    """
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


@dataclass(frozen=True)
class Described:
    """A setting, for documentation.

    Attributes:
        name: With its section: `"optimizer.weight_decay"`.
        default: As TOML.
        about: Its description.
    """

    name: str
    default: str
    about: str


def describe(cls: type[Any], where: str = "") -> list[Described]:
    """Describe every setting of a section or recipe, in order."""
    found = []
    hints = get_type_hints(cls)
    for item in fields(cls):
        hint, name = hints[item.name], f"{where}{item.name}"
        if isinstance(hint, type) and is_dataclass(hint):
            found += describe(hint, f"{name}.")
        else:
            default = "none" if item.default in (None, MISSING) else _written(item.default)
            found.append(Described(name, default, item.metadata["about"]))
    return found


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def _converted(value: Any, hint: Any, name: str) -> Any:
    """Convert a TOML value to a field's type: integers to floats, lists to tuples."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        kinds = [part for part in get_args(hint) if part is not type(None)]
        return None if value is None and len(kinds) == 1 else _converted(value, kinds[0], name)
    if origin is Literal:
        if value not in get_args(hint):
            raise UnknownNameError(name, value, map(str, get_args(hint)))
        return value
    if origin is tuple:
        parts = get_args(hint)
        if len(parts) == 2 and parts[1] is Ellipsis and isinstance(value, list | tuple):
            parts = (parts[0],) * len(value)
        if not isinstance(value, list | tuple) or len(value) != len(parts):
            raise ArgumentTypeError(f"{name} is a list of {len(parts)} values, not {value!r}.")
        return tuple(_converted(v, part, name) for v, part in zip(value, parts, strict=True))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        wanted = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}
        raise ArgumentTypeError(f"{name} is {wanted[hint]}, not {value!r}.")
    return value


def _check_range(value: Any, metadata: Mapping[str, Any], name: str) -> None:
    low, high = metadata["low"], metadata["high"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise ArgumentError(f"{name} is a finite number, not {value!r}.")
    if not (low is None or value >= low) or not (high is None or value <= high):
        span = f"from {low:g} to {high:g}" if None not in (low, high) else f"at least {low:g}"
        raise ArgumentError(f"{name} is a number {span}, not {value!r}.")
