"""`convnext segment`: the class of each pixel of pictures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from convnext.atomic import disk_errors, replaced
from convnext.cli.pictures import (
    Unreadable,
    add_model_options,
    open_segmenter,
    show_progress,
    unseen,
)
from convnext.errors import ArgumentError

if TYPE_CHECKING:
    from convnext.images.sources import Named

__all__ = ["add_parser", "run"]

MODEL = "convnext_tiny.mmseg_in1k_upernet_ade20k"  # Apache-2.0, the smallest
FORMATS = ("png", "overlay", "json", "rle")
INFERENCE = ("whole", "slide", "tiles")

EXAMPLES = """\
examples:
  convnext segment street.jpg --out masks/                  masks/street.png
  convnext segment photos/ --out masks/                     photos/a/b.jpg becomes masks/a/b.png
  convnext segment photos.zip --out masks/                  an archive, without unpacking it
  convnext segment photos/ --out seen/ --format overlay     colours over the pictures, as JPEG
  convnext segment photos/ --out areas/ --format json       how much each class covers
  convnext segment photos/ --out coco/ --format rle         run lengths as in COCO's annotations
  convnext segment photos/ --out masks/ --resume            only pictures that have no mask yet
  convnext segment street.jpg --out masks/ --inference slide --flip    slower, more accurate
  convnext segment map.tif --out masks/ --inference tiles   a large picture, at its own scale
  convnext segment x.png --out masks/ --model mine.safetensors --labels names.txt

A mask is a PNG of the picture's size: the value of a pixel is the number of its class, and viewers
show it in the palette's colour. Class names are in the JSON of the areas.

--inference whole resizes a picture to the model's square, as transformers does. slide keeps its
proportions and averages overlapping windows, as mmsegmentation does. tiles does the same without
resizing the picture. --flip adds the mirrored picture.

A picture that cannot be read does not stop the run: it is listed at the end, and the exit code is
1. Files are written whole or not at all, so an interrupted run continues with --resume.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "segment",
        help="the class of each pixel of pictures",
        description="Compute the class of each pixel of pictures (semantic segmentation).",
        epilog=EXAMPLES,
    )
    add_model_options(parser, MODEL)
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, required=True, help="where to write a file for each"
    )
    parser.add_argument("--format", choices=FORMATS, default="png", help="default: png, a mask")
    parser.add_argument(
        "--inference", choices=INFERENCE, default="whole", help="how pictures are cut (see below)"
    )
    parser.add_argument(
        "--stride",
        metavar="N",
        type=int,
        help="pixels between windows (default: 2/3 of their side)",
    )
    parser.add_argument("--flip", action="store_true", help="add the mirrored picture")
    parser.add_argument("--size", metavar="N", type=int, help="side of the model's input")
    parser.add_argument("--batch", type=int, default=4, help="batch size (default: 4)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--resume", action="store_true", help="skip pictures that have their file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Segment; 0 if every picture could be read, else 1."""
    _check_folder(args.out, overwrite=args.overwrite, resume=args.resume)
    segmenter = open_segmenter(args)
    if not segmenter.has_names:
        print("convnext: the classes have no names. Give --labels FILE.", file=sys.stderr)
    bad = Unreadable()
    targets = _Targets(args, bad)
    written = 0
    try:
        segmentations = segmenter.predict(targets.remaining(), batch_size=args.batch)
        for each in show_progress(segmentations, args):
            if each.error is not None:
                bad.add(each.id, each.error)
                continue
            _write(targets.of[each.id], each.encoded(args.format), written)
            targets.of.pop(each.id)
            written += 1
    except KeyboardInterrupt:
        print(f"\nconvnext: to continue in {args.out}, give --resume", file=sys.stderr)
        raise
    finally:
        code = bad.report()
    there = f"; {targets.skipped} were there already" if targets.skipped else ""
    print(f"{written} {_noun(args.format, written)} written to {args.out}{there}.", file=sys.stderr)
    return code


def _noun(form: str, count: int) -> str:
    noun = {"png": "mask", "overlay": "overlay"}.get(form, "JSON file")
    return noun if count == 1 else f"{noun}s"


def _check_folder(folder: Path, *, overwrite: bool, resume: bool) -> None:
    with disk_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise ArgumentError(f"{folder} is a file. Name a folder for the results.")
        folder.mkdir(parents=True, exist_ok=True)
        empty = next(folder.iterdir(), None) is None
    if not (empty or overwrite or resume):
        raise ArgumentError(
            f"{folder} is not empty. Give --resume to skip pictures that have their file, "
            "--overwrite to replace files, or another folder."
        )


class _Targets:
    """The file of each picture.

    Attributes:
        of: Files of the pictures being computed, by the picture's name.
        skipped: Pictures whose file was there already.
    """

    def __init__(self, args: argparse.Namespace, bad: Unreadable) -> None:
        from convnext.segmenter.results import FORMATS

        self.of: dict[str, Path] = {}
        self.skipped = 0
        self._args, self._bad = args, bad
        self._suffix = FORMATS[args.format]
        self._root = _root(args.paths)
        self._taken: dict[Path, str] = {}

    def remaining(self) -> Iterator[Named]:
        """The pictures to compute."""
        for named in unseen(self._args.paths):
            path = (self._args.out / _relative(named.id, self._root)).with_suffix(self._suffix)
            first = self._taken.get(path)
            self._taken[path] = first or named.id
            if first == named.id:
                continue  # given twice
            if first is not None:
                self._bad.add(named.id, f"its file, {path}, is that of {first}: rename one of them")
            elif self._args.resume and path.exists():
                self.skipped += 1
            else:
                self.of[named.id] = path
                yield named


def _root(paths: Sequence[str]) -> str:
    """The folder that names of files are relative to: the one that all paths are in."""
    from convnext.images.archives import ARCHIVE_SUFFIXES
    from convnext.images.read import is_url

    roots = []
    for path in paths:
        if is_url(path):
            continue
        text = Path(path).as_posix()
        holds = os.path.isdir(path) or text.lower().endswith(ARCHIVE_SUFFIXES)  # noqa: PTH112
        while not holds and any(mark in text for mark in "*?["):
            text = os.path.dirname(text)  # noqa: PTH120 (stays relative)
            holds = not any(mark in text for mark in "*?[")
        roots.append(text if holds else os.path.dirname(text))  # noqa: PTH120
    try:
        return os.path.commonpath(roots) if roots else ""
    except ValueError:  # relative and absolute ones
        return ""


def _relative(name: str, root: str) -> PurePosixPath:
    """Where a picture is below the root, without steps that could leave it."""
    from convnext.images.read import is_url

    if is_url(name):
        url = urlsplit(name)
        name = f"{url.hostname or ''}/{url.path}"
    elif root and root != ".":
        name = name.removeprefix(f"{root.rstrip('/')}/")
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".", "..")]
    return PurePosixPath(*parts or ["picture"])


def _write(path: Path, content: bytes, written: int) -> None:
    kept = f" The {written} files before are kept; continue with --resume."
    with disk_errors(path, kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as draft:
            draft.write_bytes(content)
