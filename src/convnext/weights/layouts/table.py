"""What a layout is: a table of rows (foreign name, our name, move) that is read both ways.

The file of each foreign layout holds its table and little else. Names are patterns:

    {i} {j}       stage 0 to 3, block 0 to depth - 1
    {i1} {j1}     the same, counted from one
    {below}       i - 1, for those who count the three downsamplings from zero
    {odd} {even}  2 * i + 1 and 2 * i, for those who count stages and downsamplings together
    {p}           what the foreign side puts before its names; empty while reading, because
                  recognition has taken any prefix off by then
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
    "Row",
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
class Row:
    """One tensor: what they call it, what we call it, and how the axes differ.

    Where it is implied, the file does not hold it: the move makes it of another tensor, and nothing
    but zeros can be written.
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
    """One foreign naming.

    Attributes:
        name: What the user calls it.
        about: One line for messages and documentation.
        rows: The table.
        arithmetic: Whether its files compute as usual (see `Architecture.is_usual`): always, if
            no published architecture of these shapes does otherwise, or only where somebody says
            so or all architectures of these shapes do.
        epsilon: Of the norms of its library, where that is fixed.
        isotropic: Whether its networks have one stage and no norm behind the stem; None where there
            are both kinds.
        rows_in: The table to read with, from the names in a file, where it is not `rows`.
        rows_for: The table to write an architecture with, where it is not `rows`.
        tidy: From the names in a file to pairs (name to look up, name in the file).
        short: From a name in the table to the name to look up.
        prefix: What `{p}` stands for when an architecture's canonical names are written.
        boundary: The character that ends a prefix in a file.
        writable: False for what we read but never write.
        nested_under: The key under which its library keeps a model in a .pth file.
        annotations: What its library wants to find in a .safetensors file.
        mark: A name that only its files have, of those with the same first names.
        twins: Second names of tensors that its files hold twice, and the first ones.
        extras: Names of what its files may hold besides the network, any prefix taken off.
        misfit: Why its library cannot hold some canonical tensors; None if it can.
        task: What its networks are for, where that is one thing, see `WeightsInfo`.
    """

    name: str
    about: str
    rows: tuple[Row, ...]
    arithmetic: Literal["usual", "usual_if_unpublished", "stated"] = "usual"
    epsilon: float | None = 1e-6
    isotropic: bool | None = False
    rows_in: Callable[[Collection[str]], tuple[Row, ...]] | None = None
    rows_for: Callable[[Architecture], tuple[Row, ...]] | None = None
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
        """Whether its library has this architecture, and computes as it does."""
        if self.isotropic not in (None, not architecture.stem_norm):
            return False
        usual = architecture.arithmetic._replace(head_epsilon=None) == Arithmetic()
        if self.arithmetic == "usual":
            return usual
        if self.epsilon is None:
            return True
        return (self.epsilon, "layer") == (architecture.epsilon, architecture.norm)


def spell(pattern: str, stage: int = 0, block: int = 0, prefix: str = "") -> str:
    """A pattern with its numbers filled in."""
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
    rows: Iterable[Row], depths: Collection[int], decoder_depth: int = 0, prefix: str = ""
) -> Iterator[Row]:
    """The rows with every stage and block written out."""
    for row in rows:
        for stage, block in _places(row.canonical, depths, decoder_depth):
            yield replace(
                row,
                foreign=spell(row.foreign, stage, block, prefix),
                canonical=spell(row.canonical, stage, block),
            )


def _places(
    canonical: str, depths: Collection[int], decoder_depth: int
) -> Iterator[tuple[int, int]]:
    """Which stages and blocks a canonical pattern stands for."""
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


def torch_norm(foreign: str, canonical: str, move: Move = SAME) -> tuple[Row, Row]:
    """The two rows of a norm whose parameters the foreign side calls weight and bias."""
    return (
        Row(f"{foreign}.weight", f"{canonical}.gamma", move),
        Row(f"{foreign}.bias", f"{canonical}.beta", move),
    )


def torch_linear(foreign: str, canonical: str, move: Move = LINEAR) -> tuple[Row, Row]:
    """The two rows of a linear layer, or of anything else with a weight and a bias."""
    return (
        Row(f"{foreign}.weight", f"{canonical}.kernel", move),
        Row(f"{foreign}.bias", f"{canonical}.bias"),
    )


def torch_conv(foreign: str, canonical: str) -> tuple[Row, Row]:
    """The two rows of a dense convolution."""
    return torch_linear(foreign, canonical, CONV)


def torch_depthwise(foreign: str, canonical: str) -> tuple[Row, Row]:
    """The two rows of a depthwise convolution."""
    return torch_linear(foreign, canonical, DEPTHWISE)


def keras_norm(foreign: str, canonical: str) -> tuple[Row, Row]:
    """The two rows of a Keras LayerNormalization."""
    return (
        Row(f"{foreign}/gamma", f"{canonical}.gamma"),
        Row(f"{foreign}/beta", f"{canonical}.beta"),
    )


def keras_weighted(foreign: str, canonical: str, move: Move = SAME) -> tuple[Row, Row]:
    """The two rows of a Keras layer with a kernel and a bias."""
    return (
        Row(f"{foreign}/kernel", f"{canonical}.kernel", move),
        Row(f"{foreign}/bias", f"{canonical}.bias"),
    )
