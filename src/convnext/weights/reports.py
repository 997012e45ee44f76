"""The results of loading and saving weights, with their summaries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convnext.architecture import Architecture
from convnext.errors import listed
from convnext.weights.fit import Fit
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import Recognised

__all__ = ["LoadReport", "SaveReport"]


@dataclass(frozen=True)
class LoadReport:
    """The result of loading; `str` gives a summary.

    Attributes:
        source: Where the weights come from.
        found: The layout and architecture that were recognised.
        info: Metadata of the weights.
        fit: The variables that were filled, and those that keep their values.
    """

    source: str
    found: Recognised
    info: WeightsInfo
    fit: Fit

    def __str__(self) -> str:
        filled, fresh, unused = self.fit.filled, self.fit.fresh, self.fit.unused
        kind = self.found.kind
        if self.info.task == "clip" and self.found.num_classes:
            kind = f"CLIP's image tower, vectors of {self.found.num_classes} numbers"
        lines = [
            f"{self.found.variant.name}, {kind}, from {self.source} (layout "
            f"{self.found.layout}): {len(filled)} tensors loaded."
        ]
        if fresh:
            lines.append(f"NOT LOADED, still random and to be trained: {listed(fresh, 4)}.")
        if unused:
            lines.append(f"Left in the file: {listed(unused, 4)}.")
        if self.found.ignored:
            lines.append(f"Passed over as no part of it: {listed(self.found.ignored, 4)}.")
        if self.info.notice:
            lines.append(self.info.notice)
        return "\n".join(lines)


@dataclass(frozen=True)
class SaveReport:
    """The result of saving; `str` gives a summary.

    Attributes:
        path: The file.
        variant: The architecture.
        layout: The layout of the names.
        tensors: Number of tensors.
        nbytes: Size of the tensors in bytes.
        info: Metadata of the weights.
        dropped: Whether the metadata was left out, as the format has no place for it.
    """

    path: Path
    variant: Architecture
    layout: str
    tensors: int
    nbytes: int
    info: WeightsInfo
    dropped: bool

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.variant.name} in the layout {self.layout!r}, {self.tensors} "
            f"tensors, {self.nbytes / 1e6:.1f} MB, read back and found the same."
        ]
        if self.info.notice:
            lines.append(self.info.notice)
        if self.dropped:
            lines.append(f"A {self.path.suffix} file has no place for what else is known of them.")
        return "\n".join(lines)
