"""What commands that show pictures to a model share: options, opening, progress, bad pictures."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from convnext.cli.output import cannot_write
from convnext.cli.rows import printable
from convnext.errors import ArgumentError

if TYPE_CHECKING:
    from convnext.classifier import Classifier
    from convnext.images.sources import Named

__all__ = [
    "DEFAULT_MODEL",
    "Unreadable",
    "add_model_options",
    "add_statements",
    "check_target",
    "open_classifier",
    "show_progress",
    "unseen",
]

DEFAULT_MODEL = "convnext_nano.in12k_ft_in1k"
"""Small (16 M parameters), 82.3 % top-1 on ImageNet-1k, and free for any use (Apache-2.0)."""

LISTED = 1000  # bad pictures that are remembered, to be listed at the end

Item = TypeVar("Item")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the pictures and the options of the model that is shown them."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATHS",
        help='pictures, folders, archives (.zip, .tar), URLs, or patterns such as "*.png"',
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="a published checkpoint or a weights file (default: %(default)s)",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="names of the classes, or a set such as imagenet-1k"
    )
    parser.add_argument("--engine", default="auto", help="what computes (default: what is there)")
    parser.add_argument("--precision", default="auto", help="what to compute in (default: auto)")
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="for int8: what `convnext quantize` wrote, or pictures",
    )
    add_statements(parser)


def add_statements(parser: argparse.ArgumentParser) -> None:
    """Add the options that say of a model what its file does not."""
    parser.add_argument(
        "--arch",
        metavar="NAME",
        help="what a file does not say of its network: an architecture such as convnext_xxlarge, "
        "or how it computes, such as epsilon=1e-5,activation=gelu_tanh",
    )
    parser.add_argument(
        "--mean-std",
        metavar="NAME",
        help="how pixels are normalised, where a file does not say so: imagenet, clip or half",
    )


def open_classifier(args: argparse.Namespace) -> Classifier:
    """The classifier that the options ask for; says on what terms its weights may be used."""
    from convnext.classifier import Classifier

    logger = logging.getLogger("convnext")
    if not logger.handlers:  # logging would say those terms once more, and only some of them
        logger.addHandler(logging.NullHandler())
    classifier = Classifier(
        args.model,
        args.engine,
        precision=args.precision,
        calibration=args.calibration,
        labels=args.labels or None,
        preprocess=args.mean_std,
        architecture=args.arch,
    )
    if classifier.info.notice:
        print(classifier.info.notice, file=sys.stderr)
    return classifier


def check_target(path: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises:
        ArgumentError: It is there already, or its folder is not.
        ConvNeXtError: No file can be called so.
    """
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # such as a name that is too long
        raise cannot_write(path, error) from error
    if is_folder:
        raise ArgumentError(f"{path} is a folder. Name a file to write.")
    if not path.absolute().parent.is_dir():
        raise ArgumentError(f"The folder {path.absolute().parent} is not there. Create it first.")
    if is_there and not overwrite and not resume:
        raise ArgumentError(f"{path} is there already. Allow --overwrite, or name another.")


def unseen(paths: Sequence[str], held: Iterable[str] = ()) -> Iterator[Named]:
    """Every picture that the paths stand for, by a printable name, but for those that are held."""
    from convnext.images.sources import Named, iterate

    skipped = frozenset(held)
    for name, source in iterate(paths):
        if printable(name) not in skipped:
            yield Named(printable(name), source)


def show_progress(
    items: Iterable[Item], args: argparse.Namespace, done: int = 0, hidden: bool = False
) -> Iterator[Item]:
    """Count what passes in a bar on the terminal, once that takes longer than a moment.

    Args:
        items: One for each picture.
        args: The options, for the number of pictures where it is plain.
        done: How many there were before.
        hidden: Whether the terminal is needed for something else.
    """
    from tqdm import tqdm

    from convnext.images.sources import ARCHIVE_SUFFIXES

    plain = all(
        os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for what no file can be called)
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
    """Pictures that could not be read: listed at the end, and never a reason to stop."""

    def __init__(self) -> None:
        self.count = 0
        self._listed: list[str] = []

    def add(self, name: str, reason: object) -> None:
        """Remember one."""
        self.count += 1
        text = printable(str(reason))
        if len(self._listed) < LISTED:
            self._listed.append(text if name in text else f"{name}: {text}")

    def report(self) -> int:
        """List them on standard error; the exit code."""
        if not self.count:
            return 0
        noun = "picture" if self.count == 1 else "pictures"
        print(f"convnext: {self.count} {noun} could not be read:", file=sys.stderr)
        for line in self._listed:
            print(f"  {line}", file=sys.stderr)
        if self.count > len(self._listed):
            print(f"  and {self.count - len(self._listed)} more", file=sys.stderr)
        return 1
