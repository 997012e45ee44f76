"""`convnext temperature`: make a classifier's confidence agree with its accuracy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from convnext.cli.grammar import add_model, resolve_model
from convnext.cli.pictures import check_target
from convnext.cli.rows import printable

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext temperature --model runs/first/model --data val.zip --out first.safetensors
  convnext evaluate --model first.safetensors --data test.zip

DIR has pictures that the model was not trained on, in class folders; a thousand are enough. The
temperature is the one with the smallest log-loss on them. Logits are divided by it, by way of the
classifier's kernel and bias, so that every engine and export of FILE has it. Predictions stay the
same; probabilities, log-loss and calibration error change.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "temperature",
        help="make a classifier as sure as it is right",
        description="Fit the temperature of a classifier on labelled pictures, and write weights "
        "that include it.",
        epilog=EXAMPLES,
    )
    add_model(parser, "a weights file, a model's folder or a checkpoint's name")
    parser.add_argument(
        "--data", required=True, metavar="DIR", type=Path, help="folder or archive of pictures"
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE", type=Path, help="the weights file to write"
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="names of the model's classes, in order; or 'folders': the data's folders, sorted",
    )
    parser.add_argument("--engine", default="auto", help="default: the fastest installed one")
    parser.add_argument("--batch", metavar="N", type=int, default=32, help="default: 32")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit the temperature, write the file, and print what changed; 1 if pictures are missing."""
    resolve_model(args)
    check_target(args.out, overwrite=args.overwrite)
    from convnext.data.datasets import check_data, open_dataset
    from convnext.evaluate.subject import open_subject
    from convnext.evaluate.temperature import measure_temperature, write_with_temperature

    check_data(args.data)
    from_folders = args.labels == "folders"
    subject = open_subject(args.model, args.engine, labels=None if from_folders else args.labels)
    data = open_dataset(args.data, subject.classes, sort_folders=from_folders)
    found = measure_temperature(subject, data, args.batch, progress=True)
    write_with_temperature(args.model, found.value, args.out)
    before, after = found.before, found.after
    print(
        f"Temperature {found.value:.4f}, from {before.pictures:,} pictures "
        f"({before.correct / before.pictures:.2%} right).\n"
        f"Log-loss {before.log_loss:.4f} -> {after.log_loss:.4f}, "
        f"calibration error {before.ece:.4f} -> {after.ece:.4f}."
    )
    if found.bad:
        print(f"{len(found.bad)} pictures cannot be read:", file=sys.stderr)
        print("\n".join(f"  {printable(name)}" for name in found.bad[:5]), file=sys.stderr)
    print(f"Written to {args.out}.", file=sys.stderr)
    return 1 if found.bad else 0
