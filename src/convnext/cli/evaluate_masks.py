"""`convnext evaluate` of a segmentation model, on pictures with masks."""

from __future__ import annotations

import argparse
import sys

from convnext.cli.evaluated import new_folder, summary

__all__ = ["evaluate_masks"]


def evaluate_masks(args: argparse.Namespace) -> int:
    """Evaluate a segmentation model; 0 if every picture could be read, else 1."""
    from convnext.data.segmented import MaskReading, open_segmented
    from convnext.evaluate.segmenting import (
        measure,
        name_of,
        segmentation_report,
        summary_rows,
        write_segmentation_reports,
    )
    from convnext.segmenter import Segmenter

    segmenter = Segmenter(
        args.weights or args.model,
        args.engine,
        precision=args.precision,
        calibration=args.calibration,
        labels=args.labels,
        inference=args.inference,
        flip=args.flip,
    )
    name = name_of(segmenter)
    out = new_folder(args, name)
    found = open_segmented(
        args.data,
        names=segmenter.labels,
        reading=MaskReading(args.ignore, args.reduce_zero_label),
        limit=args.limit,
    )
    data = found.validation or found.train
    print(
        f"{name} (licence {segmenter.info.licence or 'unknown'}), {args.precision}, on "
        f"{len(data):,} pictures with masks.",
        file=sys.stderr,
    )
    measured = measure(segmenter, data, progress=True)
    report = segmentation_report(segmenter, data, args.data, measured)
    files, problem = write_segmentation_reports(report, out, segmenter, data, measured)
    print(summary(summary_rows(report), list(measured.bad.items())))
    print(f"Reports: {', '.join(map(str, files))}.{f' No plot: {problem}' if problem else ''}")
    return 1 if measured.bad else 0
