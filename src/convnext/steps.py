"""The typed steps that a network is a sequence of, and what follows from them.

A step computes the next value from the current one. A `Tap` names the current value, as an output
and for later steps: `Take`, `AddEnlarged` and `Fuse` read named values.

    parameters(steps)["stem_conv.kernel"]  # (4, 4, 3, 96)
    operations(steps, 224, 224)

Imports neither NumPy nor a framework.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

__all__ = [
    "ACTIVATIONS",
    "GRN",
    "GRN_EPSILON",
    "Activation",
    "ActivationKind",
    "AddEnlarged",
    "Aside",
    "BatchNorm",
    "BinPool",
    "Conv",
    "Depthwise",
    "Enlarge",
    "Fuse",
    "Linear",
    "Norm",
    "NormKind",
    "Pads",
    "Pool",
    "Residual",
    "Scale",
    "Shape",
    "Step",
    "Take",
    "Tap",
    "Unit",
    "flat",
    "operations",
    "parameters",
    "taps",
]

Shape = tuple[int, ...]
NormKind = Literal["layer", "rms", "simple"]
ActivationKind = Literal["gelu", "gelu_tanh", "quick_gelu", "silu", "relu"]
Pads = Literal["none", "same", "both"]

ACTIVATIONS: tuple[ActivationKind, ...] = ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu")

GRN_EPSILON = 1e-6
NORM_COST = 5  # operations per normalised element, as fvcore counts a LayerNorm


class Conv(NamedTuple):
    """A dense convolution.

    `pads` is `"none"` for no padding; `"same"` for an output of the input's size divided by the
    stride, rounded up, with odd padding at the right and bottom; `"both"` for half a kernel on each
    side. One before a `BatchNorm` has no bias.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    pads: Pads = "none"
    dilation: int = 1
    bias: bool = True

    def side(self, side: int) -> int:
        """Height or width of the output for that of the input."""
        return side // self.stride if self.pads == "none" else -(-side // self.stride)


class Depthwise(NamedTuple):
    """A depthwise convolution with stride 1, padded to keep the size."""

    name: str
    width: int
    kernel: int
    dilation: int = 1


class Norm(NamedTuple):
    """A normalisation over channels with a scale for each and, for `"layer"`, a shift.

    `"layer"` subtracts the mean and divides by the standard deviation. `"rms"` divides by the root
    of the mean square. `"simple"` divides by the standard deviation (of the sample: N - 1) without
    subtracting the mean.
    """

    name: str
    width: int
    kind: NormKind
    epsilon: float


class Linear(NamedTuple):
    """A linear layer over channels."""

    name: str
    inputs: int
    outputs: int


class Activation(NamedTuple):
    """An elementwise activation."""

    kind: ActivationKind


class GRN(NamedTuple):
    """Global response normalisation."""

    name: str
    width: int


class Scale(NamedTuple):
    """Layer scale: a learned factor for each channel."""

    name: str
    width: int


class Pool(NamedTuple):
    """The mean over all positions."""


class Unit(NamedTuple):
    """Division of each vector by its L2 norm."""


class BatchNorm(NamedTuple):
    """A normalisation of each channel by the statistics of the training, with scale and shift.

    It follows a convolution without bias, which it is folded into.
    """

    name: str
    width: int
    epsilon: float = 1e-5


class BinPool(NamedTuple):
    """The means over a grid of bins that cover the map, as many on each side; they may overlap."""

    bins: int


class Take(NamedTuple):
    """Goes on from the value that a `Tap` has named."""

    name: str


class AddEnlarged(NamedTuple):
    """Adds the named map, resized to the size of the current one."""

    name: str


class Fuse(NamedTuple):
    """A convolution without bias over the channels of several named maps, padded with zeros.

    All are resized to the size of the first, whose channels come first.

    Attributes:
        name: Of its parameter.
        maps: Names of the maps.
        widths: Channels of each map.
        outputs: Channels of the output.
        kernel: Odd side of the kernel.
    """

    name: str
    maps: tuple[str, ...]
    widths: tuple[int, ...]
    outputs: int
    kernel: int


class Enlarge(NamedTuple):
    """Resizes a map to the size of the pictures; bilinear, as all resizing of maps."""


class Tap(NamedTuple):
    """Names the current value, as an output of the network and for later steps."""

    name: str


class Aside(NamedTuple):
    """Steps that only an output needs; the main path continues without them."""

    branch: tuple[Step, ...]


class Residual(NamedTuple):
    """A residual branch: the input plus the branch's output."""

    name: str
    branch: tuple[Step, ...]


Step = (
    Conv
    | Depthwise
    | Norm
    | BatchNorm
    | Linear
    | Activation
    | GRN
    | Scale
    | Pool
    | BinPool
    | Unit
    | Take
    | AddEnlarged
    | Fuse
    | Enlarge
    | Tap
    | Aside
    | Residual
)


def flat(steps: Iterable[Step]) -> Iterator[Step]:
    """Replace each residual branch by its steps."""
    for step in steps:
        if isinstance(step, Residual):
            yield from flat(step.branch)
        else:
            yield step


def taps(steps: Iterable[Step]) -> Iterator[str]:
    """Names of the outputs of these steps, in the order of computation."""
    for step in steps:
        if isinstance(step, Tap):
            yield step.name
        elif isinstance(step, Aside):
            yield from taps(step.branch)


def parameters(steps: Iterable[Step]) -> dict[str, Shape]:
    """Canonical name and shape of every parameter, in the order of computation."""
    found: dict[str, Shape] = {}
    for step in flat(steps):
        match step:
            case Aside(branch):
                found |= parameters(branch)
            case Conv(name, inputs, outputs, side):
                found[f"{name}.kernel"] = (side, side, inputs, outputs)
                found |= {f"{name}.bias": (outputs,)} if step.bias else {}
            case Fuse(name, _, widths, outputs, side):
                found[f"{name}.kernel"] = (side, side, sum(widths), outputs)
            case BatchNorm(name, dim):
                numbers = ("gamma", "beta", "moving_mean", "moving_variance")
                found |= {f"{name}.{number}": (dim,) for number in numbers}
            case Depthwise(name, dim, side):
                found |= {f"{name}.kernel": (side, side, dim, 1), f"{name}.bias": (dim,)}
            case Linear(name, inputs, outputs):
                found |= {f"{name}.kernel": (inputs, outputs), f"{name}.bias": (outputs,)}
            case Norm(name, dim, "layer") | GRN(name, dim):
                found |= {f"{name}.gamma": (dim,), f"{name}.beta": (dim,)}
            case Norm(name, dim) | Scale(name, dim):
                found[f"{name}.gamma"] = (dim,)
    return found


def operations(steps: Iterable[Step], height: int, width: int) -> int:
    """Multiply-accumulates of these steps for one picture, counted as in timm and the papers.

    As fvcore, this counts convolutions, linear layers, and five operations for each normalised
    element, but not activations, GRN, layer scale and resizing. Steps aside do not count.
    """
    sides, total = (height, width), 0
    named = {"": sides}
    for step in flat(steps):
        sides = _output_sides(step, sides, named)
        total += math.prod(sides) * _cost(step)
        if isinstance(step, Tap):
            named[step.name] = sides
    return total


def _output_sides(
    step: Step, sides: tuple[int, int], named: Mapping[str, tuple[int, int]]
) -> tuple[int, int]:
    """Height and width of a step's output; the size of the pictures is named `""`."""
    match step:
        case Conv():
            return (step.side(sides[0]), step.side(sides[1]))
        case Fuse(_, maps):
            return named[maps[0]]
        case Take(name):
            return named[name]
        case Enlarge():
            return named[""]
        case Pool():
            return (1, 1)
        case BinPool(bins):
            return (bins, bins)
    return sides


def _cost(step: Step) -> int:
    """Multiply-accumulates for one position of the output."""
    match step:
        case Conv(_, inputs, outputs, kernel):
            return kernel**2 * inputs * outputs
        case Fuse(_, _, widths, outputs, kernel):
            return kernel**2 * sum(widths) * outputs
        case Depthwise(_, dim, kernel):
            return kernel**2 * dim
        case Linear(_, inputs, outputs):
            return inputs * outputs
        case Norm(_, dim):
            return NORM_COST * dim
    return 0
