"""`convnext evaluate --knn`: the accuracy of embeddings by nearest neighbours."""

from __future__ import annotations

import argparse

from convnext.cli.evaluated import bad_lines
from convnext.cli.table import Column, render
from convnext.errors import ArgumentError

__all__ = ["evaluate_neighbours"]


def evaluate_neighbours(args: argparse.Namespace) -> int:
    """Print the accuracy by nearest neighbours; 0 if every picture could be read, else 1."""
    refused = {
        "--ground-truth": args.ground_truth,
        "--labels": args.labels,
        "--weights": args.weights,
        "--out": args.out,
        "--resume": args.resume,
        "--engine-runner": args.engine_runner,
        "--threshold": args.threshold,
        "--split": args.split,
        "--subset": None if args.subset == "model" else args.subset,
    }
    for name, value in refused.items():
        if value:
            raise ArgumentError(f"--knn compares class folders and prints a table: without {name}.")
    from convnext.data.datasets import folder_classes, open_dataset
    from convnext.evaluate.knn import evaluate_knn
    from convnext.session import Session

    classes = folder_classes(args.knn)
    examples = open_dataset(args.knn, classes, sort_folders=True)
    data = open_dataset(args.data, classes, layout=args.layout, limit=args.limit)
    options = {"precision": args.precision, "calibration": args.calibration}
    with Session.open(args.model, engine=args.engine, **options) as session:
        found, bad = evaluate_knn(session, examples, data, batch_size=args.batch, progress=True)
    titles = ("NEIGHBOURS", "PICTURES", "TOP-1 %", "TOP-5 %")
    rows = [
        (
            str(each.neighbours),
            f"{each.pictures:,}",
            _percent(each.correct, each.pictures),
            "-" if each.within_5 is None else _percent(each.within_5, each.pictures),
        )
        for each in found
    ]
    columns = [
        Column(title, cells, numeric=True)
        for title, cells in zip(titles, zip(*rows, strict=True), strict=True)
    ]
    print(f"{args.model}: {classes.count:,} classes, {len(examples.entries):,} neighbours.")
    print(render(columns))
    for line in bad_lines([(item.id, str(item.error)) for item in bad]):
        print(line)
    return 1 if bad else 0


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "-"
