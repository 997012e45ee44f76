"""The published sizes of ConvNeXt V1 and V2, and the arithmetic that follows from a size.

Why it exists: depths and widths are facts, so they stand in one table and nowhere else. Parameter
counts and multiply-accumulates are computed from the table, never typed in.
It knows nothing of Keras, files or pictures.

References:
    V1: Liu et al., "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545
    V2: Woo et al., "ConvNeXt V2", https://arxiv.org/abs/2301.00808
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError

__all__ = [
    "PUBLISHED_STRIDES",
    "VARIANTS",
    "Family",
    "Strides",
    "Variant",
    "adapted_strides",
    "checked_strides",
    "feature_sizes",
    "get_variant",
    "sizes",
]

Family = Literal["v1", "v2"]
Strides = tuple[int, int, int, int]  # stem, then the downsampling before stages 1, 2 and 3

STEM_KERNEL = 4
DOWNSAMPLE_KERNEL = 2
BLOCK_KERNEL = 7
EXPANSION = 4  # width of a block's hidden layer over the block's width
NORM_COST = (
    5  # operations per normalised element, as fvcore counts a LayerNorm with scale and shift
)

PUBLISHED_STRIDES: Strides = (4, 2, 2, 2)
SMALLEST_PUBLISHED_SIDE = 32  # the product of the published strides: a 1x1 last feature map
SMALLEST_SIDE = 8
SMALLEST_FEATURE_SIDE = (
    4  # what `adapted_strides` leaves of the short side, so that 7x7 kernels see something
)


@dataclass(frozen=True)
class Variant:
    """One size of one family: all that the architecture needs to know.

    Attributes:
        name: Name of the architecture, as timm and the authors write it: `"convnextv2_tiny"`.
        family: `"v1"` (layer scale, no GRN) or `"v2"` (GRN, no layer scale).
        size: Name of the size inside its family: `"tiny"`.
        depths: Blocks in each of the four stages.
        dims: Channels in each of the four stages.

    Example:
        >>> get_variant("v2", "atto").parameter_count()
        3708400
    """

    name: str
    family: Family
    size: str
    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]

    @property
    def has_grn(self) -> bool:
        """Whether blocks hold global response normalisation, which replaces layer scale in V2."""
        return self.family == "v2"

    @property
    def layer_scale_init_value(self) -> float | None:
        """Where the factor behind each block starts, as published; None for no factor."""
        return None if self.has_grn else 1e-6

    @property
    def num_blocks(self) -> int:
        """Blocks over all stages."""
        return sum(self.depths)

    def parameter_count(
        self, num_classes: int = 1000, channels: int = 3, *, layer_scale: bool = True
    ) -> int:
        """Trainable parameters; `num_classes=0` counts no head (the pooled norm stays).

        `layer_scale=False` leaves out V1's layer scale; V2 has none either way.
        """
        count = 0
        for stage, (depth, dim) in enumerate(zip(self.depths, self.dims, strict=True)):
            if stage == 0:
                count += STEM_KERNEL**2 * channels * dim + dim + 2 * dim
            else:
                previous = self.dims[stage - 1]
                count += 2 * previous + DOWNSAMPLE_KERNEL**2 * previous * dim + dim
            hidden = EXPANSION * dim
            block = BLOCK_KERNEL**2 * dim + dim  # depthwise convolution
            block += 2 * dim  # norm
            block += dim * hidden + hidden + hidden * dim + dim  # the two linear layers
            if self.has_grn:
                block += 2 * hidden
            elif layer_scale:
                block += dim
            count += depth * block
        last = self.dims[-1]
        return count + 2 * last + (last * num_classes + num_classes if num_classes else 0)

    def macs(
        self,
        height: int = 224,
        width: int | None = None,
        num_classes: int = 1000,
        channels: int = 3,
        strides: Strides = PUBLISHED_STRIDES,
    ) -> int:
        """Multiply-accumulates for one picture, counted as timm and the papers count them.

        That is fvcore's rule: every convolution and linear layer, and five operations for each
        normalised element. Activations, GRN and layer scale are left out.
        """
        maps = feature_sizes(height, height if width is None else width, strides)
        positions = [rows * columns for rows, columns in maps]
        total = self.dims[-1] * num_classes + NORM_COST * self.dims[-1]
        for stage, (depth, dim) in enumerate(zip(self.depths, self.dims, strict=True)):
            if stage == 0:
                entry = STEM_KERNEL**2 * channels * dim + NORM_COST * dim
            else:
                previous = self.dims[stage - 1]
                entry = DOWNSAMPLE_KERNEL**2 * previous * dim
                total += positions[stage - 1] * NORM_COST * previous
            block = BLOCK_KERNEL**2 * dim + NORM_COST * dim + 2 * EXPANSION * dim * dim
            total += positions[stage] * (entry + depth * block)
        return total


def _rows() -> Iterator[Variant]:
    micro_and_nano = {
        "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
        "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
        "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
        "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    }
    shared = {
        "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
        "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
        "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
        "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    }
    # V1: tiny to xlarge from the V1 paper, atto to nano as timm trained them with V2's sizes.
    v1 = micro_and_nano | shared | {"xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048))}
    # V2: the V2 paper; small is timm's, for which no weights were published.
    v2 = micro_and_nano | shared | {"huge": ((3, 3, 27, 3), (352, 704, 1408, 2816))}
    for size, (depths, dims) in v1.items():
        yield Variant(f"convnext_{size}", "v1", size, depths, dims)
    for size, (depths, dims) in v2.items():
        yield Variant(f"convnextv2_{size}", "v2", size, depths, dims)
    # For tests: every kind of layer, more than one block in a stage, and next to no arithmetic.
    yield Variant("test_v1", "v1", "test", (1, 1, 2, 1), (8, 16, 24, 32))
    yield Variant("test_v2", "v2", "test", (1, 1, 2, 1), (8, 16, 24, 32))


VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _rows()}
"""Every variant by its name."""


def sizes(family: Family) -> list[str]:
    """The names of a family's sizes, smallest first, without the test row.

    Example:
        >>> sizes("v1")[-1]
        'xlarge'
    """
    return [v.size for v in VARIANTS.values() if v.family == family and v.size != "test"]


def get_variant(family: Family, size: str) -> Variant:
    """The variant of a family with this size; the full name is understood too.

    Example:
        >>> get_variant("v1", "base").dims
        (128, 256, 512, 1024)
    """
    if not isinstance(size, str):
        raise ArgumentTypeError(
            f"A variant is named by a string such as 'tiny', not {type(size).__name__}: {size!r}."
        )
    for variant in VARIANTS.values():
        if variant.family == family and size.lower() in (variant.size, variant.name):
            return variant
    raise UnknownNameError(f"{family.upper()} variant", size, sizes(family))


def feature_sizes(
    height: int, width: int, strides: Strides = PUBLISHED_STRIDES
) -> list[tuple[int, int]]:
    """Height and width of each of the four stages' output.

    A published stride leaves out what does not fill a patch; a relaxed one pads instead (the patch
    is larger than the step), so it rounds up.

    Example:
        >>> feature_sizes(224, 224)
        [(56, 56), (28, 28), (14, 14), (7, 7)]
    """
    maps = []
    for stride, published in zip(strides, PUBLISHED_STRIDES, strict=True):
        if stride == published:
            height, width = height // stride, width // stride
        else:
            height, width = -(-height // stride), -(-width // stride)
        maps.append((height, width))
    return maps


def adapted_strides(height: int, width: int) -> Strides:
    """The strides for a picture of this size: the published ones wherever they leave enough.

    The last feature map keeps at least 4 pixels on its short side. Where the published strides
    would leave fewer, the stem's stride goes from 4 to 2 to 1 and then each downsampling's, first
    to last, from 2 to 1. Kernels and parameters stay as they are, so published weights fit.

    Example:
        >>> adapted_strides(224, 224), adapted_strides(32, 32)
        ((4, 2, 2, 2), (1, 2, 2, 2))
    """
    if min(height, width) < SMALLEST_SIDE:
        raise ArgumentError(
            f"A picture of {height}x{width} is too small: each side must be at least "
            f"{SMALLEST_SIDE} pixels. Enlarge the pictures before they reach the model."
        )
    relaxed: list[Strides] = [(4, 2, 2, 2), (2, 2, 2, 2), (1, 2, 2, 2), (1, 1, 2, 2)]
    for strides in relaxed:
        if min(feature_sizes(height, width, strides)[-1]) >= SMALLEST_FEATURE_SIDE:
            return strides
    return (1, 1, 1, 2)


def checked_strides(given: object) -> Strides:
    """Strides that a network can have: the published ones, each of them relaxed or not.

    Raises:
        ArgumentError: They are none.

    Example:
        >>> checked_strides([2, 2, 2, 2])
        (2, 2, 2, 2)
    """
    allowed = ((1, 2, 4), (1, 2), (1, 2), (1, 2))
    if isinstance(given, list | tuple) and len(given) == len(allowed):
        stem, *others = given
        if stem in allowed[0] and all(stride in allowed[1] for stride in others):
            first, second, third = others
            return (stem, first, second, third)
    raise ArgumentError(
        "Strides are four whole numbers: the stem's 4, 2 or 1, and 2 or 1 for each of the three "
        f"downsamplings, not {given!r}."
    )
