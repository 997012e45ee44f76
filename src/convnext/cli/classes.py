"""Options of commands that take class names or texts for CLIP models."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from convnext.errors import ArgumentError

__all__ = ["add_class_options", "check_no_template", "class_names", "say_cuts"]

FILES = (".txt", ".json")


def add_class_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add `--classes` and `--template`."""
    parser.add_argument(
        "--classes",
        metavar="A,B",
        required=required,
        help="names of classes, of your choice, for a CLIP model; or a file of them, one a line",
    )
    parser.add_argument(
        "--template",
        metavar="TEXT",
        action="append",
        help='prompt for the names, such as "a photo of a {}"; repeatable; "imagenet" for CLIP\'s '
        "80 (default: the names alone)",
    )


def class_names(args: argparse.Namespace) -> tuple[tuple[str, ...], Any]:
    """The names and templates of the options.

    Raises:
        ArgumentError: The file cannot be read, or a name or template is not allowed.
    """
    from convnext.images.labels import read_labels
    from convnext.text.templates import check_labels, templates_of

    if args.classes.lower().endswith(FILES) or (
        "," not in args.classes and Path(args.classes).is_file()
    ):
        names = read_labels(args.classes).names
    else:
        names = tuple(part.strip() for part in args.classes.split(","))
    given = args.template or ["{}"]
    templates = templates_of(given[0] if len(given) == 1 else given)
    say_cuts()
    return check_labels(names), templates


def check_no_template(args: argparse.Namespace) -> None:
    """Refuse `--template` without `--classes`."""
    if args.template:
        raise ArgumentError("--template is a prompt for the names of --classes: give these too.")


def say_cuts() -> None:
    """Print when a text is longer than the model reads, which is logged once."""
    logger = logging.getLogger("convnext.text")
    if not logger.handlers:
        logger.addHandler(_Said())


class _Said(logging.Handler):
    """Prints messages on standard error, like the command itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"convnext: {record.getMessage()}", file=sys.stderr)
