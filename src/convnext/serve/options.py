"""The options of a request, from its query, form or JSON. Unknown options are errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from convnext.serve import limits
from convnext.serve.problems import Problem, shown

__all__ = ["LATEST_MS", "OPTIONS", "Option", "RequestOptions", "checked_options"]


@dataclass(frozen=True)
class Option:
    """The definition of an option.

    Attributes:
        help: Description for users.
        check: Converts text or a JSON value to the option's value; raises ValueError with the
            allowed values.
        default: The default value.
        schema: The option's OpenAPI schema.
    """

    help: str
    check: Callable[[Any], Any]
    default: Any
    schema: Mapping[str, Any]


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high:,}")
        return value

    return check


def _text(longest: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)[:20]
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise ValueError(f"text of 1 to {longest} characters")
        return value

    return check


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return value

    return check


def _labels(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if isinstance(names, list) and 1 <= len(names) <= limits.MAX_LABELS:
        stripped = tuple(name.strip() if isinstance(name, str) else "" for name in names)
        fit = all(0 < len(name) <= limits.MAX_LABEL_LENGTH for name in stripped)
        if fit and len(set(stripped)) == len(stripped):
            return stripped
    raise ValueError(
        f"1 to {limits.MAX_LABELS} different names of 1 to {limits.MAX_LABEL_LENGTH} characters, "
        "in a JSON list, or in a text with commas between them"
    )


def _probability(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise ValueError("a number from 0 to 1")
    return number


def _template(value: Any) -> str:
    if isinstance(value, str) and value.count("{}") == 1 and len(value) <= limits.MAX_LABEL_LENGTH:
        return value
    raise ValueError(f"text of at most {limits.MAX_LABEL_LENGTH} characters with {{}} in it once")


MOST_CLASSES = 25_000  # the largest published classifier has 21,841
LATEST_MS = 600_000

OPTIONS: Mapping[str, Option] = {
    "model": Option(
        "Name of the model; by default the first. `/v1/models` lists them.",
        _text(100),
        None,
        {"type": "string", "maxLength": 100},
    ),
    "top": Option(
        "Largest number of classes, the most probable first. By default 5, or of a multi-label "
        "model all labels that reach their thresholds.",
        _integer(1, MOST_CLASSES),
        None,
        {"type": "integer", "minimum": 1, "maximum": MOST_CLASSES},
    ),
    "threshold": Option(
        "For a multi-label model: the least probability of every label, instead of its own.",
        _probability,
        None,
        {"type": "number", "minimum": 0, "maximum": 1},
    ),
    "deadline_ms": Option(
        "Milliseconds after which the answer is no longer needed; at most the server's limit.",
        _integer(1, LATEST_MS),
        None,
        {"type": "integer", "minimum": 1, "maximum": LATEST_MS},
    ),
    "labels": Option(
        "Names of the classes to choose from, for a CLIP model with a text tower.",
        _labels,
        None,
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": limits.MAX_LABEL_LENGTH},
            "minItems": 1,
            "maxItems": limits.MAX_LABELS,
            "uniqueItems": True,
        },
    ),
    "template": Option(
        "A prompt for the labels, such as `a photo of a {}`.",
        _template,
        "{}",
        {"type": "string", "maxLength": limits.MAX_LABEL_LENGTH, "default": "{}"},
    ),
    "target": Option(
        "The class to explain: its number, WordNet id or name; by default the most probable one.",
        _text(200),
        None,
        {"type": "string", "maxLength": 200},
    ),
    "side": Option(
        "The longer side of the answer's picture.",
        _integer(16, limits.MAX_EXPLAIN_SIDE),
        448,
        {"type": "integer", "minimum": 16, "maximum": limits.MAX_EXPLAIN_SIDE, "default": 448},
    ),
    "encoding": Option(
        "`float` for lists of numbers, `base64` for little-endian float32 in base64.",
        _one_of("float", "base64"),
        "float",
        {"type": "string", "enum": ["float", "base64"], "default": "float"},
    ),
}


class RequestOptions:
    """The options of one request.

    Attributes:
        values: By name.
        seconds: Time from the end of the body to the deadline.
    """

    def __init__(self, values: Mapping[str, Any], longest: float) -> None:
        self.values = values
        wanted = values.get("deadline_ms")
        self.seconds = longest if wanted is None else min(longest, wanted / 1000)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def checked_options(
    known: Iterable[str],
    query: Iterable[tuple[str, str]],
    given: Mapping[str, Any],
    longest: float,
) -> RequestOptions:
    """Check the options of a request; those in the query override those in the body.

    Args:
        known: Names of the route's options.
        query: Names and values in the URL.
        given: Names and values in the body.
        longest: The server's deadline in seconds.

    Raises:
        Problem: An option is unknown, repeated, or has a value that is not allowed.
    """
    names = tuple(known)
    values = {name: OPTIONS[name].default for name in names}
    pairs = list(query)
    for name, value in [*given.items(), *pairs]:
        if name not in names:
            raise Problem(
                400,
                "unknown-option",
                f"Unknown option {shown(name)}. Allowed: {', '.join(names)}.",
            )
        if sum(name == other for other, _ in pairs) > 1:
            raise Problem(400, "bad-option", f"{name} is given more than once. Give it once.")
        try:
            values[name] = OPTIONS[name].check(value)
        except ValueError as error:
            detail = f"{name} must be {error}; got {shown(value)}."
            raise Problem(400, "bad-option", detail) from error
    return RequestOptions(values, longest)
