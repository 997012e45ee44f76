"""Prints the tables of README.md and docs/engines.md from the results of `convnext bench`.

    python benchmarks/engine_tables.py            # the commands whose results it reads
    python benchmarks/engine_tables.py --tables   # the tables

A race has our engine as its first contender, so the ratio of a row is that contender's time over
ours in the same race, with its 95 % interval. In `engines_int8.csv` our engine is in int8, and the
others are in bfloat16.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from convnext.bench.results import read_csv

RESULTS = Path(__file__).parent / "results"
MODELS = {"convnext_tiny": "Tiny", "convnextv2_atto": "V2 Atto"}
BATCHES = ("1", "16")
# file: precisions of its races, the first of them ours
RACES = {
    "engines.csv": ("float32", "bfloat16"),
    "engines_int8.csv": ("int8,bfloat16",),
}
LABELS = {
    "openvino": "**convnext, OpenVINO engine, {}**",
    "onnxruntime": "convnext, ONNX Runtime engine, {}",
    "onnxruntime-export": "timm's export (1x1 convolutions) in ONNX Runtime, {}",
    "openvino-export:latency": "timm's export in OpenVINO, {}",
    "openvino-export:throughput": "the same, pictures in parallel, {}",
    "timm": "timm, eager, {}",
    "keras.applications:torch": "keras.applications on PyTorch, {}",
    "keras.applications:jax": "keras.applications on JAX, {}",
    "keras.applications:tensorflow": "keras.applications on TensorFlow, {}",
}
OURS = ("openvino", "onnxruntime")
Row = Mapping[str, str]


def commands() -> Iterable[str]:
    """A command for each race; each takes less than four minutes."""
    for file, races in RACES.items():
        for precisions in races:
            for model in MODELS:
                for batch in BATCHES:
                    engines, peers = "openvino", "openvino-export,timm"
                    if precisions == "float32":  # which ONNX Runtime would run in any race
                        engines, peers = f"{engines},onnxruntime", f"{peers},onnxruntime-export"
                    yield (
                        f"convnext bench --model {model} --random-weights --engines {engines} "
                        f"--precisions {precisions} --batches {batch} --against {peers} "
                        f"--seconds 150 --width 0.01 --csv benchmarks/results/{file}"
                    )
    yield (
        "convnext bench --model convnext_tiny --random-weights --engines openvino --precisions "
        "float32 --batches 1 --against keras.applications --seconds 150 --width 0.01 "
        "--csv benchmarks/results/engines.csv"
    )


def found(file: str) -> list[Row]:
    """The rows of a file that have a time."""
    return [row for row in read_csv(RESULTS / file) if row["median_ms"]]


def of(rows: Iterable[Row], model: str, batch: str) -> list[Row]:
    """Those of a model and a size of batch."""
    return [row for row in rows if row["model"].split(" ")[0] == model and row["batch"] == batch]


def ratio(row: Row) -> str:
    """The ratio with its interval, as far as there is one."""
    if row["contender"] == "openvino" or not row["ratio_low"]:
        return "" if row["contender"] == "openvino" else f"{float(row['ratio']):.2f}"
    low, high = (float(row[f"ratio_{end}"]) for end in ("low", "high"))
    return f"{float(row['ratio']):.2f} [{low:.2f}, {high:.2f}]"


def best(rows: Iterable[Row], precision: str) -> str:
    """The ratio of the fastest peer in a precision."""
    peers = [row for row in rows if row["precision"] == precision and row["contender"] not in OURS]
    return ratio(min(peers, key=lambda row: float(row["ratio"]))) if peers else "-"


def readme(rows: list[Row]) -> None:
    """One picture of Tiny, fastest first."""
    print("| | ms | time over ours in its precision |\n| --- | --- | --- |")
    for row in sorted(of(rows, "convnext_tiny", "1"), key=lambda row: float(row["median_ms"])):
        if row["contender"] in LABELS:
            label = LABELS[row["contender"]].format(row["precision"])
            print(f"| {label} | {float(row['median_ms']):.1f} | {ratio(row)} |")


def page(rows: list[Row], rounded: list[Row]) -> None:
    """All times, and the fastest peers' ratios."""
    columns = [(model, batch) for model in MODELS for batch in BATCHES]
    head = " | ".join(f"{MODELS[model]}, {batch}" for model, batch in columns)
    print(f"\n| | {head} |\n| --- |{' --- |' * len(columns)}")
    own = [row for row in rounded if row["precision"] == "int8"]
    for precision, those in (("float32", rows), ("bfloat16", rows), ("int8", own)):
        for contender, label in LABELS.items():
            cells = []
            for column in columns:
                there = [row for row in of(those, *column) if row["precision"] == precision]
                times = [row["median_ms"] for row in there if row["contender"] == contender]
                cells.append(f"{float(times[0]):.1f}" if times else "")
            if any(cells):
                print(f"| {label.format(precision)} | {' | '.join(cells)} |")
    print(f"\n| | {head} |\n| --- |{' --- |' * len(columns)}")
    for precision, those in (("float32", rows), ("bfloat16", rows), ("int8", rounded)):
        peers = "bfloat16" if precision == "int8" else precision
        label = f"{precision}, over peers in bfloat16" if precision == "int8" else precision
        cells = [best(of(those, *column), peers) for column in columns]
        print(f"| {label} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="print the tables")
    args = parser.parse_args()
    if not args.tables:
        print("\n".join(commands()))
        return
    rows, rounded = found("engines.csv"), found("engines_int8.csv")
    readme([*rows, *(row for row in rounded if row["precision"] == "int8")])
    page(rows, rounded)


if __name__ == "__main__":
    main()
