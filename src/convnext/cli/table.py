"""Tables of aligned columns for the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Column", "output_width", "render"]

GAP = "  "


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its header.
        cells: One for each row.
        numeric: Whether to align to the right.
        rank: If the table is too wide, columns of higher rank are left out first; those of rank 0
            never.
    """

    title: str
    cells: Sequence[str]
    numeric: bool = False
    rank: int = 0

    @property
    def width(self) -> int:
        """Width of the widest cell."""
        return max(len(text) for text in (self.title, *self.cells))

    def lines(self) -> list[str]:
        """The title and the cells, padded to the same width."""
        align = ">" if self.numeric else "<"
        return [f"{text:{align}{self.width}}" for text in (self.title, *self.cells)]


def render(columns: Sequence[Column], width: int | None = None) -> str:
    """Format a table as text; with a width, without the columns that do not fit.

    Example:
        >>> print(render([Column("NAME", ["a", "bb"]), Column("MB", ["9", "10"], numeric=True)]))
        NAME  MB
        a      9
        bb    10
    """
    shown = list(columns)
    while width is not None and sum(len(GAP) + c.width for c in shown) - len(GAP) > width:
        least = max(shown, key=lambda column: column.rank)
        if not least.rank:
            break
        shown.remove(least)
    return "\n".join(
        GAP.join(cells).rstrip() for cells in zip(*(c.lines() for c in shown), strict=True)
    )


def output_width() -> int | None:
    """Width of the terminal, or `$COLUMNS`; None if output is not a terminal."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return None
