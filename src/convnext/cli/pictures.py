"""Common parts of commands that run a model on pictures: options, progress, unreadable pictures."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from convnext.atomic import disk_errors
from convnext.cli.rows import printable
from convnext.errors import ArgumentError

if TYPE_CHECKING:
    from convnext.classifier import Classifier
    from convnext.images.sources import Named
    from convnext.segmenter import Segmenter

__all__ = [
    "DEFAULT_MODEL",
    "Unreadable",
    "add_model_options",
    "add_statements",
    "check_target",
    "open_classifier",
    "open_segmenter",
    "show_progress",
    "threshold_of",
    "unseen",
]

TOP = 5  # classes of a picture, as in the library, which is imported late
DEFAULT_MODEL = "convnext_nano.in12k_ft_in1k"
"""Small (16 M parameters), 82.3 % top-1 on ImageNet-1k, and free for any use (Apache-2.0)."""

LISTED = 1000  # most unreadable pictures to list

Item = TypeVar("Item")
Model = TypeVar("Model", "Classifier", "Segmenter")


def add_model_options(parser: argparse.ArgumentParser, model: str = DEFAULT_MODEL) -> None:
    """Add the pictures and the options of the model, with its default."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATHS",
        help='pictures, folders, archives (.zip, .tar), URLs, or patterns such as "*.png"',
    )
    parser.add_argument(
        "--model",
        default=model,
        help="a published checkpoint or a weights file (default: %(default)s)",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="names of the classes, or a set such as imagenet-1k"
    )
    parser.add_argument("--engine", default="auto", help="default: the fastest installed one")
    parser.add_argument("--precision", default="auto", help="default: auto")
    parser.add_argument(
        "--calibration", metavar="FILE", help="for int8: file of `convnext quantize`, or pictures"
    )
    add_statements(parser)


def add_statements(parser: argparse.ArgumentParser) -> None:
    """Add the options for facts that a weights file may lack."""
    parser.add_argument(
        "--arch",
        metavar="NAME",
        help="the network, if a file does not determine it: an architecture such as "
        "convnext_xxlarge, or traits such as epsilon=1e-5,activation=gelu_tanh",
    )
    parser.add_argument(
        "--mean-std",
        metavar="NAME",
        help="normalisation of pixels, if a file does not state it: imagenet, clip or half",
    )


def open_classifier(
    args: argparse.Namespace, model: Any = None, thresholds: Any = None
) -> Classifier:
    """Open the classifier of the options, and print the licence of its weights.

    Args:
        args: The options.
        model: Open weights, instead of those of `--model`.
        thresholds: From `threshold_of`.
    """
    from convnext.classifier import Classifier

    return _opened(Classifier, args, model, thresholds=thresholds)


def threshold_of(args: argparse.Namespace) -> float | str | None:
    """The number or file of `--threshold`; None for those of the model."""
    given: str | None = args.threshold
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


def open_segmenter(args: argparse.Namespace) -> Segmenter:
    """Open the segmentation model of the options, and print the licence of its weights."""
    from convnext.segmenter import Segmenter

    names = ("inference", "stride", "flip", "size")
    return _opened(Segmenter, args, None, **{name: getattr(args, name) for name in names})


def _opened(kind: type[Model], args: argparse.Namespace, source: Any, **options: Any) -> Model:
    logger = logging.getLogger("convnext")
    if not logger.handlers:  # else a part of the licence would be logged as well
        logger.addHandler(logging.NullHandler())
    model = kind(
        source or args.model,
        args.engine,
        precision=args.precision,
        calibration=args.calibration,
        labels=args.labels or None,
        preprocess=args.mean_std,
        architecture=args.arch,
        **options,
    )
    if model.info.notice:
        print(model.info.notice, file=sys.stderr)
    return model


def check_target(path: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Check that an output file can be written, before any work is done.

    Raises:
        ArgumentError: The file exists already, or its folder does not.
        ConvNeXtError: The name is not possible.
    """
    with disk_errors(path):  # such as a name that is too long
        is_folder, exists = path.is_dir(), path.exists()
    if is_folder:
        raise ArgumentError(f"{path} is a folder. Name a file to write.")
    if not path.absolute().parent.is_dir():
        raise ArgumentError(f"The folder {path.absolute().parent} does not exist. Create it first.")
    if exists and not overwrite and not resume:
        raise ArgumentError(f"{path} exists already. Give --overwrite, or another name.")


def unseen(paths: Sequence[str], done: Iterable[str] = ()) -> Iterator[Named]:
    """Every picture of the paths, with a printable name, except those already done."""
    from convnext.images.sources import Named, iterate

    skipped = frozenset(done)
    for name, source in iterate(paths):
        if printable(name) not in skipped:
            yield Named(printable(name), source)


def show_progress(
    items: Iterable[Item], args: argparse.Namespace, done: int = 0, hidden: bool = False
) -> Iterator[Item]:
    """Show a progress bar on the terminal, after a second.

    Args:
        items: One for each picture.
        args: The options, for the total number of pictures.
        done: Number of pictures done by an earlier run.
        hidden: Whether to show no bar, because results go to the terminal.
    """
    from tqdm import tqdm

    from convnext.images.archives import ARCHIVE_SUFFIXES

    plain = all(
        os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for impossible names)
        and not path.lower().endswith(ARCHIVE_SUFFIXES)
        for path in args.paths
    )
    bar: Iterable[Item] = tqdm(
        items,
        total=len(args.paths) if plain else None,
        initial=done,
        unit=" pictures",
        delay=1,
        disable=True if hidden else None,
    )
    yield from bar


class Unreadable:
    """Collects pictures that could not be read, and lists them at the end."""

    def __init__(self) -> None:
        self.count = 0
        self._listed: list[str] = []

    def add_all(self, done: Mapping[str, str | None]) -> None:
        """Add those pictures of an earlier run that have an error."""
        for name, error in done.items():
            if error is not None:
                self.add(name, error)

    def add(self, name: str, reason: object) -> None:
        """Add a picture."""
        self.count += 1
        text = printable(str(reason))
        if len(self._listed) < LISTED:
            self._listed.append(text if name in text else f"{name}: {text}")

    def report(self) -> int:
        """List the pictures on standard error, and return the exit code."""
        if not self.count:
            return 0
        noun = "picture" if self.count == 1 else "pictures"
        print(f"convnext: {self.count} {noun} could not be read:", file=sys.stderr)
        for line in self._listed:
            print(f"  {line}", file=sys.stderr)
        if self.count > len(self._listed):
            print(f"  and {self.count - len(self._listed)} more", file=sys.stderr)
        return 1
