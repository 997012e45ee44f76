"""Draws a race: speed against agreement. matplotlib is a lazy import."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.bench.contenders import PEERS
from convnext.bench.results import Row
from convnext.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_chart"]

DPI = 120
OURS, THEIRS = "#2f6db3", "#c8553d"
BEYOND = 10.0  # decibels above the best other contender at which an exact one is drawn
LONGEST_TITLE = 60


def draw_chart(rows: Sequence[Row], path: str | Path) -> None:
    """Draw pictures per second against decibels of agreement, with a panel for each race.

    Labels have the time relative to the first contender, and its 95 % interval, which bars show as
    pictures per second.

    Args:
        rows: The results; failed contenders are left out.
        path: The PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib, which draws charts,", "plots") from error
    races: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        races.setdefault((row.model, row.side, row.batch), []).append(row)
    columns = min(2, len(races)) or 1
    lines = max(1, math.ceil(len(races) / columns))
    figure = Figure(figsize=(6.5 * columns, 4.2 * lines), layout="constrained")
    grid: Any = figure.subplots(lines, columns, squeeze=False)
    panels = list(grid.flat)
    for axes, ((model, side, batch), members) in zip(panels, races.items(), strict=False):
        title = model if len(model) <= LONGEST_TITLE else f"{model[: LONGEST_TITLE - 1]}…"
        axes.set_title(f"{_plain(title)}, {side} px, batch {batch}{_rounds(members)}", fontsize=10)
        _draw(axes, members)
    for axes in panels[len(races) :]:
        axes.set_axis_off()
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    shown = [
        (row, row.pictures_per_s, row.decibels)
        for row in rows
        if row.pictures_per_s is not None and row.decibels is not None
    ]
    finite = [decibels for _, _, decibels in shown if math.isfinite(decibels)]
    top, bottom = max(finite, default=0.0) + BEYOND, min(finite, default=0.0) - BEYOND
    axes.set(xlabel="pictures per second", ylabel="agreement with our float32, dB")
    axes.set_xscale("log")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.margins(x=0.3, y=0.5)
    for row, speed, decibels in shown:
        height = min(max(decibels, bottom), top)
        color = THEIRS if row.contender in PEERS else OURS
        axes.plot(speed, height, "o", color=color, markersize=6)
        name = f"{row.contender} {row.precision}"
        if row.relative:
            name += f"\n{row.relative.interval}"
        if row.ratio and row.ratio_low and row.ratio_high:
            ends = [speed * row.ratio / end for end in (row.ratio_high, row.ratio_low)]
            axes.plot(ends, [height] * 2, "-", color=color)
        axes.annotate(
            name, (speed, height), (3, 5), textcoords="offset points", fontsize=7, rotation=40
        )


def _rounds(rows: Sequence[Row]) -> str:
    most = max(row.rounds for row in rows)
    return f", {most} rounds" if most else ""


def _plain(text: str) -> str:
    """Escape text that matplotlib would parse as mathematics."""
    return text.replace("$", r"\$")
