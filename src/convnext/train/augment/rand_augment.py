"""RandAugment: a few of fifteen operations, drawn for each picture.

The published recipes write its policy as timm does ("rand-m9-mstd0.5-inc1"). Operations give the
same pixels as timm's; the caller passes the random generator.

Reference: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search
space", 2019, as in timm 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from convnext.errors import ArgumentError, UnknownNameError

__all__ = ["OPERATIONS", "Canvas", "Operation", "Policy", "RandAugment", "parse_policy"]

FULL = 10.0  # the magnitude at the end of an operation's range

_PART = re.compile(r"([a-z]+)(\d+(?:\.\d*)?)$")
_MEANINGS = {
    "m": "magnitude",
    "n": "operations for each picture",
    "p": "probability of each",
    "mstd": "deviation of the magnitude, over 100 for any from 0 to m",
    "mmax": "largest magnitude",
    "inc": "1 for operations that grow stronger with the magnitude",
}


@dataclass(frozen=True)
class Canvas:
    """Fill and interpolation of operations that move pixels.

    Attributes:
        fill: The colour of uncovered pixels.
        filters: Resampling filters; one is drawn for each operation.
    """

    fill: tuple[int, int, int] = (128, 128, 128)
    filters: tuple[Image.Resampling, ...] = (Image.Resampling.BICUBIC,)


@dataclass(frozen=True)
class Policy:
    """A parsed policy string of timm.

    Attributes:
        magnitude: Strength of the operations, up to 10.
        count: Operations drawn for each picture, with replacement.
        probability: Of applying a drawn operation.
        deviation: Of the normally distributed magnitude; if infinite, uniform up to `magnitude`.
        maximum: Magnitudes are clipped to it.
        increasing: Whether all operations grow stronger with the magnitude.
    """

    magnitude: float = FULL
    count: int = 2
    probability: float = 0.5
    deviation: float = 0.0
    maximum: float = FULL
    increasing: bool = False


def parse_policy(text: str) -> Policy:
    """Parse a policy string of timm.

    Args:
        text: `"rand"`, followed by any of `-m9`, `-n2`, `-p0.5`, `-mstd0.5`, `-mmax10`, `-inc1`.

    Raises:
        ArgumentError: The string is not of this form.

    Example:
        >>> parse_policy("rand-m9-mstd0.5-inc1").deviation
        0.5
    """
    first, *parts = text.split("-")
    if first != "rand":
        raise ArgumentError(
            f"{text!r} is no RandAugment policy. One begins with 'rand', as 'rand-m9-mstd0.5-inc1'."
        )
    values: dict[str, float] = {}
    for part in parts:
        match = _PART.match(part)
        if match is None:
            wanted = ", ".join(f"{key} ({what})" for key, what in _MEANINGS.items())
            raise ArgumentError(
                f"{part!r} in {text!r} is not a name followed by a number. Names are {wanted}."
            )
        if match[1] not in _MEANINGS:
            raise UnknownNameError(f"part of the policy {text!r}", match[1], _MEANINGS)
        if match[1] in values:
            raise ArgumentError(f"{text!r} sets {match[1]!r} twice. Leave one out.")
        values[match[1]] = float(match[2])
    deviation = values.get("mstd", 0.0)
    policy = Policy(
        values.get("m", FULL),
        int(values.get("n", 2)),
        values.get("p", 0.5),
        float("inf") if deviation > 100 else deviation,
        values.get("mmax", FULL) or FULL,
        bool(values.get("inc", 0)),
    )
    if policy.count < 1 or policy.probability > 1:
        raise ArgumentError(f"In the policy {text!r}, n is 1 or more, and p at most 1.")
    return policy


Amount = Callable[[float, bool], Any]
Paint = Callable[[Image.Image, Any, Canvas, Image.Resampling], Image.Image]


@dataclass(frozen=True)
class Operation:
    """An operation of RandAugment.

    Attributes:
        amount: Turns a magnitude and a sign into the argument of `paint`.
        paint: Changes a picture, keeping its size.
        signed: Whether the sign is drawn at random.
    """

    amount: Amount
    paint: Paint
    signed: bool = False

    def __call__(
        self, picture: Image.Image, magnitude: float, rng: np.random.Generator, canvas: Canvas
    ) -> Image.Image:
        """Apply the operation."""
        minus = self.signed and bool(rng.random() > 0.5)
        drawn = int(rng.integers(len(canvas.filters))) if len(canvas.filters) > 1 else 0
        return self.paint(picture, self.amount(magnitude, minus), canvas, canvas.filters[drawn])


def _reaching(largest: float) -> Amount:
    def amount(magnitude: float, minus: bool) -> float:
        return magnitude / FULL * (-largest if minus else largest)

    return amount


def _nothing(magnitude: float, minus: bool) -> None:  # noqa: ARG001
    return None


def _around_one(magnitude: float, minus: bool) -> float:
    change = magnitude / FULL * 0.9
    return max(0.1, 1 - change if minus else 1 + change)


def _from_a_tenth(magnitude: float, minus: bool) -> float:  # noqa: ARG001
    return magnitude / FULL * 1.8 + 0.1


def _bits(magnitude: float, minus: bool) -> int:  # noqa: ARG001
    return int(magnitude / FULL * 4)


def _threshold(magnitude: float, minus: bool) -> int:  # noqa: ARG001
    return min(256, int(magnitude / FULL * 256))


def _from(most: int, amount: Amount) -> Amount:
    def rest(magnitude: float, minus: bool) -> int:
        return most - int(amount(magnitude, minus))

    return rest


def _added(magnitude: float, minus: bool) -> int:  # noqa: ARG001
    return min(128, int(magnitude / FULL * 110))


def _plain(change: Callable[[Image.Image], Image.Image]) -> Paint:
    return lambda picture, _amount, _canvas, _filter: change(picture)


def _enhance(enhancer: Callable[[Image.Image], Any]) -> Paint:
    return lambda picture, factor, _canvas, _filter: enhancer(picture).enhance(factor)


def _affine(coefficients: Callable[[float, int, int], tuple[float, ...]]) -> Paint:
    def paint(
        picture: Image.Image, amount: float, canvas: Canvas, resampling: Image.Resampling
    ) -> Image.Image:
        return picture.transform(
            picture.size,
            Image.Transform.AFFINE,
            coefficients(amount, *picture.size),
            resample=resampling,
            fillcolor=canvas.fill,
        )

    return paint


def _rotate(
    picture: Image.Image, degrees: float, canvas: Canvas, resampling: Image.Resampling
) -> Image.Image:
    return picture.rotate(degrees, resample=resampling, fillcolor=canvas.fill)


def _posterize(
    picture: Image.Image, bits: int, _canvas: Canvas, _filter: Image.Resampling
) -> Image.Image:
    # Not Pillow's: version 13 refuses 0 bits, which the strongest magnitudes need.
    mask = 256 - 2 ** max(0, 8 - bits)
    return picture.point([value & mask for value in range(256)] * 3)


def _solarize(
    picture: Image.Image, threshold: int, _canvas: Canvas, _filter: Image.Resampling
) -> Image.Image:
    return ImageOps.solarize(picture, threshold)


def _solarize_add(
    picture: Image.Image, added: int, _canvas: Canvas, _filter: Image.Resampling
) -> Image.Image:
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return picture.point(table * 3)


_EITHER = {
    "AutoContrast": Operation(_nothing, _plain(ImageOps.autocontrast)),
    "Equalize": Operation(_nothing, _plain(ImageOps.equalize)),
    "Invert": Operation(_nothing, _plain(ImageOps.invert)),
    "Rotate": Operation(_reaching(30), _rotate, signed=True),
}
_MOVING = {
    "ShearX": Operation(_reaching(0.3), _affine(lambda a, w, h: (1, a, 0, 0, 1, 0)), True),  # noqa: ARG005
    "ShearY": Operation(_reaching(0.3), _affine(lambda a, w, h: (1, 0, 0, a, 1, 0)), True),  # noqa: ARG005
    "TranslateX": Operation(_reaching(0.45), _affine(lambda a, w, h: (1, 0, a * w, 0, 1, 0)), True),  # noqa: ARG005
    "TranslateY": Operation(_reaching(0.45), _affine(lambda a, w, h: (1, 0, 0, 0, 1, a * h)), True),  # noqa: ARG005
}
_ENHANCERS = {
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}

OPERATIONS: Mapping[bool, Mapping[str, Operation]] = MappingProxyType(
    {
        False: {
            **_EITHER,
            "Posterize": Operation(_bits, _posterize),
            "Solarize": Operation(_threshold, _solarize),
            "SolarizeAdd": Operation(_added, _solarize_add),
            **{name: Operation(_from_a_tenth, _enhance(kind)) for name, kind in _ENHANCERS.items()},
            **_MOVING,
        },
        True: {
            **_EITHER,
            "Posterize": Operation(_from(4, _bits), _posterize),
            "Solarize": Operation(_from(256, _threshold), _solarize),
            "SolarizeAdd": Operation(_added, _solarize_add),
            **{
                name: Operation(_around_one, _enhance(kind), signed=True)
                for name, kind in _ENHANCERS.items()
            },
            **_MOVING,
        },
    }
)


class RandAugment:
    """Applies a policy to pictures."""

    def __init__(self, policy: Policy, canvas: Canvas) -> None:
        self.policy = policy
        self.canvas = canvas

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Change a picture, keeping its size."""
        operations = list(OPERATIONS[self.policy.increasing].values())
        for number in rng.integers(len(operations), size=self.policy.count):
            if rng.random() < self.policy.probability:
                magnitude = self._magnitude(rng)
                picture = operations[number](picture, magnitude, rng, self.canvas)
        return picture

    def _magnitude(self, rng: np.random.Generator) -> float:
        mean, deviation = self.policy.magnitude, self.policy.deviation
        if deviation == float("inf"):
            mean = rng.uniform(0, mean)
        elif deviation > 0:
            mean = rng.normal(mean, deviation)
        return max(0.0, min(mean, self.policy.maximum))
