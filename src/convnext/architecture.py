"""ConvNeXt architectures as data: traits, and the sequence of typed steps that follows from them.

Names and shapes of the parameters, parameter counts, operations, sizes of feature maps and
inference graphs are computed from the steps (`convnext.steps`). `nn/model.py` is the same network
in Keras; a test compares the two.

    steps = ARCHITECTURES["convnext_tiny"].steps(num_classes=1000)
    parameters(steps)["stem_conv.kernel"]  # (4, 4, 3, 96)

Imports neither NumPy nor a framework.

References:
    V1: Liu et al., "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545
    V2: Woo et al., "ConvNeXt V2", https://arxiv.org/abs/2301.00808
    timm's variants: https://github.com/huggingface/pytorch-image-models (timm/models/convnext.py)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.steps import (
    ACTIVATIONS,
    GRN,
    Activation,
    ActivationKind,
    Aside,
    Conv,
    Depthwise,
    Linear,
    Norm,
    NormKind,
    Pads,
    Pool,
    Residual,
    Scale,
    Step,
    Tap,
    Unit,
    operations,
    parameters,
)

__all__ = [
    "ARCHITECTURES",
    "PUBLISHED_STRIDES",
    "VARIANTS",
    "Architecture",
    "Arithmetic",
    "Family",
    "Geometry",
    "Strides",
    "Variant",
    "adapted_strides",
    "block_steps",
    "checked_arithmetic",
    "checked_strides",
    "feature_sizes",
    "get_variant",
    "sizes",
    "stated",
]

Family = Literal["v1", "v2"]
Strides = tuple[int, ...]  # stem, then the downsampling before each further stage
StemKind = Literal["patch", "overlap", "overlap_tiered", "overlap_act"]
HeadKind = Literal["pool_norm", "norm_pool", "none"]
_Numbers = tuple[tuple[int, ...], tuple[int, ...]]  # depths and dims

PATCH = 4
STEM_KERNEL = 3  # of the two convolutions of an overlapping stem
DOWNSAMPLE_KERNEL = 2

PUBLISHED_STRIDES: Strides = (4, 2, 2, 2)
SMALLEST_PUBLISHED_SIDE = 32  # the product of the published strides: a 1x1 last feature map
SMALLEST_SIDE = 8
SMALLEST_FEATURE_SIDE = 4  # `adapted_strides` leaves at least this much of the short side


class Geometry(NamedTuple):
    """Strides and dilations of a network, on which no parameter depends.

    Attributes:
        strides: Of the stem, and of the downsampling before each further stage.
        dilations: Of the depthwise convolutions in each stage; empty for 1 everywhere. A
            downsampling with stride 1 has the dilation of the stage before it.
    """

    strides: Strides = PUBLISHED_STRIDES
    dilations: tuple[int, ...] = ()


class Arithmetic(NamedTuple):
    """Traits that do not follow from the parameters' names and shapes; see `Architecture`."""

    epsilon: float = 1e-6
    activation: ActivationKind = "gelu"
    norm: NormKind = "layer"
    head_epsilon: float | None = None

    def __str__(self) -> str:
        """Format such as `"epsilon=1e-05,activation=gelu_tanh"`, which `stated` parses."""
        traits = {"epsilon": f"{self.epsilon:g}", "activation": self.activation}
        traits |= {"norm": self.norm} if self.norm != "layer" else {}
        if self.head_epsilon is not None:
            traits["head_epsilon"] = f"{self.head_epsilon:g}"
        return ",".join(f"{name}={value}" for name, value in traits.items())


@dataclass(frozen=True)
class Architecture:
    """A ConvNeXt: the traits that determine its parameters and its computation.

    Attributes:
        name: As timm and the authors write it: `"convnextv2_tiny"`.
        size: Name of the size within V1 or V2: `"tiny"`; `"custom"` if it was never published.
        depths: Blocks in each stage.
        dims: Channels in each stage.
        grn: Whether blocks have global response normalisation (V2).
        layer_scale: Whether blocks end in layer scale (V1).
        stem: `"patch"` is one convolution of patches; the others are two 3x3 convolutions of stride
            2, the first half as wide (`"overlap_tiered"`) or followed by an activation
            (`"overlap_act"`).
        patch: Side of the stem's patches.
        stem_norm: Whether a norm follows the stem.
        norm: The kind of all norms, see `Norm`.
        head: The norm before the classifier: after the pooling, before it, or none.
        head_hidden: Width of a hidden layer before the classifier; 0 for none.
        projection: Width of a projection to vectors of length 1 before the classifier, as of CLIP
            with a classifier made of text vectors; 0 for none.
        kernels: Side of the depthwise kernels in each stage; empty for 7 everywhere.
        expansion: Ratio of the width of a block's hidden layer to the block's width.
        epsilon: Of all norms.
        head_epsilon: Of the norm before the classifier, if it differs.
        activation: Of the hidden layers in blocks; that of the head is the exact GELU.

    Example:
        >>> ARCHITECTURES["convnextv2_atto"].parameter_count()
        3708400
    """

    name: str
    size: str
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    grn: bool = False
    layer_scale: bool = True
    stem: StemKind = "patch"
    patch: int = PATCH
    stem_norm: bool = True
    norm: NormKind = "layer"
    head: HeadKind = "pool_norm"
    head_hidden: int = 0
    projection: int = 0
    kernels: tuple[int, ...] = ()
    expansion: int = 4
    epsilon: float = 1e-6
    head_epsilon: float | None = None
    activation: ActivationKind = "gelu"

    @property
    def family(self) -> Family:
        """`"v2"` with global response normalisation, `"v1"` without."""
        return "v2" if self.grn else "v1"

    @property
    def has_grn(self) -> bool:
        """Another name of `grn`."""
        return self.grn

    @property
    def layer_scale_init_value(self) -> float | None:
        """Published initial value of layer scale; None without it."""
        return 1e-6 if self.layer_scale else None

    @property
    def num_blocks(self) -> int:
        """Number of blocks in all stages."""
        return sum(self.depths)

    @property
    def strides(self) -> Strides:
        """The published strides, with which its weights were trained on large pictures."""
        stem = self.patch if self.stem == "patch" else PUBLISHED_STRIDES[0]
        return (stem, *[DOWNSAMPLE_KERNEL] * (len(self.depths) - 1))

    @property
    def stem_width(self) -> int:
        """Channels between the two convolutions of an overlapping stem."""
        return _divisible(self.dims[0] // 2) if self.stem == "overlap_tiered" else self.dims[0]

    def kernel(self, stage: int) -> int:
        """Side of the depthwise kernels in a stage."""
        return self.kernels[stage] if self.kernels else 7

    @property
    def is_usual(self) -> bool:
        """Whether epsilon, activation and norms are those of the papers."""
        return self.arithmetic == Arithmetic()

    @property
    def arithmetic(self) -> Arithmetic:
        """The traits that do not follow from the parameters' names and shapes."""
        return Arithmetic(self.epsilon, self.activation, self.norm, self.head_epsilon)

    def same_encoder(self, other: Architecture) -> bool:
        """Whether names and shapes agree up to the last feature map, except for layer scale."""
        return self._encoder() == other._encoder()

    def same_traits(self, other: Architecture) -> bool:
        """Whether both are equal except for their names."""
        return self == replace(other, name=self.name, size=self.size)

    def _encoder(self) -> Architecture:
        kernels = tuple(self.kernel(stage) for stage in range(len(self.depths)))
        bare = Architecture("", "", self.depths, self.dims, self.grn, False, self.stem, self.patch)
        norm: NormKind = "layer" if self.norm == "layer" else "rms"
        expansion, stem_norm = self.expansion, self.stem_norm
        return replace(
            bare, norm=norm, kernels=kernels, expansion=expansion, stem_norm=stem_norm, head="none"
        )

    def geometry(self, height: int, width: int) -> Geometry:
        """Strides for pictures of this size: the published ones, or relaxed for small pictures."""
        if self.strides == PUBLISHED_STRIDES:
            return Geometry(adapted_strides(height, width))
        if min(height, width) < math.prod(self.strides):
            raise ArgumentError(
                f"A picture of {height}x{width} is too small for {self.name}: each side must be at "
                f"least {math.prod(self.strides)} pixels. Enlarge the pictures before they reach "
                "the model."
            )
        return Geometry(self.strides)

    def dilated(self, output_stride: int) -> Geometry:
        """Strides limited to the product `output_stride`, with dilation in place of the others.

        Receptive fields and parameters stay the same.

        Args:
            output_stride: Pixels from one position of the last map to the next: 8, 16 or 32.

        Example:
            >>> ARCHITECTURES["convnext_tiny"].dilated(8)
            Geometry(strides=(4, 2, 1, 1), dilations=(1, 1, 2, 4))
        """
        allowed = [math.prod(self.strides[: 1 + n]) for n in range(1, len(self.depths))]
        if output_stride not in allowed:
            raise ArgumentError(
                f"output_stride is one of {', '.join(map(str, allowed))}, not {output_stride!r}."
            )
        reached, dilation = 1, 1
        strides, dilations = [], []
        for stride in self.strides:
            if reached >= output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            strides.append(stride)
            dilations.append(dilation)
        return Geometry(tuple(strides), tuple(dilations))

    def stem_steps(self, channels: int = 3, stride: int | None = None) -> Iterator[Step]:
        """Steps from pictures to the first feature map."""
        stride, dim = stride or self.strides[0], self.dims[0]
        if self.stem == "patch":
            pads: Pads = "none" if stride == self.patch else "same"
            yield Conv("stem_conv", channels, dim, self.patch, stride, pads)
        else:
            first = min(stride, 2)
            yield Conv("stem_conv", channels, self.stem_width, STEM_KERNEL, first, "both")
            name = "stem_conv_2"
            if self.stem == "overlap_act":
                name = "stem_act_conv"
                yield Activation(self.activation)
            yield Conv(name, self.stem_width, dim, STEM_KERNEL, stride // first, "both")
        if self.stem_norm:
            yield self._norm("stem_norm", dim)

    def downsample_steps(self, stage: int, stride: int, dilation: int = 1) -> Iterator[Step]:
        """Steps from one stage to the next, which halve each side."""
        before, dim = self.dims[stage - 1 : stage + 1]
        yield self._norm(f"downsample_{stage}_norm", before)
        pads: Pads = "none" if stride == DOWNSAMPLE_KERNEL else "same"
        dilation = 1 if pads == "none" else dilation
        name = f"downsample_{stage}_conv"
        yield Conv(name, before, dim, DOWNSAMPLE_KERNEL, stride, pads, dilation)

    def head_steps(self, num_classes: int = 1000, *, clip: bool = False) -> Iterator[Step]:
        """Steps from the last feature map to a vector and to logits; see `steps`."""
        dim = self.dims[-1]
        epsilon = self.epsilon if self.head_epsilon is None else self.head_epsilon
        head_norm = Norm("head_norm", dim, self.norm, epsilon)
        if self.head == "norm_pool":
            yield Norm("map_norm", dim, self.norm, epsilon)
            yield Tap("tokens")
        if self.head == "pool_norm":
            yield Aside((head_norm, Tap("tokens")))
        yield Pool()
        if self.head == "pool_norm":
            yield head_norm
        if self.head != "none" and not (clip or self.projection):
            yield Tap("embedding")
        if self.head_hidden:
            yield Linear("head_hidden", dim, self.head_hidden)
            yield Activation("gelu")
        width = self.head_hidden or dim
        if self.projection:
            yield Linear("head_projection", width, self.projection)
            yield Unit()
            yield Tap("embedding")
            width = self.projection
        elif self.head_hidden or clip:
            yield Tap("pre_logits")
        if num_classes:
            yield Linear("head", width, num_classes)
            yield Tap("logits")
        if clip:
            yield Unit()
            yield Tap("embedding")

    def steps(
        self,
        num_classes: int = 1000,
        channels: int = 3,
        geometry: Geometry | None = None,
        *,
        clip: bool = False,
    ) -> Iterator[Step]:
        """Steps of the whole network, from normalised pictures to logits.

        Args:
            num_classes: Width of the classifier; 0 for none.
            channels: Of the pictures.
            geometry: Strides and dilations; by default as published.
            clip: Whether the head is CLIP's projection instead of a classifier: its vectors,
                normalised to length 1, are the embedding.
        """
        yield from self.encoder_steps(channels, geometry)
        yield from self.head_steps(num_classes, clip=clip)

    def encoder_steps(self, channels: int = 3, geometry: Geometry | None = None) -> Iterator[Step]:
        """Steps from normalised pictures to the last feature map; see `steps`."""
        strides, dilations = geometry or Geometry(self.strides)
        dilations = dilations or (1,) * len(self.depths)
        for stage, (depth, dim) in enumerate(zip(self.depths, self.dims, strict=True)):
            if stage == 0:
                yield from self.stem_steps(channels, strides[0])
            else:
                yield from self.downsample_steps(stage, strides[stage], dilations[stage - 1])
            for index in range(depth):
                name = f"stage_{stage}_block_{index}"
                yield block_steps(self, name, dim, self.kernel(stage), dilations[stage])
            yield Tap(f"stage_{stage}")

    def parameter_count(
        self, num_classes: int = 1000, channels: int = 3, *, layer_scale: bool = True
    ) -> int:
        """Number of trainable parameters; 0 classes leave out the classifier, not its norm.

        `layer_scale=False` leaves out V1's layer scale; V2 has none.
        """
        counted = self if layer_scale else replace(self, layer_scale=False)
        shapes = parameters(counted.steps(num_classes, channels)).values()
        return sum(math.prod(shape) for shape in shapes)

    def macs(
        self,
        height: int = 224,
        width: int | None = None,
        num_classes: int = 1000,
        channels: int = 3,
        strides: Strides | None = None,
    ) -> int:
        """Multiply-accumulates for one picture, see `convnext.steps.operations`."""
        steps = self.steps(num_classes, channels, Geometry(strides or self.strides))
        return operations(steps, height, height if width is None else width)

    def feature_sizes(
        self, height: int, width: int, geometry: Geometry | None = None
    ) -> list[tuple[int, int]]:
        """Height and width of each stage's feature map."""
        sides, maps = (height, width), []
        for step in self.steps(0, geometry=geometry):
            if isinstance(step, Conv):
                sides = (step.side(sides[0]), step.side(sides[1]))
            elif isinstance(step, Tap) and step.name.startswith("stage_"):
                maps.append(sides)
        return maps

    def _norm(self, name: str, width: int) -> Norm:
        return Norm(name, width, self.norm, self.epsilon)


def block_steps(
    architecture: Architecture, name: str, dim: int, kernel: int = 7, dilation: int = 1
) -> Residual:
    """Steps of one block of this architecture, with any name and width."""
    hidden = architecture.expansion * dim
    branch: list[Step] = [
        Depthwise(f"{name}.dwconv", dim, kernel, dilation),
        Norm(f"{name}.norm", dim, architecture.norm, architecture.epsilon),
        Linear(f"{name}.pwconv1", dim, hidden),
        Activation(architecture.activation),
    ]
    if architecture.grn:
        branch.append(GRN(f"{name}.grn", hidden))
    branch.append(Linear(f"{name}.pwconv2", hidden, dim))
    if architecture.layer_scale:
        branch.append(Scale(f"{name}.layer_scale", dim))
    return Residual(name, tuple(branch))


def _divisible(width: int, by: int = 8) -> int:
    """Round a width to a multiple of eight as timm does: down by at most a tenth."""
    rounded = max(by, (width + by // 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded


def _rows() -> Iterator[Architecture]:
    atto, femto = ((2, 2, 6, 2), (40, 80, 160, 320)), ((2, 2, 6, 2), (48, 96, 192, 384))
    pico, nano = ((2, 2, 6, 2), (64, 128, 256, 512)), ((2, 2, 8, 2), (80, 160, 320, 640))
    tiny, small = ((3, 3, 9, 3), (96, 192, 384, 768)), ((3, 3, 27, 3), (96, 192, 384, 768))
    base, large = ((3, 3, 27, 3), (128, 256, 512, 1024)), ((3, 3, 27, 3), (192, 384, 768, 1536))
    zepto = ((2, 2, 4, 2), (32, 64, 128, 256))

    def v1(size: str, numbers: _Numbers, **traits: Any) -> Architecture:
        return Architecture(f"convnext_{size}", size, *numbers, **traits)

    def v2(size: str, numbers: _Numbers) -> Architecture:
        return Architecture(f"convnextv2_{size}", size, *numbers, grn=True, layer_scale=False)

    # tiny to xlarge: the V1 paper. The others: timm.
    yield v1("zepto_rms", zepto, norm="simple")
    yield v1("zepto_rms_ols", zepto, norm="simple", stem="overlap_act")
    yield v1("atto", atto)
    yield v1("atto_ols", atto, stem="overlap_tiered")
    yield v1("atto_rms", atto, norm="rms")
    yield v1("femto", femto)
    yield v1("femto_ols", femto, stem="overlap_tiered")
    yield v1("pico", pico)
    yield v1("pico_ols", pico, stem="overlap_tiered")
    yield v1("nano", nano)
    yield v1("nano_ols", nano, stem="overlap")
    yield v1("tiny", tiny)
    yield v1("tiny_hnf", tiny, head="norm_pool")
    yield v1("small", small)
    yield v1("base", base)
    yield v1("large", large)
    yield v1("large_mlp", large, head_hidden=1536)
    yield v1("xlarge", ((3, 3, 27, 3), (256, 512, 1024, 2048)))
    yield v1("xxlarge", ((3, 4, 30, 3), (384, 768, 1536, 3072)), epsilon=1e-5)
    # The V1 paper's isotropic models: one stage, as deep and wide as vision transformers.
    isotropic: dict[str, Any] = {"patch": 16, "stem_norm": False}
    yield v1("isotropic_small", ((18,), (384,)), layer_scale=False, **isotropic)
    yield v1("isotropic_base", ((18,), (768,)), layer_scale=False, **isotropic)
    yield v1("isotropic_large", ((36,), (1024,)), **isotropic)
    # The V2 paper; small is timm's, for which no weights were published.
    for size, numbers in (
        *(("atto", atto), ("femto", femto), ("pico", pico), ("nano", nano), ("tiny", tiny)),
        *(("small", small), ("base", base), ("large", large)),
        ("huge", ((3, 3, 27, 3), (352, 704, 1408, 2816))),
    ):
        yield v2(size, numbers)
    # timm's architectures for tests, with published weights of a few hundred thousand parameters.
    test: dict[str, Any] = {"epsilon": 1e-5, "activation": "gelu_tanh"}
    short = ((1, 1, 1, 1), (32, 64, 96, 128))
    yield Architecture("test_convnext", "test_convnext", (1, 2, 4, 2), (24, 32, 48, 64), **test)
    yield Architecture("test_convnext2", "test_convnext2", *short, **test)
    test |= {"kernels": (7, 5, 5, 3), "activation": "silu"}
    yield Architecture("test_convnext3", "test_convnext3", *short, **test)
    # This package's, for tests: small, with more than one block in a stage.
    yield Architecture("test_v1", "test", (1, 1, 2, 1), (8, 16, 24, 32))
    yield replace(v2("test", ((1, 1, 2, 1), (8, 16, 24, 32))), name="test_v2")


ARCHITECTURES: dict[str, Architecture] = {row.name: row for row in _rows()}
"""Every published architecture, by name."""

Variant = Architecture  # other public names
VARIANTS = ARCHITECTURES


def sizes(family: Family) -> list[str]:
    """Names of a family's sizes, smallest first, without those for tests.

    Example:
        >>> sizes("v2")[-1]
        'huge'
    """
    rows = ARCHITECTURES.values()
    return [a.size for a in rows if a.family == family and not a.name.startswith("test_")]


def get_variant(family: Family, size: str) -> Architecture:
    """Find the architecture of a family by its size or full name.

    Example:
        >>> get_variant("v1", "base").dims
        (128, 256, 512, 1024)
    """
    if not isinstance(size, str):
        raise ArgumentTypeError(
            f"A variant is a string such as 'tiny', not {type(size).__name__}: {size!r}."
        )
    for row in ARCHITECTURES.values():
        if row.family == family and size.lower() in (row.size, row.name):
            return row
    raise UnknownNameError(f"{family.upper()} variant", size, sizes(family))


def stated(given: object) -> Architecture | Arithmetic:
    """Parse an architecture that a user or a file states, by name or by its arithmetic.

    Args:
        given: An `Architecture`, the name of one, or a text such as
            `"epsilon=1e-5,activation=gelu_tanh"`; other traits have their defaults.

    Raises:
        ArgumentError: It is none of these, or a value is invalid.

    Example:
        >>> stated("convnext_xxlarge").epsilon, stated("epsilon=1e-5").activation
        (1e-05, 'gelu')
    """
    if isinstance(given, Architecture | Arithmetic):
        return given
    if not isinstance(given, str):
        raise ArgumentTypeError(
            f"architecture is a name, an Architecture or a text such as {str(Arithmetic())!r}, "
            f"not {type(given).__name__}."
        )
    if "=" not in given:
        if given not in ARCHITECTURES:
            raise UnknownNameError("architecture", given, ARCHITECTURES)
        return ARCHITECTURES[given]
    pairs = (pair.partition("=") for pair in given.split(","))
    traits = {name.strip(): text.strip() for name, _, text in pairs}
    unknown = [name for name in traits if name not in Arithmetic._fields]
    if unknown:
        raise UnknownNameError("trait", unknown[0], Arithmetic._fields)
    return checked_arithmetic(traits)


def checked_arithmetic(traits: Mapping[str, Any]) -> Arithmetic:
    """Create an `Arithmetic` from texts or numbers by the names of its fields.

    Raises:
        ArgumentError: A value is invalid.
    """
    values: dict[str, Any] = dict(traits)
    for name in {"epsilon", "head_epsilon"} & traits.keys():
        if traits[name] is None and name == "head_epsilon":
            continue
        try:
            values[name] = float(traits[name])
        except (TypeError, ValueError):
            values[name] = math.nan
        if not 0 < values[name] < 1:
            raise ArgumentError(f"{name} is a number between 0 and 1, not {traits[name]!r}.")
    for name, allowed in (("activation", ACTIVATIONS), ("norm", get_args(NormKind))):
        if values.get(name, allowed[0]) not in allowed:
            raise UnknownNameError(name, values[name], allowed)
    return Arithmetic(**values)


def feature_sizes(
    height: int, width: int, strides: Strides = PUBLISHED_STRIDES
) -> list[tuple[int, int]]:
    """Height and width of each stage's feature map, for a stem of patches.

    Published strides round down, as they leave out incomplete patches; relaxed ones pad the
    picture and round up.

    Example:
        >>> feature_sizes(224, 224)
        [(56, 56), (28, 28), (14, 14), (7, 7)]
    """
    return ARCHITECTURES["test_v1"].feature_sizes(height, width, Geometry(strides))


def adapted_strides(height: int, width: int) -> Strides:
    """Strides for a picture of this size: the published ones, relaxed for small pictures.

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
    """Check the strides of a network: the published ones, any of them relaxed.

    Raises:
        ArgumentError: The strides are invalid.

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
