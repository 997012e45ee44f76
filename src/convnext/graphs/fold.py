"""Fold the constants of a trained network's steps into their neighbours, for fewer operations.

Each identity is exact; only the rounding of float32 differs, so sums and products are computed in
float64. `norm` subtracts the mean over channels and divides by the standard deviation.

- Scale and shift of a norm are folded into the next linear layer, also through the mean over
  positions: `(norm(x) g + b) W + c = norm(x) (g W) + (b W + c)`.
- Not into a convolution with padding, which sees zeros at the border, not the shift: the norm of a
  downsampling with relaxed stride keeps scale and shift.
- GRN's shift and layer scale are folded into the second linear layer:
  `((x s + b) W + c) l = (x s) (W l) + (b W + c) l`, where `s = 1 + gamma N(x)` includes GRN's skip.
- The divisor of pixels is folded into the first convolution; their mean is subtracted, so that
  padding with zeros means the same as in training.
- A convolution before a norm is centred over its output channels, so that the norm need not
  subtract the mean.
- Batch normalisation is folded into the convolution before it.

A block's weights are read when it is reached, so that a builder does not hold all of them twice.

    for node in folded(network, network.steps):
        ...  # compute node.step with the constants node.linear, node.affine and node.gamma
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.errors import WeightsError
from convnext.graphs.network import Network
from convnext.steps import (
    GRN,
    Aside,
    BatchNorm,
    Conv,
    Depthwise,
    Fuse,
    Norm,
    Pool,
    Residual,
    Scale,
    Step,
    Take,
    Tap,
    parameters,
    taps,
)
from convnext.steps import Linear as LinearStep
from convnext.weights.load import forget_pages

__all__ = [
    "Affine",
    "Folded",
    "Linear",
    "folded",
    "length_factor",
    "pixel_mean",
    "steps_to",
]

Array = NDArray[np.float32]
Wide = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Linear:
    """Constants of a convolution, or of a linear layer over channels.

    Attributes:
        kernel: `(height, width, in, out)`, or `(in, out)`, or `(height, width, channels)` of a
            depthwise convolution.
        bias: `(out,)`.
    """

    kernel: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Affine:
    """A scale for each channel, and a shift if there is one."""

    scale: Array
    shift: Array | None


@dataclass(eq=False)
class Folded:
    """A step with its constants after folding.

    Attributes:
        step: One of `convnext.architecture.Step`.
        linear: Kernel and bias of a convolution or linear layer.
        affine: Scale and shift after a norm, or of an output between a norm and its linear layer;
            None if they are folded into the next layer.
        gamma: Of GRN: the hidden layer is multiplied by `1 + gamma N`.
        behind: The norm whose scale and shift are folded into this kernel.
        centred: Whether the mean over channels of a norm's input is 0.
        branch: The nodes of a branch.
    """

    step: Any
    linear: Linear | None = None
    affine: Affine | None = None
    gamma: Array | None = None
    behind: Norm | None = None
    centred: bool = False
    branch: Sequence[Folded] = field(default_factory=tuple)


def folded(
    network: Network, steps: Iterable[Step], *, from_pixels: bool = False
) -> Iterator[Folded]:
    """Yield the steps of a network with their folded constants.

    Args:
        network: The weights.
        steps: The network's steps, or the first of them.
        from_pixels: Whether the input is pixels in 0..255, minus `pixel_mean`.
    """
    pixels = from_pixels
    for run in _runs(steps):
        first = run[0]
        if isinstance(first, Residual | Aside):
            branch = (_fold([_Part(network, s) for s in part]) for part in _runs(first.branch))
            yield Folded(first, branch=tuple(node for nodes in branch for node in nodes))
            continue
        parts = [_Part(network, step) for step in run]
        if pixels:
            _divide_pixels(parts[0], network)
            pixels = False
        yield from _fold(parts)


def _runs(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Divide steps into those whose constants may be folded into each other, in order."""
    run: list[Step] = []
    for step in steps:
        alone = isinstance(step, Residual | Aside)
        if run and (alone or isinstance(step, Take | Fuse | Residual | Aside)):
            yield run
            run = []
        run.append(step)
        if alone:
            yield run
            run = []
    if run:
        yield run


def pixel_mean(network: Network) -> Array:
    """The mean of each channel, to subtract from pixels in 0..255."""
    recipe = network.preprocess
    return _float32(np.divide(recipe.mean, recipe.rescale), "the recipe's mean")


def length_factor(norm: Norm) -> float:
    """The factor between a norm of a map and a division by its length over channels.

    OpenVINO's graph divides by the length, and multiplies the next weights by this. Calibrations
    are of these weights.
    """
    return 1.0 if norm.kind == "simple" else math.sqrt(norm.width)


def steps_to(steps: Iterable[Step], outputs: Sequence[str]) -> list[Step]:
    """Select the steps that these outputs need."""
    every, wanted = list(steps), set(outputs)
    last = max(i for i, step in enumerate(every) if wanted.intersection(taps([step])))
    return [
        step
        for step in every[: last + 1]
        if not isinstance(step, Aside) or wanted.intersection(taps([step]))
    ]


class _Part:
    """A step and its constants in float64, while they are folded."""

    def __init__(self, network: Network, step: Step) -> None:
        self.step = step
        self.name: str = getattr(step, "name", "")
        self.numbers = _read(network, step)
        self.behind: Norm | None = None
        self.centred = False
        self.affine: dict[str, Wide] = {}

    def __getitem__(self, number: str) -> Wide:
        return self.numbers[number]

    @property
    def is_linear(self) -> bool:
        """Whether preceding constants can be folded into it, as nothing is padded."""
        return isinstance(self.step, LinearStep) or (
            isinstance(self.step, Conv) and self.step.pads == "none"
        )


def _fold(parts: list[_Part]) -> Iterator[Folded]:
    """Fold consecutive steps."""
    for index, part in enumerate(parts):
        if isinstance(part.step, Norm):
            _into_linear(part, parts[index + 1 :])
            before = parts[index - 1] if index else None
            if before and isinstance(before.step, Conv) and part.step.kind == "layer":
                _centre(before)
                part.centred = True
        elif isinstance(part.step, GRN):
            following = parts[index + 1]
            following.numbers["bias"] = following["bias"] + part["beta"] @ following["kernel"]
        elif isinstance(part.step, Scale):
            _scale(parts[index - 1], part["gamma"])
        elif isinstance(part.step, BatchNorm):
            factor = part["gamma"] / np.sqrt(part["moving_variance"] + part.step.epsilon)
            _scale(parts[index - 1], factor)
            shift = part["beta"] - part["moving_mean"] * factor
            parts[index - 1].numbers["bias"] = parts[index - 1].numbers["bias"] + shift
    return (_finished(part) for part in parts if not isinstance(part.step, Scale | BatchNorm))


def _into_linear(norm: _Part, following: list[_Part]) -> None:
    """Fold a norm's scale and shift into the next linear layer; outputs in between keep them."""
    taps = []
    for part in following:
        if isinstance(part.step, Tap):
            taps.append(part)
        elif part.is_linear:
            kernel, gamma = part["kernel"], norm["gamma"]
            if "beta" in norm.numbers:
                shift = norm["beta"]
                added = (
                    shift @ kernel if kernel.ndim == 2 else np.einsum("i,hwio->o", shift, kernel)
                )
                part.numbers["bias"] = part["bias"] + added
            part.numbers["kernel"] = kernel * gamma[:, None]
            assert isinstance(norm.step, Norm)
            part.behind = norm.step
            for tap in taps:
                tap.affine, tap.behind = dict(norm.numbers), norm.step
            norm.numbers = {}
            return
        elif not isinstance(part.step, Pool):
            return


def _scale(linear: _Part, factor: Wide) -> None:
    linear.numbers["kernel"] = linear["kernel"] * factor
    linear.numbers["bias"] = linear["bias"] * factor


def _centre(conv: _Part) -> None:
    kernel, bias = conv["kernel"], conv["bias"]
    conv.numbers["kernel"] = kernel - kernel.mean(-1, keepdims=True)
    conv.numbers["bias"] = bias - bias.mean()


def _divide_pixels(conv: _Part, network: Network) -> None:
    recipe = network.preprocess
    factor = recipe.rescale / np.array(recipe.std)
    conv.numbers["kernel"] = conv["kernel"] * factor[:, None]


def _finished(part: _Part) -> Folded:
    step, numbers = part.step, part.numbers
    linear = gamma = None
    if isinstance(step, Conv | Depthwise | LinearStep | Fuse):
        kernel = numbers["kernel"][..., 0] if isinstance(step, Depthwise) else numbers["kernel"]
        linear = Linear(_float32(kernel, part.name), _float32(numbers["bias"], part.name))
    elif isinstance(step, GRN):
        gamma = _float32(numbers["gamma"], part.name)
    left = part.affine if isinstance(step, Tap) else numbers if isinstance(step, Norm) else {}
    affine = None
    if left:
        shift = _float32(left["beta"], part.name) if "beta" in left else None
        affine = Affine(_float32(left["gamma"], part.name), shift)
    return Folded(step, linear, affine, gamma, part.behind, part.centred)


def _read(network: Network, step: Step) -> dict[str, Wide]:
    """Read a step's parameters by their short names, in float64; a lacking bias is zero."""
    found = {}
    for name in parameters([step]):
        values = network.values(name)
        _check_finite(values, f"{network.weights.source}: {name}")
        found[name.rpartition(".")[2]] = values.astype(np.float64)
        forget_pages(values)
    if "kernel" in found and "bias" not in found:
        found["bias"] = np.zeros(found["kernel"].shape[-1])
    return found


def _float32(values: Any, name: str) -> Array:
    with np.errstate(over="ignore"):
        narrow: Array = np.asarray(values).astype(np.float32)
    _check_finite(narrow, f"{name}, folded")
    return narrow


def _check_finite(values: Array, name: str) -> None:
    if not np.isfinite(values).all():
        raise WeightsError(
            f"{name}: some values are not finite (NaN or infinity), so all outputs would be "
            "wrong. The training has diverged, or the file is damaged; use another checkpoint."
        )
