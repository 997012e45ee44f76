"""`convnext evaluate` of a classifier, on pictures of one class each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.datasets import room_of
from convnext.cli.evaluated import OUT, bad_lines
from convnext.cli.table import Column, render
from convnext.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from convnext.data.datasets import Dataset
    from convnext.evaluate.journal import Mode
    from convnext.evaluate.report import Report
    from convnext.evaluate.run import Measured
    from convnext.evaluate.subject import Subject

__all__ = ["check_published", "evaluate_classes"]


def evaluate_classes(args: argparse.Namespace) -> int:
    """Evaluate a classifier; 0 if every picture has finite logits, else 1."""
    from convnext.data.datasets import open_dataset
    from convnext.data.ground_truth import read_ground_truth
    from convnext.evaluate.subject import open_subject

    truth = None
    if args.ground_truth:
        truth = read_ground_truth(args.ground_truth, numbers=args.numbers, synsets=args.synsets)
    from_folders = args.labels == "folders"
    subject = open_subject(
        args.model,
        args.engine,
        weights=args.weights,
        labels=None if from_folders else args.labels,
        precision=args.precision,
        calibration=args.calibration,
    )
    data = open_dataset(
        args.data,
        subject.classes,
        layout=args.layout,
        ground_truth=truth,
        sort_folders=from_folders,
        subset=args.subset,
        limit=args.limit,
    )
    return _evaluate(args, subject, data)


def check_published(model: str) -> None:
    """Refuse a `--model` that is no published checkpoint, beside `--weights`."""
    from convnext.weights.catalog import get_checkpoint

    try:
        get_checkpoint(model)
    except UnknownNameError as error:
        raise ArgumentError(
            "With --weights, --model must be the checkpoint that they are a copy of. Give that, "
            f"or leave out --weights and give the file as --model. {error}"
        ) from error


def _evaluate(args: argparse.Namespace, subject: Subject, data: Dataset) -> int:
    from convnext.evaluate.journal import open_journal
    from convnext.evaluate.output import JOURNAL, write_reports
    from convnext.evaluate.report import build_report, settings
    from convnext.evaluate.run import evaluate

    out: Path = args.out or OUT / f"{_name(subject)}-{args.data.resolve().stem}"
    mode: Mode = "resume" if args.resume else "restart" if args.overwrite else "new"
    print(
        f"{subject.facts['name']} (licence {subject.facts['licence'] or 'unknown'}) with "
        f"{subject.engine.name}, {subject.engine.precision}, on {len(data.entries):,} pictures.",
        file=sys.stderr,
    )
    try:
        if args.engine_runner == "ray":
            measured = _by_workers(args, subject, data, out)
        else:
            room_of(args)
            with open_journal(out / JOURNAL, settings(subject, data, args.batch), mode) as journal:
                measured = evaluate(
                    subject.engine,
                    subject.preprocess,
                    data,
                    args.batch,
                    journal=journal,
                    progress=True,
                )
    except KeyboardInterrupt:
        print(f"The results so far are in {out}. Continue with --resume.", file=sys.stderr)
        raise
    report = build_report(subject, data, measured, args.batch)
    files, problem = write_reports(report, out)
    print(_summary(report))
    print(f"Reports: {', '.join(map(str, files))}.{f' No plots: {problem}' if problem else ''}")
    return 1 if measured.bad or measured.accuracy.unanswered else 0


def _by_workers(args: argparse.Namespace, subject: Subject, data: Dataset, out: Path) -> Measured:
    from convnext.scale.judging import JUDGEMENTS, evaluate_dataset

    return evaluate_dataset(
        subject,
        args.weights or args.model,
        data,
        out / JUDGEMENTS,
        batch_size=args.batch,
        shard_size=args.shard_size,
        room=room_of(args),
        mode="resume" if args.resume else "overwrite" if args.overwrite else "new",
        progress=True,
    )


def _name(subject: Subject) -> str:
    return str(subject.facts["checkpoint"] or Path(subject.facts["weights"]["file"]).stem)


def _summary(report: Report) -> str:
    from convnext.evaluate.markdown import summary_rows

    data, results = report["data"], report["results"]
    titles = ("MEASURE", "MEASURED", "95 % INTERVAL", "PUBLISHED", "DIFFERENCE")
    cells = list(zip(*summary_rows(report), strict=True))
    columns = [
        Column(title, values, numeric=position == 1)
        for position, (title, values) in enumerate(zip(titles, cells, strict=True))
        if position < 2 or any(value != "-" for value in values)
    ]
    lines = [
        f"{report['model']['name']}: {results['pictures']:,} pictures of {data['classes']:,} "
        f"classes ({data['labels']}), among {data['competing_classes']:,}.",
        render(columns),
        *(f"Note: {note}" for note in report["notes"]),
    ]
    if results["unanswered"]:
        lines.append(
            f"The logits of {results['unanswered']:,} pictures are not finite: counted as wrong."
        )
    bad = [(item["id"], item["error"]) for item in report["bad_pictures"]]
    return "\n".join([*lines, *bad_lines(bad)])
