"""`convnext evaluate`: measure a model on labelled pictures or masks, and write reports."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.datasets import add_runner_options, room_of
from convnext.cli.grammar import add_model, old_spelling, resolve_model
from convnext.cli.rows import printable
from convnext.cli.table import Column, render
from convnext.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from convnext.data.datasets import Dataset
    from convnext.evaluate.journal import Mode
    from convnext.evaluate.report import Report
    from convnext.evaluate.run import Measured
    from convnext.evaluate.subject import Subject

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext evaluate --model convnext_tiny --data imagenet/val
  convnext evaluate --model convnext_tiny --data ILSVRC2012_img_val.tar \\
      --ground-truth ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt
  convnext evaluate --model convnext_base --data imagenet-r.tar --subset data
  convnext evaluate --model pets.safetensors --data test.zip --labels pets.txt --out reports/pets
  convnext evaluate --model convnext_tiny --weights convnext_tiny_1k_224_ema.pth --data imagenet/val
  convnext evaluate --model convnext_tiny --data imagenet/val --engine-runner ray --num-workers 8
  convnext evaluate --model runs/street/model --data street/val --ignore 11
  convnext evaluate --model convnext_tiny.dinov3_lvd1689m --data val --knn train
  convnext evaluate table           the TF-Hub collection's table, from the stored reports
  convnext evaluate table reports/  from those in a folder

DIR is a folder, or a zip or tar archive, which is not unpacked. It has a folder for each class, all
named by WordNet id, all by name or all by number from 0; or no class folders, with --ground-truth.

--ground-truth is a file with one label per line, in the order of the pictures' names, or a table of
names and labels (comma, tab or space). Labels are WordNet ids, names or numbers: class numbers from
0, or ids of the ImageNet challenge, with its meta.mat or map_clsloc.txt in the same folder. If the
names of the model's classes are numbers, such as 1 to 102, numbers are names (see --numbers).

--subset model  the model chooses among all its classes (default)
--subset data   among the classes of the data, as for the published numbers of ImageNet-A/-R
--subset FILE   among those in FILE, one per line; pictures of other classes are left out

A segmentation model is measured on pictures with masks of the same name, in folders pictures/ and
masks/ (or images/ and annotations/; docs/segmentation_training.md), and options on labels have no
effect but --labels FILE. Its evaluation is not resumed.

--knn DIR  judges embeddings instead of a classifier: each picture gets the class of its nearest
among the pictures of DIR, which has the same class folders (10 and 20 neighbours, weights
exp(cosine / 0.07), as for DINOv3)

Pictures are decoded as in the authors' pipeline: EXIF orientation is not applied, unlike in
`convnext predict`. Results are saved batch by batch: --resume continues an interrupted run, with
the same results. With --engine-runner ray, workers share the pictures, and their results are saved
in Parquet files beside the reports (docs/scale.md). Exit code 1: some pictures could not be read,
or their logits are not finite.
"""

OUT = Path("evaluations")
INFERENCE = ("whole", "slide", "tiles")
SHOWN_BAD = 5


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on labelled pictures or masks",
        description="Measure a model on labelled pictures: accuracy beside the published one, "
        "log-loss,\ncalibration, speed; or on masks: IoU of classes and boundaries; with reports.",
        epilog=EXAMPLES,
    )
    add_model(parser, "a checkpoint's name, or a weights file")
    parser.add_argument("reports", nargs="?", type=Path, help=argparse.SUPPRESS)
    _add_data_options(parser)
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="a copy of the checkpoint, not to download it"
    )
    parser.add_argument("--engine", default="auto", help="default: the fastest installed one")
    parser.add_argument("--precision", default="float32", help="default: float32")
    parser.add_argument(
        "--calibration", metavar="FILE", help="for int8: file of `convnext quantize`, or pictures"
    )
    parser.add_argument(
        "--knn", metavar="DIR", type=Path, help="classify by the nearest pictures of this data"
    )
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="default: 32")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help=f"for reports (default: {OUT}/MODEL-DATA)"
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue an interrupted run")
    again.add_argument("--overwrite", action="store_true", help="discard an earlier run's results")
    again.add_argument("--restart", action="store_true", help=argparse.SUPPRESS)
    add_runner_options(parser)
    parser.add_argument(
        "--table",
        metavar="DIR",
        nargs="?",
        type=Path,
        const=OUT,
        help=argparse.SUPPRESS,
    )
    parser.set_defaults(run=run)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder or archive of pictures")
    parser.add_argument(
        "--layout",
        default="auto",
        metavar="LAYOUT",
        help="folder, zip or tar (class folders in these), imagenet-val (flat), or auto (default)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="names of the model's classes, in order; or 'folders': the data's folders, sorted",
    )
    parser.add_argument("--ground-truth", metavar="FILE", type=Path, help="labels of the pictures")
    parser.add_argument(
        "--numbers",
        default="auto",
        metavar="KIND",
        help="meaning of numbers in the ground truth: index (from 0), name (class names), ilsvrc "
        "(ids) or auto (default)",
    )
    parser.add_argument("--synsets", metavar="FILE", type=Path, help="meta.mat or map_clsloc.txt")
    parser.add_argument("--subset", default="model", metavar="WHICH", help="classes to choose from")
    parser.add_argument("--limit", metavar="N", type=int, help="N pictures, spread over the data")
    parser.add_argument(
        "--ignore", metavar="N", type=int, default=255, help="masks: pixels without a class (255)"
    )
    parser.add_argument(
        "--reduce-zero-label", action="store_true", help="masks: 0 is no class; others count from 1"
    )
    parser.add_argument(
        "--inference", choices=INFERENCE, default="whole", help="masks: see convnext segment"
    )
    parser.add_argument("--flip", action="store_true", help="masks: add the mirrored picture")


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0 if every picture has finite logits, else 1."""
    if args.table is not None:
        old_spelling("convnext evaluate --table", "convnext evaluate table")
    if args.old_model == "table" or args.table is not None:
        return _print_table(args)
    if args.restart:
        old_spelling("--restart", "--overwrite")
        args.overwrite = True
    resolve_model(args)
    if args.data is None or args.reports is not None:
        raise ArgumentError("Give the pictures as --data DIR. See convnext evaluate --help.")
    from convnext.data.datasets import check_data, open_dataset
    from convnext.data.ground_truth import read_ground_truth
    from convnext.evaluate.output import check_folder
    from convnext.evaluate.subject import open_subject

    if args.knn:
        return _evaluate_knn(args)
    if args.weights:
        _check_published(args.model)
    check_data(args.data, args.layout)
    check_folder(args.out or OUT)
    if _segments(args):
        return _evaluate_masks(args)
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


def _segments(args: argparse.Namespace) -> bool:
    """Whether the model is one of segmentation, by the names of its weights."""
    from convnext.weights.load import read_weights

    with read_weights(args.weights or args.model) as weights:
        return weights.found.segmentation is not None


def _evaluate_masks(args: argparse.Namespace) -> int:
    """Evaluate a segmentation model; 0 if every picture could be read, else 1."""
    from convnext.data.segmented import MaskReading, open_segmented
    from convnext.evaluate.report import FILE
    from convnext.evaluate.segmenting import (
        measure,
        name_of,
        segmentation_report,
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
    out: Path = args.out or OUT / f"{name}-{args.data.resolve().stem}"
    if (out / FILE).exists() and not args.overwrite:
        raise ArgumentError(f"{out} has a report. Discard it with --overwrite, or give --out.")
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
    print(_mask_summary(report))
    print(f"Reports: {', '.join(map(str, files))}.{f' No plot: {problem}' if problem else ''}")
    return 1 if measured.bad else 0


def _mask_summary(report: Report) -> str:
    from convnext.evaluate.segmenting import summary_rows

    names, values = zip(*summary_rows(report), strict=True)
    bad = report["bad_pictures"]
    lines = [render([Column("MEASURE", names), Column("MEASURED", values, numeric=True)])]
    if bad:
        lines.append(f"{len(bad):,} pictures could not be read and are not counted:")
        lines += [f"  {printable(i)}: {why}" for i, why in list(bad.items())[:SHOWN_BAD]]
    return "\n".join(lines)


def _evaluate_knn(args: argparse.Namespace) -> int:
    """Print the accuracy by nearest neighbours; 0 if every picture could be read, else 1."""
    refused = {
        "--ground-truth": args.ground_truth,
        "--labels": args.labels,
        "--weights": args.weights,
        "--out": args.out,
        "--resume": args.resume,
        "--engine-runner": args.engine_runner,
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
    if bad:
        print(f"{len(bad):,} pictures could not be read and are not counted:")
        for item in bad[:SHOWN_BAD]:
            print(f"  {printable(item.id)}: {item.error}")
    return 1 if bad else 0


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "-"


def _check_published(model: str) -> None:
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
    bad = report["bad_pictures"]
    if bad:
        lines.append(f"{len(bad):,} pictures could not be read and are not counted:")
        lines += [f"  {printable(item['id'])}: {item['error']}" for item in bad[:SHOWN_BAD]]
    if len(bad) > SHOWN_BAD:
        lines.append(f"  and {len(bad) - SHOWN_BAD:,} more, in report.json")
    return "\n".join(lines)


def _print_table(args: argparse.Namespace) -> int:
    if args.model is not None or args.data is not None:
        raise ArgumentError("The table is of stored reports: give neither --model nor --data.")
    from convnext.evaluate.table import collection_table, read_reports

    reports, problems = read_reports(args.reports or args.table or OUT)
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    print(collection_table(reports))
    return 0
