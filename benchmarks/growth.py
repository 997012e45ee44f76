"""How time and memory grow with the batch, the side of pictures, the size of the model and threads.

Each axis is measured from one base point (V2 Atto, one picture of 224 pixels, two threads; float32,
random weights), each point in a process of its own, so that its peak memory is its own. Threads are
as many processors as the process may use.

    python benchmarks/growth.py                      # 12 minutes at most; run it again to go on
    python benchmarks/growth.py --engines openvino,onnxruntime --batches 1,2 --minutes 3
    python benchmarks/growth.py --table              # of what is stored, as Markdown
    python benchmarks/growth.py --plot               # of what is stored, to docs/growth.png

Rows go to benchmarks/results/growth.csv, each as soon as it is measured, and a row that is there is
not measured again: delete it to repeat it. A point that would take too long or too much memory, by
the next smaller one, is not measured, and its row says so. The table and the plot have for each
engine and axis the line `fixed + slope * multiply-adds of a call`, fitted to relative residuals,
and where it bends, if it does: where a straight line is off by 10 % and a bent one is not.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from records import Row, save

from convnext.architecture import VARIANTS, adapted_strides
from convnext.bench.contenders import Contender
from convnext.bench.machine import Machine
from convnext.bench.material import Material, write_material, write_weights
from convnext.bench.race import race
from convnext.bench.rounds import Until
from convnext.images.generated import generated_pictures

RESULTS = Path(__file__).parent / "results" / "growth.csv"
PLOT = Path(__file__).parent.parent / "docs" / "growth.png"
ENGINES = ("openvino", "onnxruntime", "keras:torch", "keras:jax", "keras:tensorflow")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIDES = (32, 64, 128, 224, 384, 512, 768, 1024)
SIZES = ("atto", "pico", "nano", "tiny", "base", "large", "huge")
MODELS = tuple(f"convnextv2_{size}" for size in SIZES)


class Point(NamedTuple):
    """What is measured with an engine."""

    batch: int = 1
    side: int = 224
    model: str = "convnextv2_atto"
    threads: int = 2


Task = tuple[str, Point]  # an engine at a point
BASE = Point()
KEY = ("engine", *Point._fields)
AXES = {"batch": "batch", "side": "side", "model": "gmacs"}  # drawn, and by which column
MIB = 2**20
MEASURES = {"time": "median_ms", "memory": "peak_mib"}
XLABELS = {
    "batch": "pictures in a batch",
    "side": "side, pixels",
    "model": "billions of multiply-adds",
}
YLABELS = {"time": "ms", "memory": "MiB"}
CALLS = 5  # that a point takes at least: the first, two more before the clock starts, two turns
OFF = 0.1  # the residual, as a fraction, from which on a straight line does not do
BETTER = 0.2  # of the straight line's squared residuals a bent one leaves at most


# ---- measuring


def points(**values: Sequence[object]) -> list[Point]:
    """The points of every axis through the base, or through an axis' first value without it."""
    usual = BASE._asdict()
    base = {axis: usual[axis] if usual[axis] in own else own[0] for axis, own in values.items()}
    found = [Point(**{**base, axis: value}) for axis, own in values.items() for value in own]
    return list(dict.fromkeys(found))


def gmacs(point: Point) -> float:
    """Billions of multiply-adds for a picture."""
    strides = adapted_strides(point.side, point.side)
    return VARIANTS[point.model].macs(point.side, strides=strides) / 1e9


def obstacle(engine: str, point: Point, rows: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """Why a point should not be measured, by the engine's largest smaller point; empty if it may.

    Both time and memory are taken to grow as the multiply-adds, which is more than they do.
    """
    smaller = [
        row
        for row in rows
        if (row["engine"], int(row["threads"])) == (engine, point.threads)
        and not row["error"]
        and work(row) < point.batch * gmacs(point)
    ]
    row = max(smaller, key=work, default=None)
    if row is None:
        return ""
    larger = point.batch * gmacs(point) / work(row)
    call, memory = (float(row[name]) * larger for name in MEASURES.values())
    if CALLS * call > 1e3 * seconds:
        return f"not measured: a call would take {call / 1e3:.2g} s"
    if memory * MIB > free_memory():
        return f"not measured: it would take {memory / 1024:.2g} GiB of memory"
    return ""


def free_memory() -> float:
    """Bytes that processes can still have, as Linux counts them; without it, no limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def measure(engine: str, point: Point, material: Material, seconds: float) -> Row:
    """Time an engine at a point: three turns, or fewer if they take longer than so many seconds."""
    name, _, backend = engine.partition(":")
    os.environ["KERAS_BACKEND"] = backend or "torch"
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[: point.threads])  # the measured process inherits it
    try:
        contender = Contender(name, "float32")
        [result] = race(material, [contender], point.batch, Until(3, 0, seconds))
    finally:
        os.sched_setaffinity(0, processors)
    calls = [1e3 * call for turn in result.turns for call in turn]
    if result.error:
        return row_of(engine, point, error=result.error)
    median, least = round(statistics.median(calls), 3), round(min(calls), 3)
    return row_of(engine, point, median, least, round(result.peak_mib, 1), len(calls))


def row_of(
    engine: str,
    point: Point,
    median: object = "",
    least: object = "",
    peak: object = "",
    calls: int = 0,
    error: str = "",
) -> Row:
    return {
        "engine": engine,
        **point._asdict(),
        "gmacs": round(gmacs(point), 4),
        "median_ms": median,
        "min_ms": least,
        "peak_mib": peak,
        "calls": calls,
        "error": error,
        **asdict(Machine.this()),
    }


def with_material(todo: Sequence[Task]) -> Iterator[tuple[str, Point, Material]]:
    """Each task with its weights and pictures, which are written once for several tasks."""
    for model, side in dict.fromkeys((point.model, point.side) for _, point in todo):
        with TemporaryDirectory(prefix="convnext-growth-") as folder:
            written = write_weights(model, Path(folder), random=True, size=side)
            material = write_material(Path(folder), written, generated_pictures(1, side))
            for engine, point in todo:
                if (point.model, point.side) == (model, side):
                    yield engine, point, material


def stored(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---- fitting


@dataclass(frozen=True)
class Growth:
    """A line, straight or of two pieces.

    Attributes:
        fixed: Its value at 0.
        slope: Of the first piece.
        bend: Index of the point where it bends; None if it does not.
        after: Slope after the bend.
        fitted: Its values at the points.
    """

    fixed: float
    slope: float
    bend: int | None
    after: float
    fitted: tuple[float, ...]

    def text(self, labels: Sequence[str]) -> str:
        """The line; the bend by its label."""
        line = f"{self.fixed:.3g} + {self.slope:.3g} a GMAC"
        return (
            line if self.bend is None else f"{line}, from {labels[self.bend]} on {self.after:.3g}"
        )


def grown(xs: Sequence[float], ys: Sequence[float]) -> Growth:
    """Fit a line to points, straight or with a bend at one of the inner points."""
    x, y = np.asarray(xs, float), np.asarray(ys, float)
    ones = np.ones_like(x)

    def fit(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        matrix = np.stack(columns, axis=1)
        weights = np.linalg.lstsq(matrix / y[:, None], ones, rcond=None)[0]
        return weights, matrix @ weights, matrix @ weights / y - 1

    (fixed, slope), line, residuals = fit(ones, x)
    straight = Growth(fixed, slope, None, slope, tuple(line))
    if len(x) < 5 or np.abs(residuals).max() <= OFF:
        return straight
    bends = [(at, *fit(ones, x, np.maximum(0, x - x[at]))) for at in range(1, len(x) - 1)]
    at, (fixed, before, change), bent, left = min(bends, key=lambda one: np.sum(one[3] ** 2))
    if np.sum(left**2) > BETTER * np.sum(residuals**2):
        return straight
    return Growth(fixed, before, at, before + change, tuple(bent))


def work(row: Mapping[str, Any]) -> float:
    """Billions of multiply-adds of a call."""
    return int(row["batch"]) * float(row["gmacs"])


def along(rows: Sequence[dict[str, str]], axis: str, engine: str) -> list[dict[str, str]]:
    """An engine's rows on an axis, in order: rows that differ on this axis only."""
    own = [row for row in rows if row["engine"] == engine and not row["error"]]
    others = [name for name in Point._fields if name != axis]
    kinds = [tuple(row[name] for name in others) for row in own]
    base = max(kinds, key=kinds.count, default=None)
    found = [row for row, kind in zip(own, kinds, strict=True) if kind == base]
    return sorted(found, key=lambda row: (work(row), row["threads"]))


# ---- reporting


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown: a row for each engine and axis, what was not measured, and the machines."""
    lines = ["| engine | axis | from, to | ms | time, ms | MiB | memory, MiB |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for engine in dict.fromkeys(row["engine"] for row in rows):
        for axis in Point._fields:
            own = along(rows, axis, engine)
            if len(own) < 2:
                continue
            labels, xs = [row[axis] for row in own], [work(row) for row in own]
            cells = [engine, axis, f"{labels[0]} to {labels[-1]}"]
            for measure in MEASURES.values():
                ys = [float(row[measure]) for row in own]
                cells.append(f"{ys[0]:.4g} to {ys[-1]:.4g}")
                cells.append(
                    f"{ys[-1] / ys[0]:.2f} of it"
                    if axis == "threads"
                    else grown(xs, ys).text(labels)
                )
            lines.append(f"| {' | '.join(cells)} |")
    failed = [
        f"- {r['engine']}, batch {r['batch']}, {r['side']} pixels, {r['model']}, "
        f"threads {r['threads']}: {r['error']}"
        for r in rows
        if r["error"]
    ]
    where_measured = sorted(
        {f"{row['processor']} ({row['flags']}), {row['date']}, {row['versions']}" for row in rows}
    )
    return "\n".join([*lines, "", *failed, *([""] if failed else []), *where_measured])


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(AXES), squeeze=False)
    for line, (name, measure) in zip(grid, MEASURES.items(), strict=True):
        for panel, (axis, column) in zip(line, AXES.items(), strict=True):
            for number, engine in enumerate(dict.fromkeys(row["engine"] for row in rows)):
                own = along(rows, axis, engine)
                xs = [float(row[column]) for row in own]
                ys = [float(row[measure]) for row in own]
                panel.plot(xs, ys, "o", color=f"C{number}", markersize=3, label=engine)
                if len(xs) > 1:
                    fitted = grown([work(row) for row in own], ys).fitted
                    panel.plot(xs, fitted, "-", color=f"C{number}", linewidth=0.8)
            panel.set(xscale="log", yscale="log", xlabel=XLABELS[axis], ylabel=YLABELS[name])
            panel.set_title(f"{name} by {axis}", fontsize=10)
            panel.grid(visible=True, alpha=0.2)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(
        path, format="png", dpi=80, metadata={"Software": None}, pil_kwargs={"optimize": True}
    )


def main(arguments: Sequence[str] | None = None) -> None:
    def texts(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", type=texts, default=ENGINES)
    parser.add_argument("--batches", type=numbers, default=BATCHES)
    parser.add_argument("--sides", type=numbers, default=SIDES)
    parser.add_argument("--models", type=texts, default=MODELS)
    parser.add_argument("--threads", type=numbers, default=(1, 2))
    parser.add_argument("--minutes", type=float, default=12, help="after which no point is begun")
    parser.add_argument("--seconds", type=float, default=30, help="of the calls at a point")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV of the results")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the table")
    parser.add_argument("--plot", type=Path, nargs="?", const=PLOT, help="measure nothing, draw")
    args = parser.parse_args(arguments)
    if not args.table and not args.plot:
        sweep(args)
    rows = stored(args.out)
    if not rows:
        sys.exit(f"{args.out} has no rows: run this without --table and --plot first.")
    if args.plot:
        draw(rows, args.plot)
    else:
        print(table(rows))


def sweep(args: argparse.Namespace) -> None:
    """Measure what is not stored yet, until the time is over."""
    begun = time.monotonic()
    axes = {"batch": args.batches, "side": args.sides, "model": args.models}
    every = [
        (engine, point) for point in points(**axes, threads=args.threads) for engine in args.engines
    ]
    done = {tuple(row[name] for name in KEY) for row in stored(args.out)}
    todo = [(engine, point) for engine, point in every if (engine, *map(str, point)) not in done]
    for number, (engine, point, material) in enumerate(with_material(todo)):
        if time.monotonic() - begun > 60 * args.minutes:
            print(
                f"{args.minutes:g} minutes are over, {len(todo) - number} points are left: "
                "run this again to measure them."
            )
            return
        error = obstacle(engine, point, stored(args.out), args.seconds)
        row = (
            row_of(engine, point, error=error)
            if error
            else (measure(engine, point, material, args.seconds))
        )
        save(args.out, [row], KEY)
        print(*(row[name] for name in (*KEY, "median_ms", "peak_mib", "error")), flush=True)


if __name__ == "__main__":
    main()
