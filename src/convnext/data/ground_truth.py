"""Read label files for pictures that are not in class folders, such as ImageNet's validation set.

A dozen forms of ImageNet's label file are in use; one that is ambiguous is refused.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from convnext.data.classes import Scheme
from convnext.data.synsets import SYNSET_FILES, read_synsets
from convnext.errors import ArgumentError, UnknownNameError
from convnext.images.folders import SUFFIXES
from convnext.images.labels import class_number

__all__ = ["GroundTruth", "Numbers", "csv_rows", "labels_in_names", "read_ground_truth"]

Numbers = Literal["auto", "index", "name", "ilsvrc"]

_WNID = re.compile(r"n\d{8}(?!\d)")
_WNID_IN_NAME = re.compile(r"(?:^|_)(n\d{8})(?=[_.]|$)")
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")


@dataclass(frozen=True)
class GroundTruth:
    """The labels of a label file.

    Attributes:
        form: The detected form, for reports.
        lines: One label for each picture in order, if the file does not name the pictures.
        table: Labels by picture name, if it does.
        source: The file, for messages.
        by: Kind of the labels, if known.
    """

    form: str
    lines: tuple[str, ...]
    table: Mapping[str, str]
    source: Path
    by: Scheme | None = None

    def labels(self, names: Sequence[str]) -> list[str]:
        """The label of each picture, as the file spells it.

        Args:
            names: Paths of the pictures below the data folder.

        Raises:
            ArgumentError: A picture has no label, or more than one.
        """
        return self._by_name(names) if self.table else self._by_line(names)

    def _by_line(self, names: Sequence[str]) -> list[str]:
        matches = [_VALIDATION_NAME.search(PurePosixPath(name).name) for name in names]
        numbers = [int(match[1]) for match in matches if match]
        if len(numbers) == len(names):  # names have the line number, so pictures may be missing
            if not 1 <= min(numbers) <= max(numbers) <= len(self.lines):
                raise ArgumentError(
                    f"{self.source} has {len(self.lines):,} lines, but pictures are numbered "
                    f"{min(numbers):,} to {max(numbers):,}. Give the label file of these pictures."
                )
            return [self.lines[number - 1] for number in numbers]
        if len(self.lines) != len(names):
            raise ArgumentError(
                f"{self.source} has {len(self.lines):,} labels for {len(names):,} pictures. Give "
                "one label for each picture in the order of their names, or a table of names and "
                "labels."
            )
        order = sorted(range(len(names)), key=lambda position: names[position])
        labels = [""] * len(names)
        for position, line in zip(order, self.lines, strict=True):
            labels[position] = line
        return labels

    def _by_name(self, names: Sequence[str]) -> list[str]:
        repeated = Counter(PurePosixPath(name).stem for name in names)
        labels, missing, unclear = [], [], []
        for name in names:
            path = PurePosixPath(name)
            whole = self.table.get(name) or self.table.get(path.with_suffix("").as_posix())
            label = whole or self.table.get(path.name) or self.table.get(path.stem)
            labels.append(label or "")
            if label is None:
                missing.append(name)
            elif whole is None and repeated[path.stem] > 1:
                unclear.append(name)
        for pictures, problem in ((missing, "no label"), (unclear, "no label of their own")):
            if pictures:
                raise ArgumentError(
                    f"{self.source} has {problem} for {len(pictures):,} of {len(names):,} "
                    f"pictures, such as {pictures[0]!r}. Its first column must name them by their "
                    "paths below the data folder, or by their file names where these differ."
                )
        return labels


def read_ground_truth(
    path: str | Path, *, numbers: Numbers = "auto", synsets: str | Path | None = None
) -> GroundTruth:
    """Read a label file.

    Args:
        path: A file with one label per line, in the order of the pictures' names (pictures named
            like ImageNet's validation set have the line of their number); or a table separated by
            commas, tabs or spaces with a picture's name in the first column and its label in the
            second. A label is a WordNet id, a class name or a number.
        numbers: Meaning of numbers: `"index"` for the model's classes from 0; `"name"` for class
            names, such as 1 to 102; `"ilsvrc"` for the ids of the ImageNet challenge, which begin
            at 1 and have another order. `"auto"` detects the latter if 1000 occurs and 0 does not.
        synsets: File of the ILSVRC ids: the `meta.mat` of the challenge's development kit, or a
            text file of ids and WordNet ids (`map_clsloc.txt`). By default one of these beside
            `path`.

    Raises:
        ArgumentError: The file cannot be read, contradicts itself, or is ambiguous.
    """
    path = Path(path)
    if numbers not in get_args(Numbers):
        raise UnknownNameError("kind of numbers", numbers, get_args(Numbers))
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise ArgumentError(f"The ground truth {path} cannot be read: {error}") from error
    with_blanks = [line.strip() for line in text.splitlines()]
    lines = [line for line in with_blanks if line]
    if not lines:
        raise ArgumentError(f"The ground truth {path} is empty. Give a label for each picture.")
    table = _table(with_blanks, path)
    labels = list(table.values()) or lines
    form = "table of names and labels" if table else "list of labels"
    if _are_ilsvrc_ids(labels, numbers, path):
        wnids = _wnid_of_ilsvrc_id(path, synsets)
        translated = [wnids.get(label, label) for label in labels]  # keeps a table's header
        table = dict(zip(table, translated, strict=True)) if table else {}
        lines, form = translated, f"{form}, ILSVRC ids"
    meant = numbers if numbers in ("index", "name") and _numbers_of(labels) else None
    return GroundTruth(form, () if table else tuple(lines), table, path, meant)


def labels_in_names(names: Sequence[str]) -> list[str] | None:
    """The WordNet id in each file name, as in Hugging Face's copy; None if not all have one."""
    found = [_WNID_IN_NAME.findall(PurePosixPath(name).name) for name in names]
    return [hits[0] for hits in found] if all(len(hits) == 1 for hits in found) else None


def csv_rows(lines: Sequence[str], separator: str, path: Path) -> list[list[str]]:
    """The cells of each line that is not blank.

    Lines are parsed one by one, as an unclosed quote would include the lines after it.

    Raises:
        ArgumentError: A line is invalid.
    """
    rows: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows += csv.reader([line] if line.strip() else [], delimiter=separator, strict=True)
        except csv.Error as error:
            raise ArgumentError(
                f"{path}, line {number}: {error}. A row must be one line, with all quotes closed."
            ) from error
    return rows


def _table(lines: Sequence[str], path: Path) -> dict[str, str]:
    """Labels by picture name; empty if the lines have labels only."""
    first = next(line for line in lines if line)
    separated = next((character for character in "\t," if character in first), None)
    if separated:
        rows = csv_rows(lines, separated, path)
    elif PurePosixPath(first.split()[0]).suffix.lower() in SUFFIXES:
        rows = [line.split(maxsplit=1) for line in lines if line]
    else:
        return {}
    table: dict[str, str] = {}
    for row in rows:
        if len(row) < 2 or not row[1].strip():
            raise ArgumentError(f"{path}: the row {' '.join(row)!r} has no label in column 2.")
        name, label = PurePosixPath(row[0].strip()).as_posix(), row[1].strip()
        wnid = _WNID.match(label)  # Kaggle's labels are followed by bounding boxes
        label = wnid[0] if wnid else label
        if table.setdefault(name, label) != label:
            raise ArgumentError(
                f"{path} has two labels for {name!r}: {table[name]!r} and {label!r}. Keep one."
            )
    return table


def _numbers_of(labels: Sequence[str]) -> list[int]:
    return [number for label in labels if (number := class_number(label)) is not None]


def _are_ilsvrc_ids(labels: Sequence[str], numbers: Numbers, path: Path) -> bool:
    values = _numbers_of(labels)
    others = len(labels) - len(values)
    header = others == 1 and class_number(labels[0]) is None
    if numbers in ("index", "name") or not values or (others and not header):
        return False
    if numbers == "ilsvrc" or (max(values) == 1000 and min(values) > 0):
        return True
    if min(values) == 0:
        return False
    raise ArgumentError(
        f"The numbers {min(values)} to {max(values)} in {path} are ambiguous. Say whether they "
        "count the model's classes from 0 (--numbers index), are class names (--numbers name), or "
        "are ids of the ImageNet challenge, which have another order (--numbers ilsvrc)."
    )


def _wnid_of_ilsvrc_id(path: Path, given: str | Path | None) -> Mapping[str, str]:
    beside = (path.parent / name for name in SYNSET_FILES)
    found = Path(given) if given else next((file for file in beside if file.is_file()), None)
    if found is None:
        raise ArgumentError(
            f"{path} has ids of the ImageNet challenge (1 to 1000), whose order is not that of "
            f"the classes. Put the development kit's {' or '.join(SYNSET_FILES)} beside it, or "
            "give one with --synsets. (If the numbers count classes from 0, use --numbers index.)"
        )
    return {str(number): wnid for number, wnid in read_synsets(found).items()}
