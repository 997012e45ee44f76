"""`convnext explain`: draw heat maps of a class over pictures (Grad-CAM)."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.output import replaced
from convnext.cli.pictures import (
    Unreadable,
    add_model_options,
    check_target,
    open_classifier,
    show_progress,
    unseen,
)
from convnext.cli.rows import printable
from convnext.errors import ImageError, UnknownNameError

if TYPE_CHECKING:
    from PIL import Image

    from convnext.classifier import Classifier, Explanation

__all__ = ["add_parser", "run"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
SHEET = 60  # pictures on one sheet
SHEET_SIDE = 224

EXAMPLES = """\
examples:
  convnext explain cat.jpg --out heat.png                  the most probable class
  convnext explain cat.jpg --out heat.png --target tabby   a class by name, WordNet id or number
  convnext explain photos/ --out heat.png                  heat-0001.png, heat-0002.png, ...
  convnext explain photos/ --out heat.png --sheet          all on one sheet (60 on each)

Grad-CAM: bright regions contribute most to the class. The faded border is outside the centre crop
that the model takes. Exit code 1: a picture could not be read.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "explain",
        help="draw heat maps of a class over pictures",
        description="Draw heat maps of a class over pictures (Grad-CAM).",
        epilog=EXAMPLES,
    )
    add_model_options(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help=f"ends in {', '.join(FORMATS)}"
    )
    parser.add_argument("--target", metavar="CLASS", help="default: the most probable class")
    parser.add_argument("--sheet", action="store_true", help="draw many pictures on one sheet")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Explain; 0 if every picture could be read, else 1."""
    if args.out.suffix.lower() not in FORMATS:
        raise UnknownNameError("kind of picture", args.out.name, FORMATS)
    check_target(args.out, overwrite=args.overwrite)
    classifier = open_classifier(args)
    bad = Unreadable()
    explanations = show_progress(_explanations(classifier, args, bad), args)
    try:
        if args.sheet:
            _draw_sheets(args, explanations)
        else:
            _draw_each(args, explanations)
    finally:
        code = bad.report()
    return code


def _explanations(
    classifier: Classifier, args: argparse.Namespace, bad: Unreadable
) -> Iterator[Explanation]:
    for named in unseen(args.paths):
        try:
            yield classifier.explain(named, args.target)
        except ImageError as error:
            bad.add(named.id, error)


def _draw_each(args: argparse.Namespace, explanations: Iterator[Explanation]) -> None:
    first = list(itertools.islice(explanations, 2))
    many = len(first) > 1
    for number, explanation in enumerate(itertools.chain(first, explanations), 1):
        path = _numbered(args.out, f"{number:04}") if many else args.out
        _save(explanation.draw(), path, args.overwrite)
        _print_result(path, explanation)


def _draw_sheets(args: argparse.Namespace, explanations: Iterator[Explanation]) -> None:
    from convnext.classifier.heatmap import contact_sheet

    for number in itertools.count(1):
        path = args.out if number == 1 else _numbered(args.out, str(number))
        panels = []
        for explanation in itertools.islice(explanations, SHEET):
            panels.append(explanation.draw(SHEET_SIDE))
            _print_result(path, explanation)
        if not panels:
            return
        columns = max(1, round((len(panels) / 2) ** 0.5))  # panels are about twice as wide as tall
        _save(contact_sheet(panels, columns), path, args.overwrite)


def _numbered(path: Path, number: str) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _print_result(path: Path, explanation: Explanation) -> None:
    target = explanation.target
    print(f"{path}  {explanation.id}  {target.probability:.1%} {printable(target.label)}")


def _save(picture: Image.Image, path: Path, overwrite: bool) -> None:
    check_target(path, overwrite=overwrite)
    with replaced(path) as temporary:
        picture.save(temporary, FORMATS[path.suffix.lower()])
