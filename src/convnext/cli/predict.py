"""`convnext predict`: classify pictures."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from convnext.cli.classes import add_class_options, check_no_template, class_names
from convnext.cli.datasets import (
    DATASETS,
    add_dataset_options,
    add_runner_options,
    is_dataset,
    target,
    write_dataset,
)
from convnext.cli.pictures import (
    TOP,
    Unreadable,
    add_model_options,
    check_target,
    open_classifier,
    show_progress,
    threshold_of,
    unseen,
)
from convnext.cli.rows import (
    Format,
    Rows,
    csv_format,
    json_format,
    jsonl_format,
    labels_format,
    table_format,
    written_rows,
)
from convnext.errors import ArgumentError

if TYPE_CHECKING:
    from convnext.classifier import Classifier

__all__ = ["add_parser", "run"]

FORMATS = ("json", "jsonl", "csv")
RESUMABLE = ("jsonl", "csv")
LOGITS = (".npz", ".parquet")
LOGITS_OR = " or ".join(LOGITS)
PARQUET = ".parquet"  # a folder of Parquet files with this suffix

EXAMPLES = f"""\
examples:
  convnext predict cat.jpg                              the five most probable classes
  convnext predict photos/ --top 1                      every picture below a folder
  convnext predict photos.zip --csv > photos.csv        an archive, without unpacking it
  convnext predict photos/ --out photos.jsonl           a row for each picture
  convnext predict photos/ --out photos.jsonl --resume  only pictures not yet in photos.jsonl
  convnext predict x.png --model convnextv2_tiny        another checkpoint: see `convnext list`
  convnext predict x.png --model mine.safetensors --labels names.txt
  convnext predict photos/ --model CLIP --classes "cat,dog,car" --template "a photo of a {{}}"
  convnext predict photos/ --logits --out teacher.npz   all logits, for `convnext train --teacher`
  convnext predict photos/ --model tags.safetensors --threshold 0.3   a multi-label model
  convnext predict photos/ --out answers/               Parquet files in a folder
  convnext predict s3://b/train.tar --out s3://b/out --engine-runner ray --address head:6379

Pictures are turned upright by their EXIF orientation. The suffix of FILE decides its format, unless
one is given. With --classes, any names are classes, without training: MODEL is then a CLIP model
with a text tower (docs/zero_shot.md); `convnext head` writes such a classifier. A multi-label model
answers with every label that reaches its threshold (docs/multi_label.md). A picture that
cannot be read does not stop the run: its row has the error, it is listed at the end, and the exit
code is 1. With --resume, give the same options as before.

--logits writes all logits of each picture to one file, with class names and preprocessing: arrays
"ids" and "logits" of an .npz, or columns "id" and "logits" of a .parquet file. It is written when
all are computed, without the pictures that cannot be read.

{DATASETS}"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "predict",
        help="classify pictures",
        epilog=EXAMPLES,
    )
    add_model_options(parser)
    add_class_options(parser)
    parser.add_argument(
        "--top", type=int, help="number of classes (default: 5; all labels of a multi-label model)"
    )
    parser.add_argument(
        "--threshold",
        metavar="P",
        help="multi-label: least probability of a label, or a .csv file (default: the model's)",
    )
    parser.add_argument("--batch", type=int, default=32, help="batch size (default: 32)")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", dest="format", action="store_const", const="json")
    formats.add_argument("--jsonl", dest="format", action="store_const", const="jsonl")
    formats.add_argument("--csv", dest="format", action="store_const", const="csv")
    parser.add_argument(
        "--out", metavar="FILE", type=target, help="write to a file, or to a FOLDER/"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted FILE")
    parser.add_argument(
        "--logits", action="store_true", help="write all logits to an .npz or .parquet FILE"
    )
    parser.add_argument(
        "--vectors", action="store_true", help="for Parquet files: add the embedding vectors"
    )
    add_runner_options(parser)
    add_dataset_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Predict; 0 if every picture could be read, else 1."""
    if not args.classes:
        check_no_template(args)
    elif args.labels:
        raise ArgumentError("--classes are the names of the classes: leave out --labels.")
    if args.logits:
        return _write_logits(args)
    if is_dataset(args) or (args.out and args.out.suffix.lower() == PARQUET):
        if args.format:
            raise ArgumentError(
                f"The files of a folder are Parquet: leave out --{args.format}, or name a file."
            )
        if args.classes:
            raise ArgumentError(
                "--classes is for a file of rows. Make a classifier of the names first, with "
                "`convnext head`, and give it as --model."
            )
        thresholds = threshold_of(args)
        return write_dataset(
            args, "predict", top=args.top, vectors=args.vectors, thresholds=thresholds
        )
    if args.vectors:
        raise ArgumentError("--vectors needs a folder of Parquet files: give --out FOLDER/.")
    kind = _kind(args)
    if args.out:
        check_target(args.out, overwrite=args.overwrite, resume=args.resume)
    with ExitStack() as opened:
        classifier = _classifier(args, opened)
        return _predict(args, kind, classifier)


def _write_logits(args: argparse.Namespace) -> int:
    """Write all logits to a file; 0 if every picture could be read, else 1."""
    if is_dataset(args) or args.out is None or args.out.suffix.lower() not in LOGITS:
        raise ArgumentError(f"--logits writes one file: give an --out that ends in {LOGITS_OR}.")
    for name in ("resume", "vectors"):
        if getattr(args, name):
            raise ArgumentError(f"--{name} does not go with --logits. Leave out one of them.")
    if args.format:
        raise ArgumentError(f"--logits writes {LOGITS_OR} files: leave out --{args.format}.")
    check_target(args.out, overwrite=args.overwrite)
    from convnext.cli.vectors import write_vectors

    bad = Unreadable()
    try:
        with ExitStack() as opened:
            classifier = _classifier(args, opened)
            if not len(classifier.labels):
                raise ArgumentError(f"{args.model} has no classes, so it has no logits to store.")
            _check_names(classifier)
            info = replace(classifier.info, preprocess=classifier.preprocess)
            if args.labels or args.classes:
                info = replace(info, labels=classifier.labels.names)
            facts = {"annotations": json.dumps(info.to_metadata())}
            write_vectors(args, classifier, "logits", bad, facts)
    finally:
        code = bad.report()
    print(f"Written to {args.out}.", file=sys.stderr)
    return code


def _classifier(args: argparse.Namespace, opened: ExitStack) -> Classifier:
    """The classifier of the model, or of `--classes` with weights that are open in a context."""
    if not args.classes:
        return open_classifier(args, thresholds=threshold_of(args))
    if args.threshold:
        raise ArgumentError("--classes exclude one another: leave out --threshold.")
    from convnext.classifier import zero_shot_weights

    names, templates = class_names(args)
    weights = zero_shot_weights(
        args.model, names, templates, engine=args.engine, architecture=args.arch
    )
    return open_classifier(args, opened.enter_context(weights))


def _predict(args: argparse.Namespace, kind: str, classifier: Classifier) -> int:
    _check_names(classifier)
    form = _format(kind, args.top, classifier)
    done = written_rows(args.out, form.start or None) if args.resume else {}
    bad = Unreadable()
    bad.add_all(done)
    try:
        _write(args, classifier, form, done, bad)
    except KeyboardInterrupt:
        if args.out and kind in RESUMABLE:
            print(f"\nconvnext: to continue {args.out}, give --resume", file=sys.stderr)
        raise
    finally:
        code = bad.report()
    if args.out:
        print(f"Written to {args.out}.", file=sys.stderr)
    return code


def _check_names(classifier: Classifier) -> None:
    if len(classifier.labels) and not classifier.has_names:
        print(
            "convnext: the classes have no names. Give --labels FILE, or --labels imagenet-1k if "
            "they are ImageNet's.",
            file=sys.stderr,
        )


def _kind(args: argparse.Namespace) -> str:
    suffix = args.out.suffix.lower().removeprefix(".") if args.out else ""
    kind: str = args.format or (suffix if suffix in FORMATS else "table")
    if args.resume and not args.out:
        raise ArgumentError("--resume continues a file: give its --out.")
    if args.resume and kind not in RESUMABLE:
        what = "a JSON array" if kind == "json" else "a table"
        raise ArgumentError(f"--resume cannot continue {what}. Use --jsonl or --csv.")
    return kind


def _format(kind: str, top: int | None, classifier: Classifier) -> Format:
    if kind == "csv":
        labels = classifier.labels
        if labels.thresholds is not None:
            return labels_format()
        return csv_format(min(top or TOP, len(labels)), bool(labels.wnids))
    return {"table": table_format, "json": json_format, "jsonl": jsonl_format}[kind]()


def _write(
    args: argparse.Namespace,
    classifier: Classifier,
    form: Format,
    done: dict[str, str | None],
    bad: Unreadable,
) -> None:
    predictions = classifier.stream(unseen(args.paths, done), args.top, args.batch)
    on_screen = args.out is None and sys.stdout.isatty()
    with Rows(
        args.out, start=form.start, between=form.between, end=form.end, append=args.resume
    ) as rows:
        for prediction in show_progress(predictions, args, len(done), hidden=on_screen):
            rows.add(form.row(prediction))
            if prediction.error is not None:
                bad.add(prediction.id, prediction.error)
