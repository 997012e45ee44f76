"""Layouts: tables of rows (foreign name, our name, move) that are used in both directions.

Names are patterns:

    {i} {j}       stage 0 to 3, block 0 to depth - 1
    {i1} {j1}     the same, counted from one
    {below}       i - 1, for libraries that count the three downsamplings from zero
    {odd} {even}  2 * i + 1 and 2 * i, for those that count stages and downsamplings together
    {p}           the foreign prefix of names; empty in reading, as any prefix is removed first
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from convnext.architecture import Architecture, Arithmetic, Shape
from convnext.weights.layouts.moves import CONV, DEPTHWISE, LINEAR, SAME, Move

__all__ = [
    "BLOCK",
    "Layout",
    "LayoutRow",
    "expand",
    "keras_norm",
    "keras_weighted",
    "spell",
    "torch_conv",
    "torch_depthwise",
    "torch_linear",
    "torch_norm",
]

BLOCK = "stage_{i}_block_{j}"


@dataclass(frozen=True)
class LayoutRow:
    """One tensor: its foreign name, our name, and the change of axes.

    The file does not hold an implied tensor: the move makes it of another one, and only zeros can
    be written.
    """

    foreign: str
    canonical: str
    move: Move = SAME
    implied: bool = False


def _as_they_are(shapes: Mapping[str, Shape]) -> list[tuple[str, str]]:
    return [(name, name) for name in shapes]


def _no_prefix(architecture: Architecture, names: Collection[str]) -> str:
    del architecture, names
    return ""


@dataclass(frozen=True)
class Layout:
    """The names and axes of one library.

    Attributes:
        name: Name for users.
        about: One line for messages and documentation.
        rows: The table.
        arithmetic: When its files have the usual arithmetic (see `Architecture.is_usual`): always,
            unless a published architecture of these shapes has another, or only if the caller says
            so or all architectures of these shapes have it.
        epsilon: Epsilon of the norms of its library, if fixed.
        isotropic: Whether its networks have one stage and no norm after the stem; None for both
            kinds.
        rows_in: Makes the table to read the names in a file with, instead of `rows`.
        rows_for: Makes the table to write an architecture with, instead of `rows`.
        tidy: Maps the names in a file to pairs (name to look up, name in the file).
        short: Maps a name in the table to the name to look up.
        prefix: Makes `{p}` for writing, from the architecture and its canonical names.
        boundary: The character that ends a prefix in a file.
        writable: Whether it can be written.
        nested_under: The key of a model in a .pth file of its library.
        annotations: Annotations that its library needs in a .safetensors file.
        mark: A name that tells its files from those of layouts with the same first names.
        twins: Second names of tensors that its files hold twice, and the first ones.
        extras: Names that its files may hold besides the network, without prefix.
        misfit: Returns the reason why its library cannot hold canonical tensors; None if it can.
        task: The task of its networks, if they have only one, see `WeightsInfo`.
    """

    name: str
    about: str
    rows: tuple[LayoutRow, ...]
    arithmetic: Literal["usual", "usual_if_unpublished", "stated"] = "usual"
    epsilon: float | None = 1e-6
    isotropic: bool | None = False
    rows_in: Callable[[Collection[str]], tuple[LayoutRow, ...]] | None = None
    rows_for: Callable[[Architecture], tuple[LayoutRow, ...]] | None = None
    tidy: Callable[[Mapping[str, Shape]], list[tuple[str, str]]] = _as_they_are
    short: Callable[[str], str] = str
    prefix: Callable[[Architecture, Collection[str]], str] = _no_prefix
    boundary: str = "."
    writable: bool = True
    nested_under: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""
    twins: Mapping[str, str] = field(default_factory=dict)
    extras: re.Pattern[str] | None = None
    misfit: Callable[[Mapping[str, Any]], str | None] | None = None
    task: str | None = None

    def computes(self, architecture: Architecture) -> bool:
        """Whether its library has this architecture, with the same arithmetic."""
        if self.isotropic not in (None, not architecture.stem_norm):
            return False
        usual = architecture.arithmetic._replace(head_epsilon=None) == Arithmetic()
        if self.arithmetic == "usual":
            return usual
        if self.epsilon is None:
            return True
        return (self.epsilon, "layer") == (architecture.epsilon, architecture.norm)


def spell(pattern: str, stage: int = 0, block: int = 0, prefix: str = "") -> str:
    """Fill in the numbers and the prefix of a pattern."""
    return pattern.format(
        i=stage,
        j=block,
        i1=stage + 1,
        j1=block + 1,
        below=stage - 1,
        odd=2 * stage + 1,
        even=2 * stage,
        p=prefix,
    )


def expand(
    rows: Iterable[LayoutRow], depths: Collection[int], decoder_depth: int = 0, prefix: str = ""
) -> Iterator[LayoutRow]:
    """The rows of every stage and block."""
    for row in rows:
        for stage, block in _stages_and_blocks(row.canonical, depths, decoder_depth):
            yield replace(
                row,
                foreign=spell(row.foreign, stage, block, prefix),
                canonical=spell(row.canonical, stage, block),
            )


def _stages_and_blocks(
    canonical: str, depths: Collection[int], decoder_depth: int
) -> Iterator[tuple[int, int]]:
    """Pairs of stage and block that a canonical pattern stands for."""
    if canonical.startswith(BLOCK):
        for stage, depth in enumerate(depths):
            for block in range(depth):
                yield stage, block
    elif "{i}" in canonical:
        first = 1 if canonical.startswith("downsample") else 0
        for stage in range(first, len(depths)):
            yield stage, 0
    elif "{j}" in canonical:
        for block in range(decoder_depth):
            yield 0, block
    else:
        yield 0, 0


def torch_norm(foreign: str, canonical: str, move: Move = SAME) -> tuple[LayoutRow, LayoutRow]:
    """The two rows of a norm with a weight and a bias."""
    return (
        LayoutRow(f"{foreign}.weight", f"{canonical}.gamma", move),
        LayoutRow(f"{foreign}.bias", f"{canonical}.beta", move),
    )


def torch_linear(foreign: str, canonical: str, move: Move = LINEAR) -> tuple[LayoutRow, LayoutRow]:
    """The two rows of a linear layer, or of anything else with a weight and a bias."""
    return (
        LayoutRow(f"{foreign}.weight", f"{canonical}.kernel", move),
        LayoutRow(f"{foreign}.bias", f"{canonical}.bias"),
    )


def torch_conv(foreign: str, canonical: str) -> tuple[LayoutRow, LayoutRow]:
    """The two rows of a dense convolution."""
    return torch_linear(foreign, canonical, CONV)


def torch_depthwise(foreign: str, canonical: str) -> tuple[LayoutRow, LayoutRow]:
    """The two rows of a depthwise convolution."""
    return torch_linear(foreign, canonical, DEPTHWISE)


def keras_norm(foreign: str, canonical: str) -> tuple[LayoutRow, LayoutRow]:
    """The two rows of a Keras LayerNormalization."""
    return (
        LayoutRow(f"{foreign}/gamma", f"{canonical}.gamma"),
        LayoutRow(f"{foreign}/beta", f"{canonical}.beta"),
    )


def keras_weighted(foreign: str, canonical: str, move: Move = SAME) -> tuple[LayoutRow, LayoutRow]:
    """The two rows of a Keras layer with a kernel and a bias."""
    return (
        LayoutRow(f"{foreign}/kernel", f"{canonical}.kernel", move),
        LayoutRow(f"{foreign}/bias", f"{canonical}.bias"),
    )
