"""Recognise the layout and the architecture of weights from names and shapes alone.

No name is parsed: a layout's table spells the name of a tensor, which is looked up in the file.
Depths are counts of blocks, widths come from the blocks' norms, other traits from `TRAITS`, and
then every shape must agree. Shapes do not show epsilons and the activation: these are the caller's,
or those of the published architectures with these shapes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from convnext.architecture import ARCHITECTURES, Architecture, Arithmetic, HeadKind, StemKind
from convnext.errors import UnstatedError, WeightsMismatchError
from convnext.segmentation import BINS, SegmentationHead
from convnext.steps import Shape
from convnext.weights.canonical import decoder_shapes, feature_norm_shapes, parameter_shapes
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.locate import TRAINING_STATE, Located, locate
from convnext.weights.layouts.misfit import Misfit
from convnext.weights.layouts.moves import Move
from convnext.weights.layouts.table import BLOCK, Layout, expand, spell

__all__ = ["Recognised", "TensorSource", "described", "recognise"]

BLOCK_NORM = f"{BLOCK}.norm.gamma"

MOST_STAGES = 4


@dataclass(frozen=True)
class TensorSource:
    """A tensor in the file that becomes a canonical one: its name and the change of its axes."""

    name: str
    move: Move


@dataclass(frozen=True)
class Recognised:
    """The layout and architecture of a set of named tensors.

    Attributes:
        layout: Name of the layout.
        architecture: A published one, or one of size `"custom"`.
        possible: Architectures with these names and shapes, if their arithmetic is ambiguous.
        num_classes: Width of the classifier; 0 if there is none.
        channels: Channels of the pictures.
        features: Outputs with a norm of their own (dense-prediction backbones).
        decoder: Whether there is the decoder of FCMAE pretraining.
        segmentation: The head for segmentation, if there is one.
        shapes: Shape of each canonical name, in network order.
        sources: Tensor in the file for each canonical name, in network order.
        ignored: Names in the file that do not belong to this model.
        twins: Pairs of names in the file of the same tensor.
    """

    layout: str
    architecture: Architecture
    possible: tuple[Architecture, ...]
    num_classes: int
    channels: int
    features: tuple[str, ...]
    decoder: bool
    shapes: Mapping[str, Shape] = field(repr=False)
    sources: Mapping[str, TensorSource] = field(repr=False)
    ignored: tuple[str, ...] = field(repr=False)
    twins: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    segmentation: SegmentationHead | None = None

    @property
    def variant(self) -> Architecture:
        """Another name of `architecture`."""
        return self.architecture

    @property
    def layer_scale(self) -> bool:
        """Whether its blocks have a layer scale."""
        return self.architecture.layer_scale

    @property
    def head_norm(self) -> bool:
        """Whether the norm before the classifier is there."""
        return self.architecture.head != "none"

    def check_arithmetic(self, source: object) -> None:
        """Refuse weights whose arithmetic is ambiguous.

        Raises:
            UnstatedError: Several architectures have these names and shapes.
        """
        if not self.possible:
            return
        listed = [
            f"  {row.name if row.size != 'custom' else 'like the published sizes'}: "
            f"{row.arithmetic}"
            for row in self.possible
        ]
        named = next((row.name for row in self.possible if row.size != "custom"), None)
        example = named or str(self.possible[0].arithmetic)
        raise UnstatedError(
            "\n".join(
                [
                    f"{source}: names and shapes do not tell how this network computes. It may be",
                    *listed,
                    f"or something else. Say which: architecture={example!r} (--arch {example}). "
                    "Or put the config.json beside it that came with it.",
                ]
            )
        )

    def check_twins(self, tensors: Mapping[str, Any]) -> None:
        """Refuse a file that holds a tensor twice with different values.

        Args:
            tensors: Arrays or lazy tensors by their names in the file.

        Raises:
            WeightsMismatchError: The two differ.
        """
        for twin, name in self.twins:
            one, other = (LazyTensor.of(tensors[each]).read() for each in (twin, name))
            if one.dtype != other.dtype or one.tobytes() != other.tobytes():
                raise WeightsMismatchError(
                    f"{twin!r} and {name!r} are one tensor in the network that this layout "
                    f"({self.layout}) is of, and differ in this file. Take the original file, or "
                    "leave out the one that is wrong."
                )

    @property
    def kind(self) -> str:
        """The kind of model, in words."""
        if self.decoder:
            return "FCMAE pretraining model"
        if self.segmentation:
            return f"segmentation model of {self.num_classes} classes ({self.segmentation.kind})"
        if self.num_classes:
            return f"classifier of {self.num_classes} classes"
        if self.features:
            return "dense-prediction backbone"
        return "feature extractor" if self.head_norm else "encoder without a head"


def recognise(
    shapes: Mapping[str, Shape],
    layouts: Iterable[Layout],
    given: Architecture | Arithmetic | None = None,
    bins: tuple[int, ...] | None = None,
) -> Recognised:
    """Recognise the layout and the architecture of named shapes.

    Args:
        shapes: Name and shape of every tensor.
        layouts: The layouts to try, in order.
        given: The expected architecture or arithmetic, if known.
        bins: Grids of a UPerNet's pooled context; by default the published ones.

    Raises:
        WeightsMismatchError: The tensors fit no layout, or some are missing, left over or of
            another shape.
    """
    layouts = tuple(layouts)
    located = next(filter(None, (locate(shapes, layout) for layout in layouts)), None)
    if located is None:
        raise _unknown(shapes, layouts)
    probe = _Probe(shapes, located)
    seen = _seen(probe)
    recognised, misfit = _read(probe, seen, bins)
    if misfit:
        raise misfit.error(
            f"These look like weights of {described(_nearest(seen))} in the layout "
            f"{recognised.layout!r}, but they do not fit."
        )
    architecture, possible = _resolved(seen, recognised, located.layout, given)
    return replace(recognised, architecture=architecture, possible=possible)


def _resolved(
    seen: Architecture, found: Recognised, layout: Layout, given: Architecture | Arithmetic | None
) -> tuple[Architecture, tuple[Architecture, ...]]:
    """The architecture, and all candidates if it is ambiguous."""
    alike = [row for row in ARCHITECTURES.values() if _may_be(row, seen, found.num_classes)]
    if isinstance(given, Architecture):
        if not _may_be(given, seen, found.num_classes):
            raise WeightsMismatchError(
                f"These are weights of {described(alike[0] if alike else seen)}, not of "
                f"{described(given)}. Ask for the architecture that the file holds."
            )
        return _as_seen(given, seen), ()
    if given is not None:
        if (given.norm == "layer") != (seen.norm == "layer"):
            has, kinds = ("a", "layer") if seen.norm == "layer" else ("no", "rms or norm=simple")
            raise WeightsMismatchError(
                f"The norms are said to be of the kind {given.norm!r}, and these have {has} beta: "
                f"say norm={kinds}."
            )
        stated = replace(seen, **given._asdict())
        return _as_seen(next((r for r in alike if r.arithmetic == given), stated), seen), ()
    unusual = [row for row in alike if not row.is_usual]
    if seen.norm == "layer":
        usual = next((row for row in alike if row.is_usual), seen)
        safe = alike or layout.arithmetic == "usual_if_unpublished"
        if layout.arithmetic == "usual" or (safe and not unusual):
            return _as_seen(usual, seen), ()
        unusual.append(usual)
    return _as_seen(unusual[0], seen) if unusual else seen, tuple(unusual or [seen])


def _nearest(seen: Architecture) -> Architecture:
    return next((row for row in ARCHITECTURES.values() if row.same_encoder(seen)), seen)


def _may_be(row: Architecture, seen: Architecture, num_classes: int) -> bool:
    """Whether weights with these names and shapes can be of this architecture."""
    heads_agree = seen.head in ("none", row.head)
    hidden_agrees = row.head_hidden == seen.head_hidden or not (num_classes or seen.head_hidden)
    return row.same_encoder(seen) and heads_agree and hidden_agrees


def _as_seen(known: Architecture, seen: Architecture) -> Architecture:
    """A known architecture, with the optional parts that these weights have."""
    return replace(
        known,
        head=seen.head,
        head_hidden=seen.head_hidden,
        projection=seen.projection,
        layer_scale=seen.layer_scale,
    )


class _Probe:
    """Looks up tensors of a file by canonical pattern, through a layout's table."""

    def __init__(self, shapes: Mapping[str, Shape], located: Located) -> None:
        self.shapes = shapes
        self.located = located
        self.layout = located.layout
        rows_in = self.layout.rows_in
        self.rows = rows_in(located.names) if rows_in else self.layout.rows
        self._by_canonical = {row.canonical: row for row in self.rows}

    def shape(self, canonical: str, stage: int = 0, block: int = 0) -> Shape | None:
        """The canonical shape of a tensor; None if the file lacks it."""
        row = self._by_canonical.get(canonical)
        if row is None:
            return None
        spelled = spell(row.foreign, stage, block)
        if stage and spelled == spell(row.foreign, 0, block):
            return None  # a layout that does not number stages has one
        name = self.located.names.get(self.layout.short(spelled))
        return None if name is None else row.move.read_shape(self.shapes[name])

    def width(self, canonical: str, axis: int = 0, stage: int = 0) -> int:
        """The length of one axis; 0 if the file lacks the tensor."""
        shape = self.shape(canonical, stage) or ()
        return shape[axis] if -len(shape) <= axis < len(shape) else 0

    def count(self, canonical: str, stage: int = 0) -> int:
        """Number of consecutive blocks that have this tensor."""
        return next(n for n in itertools.count() if self.shape(canonical, stage, n) is None)

    def numbered(self, canonical: str) -> int:
        """Number of consecutive tensors that are called this with `{n}` from 0 up."""
        return next(n for n in itertools.count() if self.shape(canonical.format(n=n)) is None)

    def features(self) -> Iterator[str]:
        """The outputs that have a norm."""
        if self.shape("feature_stem_norm.gamma"):
            yield "stem"
        for stage in range(4):
            if self.shape("feature_{i}_norm.gamma", stage):
                yield str(stage)

    def sources(self, depths: Iterable[int], decoder_depth: int) -> dict[str, TensorSource]:
        """Tensors of the file by canonical name."""
        sources = {}
        for row in expand(self.rows, tuple(depths), decoder_depth):
            name = self.located.names.get(self.layout.short(row.foreign))
            if name is not None:
                sources[row.canonical] = TensorSource(name, row.move)
        return sources


def _overlapping(probe: _Probe) -> StemKind:
    """The kind of a stem, from which convolutions it has and how wide the first one is."""
    if probe.shape("stem_act_conv.kernel"):
        return "overlap_act"
    second = probe.shape("stem_conv_2.kernel")
    if second is None:
        return "patch"
    return "overlap" if second[2:3] == second[3:4] else "overlap_tiered"


def _head(probe: _Probe) -> HeadKind:
    if probe.shape("map_norm.gamma"):
        return "norm_pool"
    return "pool_norm" if probe.shape("head_norm.gamma") else "none"


def _segmentation(probe: _Probe, bins: tuple[int, ...] | None) -> SegmentationHead | None:
    width = probe.width("segment_fuse_conv.kernel", -1)
    if not width:
        return None
    auxiliary = probe.width("auxiliary_conv.kernel", -1)
    if probe.shape("segment_context_conv.kernel") is None:
        return SegmentationHead("mlp", width, auxiliary=auxiliary)
    # Shapes show how many grids there are and not how fine: their layers are 1x1 convolutions. To
    # refuse weights that do not state them would refuse every published file, and all published
    # heads have the same four, so these are what a silent file means.
    bins, there = bins or BINS, probe.numbered("segment_pool_{n}_conv.kernel")
    if len(bins) != there:
        raise WeightsMismatchError(
            f"This UPerNet pools its last map to {there} grids, and not to {len(bins)}, "
            f"{', '.join(map(str, bins))}. Names and shapes do not tell which these are: put the "
            "config.json beside it that came with it, with its pool_scales."
        )
    return SegmentationHead("upernet", width, bins, auxiliary)


TRAITS: Mapping[str, Callable[[_Probe], Any]] = {
    "grn": lambda probe: probe.shape(f"{BLOCK}.grn.gamma") is not None,
    "layer_scale": lambda probe: probe.shape(f"{BLOCK}.layer_scale.gamma") is not None,
    "stem": _overlapping,
    "patch": lambda probe: probe.width("stem_conv.kernel") if _overlapping(probe) == "patch" else 4,
    "stem_norm": lambda probe: probe.shape("stem_norm.gamma") is not None,
    "norm": lambda probe: "layer" if probe.shape(f"{BLOCK}.norm.beta") else "rms",
    "head": _head,
    "head_hidden": lambda probe: probe.width("head_hidden.kernel", 1),
    "projection": lambda probe: probe.width("head_projection.kernel", 1),
    "expansion": lambda p: p.width(f"{BLOCK}.pwconv1.kernel", 1) // p.width(BLOCK_NORM) or 4,
}
"""Trait -> its value from names and shapes; RMS norms and simple ones look the same."""


def _seen(probe: _Probe) -> Architecture:
    """The architecture from names and shapes, with default epsilons and activation."""
    counts = [probe.count(BLOCK_NORM, stage) for stage in range(MOST_STAGES)]
    last = max(stage for stage, count in enumerate([1, *counts[1:]]) if count)
    stages = range(last + 1)
    kernels = tuple(probe.width(f"{BLOCK}.dwconv.kernel", stage=stage) for stage in stages)
    traits = {name: show(probe) for name, show in TRAITS.items()}
    return Architecture(
        "convnextv2_custom" if traits["grn"] else "convnext_custom",
        "custom",
        tuple(counts[: last + 1]),
        tuple(probe.width(BLOCK_NORM, stage=stage) for stage in stages),
        kernels=() if set(kernels) == {7} else kernels,
        **traits,
    )


def _read(
    probe: _Probe, seen: Architecture, bins: tuple[int, ...] | None
) -> tuple[Recognised, Misfit]:
    """Compare the tensors with those of the architecture."""
    num_classes = probe.width("head.kernel", 1) or probe.width("head.bias")
    segmentation = _segmentation(probe, bins)
    if segmentation:
        num_classes = probe.width("segment_classify.bias")
    channels = probe.width("stem_conv.kernel", 2)
    features = tuple(probe.features())
    decoder_depth = probe.count("decoder_block_{j}.norm.gamma")

    wanted = parameter_shapes(seen, num_classes, channels, segmentation=segmentation)
    wanted |= feature_norm_shapes(seen, features)
    if decoder_depth:
        width = probe.width("decoder_mask.token")
        outputs = probe.width("decoder_pred.bias")
        wanted |= decoder_shapes(seen, outputs, width=width, depth=decoder_depth)

    sources, names = probe.sources(seen.depths, decoder_depth), probe.located.names
    twins = {names[a]: names[b] for a, b in probe.layout.twins.items() if {a, b} <= names.keys()}
    recognised = Recognised(
        layout=probe.layout.name,
        architecture=seen,
        possible=(),
        num_classes=num_classes,
        channels=channels,
        features=features,
        decoder=decoder_depth > 0,
        shapes=wanted,
        sources={name: sources[name] for name in wanted if name in sources},
        ignored=probe.located.ignored,
        twins=tuple(twins.items()),
        segmentation=segmentation,
    )
    used = {source.name for source in recognised.sources.values()} | twins.keys()
    misfit = Misfit(
        missing=[name for name in wanted if name not in sources],
        left_over=[name for name in names.values() if name not in used],
        mismatched=[
            (source.name, probe.shapes[source.name], source.move.written_shape(wanted[name]))
            for name, source in recognised.sources.items()
            if source.move.read_shape(probe.shapes[source.name]) != wanted[name]
        ],
    )
    return recognised, misfit


def described(architecture: Architecture) -> str:
    """An architecture in words: its name, or its numbers if it was never published."""
    if architecture.size != "custom":
        return architecture.name
    return (
        f"an unpublished {architecture.family.upper()} (depths {architecture.depths}, dims "
        f"{architecture.dims})"
    )


def _unknown(shapes: Mapping[str, Shape], layouts: Iterable[Layout]) -> WeightsMismatchError:
    allowed = ", ".join(layout.name for layout in layouts)
    lines = [
        f"These {len(shapes)} tensors are in no ConvNeXt layout tried: {allowed}.",
        f"  The first names are: {', '.join(list(shapes)[:5]) or 'none'}.",
    ]
    if shapes and all(TRAINING_STATE.fullmatch(name) for name in shapes):
        lines.insert(1, "They are a training state and no model.")
    return WeightsMismatchError("\n".join(lines))
