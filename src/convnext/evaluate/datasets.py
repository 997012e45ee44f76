"""A folder or archive of pictures, and which class each of them shows.

Why it exists: before the first picture is decoded, every picture's class has to be known, or the
error be told; a run of hours must not end because of a folder's name.
It knows nothing of what is measured. Pictures come from `convnext.images.sources`, in its order.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, get_args

from convnext.errors import ArgumentError, ImageError, UnknownNameError
from convnext.evaluate.classes import Classes
from convnext.evaluate.ground_truth import GroundTruth, labels_in_names
from convnext.images.labels import Labels
from convnext.images.read import Limits
from convnext.images.sources import ARCHIVE_SUFFIXES, SUFFIXES, Named, Sources, iterate

__all__ = ["Dataset", "Entry", "Layout", "check_data", "open_dataset"]

Layout = Literal["auto", "folder", "imagenet-val", "zip", "tar"]

_NAMES_ONLY = Limits(bytes=0)  # of an archive's members, one byte is read
_LISTED = 5


class Entry(NamedTuple):
    """One picture.

    Attributes:
        id: Its path below the data folder or in the archive.
        label: The class it shows.
    """

    id: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures.

    Attributes:
        path: The folder or archive.
        layout: How labels were found, for reports.
        classes: The model's classes.
        entries: The pictures to evaluate, in order.
        competing: The classes among which the model has to choose, sorted; None for all.
        notes: What whoever reads the result should know.
    """

    path: Path
    layout: str
    classes: Classes
    entries: tuple[Entry, ...]
    competing: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A digest of names, labels and competing classes; the pictures are not read for it."""
        digest = hashlib.sha256(repr(self.competing).encode())
        for name, label in self.entries:
            digest.update(f"{name}\0{label}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def pictures(self, start: int = 0) -> Iterator[tuple[Named, int]]:
        """Each picture and its label, from the one at `start` on.

        Raises:
            ArgumentError: Files have come or gone since the data set was opened.
        """
        position = 0
        for named in iterate(_sources(self.path)):
            entry = self.entries[position]
            if _below(self.path, named.id) != entry.id:
                continue
            if position >= start:
                yield Named(entry.id, named.source), entry.label
            position += 1
            if position == len(self.entries):
                return
        raise ArgumentError(
            f"{self.entries[position].id!r} is no longer in {self.path}, or no longer at its "
            "place: the data must not change during an evaluation."
        )


def check_data(path: str | Path, layout: str = "auto") -> None:
    """Refuse at once what cannot be evaluated; `open_dataset` has a closer look.

    Raises:
        ArgumentError: There is no such folder or archive, or no such layout.
    """
    path = Path(path)
    if layout not in get_args(Layout):
        raise UnknownNameError("layout", layout, get_args(Layout))
    if not path.exists():
        raise ArgumentError(f"There is no {path}. Give a folder of pictures, or an archive.")
    suffixes = {"zip": (".zip",), "tar": ARCHIVE_SUFFIXES[1:]}.get(layout, ARCHIVE_SUFFIXES)
    is_archive = path.is_file() and path.name.lower().endswith(suffixes)
    archive_only = layout in ("zip", "tar")
    if not is_archive and (archive_only or not path.is_dir()):
        raise ArgumentError(
            f"{path} is not what the layout {layout!r} means: "
            f"{'' if archive_only else 'a folder, or '}an archive that ends in "
            f"{' or '.join(suffixes)}."
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
    """Find all pictures and their classes, reading none.

    Args:
        path: A folder, or a zip or tar archive, which is read in place.
        classes: The model's classes.
        layout: `"folder"`, `"zip"` and `"tar"`: a folder for each class, which may lie in folders
            that all have in common; folders below a class folder belong to it. `"imagenet-val"`:
            labels come from `ground_truth`, or else from WordNet ids in the file names, as in
            `ILSVRC2012_val_00000001_n01751748.JPEG`. `"auto"` takes the former where there are
            folders and no ground truth.
        ground_truth: From `read_ground_truth`.
        sort_folders: Whether class folders, sorted by name, are the model's classes in order, as
            torchvision's `ImageFolder` and Keras take them.
        subset: Among which classes the model has to choose. `"model"`: among all it has.
            `"data"`: among those that the data has, as the published numbers of ImageNet-A and
            ImageNet-R (200 classes) are measured. A text file with one class a line: among these,
            and pictures of others are left out.
        limit: How many pictures at most, spread evenly over the data.

    Raises:
        ArgumentError: There is no such data, a folder or label means no class of the model, or an
            option does not go with the data.
    """
    path = Path(path)
    check_data(path, layout)
    if limit is not None and limit < 1:
        raise ArgumentError(f"The limit is a number of pictures, 1 or more; got {limit}.")
    names = _survey(path)
    flat = not any("/" in name for name in names)
    numbers: Mapping[str, int] = {}
    if layout == "imagenet-val" or (layout == "auto" and (ground_truth or flat)):
        form, texts = _labels_of_files(names, ground_truth)
        what = "label"
    elif ground_truth:
        raise ArgumentError(f"With the layout {layout!r} folders are the labels: no ground truth.")
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


def _sources(path: Path) -> Sources:
    """The data; its folders one by one where some are links, which are not followed otherwise."""
    if not path.is_dir():
        return path
    with os.scandir(path) as found:
        children = sorted(found, key=lambda child: child.name)
    if not any(child.is_symlink() and child.is_dir() for child in children):
        return path
    return [
        Path(child)
        for child in children
        if not child.name.startswith(".")
        and (child.is_dir() or Path(child).suffix.lower() in SUFFIXES)
    ]


def _below(path: Path, name: str) -> str:
    return name.removeprefix(f"{path.as_posix()}/")


def _survey(path: Path) -> list[str]:
    """The names of all pictures."""
    names = []
    for name, source in iterate(_sources(path), _NAMES_ONLY):
        if isinstance(source, ImageError) and Path(name).suffix.lower() not in SUFFIXES:
            raise ArgumentError(f"The data cannot be read as a whole. {source}")
        names.append(_below(path, name))
    return names


def _labels_of_files(
    names: Sequence[str], ground_truth: GroundTruth | None
) -> tuple[str, Sequence[str]]:
    if ground_truth:
        return f"{ground_truth.source.name}: {ground_truth.form}", ground_truth.labels(names)
    labels = labels_in_names(names)
    if labels is None:
        raise ArgumentError(
            f"{names[0]!r} and the other pictures lie in no class folders, and their names hold no "
            "WordNet ids: give the file with their labels as --ground-truth."
        )
    return "labels in file names", labels


def _class_folders(names: Sequence[str]) -> list[str]:
    """The class folder of each picture: the first that not all pictures have in common."""
    parents = [PurePosixPath(name).parent.parts for name in names]
    level = _common(parents)
    if level == min(map(len, parents)):  # one class folder, or pictures outside any
        level -= 1
    if level < 0:
        outside = [name for name, parts in zip(names, parents, strict=True) if not parts]
        raise ArgumentError(
            f"{len(outside):,} of {len(names):,} pictures lie in no class folder, such as "
            f"{', '.join(map(repr, outside[:_LISTED]))}. Move them, or give a label file as "
            "--ground-truth."
        )
    return [parts[level] for parts in parents]


def _common(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders at the beginning all paths share."""
    first, last = min(paths), max(paths)
    shared = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return len(list(shared))


def _entries(
    names: Sequence[str], texts: Sequence[str], numbers: Mapping[str, int]
) -> tuple[Entry, ...]:
    pairs = zip(names, texts, strict=True)
    return tuple(Entry(name, numbers[text]) for name, text in pairs if text in numbers)


def _read_subset(path: Path, classes: Classes) -> tuple[int, ...]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"The subset is 'model', 'data' or a file of classes. {path} cannot be read: {error}"
        ) from error
    texts = {line.strip() for line in lines if line.strip()}
    if not texts:
        raise ArgumentError(f"{path} names no class: one a line.")
    return tuple(sorted(set(classes.understand(texts, what="subset").numbers.values())))


def _restricted(
    data: Dataset, subset: str | Path, chosen: Collection[int] | None, found: int
) -> Dataset:
    present = {entry.label for entry in data.entries}
    if chosen is not None:
        kept = tuple(entry for entry in data.entries if entry.label in set(chosen))
        if not kept:
            raise ArgumentError(f"No picture in {data.path} shows a class of the subset {subset}.")
        left_out = found - len(kept)
        note = f"Left out: {left_out:,} pictures of classes that are not in the subset."
        return replace(
            data, entries=kept, competing=tuple(chosen), notes=(note,) if left_out else ()
        )
    if subset == "data":
        return replace(data, competing=tuple(sorted(present)))
    if len(present) == data.classes.count:
        return data
    note = (
        f"The data has {len(present):,} of the model's {data.classes.count:,} classes, and the "
        "model had to choose among all it has. What is published for sets of fewer classes, such "
        "as ImageNet-A and ImageNet-R, is measured among the data's: --subset data."
    )
    return replace(data, notes=(note,))


def _limited(data: Dataset, limit: int | None) -> Dataset:
    count = len(data.entries)
    if limit is None or limit >= count:
        return data
    entries = tuple(data.entries[position * count // limit] for position in range(limit))
    note = f"Only {limit:,} of {count:,} pictures, spread evenly over the data."
    return replace(data, entries=entries, notes=(note, *data.notes))
