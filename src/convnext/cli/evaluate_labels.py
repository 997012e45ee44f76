"""`convnext evaluate` of a multi-label model, on a table of pictures and their labels."""

from __future__ import annotations

import argparse
import sys

from convnext.cli.evaluated import new_folder, summary
from convnext.cli.pictures import threshold_of
from convnext.errors import ArgumentError

__all__ = ["evaluate_labels"]


def evaluate_labels(args: argparse.Namespace) -> int:
    """Evaluate a multi-label model; 0 if every picture has finite logits, else 1."""
    from convnext.data.multi_label import open_multi_label
    from convnext.evaluate.multi_label import (
        measure,
        multi_label_report,
        summary_rows,
        write_multi_label_reports,
    )
    from convnext.session import Session

    refused = {
        "--ground-truth": args.ground_truth,
        "--resume": args.resume,
        "--engine-runner": args.engine_runner,
        "--subset": None if args.subset == "model" else args.subset,
    }
    for name, value in refused.items():
        if value:
            raise ArgumentError(f"A multi-label model is measured on a table: without {name}.")
    with Session.open(
        args.weights or args.model,
        engine=args.engine,
        precision=args.precision,
        calibration=args.calibration,
        labels=args.labels,
        thresholds=threshold_of(args),
    ) as session:
        data = open_multi_label(
            args.data, classes=session.labels, split=args.split, limit=args.limit
        )
        name = session.info.name or args.data.stem
        out = new_folder(args, name)
        print(
            f"{name} (licence {session.info.licence or 'unknown'}), {args.precision}, on "
            f"{len(data):,} pictures with {len(data.classes):,} labels.",
            file=sys.stderr,
        )
        measured = measure(session, data, args.batch, progress=True)
        report = multi_label_report(session, data, args.data, measured)
        files = write_multi_label_reports(report, out, session, measured)
    print(summary(summary_rows(report), list(measured.bad.items())))
    if measured.unanswered:
        print(f"The logits of {measured.unanswered:,} pictures are not finite: no label counted.")
    print(f"Reports: {', '.join(map(str, files))}.")
    return 1 if measured.bad or measured.unanswered else 0
