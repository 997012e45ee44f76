"""`convnext evaluate`: measure a model on labelled pictures or masks, and write reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from convnext.cli.datasets import add_runner_options
from convnext.cli.evaluate_classes import check_published, evaluate_classes
from convnext.cli.evaluate_labels import evaluate_labels
from convnext.cli.evaluate_masks import evaluate_masks
from convnext.cli.evaluate_neighbours import evaluate_neighbours
from convnext.cli.evaluated import OUT
from convnext.cli.grammar import add_model, old_spelling, resolve_model
from convnext.errors import ArgumentError

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
  convnext evaluate --model runs/tags/model --data photos/labels.csv --split test
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

A multi-label model is measured on a table with the columns path and labels, with | between the
labels of a picture (docs/multi_label.md): mAP, F1 at the model's thresholds or at --threshold, and
for each label the best threshold on these pictures, in thresholds.csv. Its evaluation is not
resumed.

--knn DIR  judges embeddings instead of a classifier: each picture gets the class of its nearest
among the pictures of DIR, which has the same class folders (10 and 20 neighbours, weights
exp(cosine / 0.07), as for DINOv3)

Pictures are decoded as in the authors' pipeline: EXIF orientation is not applied, unlike in
`convnext predict`. Results are saved batch by batch: --resume continues an interrupted run, with
the same results. With --engine-runner ray, workers share the pictures, and their results are saved
in Parquet files beside the reports (docs/scale.md). Exit code 1: some pictures could not be read,
or their logits are not finite.
"""

INFERENCE = ("whole", "slide", "tiles")
TABLES = (".csv", ".tsv")  # of the labels of pictures


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
    parser.add_argument(
        "--threshold", metavar="P", help="multi-label: for every label, or a .csv file of them"
    )
    parser.add_argument("--split", metavar="NAME", help="multi-label: which pictures of the table")
    parser.add_argument("--flip", action="store_true", help="masks: add the mirrored picture")


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0 if every picture could be read and has finite outputs, else 1."""
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
    if args.knn:
        return evaluate_neighbours(args)
    if args.weights:
        check_published(args.model)
    from convnext.data.datasets import check_data
    from convnext.evaluate.output import check_folder

    if args.data.suffix.lower() not in TABLES:
        check_data(args.data, args.layout)
    check_folder(args.out or OUT)
    kind = _kind(args)
    if kind is not evaluate_labels:
        if args.threshold or args.split:
            raise ArgumentError("--threshold and --split are for multi-label models.")
        check_data(args.data, args.layout)
    return kind(args)


def _kind(args: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    """The evaluation for a model, as its weights say."""
    from convnext.weights.load import read_weights

    with read_weights(args.weights or args.model) as weights:
        if weights.found.segmentation is not None:
            return evaluate_masks
        return evaluate_classes if weights.info.thresholds is None else evaluate_labels


def _print_table(args: argparse.Namespace) -> int:
    if args.model is not None or args.data is not None:
        raise ArgumentError("The table is of stored reports: give neither --model nor --data.")
    from convnext.evaluate.table import collection_table, read_reports

    reports, problems = read_reports(args.reports or args.table or OUT)
    for problem in problems:
        print(f"Left out: {problem}", file=sys.stderr)
    print(collection_table(reports))
    return 0
