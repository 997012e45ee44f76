"""The metrics of a run: JSON lines, and a CSV table and curves made from them.

A resumed run first removes records later than its run state, so that no step is recorded twice.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convnext.atomic import replaced, write_text
from convnext.errors import MissingDependencyError
from convnext.train.run.run_states import disk_errors

__all__ = ["Journal"]

LINES, TABLE, CURVES = "metrics.jsonl", "metrics.csv", "curves.png"

FEW = 20  # curves with fewer points have markers

Record = dict[str, Any]


class Journal:
    """The metrics files of a run.

    Args:
        folder: Of the run.
        tensorboard: Whether to write for TensorBoard as well.
        writes: Whether this host writes; other hosts only read.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False, writes: bool = True) -> None:
        self.folder = folder
        self.writes = writes
        self._board = _board(folder / "tensorboard") if tensorboard and writes else None

    def write(self, record: Record) -> None:
        """Append a record, which has a `step` and a `kind`."""
        if not self.writes:
            return
        with (
            disk_errors(self.folder / LINES),
            (self.folder / LINES).open("a", encoding="utf-8") as f,
        ):
            f.write(json.dumps(record) + "\n")
        if self._board:
            for name, value in record.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(f"{record['kind']}/{name}", value, record["step"])
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's files."""
        if self._board:
            self._board.close()

    def records(self) -> list[Record]:
        """Read all records; a line that a crash cut short is skipped."""
        path = self.folder / LINES
        if not path.exists():
            return []
        found = []
        for line in path.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def forget_after(self, step: int) -> None:
        """Remove records after a step."""
        if not self.writes:
            return
        kept = [record for record in self.records() if record["step"] <= step]
        with disk_errors(self.folder / LINES):
            write_text(self.folder / LINES, "".join(json.dumps(r) + "\n" for r in kept))

    def summarise(self, title: str = "") -> None:
        """Write the table and, if matplotlib is installed, the curves."""
        if not self.writes:
            return
        records = self.records()
        names = list(dict.fromkeys(name for record in records for name in record))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(records)
        with disk_errors(self.folder / TABLE):
            write_text(self.folder / TABLE, text.getvalue())
        draw_curves(records, self.folder / CURVES, title)


def draw_curves(records: Sequence[Record], path: Path, title: str = "") -> bool:
    """Draw loss, accuracy and learning rate by epoch; False if matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    names = {
        "Loss": ("loss", "average_loss"),
        "Accuracy": ("accuracy", "average_accuracy", "mean_iou", "mean_average_precision"),
        "Learning rate": ("learning_rate",),
    }
    styles = {
        ("train", "loss"): ("training", "C0"),
        ("train", "accuracy"): ("training (augmented)", "C0"),
        ("train", "learning_rate"): ("", "C0"),
        ("validation", "loss"): ("validation", "C1"),
        ("validation", "accuracy"): ("validation", "C1"),
        ("validation", "average_loss"): ("validation, averaged weights", "C2"),
        ("validation", "average_accuracy"): ("validation, averaged weights", "C2"),
        ("validation", "mean_iou"): ("validation, mIoU", "C3"),
        ("validation", "mean_average_precision"): ("validation, mAP", "C3"),
    }
    for panel, (heading, shown) in zip(panels, names.items(), strict=True):
        for (kind, name), (label, colour) in styles.items():
            points = [(r["epoch"], r[name]) for r in records if r["kind"] == kind and name in r]
            if name in shown and points:
                marker = "." if len(points) < FEW else ""  # one point makes no line
                panel.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    label=label,
                    linewidth=1.2,
                    marker=marker,
                )
        panel.set_title(heading)
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.3)
        if any(line.get_label() for line in panel.lines if not line.get_label().startswith("_")):
            panel.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title)
    with disk_errors(path), replaced(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return True


def _board(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError("tensorboardX", "tensorboard") from error
    return SummaryWriter(str(folder))
