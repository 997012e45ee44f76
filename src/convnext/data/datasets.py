"""Find the pictures of a folder or archive and their classes, before any picture is decoded.

All errors in the labels are reported at once. Pictures have the order of their paths in a folder,
and their own order in an archive.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from convnext.data.classes import Classes, class_level
from convnext.data.ground_truth import GroundTruth, labels_in_names
from convnext.data.stores import picture_names
from convnext.errors import ArgumentError, ImageError, UnknownNameError
from convnext.images.archives import ARCHIVE_SUFFIXES
from convnext.images.folders import is_picture
from convnext.images.labels import Labels
from convnext.images.read import Limits
from convnext.images.sources import NO_PICTURE, Named, iterate

__all__ = ["Dataset", "LabelledPicture", "Layout", "check_data", "folder_classes", "open_dataset"]

Layout = Literal["auto", "folder", "imagenet-val", "zip", "tar"]

_NAMES_ONLY = Limits(bytes=0)  # reads one byte of an archive's members
_LISTED = 5


class LabelledPicture(NamedTuple):
    """A picture's name and class.

    Attributes:
        id: Its path below the data folder or in the archive.
        label: Its class.
    """

    id: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures.

    Attributes:
        path: The folder or archive.
        layout: Description of how labels were found, for reports.
        classes: The model's classes.
        entries: The pictures to evaluate, in order.
        competing: The classes the model chooses among, sorted; None for all.
        notes: Warnings for the reader of a report.
    """

    path: Path
    layout: str
    classes: Classes
    entries: tuple[LabelledPicture, ...]
    competing: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A digest of names, labels and competing classes, but not of the pictures' content."""
        digest = hashlib.sha256(repr(self.competing).encode())
        for name, label in self.entries:
            digest.update(f"{name}\0{label}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def pictures(self, start: int = 0) -> Iterator[tuple[Named, int]]:
        """Yield each picture and its label, beginning with number `start`.

        Raises:
            ArgumentError: A picture was removed since the data set was opened.
        """
        found = self._files() if self.path.is_dir() else iterate(self.path)
        for position, (name, label) in enumerate(self.entries):
            source = next((item.source for item in found if _below(self.path, item) == name), None)
            if source is None:
                raise ArgumentError(
                    f"{name!r} was moved or removed from {self.path}: the data must not change "
                    "during an evaluation."
                )
            if position >= start:
                yield Named(name, source), label

    def _files(self) -> Iterator[Named]:
        paths = (self.path / entry.id for entry in self.entries)
        return (Named(path.as_posix(), path) for path in paths if os.path.lexists(path))


def check_data(path: str | Path, layout: str = "auto") -> None:
    """Quickly check path and layout; `open_dataset` checks the content.

    Raises:
        ArgumentError: There is no such folder, archive or layout.
    """
    path = Path(path)
    if layout not in get_args(Layout):
        raise UnknownNameError("layout", layout, get_args(Layout))
    if not path.exists():
        raise ArgumentError(f"{path} does not exist. Give a folder of pictures, or an archive.")
    suffixes = {"zip": (".zip",), "tar": ARCHIVE_SUFFIXES[1:]}.get(layout, ARCHIVE_SUFFIXES)
    is_archive = path.is_file() and path.name.lower().endswith(suffixes)
    archive_only = layout in ("zip", "tar")
    if not is_archive and (archive_only or not path.is_dir()):
        raise ArgumentError(
            f"The layout {layout!r} needs {'' if archive_only else 'a folder or '}an archive that "
            f"ends in {' or '.join(suffixes)}, which {path} is not."
        )


def open_dataset(
    path: str | Path,
    classes: Classes,
    *,
    layout: Layout = "auto",
    ground_truth: GroundTruth | None = None,
    sort_folders: bool = False,
    subset: str | Path = "model",
    limit: int | None = None,
) -> Dataset:
    """Find all pictures and their classes, without decoding any.

    Args:
        path: A folder, or a zip or tar archive, which is not unpacked.
        classes: The model's classes.
        layout: `"folder"`, `"zip"` and `"tar"`: a folder for each class, possibly inside common
            parent folders; folders below a class folder belong to it. `"imagenet-val"`: labels
            come from `ground_truth`, or from WordNet ids in the file names, such as
            `ILSVRC2012_val_00000001_n01751748.JPEG`. `"auto"`: class folders if there are folders
            and no ground truth, else as `"imagenet-val"`.
        ground_truth: From `read_ground_truth`.
        sort_folders: Whether class folders, sorted by name, are the model's classes in order, as in
            torchvision's `ImageFolder` and Keras.
        subset: The classes the model chooses among. `"model"`: all its classes. `"data"`: the
            classes of the data, as for published numbers of ImageNet-A and ImageNet-R (200
            classes). The path of a text file with one class per line: these, leaving out pictures
            of others.
        limit: Largest number of pictures, spread evenly over the data.

    Raises:
        ArgumentError: There is no such data, a folder or label is not a class of the model, or an
            option does not fit the data.
    """
    path = Path(path)
    check_data(path, layout)
    if limit is not None and limit < 1:
        raise ArgumentError(f"limit must be 1 or more; got {limit}.")
    names = _survey(path)
    flat = not any("/" in name for name in names)
    numbers: Mapping[str, int] = {}
    if layout == "imagenet-val" or (layout == "auto" and (ground_truth or flat)):
        form, texts = _labels_of_files(names, ground_truth)
        what = "label"
    elif ground_truth:
        raise ArgumentError(
            f"With the layout {layout!r}, labels are the folders: give no ground truth, or the "
            "layout 'imagenet-val'."
        )
    else:
        form, texts, what = "class folders", _class_folders(names), "folder"
        if sort_folders:
            folders = tuple(sorted(set(texts)))
            numbers = {folder: number for number, folder in enumerate(folders)}
            classes = Classes(classes.count, Labels(folders), "the data's folders, sorted")
    chosen = None if subset in ("model", "data") else _read_subset(Path(subset), classes)
    if not numbers:
        by = ground_truth.by if ground_truth else None
        naming = classes.understand(set(texts), what=what, partial=chosen is not None, by=by)
        numbers, form = naming.numbers, f"{form}, by {naming.by}"
    data = Dataset(path, form, classes, _entries(names, texts, numbers))
    return _limited(_restricted(data, subset, chosen, len(names)), limit)


def folder_classes(path: str | Path) -> Classes:
    """The class folders of a data set as classes, sorted by name, without decoding any picture.

    Raises:
        ArgumentError: There is no such data, or pictures are in no class folder.
    """
    check_data(path)
    folders = tuple(sorted(set(_class_folders(_survey(Path(path))))))
    return Classes(len(folders), Labels(folders), "the folders of the neighbours")


def _below(path: Path, picture: Named) -> str:
    return picture.id.removeprefix(f"{path.as_posix()}/")


def _survey(path: Path) -> list[str]:
    if path.is_dir():
        names = list(picture_names(path))
        if not names:
            raise ArgumentError(f"{path} {NO_PICTURE}")
        return names
    names = []
    for picture in iterate(path, _NAMES_ONLY):
        names.append(_below(path, picture))
        if isinstance(picture.source, ImageError) and not is_picture(names[-1]):
            raise ArgumentError(f"Not all of the data can be read. {picture.source}")
    return names


def _labels_of_files(
    names: Sequence[str], ground_truth: GroundTruth | None
) -> tuple[str, Sequence[str]]:
    if ground_truth:
        return f"{ground_truth.source.name}: {ground_truth.form}", ground_truth.labels(names)
    labels = labels_in_names(names)
    if labels is None:
        raise ArgumentError(
            f"The pictures, such as {names[0]!r}, are not in class folders, and their names have "
            "no WordNet ids. Give a file of labels as --ground-truth."
        )
    return "labels in file names", labels


def _class_folders(names: Sequence[str]) -> list[str]:
    """The class folder of each picture."""
    paths = [name.split("/") for name in names]
    level = class_level(paths)
    outside = [name for name, parts in zip(names, paths, strict=True) if len(parts) == level + 1]
    if outside:
        raise ArgumentError(
            f"{len(outside):,} of {len(names):,} pictures are not in a class folder, such as "
            f"{', '.join(map(repr, outside[:_LISTED]))}. Move them, or give a file of labels as "
            "--ground-truth."
        )
    return [parts[level] for parts in paths]


def _entries(
    names: Sequence[str], texts: Sequence[str], numbers: Mapping[str, int]
) -> tuple[LabelledPicture, ...]:
    pairs = zip(names, texts, strict=True)
    return tuple(LabelledPicture(name, numbers[text]) for name, text in pairs if text in numbers)


def _read_subset(path: Path, classes: Classes) -> tuple[int, ...]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ArgumentError(
            "The subset must be 'model', 'data' or a file of classes, and "
            f"{path} cannot be read: {error}"
        ) from error
    texts = {line.strip() for line in lines if line.strip()}
    if not texts:
        raise ArgumentError(f"{path} names no class. Give one per line.")
    return tuple(sorted(set(classes.understand(texts, what="subset").numbers.values())))


def _restricted(
    data: Dataset, subset: str | Path, chosen: Collection[int] | None, found: int
) -> Dataset:
    present = {entry.label for entry in data.entries}
    if chosen is not None:
        kept = tuple(entry for entry in data.entries if entry.label in set(chosen))
        if not kept:
            raise ArgumentError(
                f"No picture in {data.path} is of a class in {subset}. Give another subset."
            )
        left_out = found - len(kept)
        note = f"{left_out:,} pictures of classes outside the subset were left out."
        return replace(
            data, entries=kept, competing=tuple(chosen), notes=(note,) if left_out else ()
        )
    if subset == "data":
        return replace(data, competing=tuple(sorted(present)))
    if len(present) == data.classes.count:
        return data
    note = (
        f"The data has {len(present):,} of the model's {data.classes.count:,} classes, and the "
        "model chose among all of its own. Published numbers for sets with fewer classes, such as "
        "ImageNet-A and ImageNet-R, are measured among the data's classes: use --subset data."
    )
    return replace(data, notes=(note,))


def _limited(data: Dataset, limit: int | None) -> Dataset:
    count = len(data.entries)
    if limit is None or limit >= count:
        return data
    entries = tuple(data.entries[position * count // limit] for position in range(limit))
    note = f"Only {limit:,} of {count:,} pictures, spread evenly over the data."
    return replace(data, entries=entries, notes=(note, *data.notes))
