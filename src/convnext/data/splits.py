"""Finds the splits of a data set at a path, with pictures and labels as the data spells them.

Class folders, archives, tables, arrays and ImageNet's layout are recognised by their files.
`examples` turns the labels into class numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.data.arrays import ArrayPart, idx_parts, is_idx_folder, npz_parts
from convnext.data.classes import class_level
from convnext.data.csv_tables import SUFFIXES as TABLE_SUFFIXES
from convnext.data.csv_tables import read_table
from convnext.data.ground_truth import labels_in_names, read_ground_truth
from convnext.data.stores import FileStore, Store, TarStore, ZipStore
from convnext.errors import ArgumentError, UnknownNameError
from convnext.images.folders import is_hidden

__all__ = ["FORMS", "SPLIT_NAMES", "Part", "find_parts"]

FORMS = (
    "a folder with a folder for each class, a zip or tar archive of one, a folder with MNIST's "
    "files, a .npz file, or a .csv or .tsv file of paths and labels"
)
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "t10k": "test",
}
GROUND_TRUTHS = (
    "ILSVRC2012_validation_ground_truth.txt",
    "LOC_val_solution.csv",
    "val_annotations.txt",
    "val.txt",
    "val.csv",
)
_ARCHIVES = (".zip", ".tar")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LISTED = 5


@dataclass(frozen=True)
class Part:
    """A split of a data set, with labels as the data spells them.

    Attributes:
        path: The data set, for messages.
        store: The pictures.
        rows: Rows of the store in this split.
        labels: The class of each row: names, or an array of integers; None if unknown.
        classes: Class names, if labels are numbers and the data has names.
        empty: Class folders without pictures.
        problem: Details on why the labels are unknown.
        label_sets: Whether a label is any number of them, in one text, see
            `convnext.data.multi_label`.
    """

    path: Path
    store: Store
    rows: NDArray[np.int64]
    labels: Sequence[str] | NDArray[Any] | None
    classes: tuple[str, ...] | None = None
    empty: tuple[str, ...] = ()
    problem: str = ""
    label_sets: bool = False


def find_parts(path: Path) -> dict[str, Part]:
    """Find the splits of the data at a path, by name; `""` for data without splits."""
    name = path.name.lower()
    if not path.exists():
        raise ArgumentError(f"There is no {path}. Data is {FORMS}.")
    if path.is_dir():
        return _folder_parts(path)
    if name.endswith(_COMPRESSED):
        raise ArgumentError(
            f"{path} is compressed as a whole, which allows no random access. Unpack it into a "
            "folder, or pack it as a zip archive."
        )
    if name.endswith(_ARCHIVES):
        return _tree_parts(path, ZipStore(path) if name.endswith(".zip") else TarStore(path))
    if name.endswith(".npz"):
        return _array_parts(path, npz_parts(path))
    if name.endswith(TABLE_SUFFIXES):
        return _table_parts(path)
    raise ArgumentError(f"{path} is no data set. Data is {FORMS}.")


def _folder_parts(path: Path) -> dict[str, Part]:
    if is_idx_folder(path):
        return _array_parts(path, idx_parts(path))
    archives = {
        SPLIT_NAMES[item.stem.lower()]: item
        for item in sorted(path.iterdir())
        if item.suffix.lower() in _ARCHIVES and item.stem.lower() in SPLIT_NAMES
    }
    if "train" not in archives:
        return _tree_parts(path, FileStore.below(path))
    return {split: _undivided(file) for split, file in archives.items()}


def _undivided(path: Path) -> Part:
    parts = find_parts(path)
    if len(parts) > 1:
        raise ArgumentError(
            f"{path} contains splits itself: {', '.join(sorted(parts))}. Leave one split in it."
        )
    return next(iter(parts.values()))


def _array_parts(path: Path, parts: Mapping[str, ArrayPart]) -> dict[str, Part]:
    return {
        name: Part(path, part.store, np.arange(len(part.store)), part.labels, part.classes)
        for name, part in parts.items()
    }


def _table_parts(path: Path) -> dict[str, Part]:
    table = read_table(path)
    store = FileStore(path.parent, table.paths)
    unknown = {text for text in table.splits if text.lower() not in SPLIT_NAMES}
    if unknown:
        raise UnknownNameError(f"part in {path}", min(unknown), SPLIT_NAMES)
    parts = {}
    splits = np.array([SPLIT_NAMES[text.lower()] for text in table.splits] or [""] * len(store))
    for split in np.unique(splits).tolist():
        rows = np.flatnonzero(splits == split)
        labels = [table.labels[row] for row in rows] if table.labels else None
        parts[split] = Part(path, store, rows, labels, label_sets=table.label_sets)
    return parts


def _tree_parts(path: Path, store: Store) -> dict[str, Part]:
    paths = [store.name(row).split("/") for row in range(len(store))]
    if not paths:
        raise ArgumentError(f"{path} holds no file that is named like a picture. Data is {FORMS}.")
    level = class_level(paths, SPLIT_NAMES)
    where, paths = Path(path, *paths[0][:level]), [parts[level:] for parts in paths]
    splits = {parts[0]: SPLIT_NAMES.get(parts[0].lower(), "") for parts in paths if parts[1:]}
    others = sorted(folder for folder, split in splits.items() if not split)
    flat = any(len(parts) == 1 for parts in paths)
    if flat or others or "train" not in splits.values():
        deep = {splits[parts[0]] for parts in paths if len(parts) > 2}
        if not flat and "train" in deep:  # else they would be taken for classes
            raise ArgumentError(
                f"{path} has split folders and other folders, "
                f"{', '.join(map(repr, others[:_LISTED]))}. Move those elsewhere, or name the "
                "folder of one split."
            )
        return {"": _tree_part(path, store, range(len(store)), where, paths)}
    rows: dict[str, list[int]] = {}
    for row, parts in enumerate(paths):
        rows.setdefault(splits[parts[0]], []).append(row)
    return {
        split: _tree_part(
            *(path, store, chosen, where / paths[chosen[0]][0]),
            [paths[row][1:] for row in chosen],
            split,
        )
        for split, chosen in rows.items()
    }


def _tree_part(
    path: Path,
    store: Store,
    rows: Sequence[int],
    where: Path,
    paths: Sequence[list[str]],
    split: str = "",
) -> Part:
    """The split of the rows of a store; `paths` are those of its pictures below `where`."""
    names = ["/".join(parts) for parts in paths]
    level = class_level(paths)
    outside = [name for name, parts in zip(names, paths, strict=True) if len(parts) == level + 1]
    folders = [] if outside else [parts[level] for parts in paths]
    if split != "train" and (len(outside) == len(names) or len(set(folders)) == 1):
        truth = _ground_truth((where,) if split == "test" else (where, path))
        if truth:
            found = read_ground_truth(truth).labels(names)
            return Part(path, store, np.array(rows), found)
    if folders:
        empty = _empty_folders(Path(where, *paths[0][:level]), set(folders))
        return Part(path, store, np.array(rows), folders, empty=empty)
    if len(outside) == len(names):
        return Part(path, store, np.array(rows), labels_in_names(names))
    problem = (
        f"{len(outside):,} of {len(names):,} pictures in {where} lie in no class folder, such as "
        f"{', '.join(map(repr, outside[:_LISTED]))}. Move them, or write a .csv file of paths and "
        "labels."
    )
    return Part(path, store, np.array(rows), None, problem=problem)


def _ground_truth(folders: Collection[Path]) -> Path | None:
    """Find a file with the labels of a flat folder."""
    files = (folder / name for folder in folders for name in GROUND_TRUTHS)
    return next((file for file in files if file.is_file()), None)


def _empty_folders(where: Path, found: Collection[str]) -> tuple[str, ...]:
    children = where.iterdir() if where.is_dir() else ()
    folders = {child.name for child in children if child.is_dir() and not is_hidden(child.name)}
    return tuple(sorted(folders.difference(found)))
