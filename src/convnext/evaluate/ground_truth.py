"""Files that say which class each picture of a flat folder shows.

Why it exists: the ImageNet validation set is one folder of 50,000 pictures and a file of labels, of
which a dozen forms are about. Each is read here for what it is, and where a file can be read in two
ways, the user is asked.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from convnext.errors import ArgumentError, UnknownNameError
from convnext.evaluate.classes import Scheme
from convnext.evaluate.synsets import SYNSET_FILES, read_synsets
from convnext.images.labels import class_number
from convnext.images.sources import SUFFIXES

__all__ = ["GroundTruth", "Numbers", "csv_rows", "labels_in_names", "read_ground_truth"]

Numbers = Literal["auto", "index", "name", "ilsvrc"]

_WNID = re.compile(r"n\d{8}(?!\d)")
_WNID_IN_NAME = re.compile(r"(?:^|_)(n\d{8})(?=[_.]|$)")
_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")


@dataclass(frozen=True)
class GroundTruth:
    """What a label file says.

    Attributes:
        form: What it was taken for, for reports.
        lines: One label for each picture in order, if the file names no pictures.
        table: Labels by the names of pictures, if it does.
        source: The file, for messages.
        by: How labels are meant, if somebody said.
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
            ArgumentError: A picture has no label, or it is not clear which one.
        """
        return self._by_name(names) if self.table else self._by_line(names)

    def _by_line(self, names: Sequence[str]) -> list[str]:
        matches = [_VALIDATION_NAME.search(PurePosixPath(name).name) for name in names]
        numbers = [int(match[1]) for match in matches if match]
        if len(numbers) == len(names):  # the name says which line: pictures may be missing
            if not 1 <= min(numbers) <= max(numbers) <= len(self.lines):
                raise ArgumentError(
                    f"{self.source} has {len(self.lines):,} lines, but there are pictures "
                    f"numbered {min(numbers):,} to {max(numbers):,}. Give the file of this set."
                )
            return [self.lines[number - 1] for number in numbers]
        if len(self.lines) != len(names):
            raise ArgumentError(
                f"{self.source} has {len(self.lines):,} labels for {len(names):,} pictures. A "
                "file without names needs one label for each picture, in the order of their "
                "names; else give a table of names and labels."
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
        path: One label a line, in the order of the pictures' names (of pictures that are named as
            ImageNet's validation set, each has the line of its number); or a table separated by
            commas, tabs or spaces, with a line for each picture, its name in the first column and
            its label in the second. A label is a WordNet id, a class name or a number.
        numbers: What numbers are: `"index"` counts the model's classes from 0; `"name"` is what
            they are called, such as 1 to 102; `"ilsvrc"` is the id that the ImageNet challenge gave
            a class, from 1, in an order of its own. `"auto"` tells the last by the numbers 0, which
            it has not, and 1000.
        synsets: Which class has which ILSVRC id: the `meta.mat` of the challenge's development kit,
            or a text file of ids and WordNet ids (`map_clsloc.txt`). By default looked for beside
            `path`.

    Raises:
        ArgumentError: The file cannot be read, contradicts itself, or can be read in two ways.
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
        raise ArgumentError(f"The ground truth {path} is empty: one label for each picture.")
    table = _table(with_blanks, path)
    labels = list(table.values()) or lines
    form = "table of names and labels" if table else "list of labels"
    if _are_ilsvrc_ids(labels, numbers, path):
        wnids = _wnid_of_ilsvrc_id(path, synsets)
        translated = [wnids.get(label, label) for label in labels]  # a table's header stays
        table = dict(zip(table, translated, strict=True)) if table else {}
        lines, form = translated, f"{form}, ILSVRC ids"
    meant = numbers if numbers in ("index", "name") and _numbers_of(labels) else None
    return GroundTruth(form, () if table else tuple(lines), table, path, meant)


def labels_in_names(names: Sequence[str]) -> list[str] | None:
    """The WordNet id that every one of these file names holds, as Hugging Face's copy does."""
    found = [_WNID_IN_NAME.findall(PurePosixPath(name).name) for name in names]
    return [hits[0] for hits in found] if all(len(hits) == 1 for hits in found) else None


def csv_rows(lines: Sequence[str], separator: str, path: Path) -> list[list[str]]:
    """The cells of each line that is not blank.

    Lines are parsed one by one: a quote that is not closed would swallow the rows behind it.

    Raises:
        ArgumentError: A line is not in order.
    """
    rows: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        try:
            rows += csv.reader([line] if line.strip() else [], delimiter=separator, strict=True)
        except csv.Error as error:
            raise ArgumentError(
                f"{path}, line {number}: {error}. A row is one line, and a quote that is opened "
                "must be closed in the same line."
            ) from error
    return rows


def _table(lines: Sequence[str], path: Path) -> dict[str, str]:
    """Labels by name; none if the lines are labels alone."""
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
        wnid = _WNID.match(label)  # Kaggle's label has boxes behind it
        label = wnid[0] if wnid else label
        if table.setdefault(name, label) != label:
            raise ArgumentError(f"{path} says of {name!r} both {table[name]!r} and {label!r}.")
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
        f"{path} holds the numbers {min(values)} to {max(values)}: say whether they count the "
        "model's classes from 0 (--numbers index), are what these are called (--numbers name), or "
        "are the ids of the ImageNet challenge, which has an order of its own (--numbers ilsvrc)."
    )


def _wnid_of_ilsvrc_id(path: Path, given: str | Path | None) -> Mapping[str, str]:
    beside = (path.parent / name for name in SYNSET_FILES)
    found = Path(given) if given else next((file for file in beside if file.is_file()), None)
    if found is None:
        raise ArgumentError(
            f"{path} holds ids of the ImageNet challenge (1 to 1000), whose order is not that of "
            f"the classes. Put the development kit's {' or '.join(SYNSET_FILES)} beside it, or "
            "name one with --synsets. (If the numbers count classes from 0, say --numbers index.)"
        )
    return {str(number): wnid for number, wnid in read_synsets(found).items()}
