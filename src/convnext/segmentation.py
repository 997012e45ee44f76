"""Heads for semantic segmentation as data: the steps from an encoder's feature maps to classes.

    head = SegmentationHead("upernet", width=512)
    steps = tuple(head.network_steps(architecture, num_classes=150))

UPerNet is the papers' head. The light head, `"mlp"`, is for small models and CPUs: a linear layer
for each map, one more over all of them, and nothing but resizing in between, so that nearly all of
its computation is linear and happens at the maps' own sizes.

References:
    UPerNet: Xiao et al., https://arxiv.org/abs/1807.10221
    The light head: SegFormer, Xie et al., https://arxiv.org/abs/2105.15203
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from convnext.architecture import Architecture, Geometry
from convnext.errors import ArgumentError
from convnext.steps import (
    Activation,
    AddEnlarged,
    Aside,
    BatchNorm,
    BinPool,
    Conv,
    Enlarge,
    Fuse,
    Linear,
    Norm,
    Step,
    Take,
    Tap,
    parameters,
)

__all__ = [
    "AUXILIARY_STAGE",
    "BINS",
    "MOST_BINS",
    "SegmentationHead",
    "SegmentationHeadKind",
    "checked_bins",
]

SegmentationHeadKind = Literal["upernet", "mlp"]

BINS = (1, 2, 3, 6)  # of the pooled maps, as published
MOST_BINS = 8  # grids of a head, and so names of its layers
FINEST_BINS = 64
AUXILIARY_STAGE = 2


@dataclass(frozen=True)
class SegmentationHead:
    """A head for semantic segmentation.

    Attributes:
        kind: `"upernet"` or `"mlp"`.
        width: Channels of its maps.
        bins: UPerNet's grids of pooled context.
        auxiliary: Channels of a second, small head on the third map, whose loss is added in
            training; 0 for none.
    """

    kind: SegmentationHeadKind = "upernet"
    width: int = 512
    bins: tuple[int, ...] = BINS
    auxiliary: int = 0

    def steps(self, architecture: Architecture, num_classes: int) -> Iterator[Step]:
        """Steps from the feature maps to the class scores of each pixel.

        Outputs are `"scores"`, of each position of the first map, and `"segmentation"`, these
        enlarged to the size of the pictures.

        Args:
            architecture: The encoder, whose steps come before these.
            num_classes: Number of classes.

        Raises:
            ArgumentError: The encoder has too few stages.
        """
        if len(architecture.dims) <= AUXILIARY_STAGE:
            raise ArgumentError(
                f"{architecture.name} has one feature map, and a segmentation head mixes those of "
                "four stages. Use an architecture that is not isotropic."
            )
        norms = (architecture.norm, architecture.epsilon)
        for stage, dim in enumerate(architecture.dims):
            yield Take(f"stage_{stage}")
            yield Norm(f"feature_{stage}_norm", dim, *norms)
            yield Tap(f"map_{stage}")
        body = self._upernet if self.kind == "upernet" else self._mlp
        yield from body(architecture.dims)
        yield Linear("segment_classify", self.width, num_classes)
        yield Tap("scores")
        if self.auxiliary:
            dim = architecture.dims[AUXILIARY_STAGE]
            yield Aside(
                (
                    Take(f"map_{AUXILIARY_STAGE}"),
                    Conv("auxiliary_conv", dim, self.auxiliary, 3, 1, "both", bias=False),
                    BatchNorm("auxiliary_norm", self.auxiliary),
                    Activation("relu"),
                    Linear("auxiliary_classify", self.auxiliary, num_classes),
                    Tap("auxiliary"),
                )
            )
        yield Enlarge()
        yield Tap("segmentation")

    def network_steps(
        self,
        architecture: Architecture,
        num_classes: int,
        channels: int = 3,
        geometry: Geometry | None = None,
    ) -> Iterator[Step]:
        """Steps of the whole network, from normalised pictures to the class scores of each pixel.

        Args:
            architecture: The encoder.
            num_classes: Number of classes.
            channels: Of the pictures.
            geometry: Strides and dilations; by default as published.
        """
        yield from architecture.encoder_steps(channels, geometry)
        yield from self.steps(architecture, num_classes)

    def parameter_count(self, architecture: Architecture, num_classes: int) -> int:
        """Number of trainable parameters of the whole network.

        The statistics of batch norms are not trained.
        """
        shapes = parameters(self.network_steps(architecture, num_classes))
        trained = (shape for name, shape in shapes.items() if ".moving_" not in name)
        return sum(math.prod(shape) for shape in trained)

    def _upernet(self, dims: tuple[int, ...]) -> Iterator[Step]:
        width, last = self.width, len(dims) - 1
        for number, bins in enumerate(self.bins):
            yield Take(f"map_{last}")
            yield BinPool(bins)
            yield from _conv(f"segment_pool_{number}", dims[last], width, 1)
            yield Tap(f"pooled_{number}")
        pooled = tuple(f"pooled_{number}" for number in range(len(self.bins)))
        widths = (dims[last], *(width for _ in pooled))
        yield from _fuse("segment_context", (f"map_{last}", *pooled), widths, width, 3)
        yield Tap(f"lateral_{last}")
        for stage in reversed(range(last)):
            yield Take(f"map_{stage}")
            yield from _conv(f"segment_lateral_{stage}", dims[stage], width, 1)
            yield AddEnlarged(f"lateral_{stage + 1}")
            yield Tap(f"lateral_{stage}")
        for stage in range(last):
            yield Take(f"lateral_{stage}")
            yield from _conv(f"segment_smooth_{stage}", width, width, 3)
            yield Tap(f"smooth_{stage}")
        maps = (*(f"smooth_{stage}" for stage in range(last)), f"lateral_{last}")
        yield from _fuse("segment_fuse", maps, (width,) * len(maps), width, 3)

    def _mlp(self, dims: tuple[int, ...]) -> Iterator[Step]:
        for stage, dim in enumerate(dims):
            yield Take(f"map_{stage}")
            yield Linear(f"segment_project_{stage}", dim, self.width)
            yield Tap(f"projected_{stage}")
        maps = tuple(f"projected_{stage}" for stage in range(len(dims)))
        yield from _fuse("segment_fuse", maps, (self.width,) * len(maps), self.width, 1)


def checked_bins(value: object) -> tuple[int, ...]:
    """Grids of pooled context from the list in a file.

    Raises:
        ValueError: They are not a few small numbers.
    """
    numbers = tuple(value) if isinstance(value, list | tuple) else ()
    valid = all(type(number) is int and 1 <= number <= FINEST_BINS for number in numbers)
    if not valid or not 1 <= len(numbers) <= MOST_BINS:
        raise ValueError(
            f"the grids of pooled context are 1 to {MOST_BINS} numbers from 1 to {FINEST_BINS}, "
            f"not {value!r}"
        )
    return numbers


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Iterator[Step]:
    yield Conv(f"{name}_conv", inputs, outputs, kernel, 1, "both", bias=False)
    yield BatchNorm(f"{name}_norm", outputs)
    yield Activation("relu")


def _fuse(
    name: str, maps: tuple[str, ...], widths: tuple[int, ...], outputs: int, kernel: int
) -> Iterator[Step]:
    yield Fuse(f"{name}_conv", maps, widths, outputs, kernel)
    yield BatchNorm(f"{name}_norm", outputs)
    yield Activation("relu")
