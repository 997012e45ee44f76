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
engine and axis the line fitted in logarithms (time ~ batch ^ exponent) and where it bends. The axis
of the model's size is in multiply-adds. Below 128 pixels strides are relaxed, so that pictures of
64 and 32 pixels cost more than their side says.
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
AXES = {"batch": "batch", "side": "side", "model": "gmacs", "threads": "threads"}
MIB = 2**20
MEASURES = {"time": "median_ms", "memory": "peak_mib"}
CALLS = 5  # that a point takes at least: the first, two more before the clock starts, two turns
BENT = 0.15  # the least change of an exponent that is called a bend
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
        (int(row["batch"]) * float(row["gmacs"]), row)
        for row in rows
        if (row["engine"], int(row["threads"])) == (engine, point.threads) and not row["error"]
    ]
    work = point.batch * gmacs(point)
    size, row = max(
        (one for one in smaller if one[0] < work), key=lambda one: one[0], default=(0, {})
    )
    if not row:
        return ""
    call, memory = (float(row[name]) * work / size for name in MEASURES.values())
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
    """A power law.

    Attributes:
        exponent: Of the straight line.
        bend: Where a line of two pieces bends; None if a straight one fits about as well.
        before: Exponent before the bend.
        after: Exponent after it.
        fitted: Values of the fitted line, bent or not, at the points.
    """

    exponent: float
    bend: float | None
    before: float
    after: float
    fitted: tuple[float, ...]

    def __str__(self) -> str:
        if self.bend is None:
            return f"{self.exponent:.2f}"
        return f"{self.before:.2f}, from {self.bend:g} on {self.after:.2f}"


def grown(xs: Sequence[float], ys: Sequence[float]) -> Growth:
    """Fit a power law, straight and with a bend at one of the inner points."""
    x, y = np.log(xs), np.log(ys)
    ones = np.ones_like(x)

    def fit(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrix = np.stack(columns, axis=1)
        weights = np.linalg.lstsq(matrix, y, rcond=None)[0]
        return weights, matrix @ weights

    (_, slope), line = fit(ones, x)
    straight = Growth(slope, None, slope, slope, tuple(np.exp(line)))
    if len(x) < 5:
        return straight
    bends = [(at, *fit(ones, x, np.maximum(0, x - x[at]))) for at in range(1, len(x) - 1)]
    at, (_, before, change), bent = min(bends, key=lambda one: float(np.sum((y - one[2]) ** 2)))
    left = float(np.sum((y - bent) ** 2)), float(np.sum((y - line) ** 2))
    if abs(change) < BENT or left[0] > BETTER * left[1]:
        return straight
    return Growth(slope, float(xs[at]), before, before + change, tuple(np.exp(bent)))


def along(rows: Sequence[dict[str, str]], axis: str, engine: str) -> list[dict[str, str]]:
    """An engine's rows on an axis, in order: rows that differ on this axis only."""
    own = [row for row in rows if row["engine"] == engine and not row["error"]]
    others = [name for name in Point._fields if name != axis]
    kinds = [tuple(row[name] for name in others) for row in own]
    base = max(kinds, key=kinds.count, default=None)
    found = [row for row, kind in zip(own, kinds, strict=True) if kind == base]
    return sorted(found, key=lambda row: float(row[AXES[axis]]))


# ---- reporting


def table(rows: Sequence[dict[str, str]]) -> str:
    """Markdown: a row for each engine and axis, what was not measured, and the machines."""
    lines = ["| engine | axis | from, to | ms | time: exponent | MiB | memory: exponent |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for engine in dict.fromkeys(row["engine"] for row in rows):
        for axis, column in AXES.items():
            own = along(rows, axis, engine)
            if len(own) < 2:
                continue
            ends, xs = (own[0], own[-1]), [float(row[column]) for row in own]
            cells = [engine, axis, " to ".join(row[axis] for row in ends)]
            for measure in MEASURES.values():
                cells.append(" to ".join(row[measure] for row in ends))
                cells.append(str(grown(xs, [float(row[measure]) for row in own])))
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

    axes = [axis for axis in AXES if axis != "threads"]
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(axes), squeeze=False)
    for line, (measure_name, column) in zip(grid, MEASURES.items(), strict=True):
        for panel, axis in zip(line, axes, strict=True):
            for number, engine in enumerate(dict.fromkeys(row["engine"] for row in rows)):
                own = along(rows, axis, engine)
                if not own:
                    continue
                xs = [float(row[AXES[axis]]) for row in own]
                ys = [float(row[column]) for row in own]
                panel.plot(xs, ys, "o", color=f"C{number}", markersize=4, label=engine)
                if len(xs) > 1:
                    panel.plot(xs, grown(xs, ys).fitted, "-", color=f"C{number}", linewidth=0.8)
            panel.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel=column)
            panel.set_title(f"{measure_name} by {axis}", fontsize=10)
            panel.grid(visible=True, which="both", alpha=0.2)
    grid[0][0].legend(fontsize=8)
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


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
    parser.add_argument("--seconds", type=float, default=20, help="of the calls at a point")
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
