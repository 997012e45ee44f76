"""Find out from names and shapes alone which layout a file is in and which model it holds.

No name is ever parsed: a layout's table says how it would spell a tensor, and we look whether the
file has it. Depths come from counting blocks, widths from the blocks' norms, the family from what a
block holds, and then every shape must agree.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from convnext.architecture import VARIANTS, Family, Variant
from convnext.errors import WeightsMismatchError
from convnext.weights.canonical import (
    Shape,
    decoder_shapes,
    feature_norm_shapes,
    parameter_shapes,
)
from convnext.weights.layouts.locate import TRAINING_STATE, Located, locate
from convnext.weights.layouts.misfit import Misfit
from convnext.weights.layouts.moves import Move
from convnext.weights.layouts.table import BLOCK, Layout, expand, spell

__all__ = ["Recognised", "Source", "described", "recognise", "same_size"]

BLOCK_NORM = f"{BLOCK}.norm.gamma"

# Architectures that share names with ours and are something else.
RELATIVES = (
    (
        r"(.*\.)?blocks\.0\.dwconv\.weight",
        "This is an isotropic ConvNeXt (one stage, patches of 16): another architecture.",
    ),
    (r"(.*\.)?norm_pre\.weight", "This timm model normalises before it pools: not supported."),
    (r"(.*\.)?stem\.[23]\.weight", "This timm model has an overlapping stem: not supported."),
    (r"(.*\.)?head\.pre_logits\..*", "This head has a hidden layer: not supported."),
)


@dataclass(frozen=True)
class Source:
    """Where one canonical tensor comes from: its name in the file and how its axes move."""

    name: str
    move: Move


@dataclass(frozen=True)
class Recognised:
    """What a set of named tensors turned out to be.

    Attributes:
        layout: Name of the layout.
        variant: The published variant, or one of size `"custom"`.
        num_classes: Width of the classifier; 0 where there is none.
        channels: Channels of the pictures it takes.
        layer_scale: Whether its blocks hold a layer scale.
        head_norm: Whether the norm after pooling is there.
        features: Which outputs have a norm of their own (dense-prediction backbones).
        decoder: Whether the decoder of FCMAE pretraining is there.
        shapes: Each canonical name's shape, in the order data flows.
        sources: Each canonical name's source, in the order data flows.
        ignored: Names in the file that are known not to be weights of this model.
    """

    layout: str
    variant: Variant
    num_classes: int
    channels: int
    layer_scale: bool
    head_norm: bool
    features: tuple[str, ...]
    decoder: bool
    shapes: Mapping[str, Shape] = field(repr=False)
    sources: Mapping[str, Source] = field(repr=False)
    ignored: tuple[str, ...] = field(repr=False)

    @property
    def kind(self) -> str:
        """What the tensors are good for, in words."""
        if self.decoder:
            return "FCMAE pretraining model"
        if self.num_classes:
            return f"classifier of {self.num_classes} classes"
        if self.features:
            return "dense-prediction backbone"
        return "feature extractor" if self.head_norm else "encoder without a head"


def recognise(
    shapes: Mapping[str, Shape], layouts: Iterable[Layout], variant: Variant | None = None
) -> Recognised:
    """Whose weights these are, of which model, and where each canonical tensor comes from.

    Args:
        shapes: Name and shape of every tensor.
        layouts: The layouts to try, in order.
        variant: The variant it has to be; by default whichever it is.

    Raises:
        WeightsMismatchError: The tensors fit no layout, or some are missing, left over or have a
            shape that the others contradict.
    """
    layouts = tuple(layouts)
    located = next(filter(None, (locate(shapes, layout) for layout in layouts)), None)
    if located is None:
        raise _unknown(shapes, layouts)
    recognised, misfit = _read(_Probe(shapes, located))
    if misfit:
        raise misfit.error(
            f"These look like weights of {described(recognised.variant)} in the layout "
            f"{recognised.layout!r}, but they do not fit.",
            _hints(shapes),
        )
    if variant is not None and not same_size(variant, recognised.variant):
        raise WeightsMismatchError(
            f"These are weights of {described(recognised.variant)}, "
            f"not of {described(variant)}. Ask for the variant that the file holds."
        )
    return recognised


class _Probe:
    """Looks tensors up by canonical pattern, through a layout's table."""

    def __init__(self, shapes: Mapping[str, Shape], located: Located) -> None:
        self.shapes = shapes
        self.located = located
        self.layout = located.layout
        self._rows = {row.canonical: row for row in self.layout.rows}

    def shape(self, canonical: str, stage: int = 0, block: int = 0) -> Shape | None:
        """The canonical shape of a tensor, or None where it is not there."""
        row = self._rows.get(canonical)
        if row is None:
            return None
        name = self.located.names.get(self.layout.short(spell(row.foreign, stage, block)))
        return None if name is None else row.move.read_shape(self.shapes[name])

    def width(self, canonical: str, axis: int = 0, stage: int = 0) -> int:
        """The length of one axis, or 0 where the tensor is not there."""
        shape = self.shape(canonical, stage) or ()
        return shape[axis] if -len(shape) <= axis < len(shape) else 0

    def count(self, canonical: str, stage: int = 0) -> int:
        """How many blocks hold this tensor, without a gap."""
        return next(n for n in itertools.count() if self.shape(canonical, stage, n) is None)

    def features(self) -> Iterator[str]:
        """The outputs that have a norm."""
        if self.shape("feature_stem_norm.gamma"):
            yield "stem"
        for stage in range(4):
            if self.shape("feature_{i}_norm.gamma", stage):
                yield str(stage)

    def sources(self, depths: Iterable[int], decoder_depth: int) -> dict[str, Source]:
        """Every canonical name that the table finds in the file."""
        sources = {}
        for row in expand(self.layout.rows, tuple(depths), decoder_depth):
            name = self.located.names.get(self.layout.short(row.foreign))
            if name is not None:
                sources[row.canonical] = Source(name, row.move)
        return sources


def _read(probe: _Probe) -> tuple[Recognised, Misfit]:
    """What the tensors are, and what contradicts that."""
    variant = _variant(probe)
    num_classes = probe.width("head.kernel", 1) or probe.width("head.bias")
    channels = probe.width("stem_conv.kernel", 2)
    layer_scale = probe.shape(f"{BLOCK}.layer_scale.gamma") is not None
    head_norm = probe.shape("head_norm.gamma") is not None
    features = tuple(probe.features())
    decoder_depth = probe.count("decoder_block_{j}.norm.gamma")

    wanted = parameter_shapes(
        variant, num_classes, channels, layer_scale=layer_scale, head_norm=head_norm
    )
    wanted |= feature_norm_shapes(variant, features)
    if decoder_depth:
        width = probe.width("decoder_mask.token")
        outputs = probe.width("decoder_pred.bias")
        wanted |= decoder_shapes(variant, outputs, width=width, depth=decoder_depth)

    sources = probe.sources(variant.depths, decoder_depth)
    recognised = Recognised(
        layout=probe.layout.name,
        variant=variant,
        num_classes=num_classes,
        channels=channels,
        layer_scale=layer_scale,
        head_norm=head_norm,
        features=features,
        decoder=decoder_depth > 0,
        shapes=wanted,
        sources={name: sources[name] for name in wanted if name in sources},
        ignored=probe.located.ignored,
    )
    used = {source.name for source in recognised.sources.values()}
    misfit = Misfit(
        missing=[name for name in wanted if name not in sources],
        left_over=[name for name in probe.located.names.values() if name not in used],
        mismatched=[
            (source.name, probe.shapes[source.name], source.move.written_shape(wanted[name]))
            for name, source in recognised.sources.items()
            if source.move.read_shape(probe.shapes[source.name]) != wanted[name]
        ],
    )
    return recognised, misfit


def _variant(probe: _Probe) -> Variant:
    family: Family = "v2" if probe.shape(f"{BLOCK}.grn.gamma") else "v1"
    depths = [probe.count(BLOCK_NORM, stage) for stage in range(4)]
    dims = [probe.width(BLOCK_NORM, stage=stage) for stage in range(4)]
    size = Variant(
        "convnextv2_custom" if family == "v2" else "convnext_custom",
        family,
        "custom",
        (depths[0], depths[1], depths[2], depths[3]),
        (dims[0], dims[1], dims[2], dims[3]),
    )
    return next((row for row in VARIANTS.values() if same_size(row, size)), size)


def same_size(one: Variant, other: Variant) -> bool:
    """Whether two variants are the same architecture, whatever their names."""
    return (one.family, one.depths, one.dims) == (other.family, other.depths, other.dims)


def described(variant: Variant) -> str:
    """A variant in a sentence: its name, or its numbers where it was never published."""
    if variant.size != "custom":
        return variant.name
    return f"an unpublished {variant.family.upper()} (depths {variant.depths}, dims {variant.dims})"


def _hints(names: Iterable[str]) -> list[str]:
    names = list(names)
    return [
        hint for pattern, hint in RELATIVES if any(re.fullmatch(pattern, name) for name in names)
    ]


def _unknown(shapes: Mapping[str, Shape], layouts: Iterable[Layout]) -> WeightsMismatchError:
    allowed = ", ".join(layout.name for layout in layouts)
    lines = [
        f"These {len(shapes)} tensors are in no ConvNeXt layout tried: {allowed}.",
        *_hints(shapes),
        f"  The first names are: {', '.join(list(shapes)[:5]) or 'none'}.",
    ]
    if shapes and all(TRAINING_STATE.fullmatch(name) for name in shapes):
        lines.insert(1, "They are a training state and no model.")
    return WeightsMismatchError("\n".join(lines))
