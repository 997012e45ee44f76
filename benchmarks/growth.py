"""How time and memory grow with the batch, the side of pictures, the size of the model and threads.

Each axis is measured from one base point (V2 Tiny, one picture of 224 pixels, two threads; float32,
random weights), each point in a process of its own, so that its peak memory is its own. Threads are
as many processors as the process may use.

    python benchmarks/growth.py                      # an hour or more on two cores
    python benchmarks/growth.py --engines openvino --batches 1,2,4 --sides 224 --seconds 5
    python benchmarks/growth.py --report             # table and plot of what is stored

Rows go to benchmarks/results/growth.csv, each as soon as it is measured, and a row that is there is
not measured again: delete it to repeat it. The table, growth.md, and the plot, growth.png, have for
each engine and axis the line fitted in logarithms (time ~ batch ^ exponent) and where it bends. The
axis of the model's size is in multiply-adds. Below 128 pixels strides are relaxed, so that pictures
of 64 and 32 pixels cost more than their side says.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from records import Row, save

from convnext.architecture import VARIANTS, adapted_strides
from convnext.bench.contenders import Contender
from convnext.bench.machine import Machine
from convnext.bench.material import Material, write_material, write_weights
from convnext.bench.race import race
from convnext.bench.rounds import Until
from convnext.images.generated import generated_pictures

RESULTS = Path(__file__).parent / "results"
ENGINES = ("openvino", "onnxruntime", "keras:torch", "keras:jax", "keras:tensorflow")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIDES = (32, 64, 128, 224, 384, 512, 768, 1024)
SIZES = ("atto", "femto", "pico", "nano", "tiny", "small", "base", "large", "huge")
MODELS = tuple(f"convnextv2_{size}" for size in SIZES)


class Point(NamedTuple):
    """What is measured with an engine."""

    batch: int = 1
    side: int = 224
    model: str = "convnextv2_tiny"
    threads: int = 2


BASE = Point()
KEY = ("engine", *Point._fields)
AXES = {"batch": "batch", "side": "side", "model": "gmacs", "threads": "threads"}
MEASURES = {"time": "median_ms", "memory": "peak_mib"}
BENT = 0.15  # the least change of an exponent that is called a bend
BETTER = 0.2  # of the straight line's squared residuals a bent one leaves at most


# ---- measuring


def points(**values: Sequence[object]) -> list[Point]:
    """The points of every axis through the base, or through an axis' first value without it."""
    usual = BASE._asdict()
    base = {axis: usual[axis] if usual[axis] in own else own[0] for axis, own in values.items()}
    found = [Point(**{**base, axis: value}) for axis, own in values.items() for value in own]
    return list(dict.fromkeys(found))


def measure(engine: str, point: Point, material: Material, seconds: float) -> Row:
    """Time an engine at a point: 8 turns, or fewer if they take longer than so many seconds."""
    name, _, backend = engine.partition(":")
    os.environ["KERAS_BACKEND"] = backend or "torch"
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[: point.threads])  # the measured process inherits it
    try:
        contender = Contender(name, "float32")
        [result] = race(material, [contender], point.batch, Until(8, 0, seconds))
    finally:
        os.sched_setaffinity(0, processors)
    calls = [1e3 * call for turn in result.turns for call in turn]
    good = not result.error
    macs = VARIANTS[point.model].macs(point.side, strides=adapted_strides(point.side, point.side))
    return {
        "engine": engine,
        **point._asdict(),
        "gmacs": round(macs / 1e9, 4),
        "median_ms": round(statistics.median(calls), 3) if good else "",
        "min_ms": round(min(calls), 3) if good else "",
        "peak_mib": round(result.peak_mib, 1) if good else "",
        "calls": len(calls),
        "error": result.error or "",
        **asdict(Machine.this()),
    }


def with_material(todo: Sequence[Point]) -> Iterator[tuple[Point, Material]]:
    """Each point with its weights and pictures, which are written once for several points."""
    for model, side in dict.fromkeys((point.model, point.side) for point in todo):
        with TemporaryDirectory(prefix="convnext-growth-") as folder:
            written = write_weights(model, Path(folder), random=True, size=side)
            material = write_material(Path(folder), written, generated_pictures(1, side))
            for point in todo:
                if (point.model, point.side) == (model, side):
                    yield point, material


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
    lines = [
        "| engine | axis | from | to | time: exponent | memory: exponent | time at the ends, ms |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for engine in dict.fromkeys(row["engine"] for row in rows):
        for axis, column in AXES.items():
            own = along(rows, axis, engine)
            if len(own) < 2:
                continue
            xs = [float(row[column]) for row in own]
            laws = [str(grown(xs, [float(row[m]) for row in own])) for m in MEASURES.values()]
            ends = f"{own[0]['median_ms']}, {own[-1]['median_ms']}"
            lines.append(f"| {engine} | {axis} | {own[0][axis]} | {own[-1][axis]} "
                         f"| {laws[0]} | {laws[1]} | {ends} |")  # fmt: skip
    failed = [f"- {r['engine']}, {', '.join(r[k] for k in KEY[1:])}: {r['error']}" for r in rows
              if r["error"]]  # fmt: skip
    where_measured = sorted(
        {f"{row['processor']} ({row['flags']}), {row['date']}, {row['versions']}" for row in rows}
    )
    return "\n".join([*lines, "", *failed, *([""] if failed else []), *where_measured, ""])


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
    parser.add_argument("--seconds", type=float, default=20, help="of the calls at a point")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    args = parser.parse_args(arguments)
    path = args.out / "growth.csv"
    axes = {"batch": args.batches, "side": args.sides, "model": args.models}
    every = [] if args.report else points(**axes, threads=args.threads)
    done = {tuple(row[name] for name in KEY) for row in stored(path)}

    def left(engine: str, point: Point) -> bool:
        return (engine, *map(str, point)) not in done

    todo = [point for point in every if any(left(engine, point) for engine in args.engines)]
    for point, material in with_material(todo):
        for engine in args.engines:
            if left(engine, point):
                row = measure(engine, point, material, args.seconds)
                save(path, [row], KEY)
                print(*(row[name] for name in (*KEY, "median_ms", "peak_mib", "error")), flush=True)
    rows = stored(path)
    if not rows:
        sys.exit(f"{path} has no rows.")
    (args.out / "growth.md").write_text(table(rows))
    draw(rows, args.out / "growth.png")
    print(table(rows))


if __name__ == "__main__":
    main()
