"""Opens tables that give each picture any number of labels, for multi-label models.

    path,labels
    one.jpg,cat|dog
    two.jpg,
    three.jpg,dog

The column `labels` has `|` between the labels of a picture; an empty cell is a picture without any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from convnext.data.classes import Classes
from convnext.data.csv_tables import LABEL_SETS, SEPARATOR
from convnext.data.labelled import Examples, hold_out
from convnext.data.splits import SPLIT_NAMES, Part, find_parts
from convnext.data.stores import Store
from convnext.errors import ArgumentError, UnknownNameError, listed
from convnext.images.labels import Labels

__all__ = ["MultiLabelExamples", "MultiLabelSplits", "open_multi_label", "open_multi_label_data"]

FORM = (
    f"a .csv or .tsv file with the columns path and {LABEL_SETS}, whose cells have {SEPARATOR!r} "
    "between labels and are empty where a picture has none"
)


class MultiLabelExamples(Examples):
    """Pictures with any number of labels each.

    Args:
        store: The pictures.
        has: `[pictures, labels]`: which labels each picture has.
        naming: Names of the labels.
        rows: The store's row of each; by default all, in order.

    Attributes:
        has: As given.
    """

    def __init__(
        self,
        store: Store,
        has: NDArray[np.bool_],
        naming: Labels,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        super().__init__(store, np.zeros(len(has), np.int64), naming, rows)
        self.has = has

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of pictures with each label."""
        counts: NDArray[np.int64] = self.has.sum(0, dtype=np.int64)
        return counts

    def target_form(self, side: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Shape and type of the labels of a picture."""
        del side
        return (self.has.shape[1],), np.bool_

    def example(
        self, number: int, transform: Any, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a picture and transform it; returns this and which labels it has."""
        return super().example(number, transform, rng)[0], self.has[number]

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> Self:
        """Select examples, in the order given; the labels stay the same."""
        found = super().subset(indices)
        found.has = self.has[np.asarray(indices, np.int64)]
        return found

    def _label_bytes(self) -> bytes:
        return self.has.tobytes()


class MultiLabelSplits(NamedTuple):
    """The splits of a data set.

    Attributes:
        train: Training examples.
        validation: Validation examples of the same labels; None if there are none.
    """

    train: MultiLabelExamples
    validation: MultiLabelExamples | None


def open_multi_label(
    path: str | Path,
    *,
    classes: Labels | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> MultiLabelExamples:
    """Open pictures with any number of labels; files are listed, not decoded.

    Args:
        path: A table, see above.
        classes: The labels in the order of their numbers; by default those of the table, sorted.
            If given, every label of the table must be one of them.
        split: A split of a table with a column `split`; by default its only one.
        limit: Maximum number of pictures, spread evenly over the table.

    Raises:
        ArgumentError: It is no such table, or a label is repeated, empty or unknown.

    Example:
        `open_multi_label("photos/labels.csv").counts`
    """
    parts = _parts(Path(path))
    if split is None and len(parts) > 1:
        raise ArgumentError(f"{path} has the splits {', '.join(sorted(parts))}. Choose one.")
    name = SPLIT_NAMES.get(split, split) if split else next(iter(parts))
    if name not in parts:
        raise UnknownNameError(f"split of {path}", name, parts)
    return _examples(parts[name], classes, limit)


def open_multi_label_data(
    path: str | Path,
    validation: str | Path | None = None,
    *,
    limit: int | None = None,
    held_out: float = 0.0,
    seed: int = 0,
) -> MultiLabelSplits:
    """Open the training and validation examples of a multi-label model.

    Args:
        path: A table, which may have a column `split`.
        validation: A table of validation data; by default the table's own split, or a fraction held
            out.
        limit: Maximum number of pictures of each split.
        held_out: Fraction of the training data to hold out if there is no validation data.
        seed: The run's seed, which selects the pictures to hold out.

    Raises:
        ArgumentError: As for `open_multi_label`; or the validation data has a label that the
            training data lacks, or no picture has a label.
    """
    parts = _parts(Path(path))
    train = _examples(parts.get("train") or next(iter(parts.values())), None, limit)
    if not train.classes:
        raise ArgumentError(f"No picture in {path} has a label. A model needs one at least.")
    own = next((parts[name] for name in ("validation", "test") if name in parts), None)
    if validation is not None:
        given = _parts(Path(validation))
        own = given.get("validation") or next(iter(given.values()))
    if own is not None:
        return MultiLabelSplits(train, _examples(own, train.naming, limit))
    if not held_out:
        return MultiLabelSplits(train, None)
    return MultiLabelSplits(*hold_out(train, held_out, seed))


def _parts(path: Path) -> Mapping[str, Part]:
    """The splits of a table, each with sets of labels."""
    parts = find_parts(path)
    if not all(part.label_sets for part in parts.values()):
        raise ArgumentError(
            f"{path} gives each picture one class, or none, and a multi-label model is for {FORM}. "
            "Rename a column of such cells; or use a recipe for one class a picture, such as "
            "finetune_small_data."
        )
    return parts


def _examples(part: Part, naming: Labels | None, limit: int | None) -> MultiLabelExamples:
    if limit is not None and limit < 1:
        raise ArgumentError(f"limit is a number of pictures, 1 or more; got {limit}.")
    assert part.labels is not None  # a table has the column
    sets = [_split(str(text), part.path) for text in part.labels]
    names = sorted({name for labels in sets for name in labels})
    if naming is None:
        naming = Labels(tuple(names))
        numbers: Mapping[str, int] = {name: number for number, name in enumerate(names)}
    else:
        numbers = _numbers(names, naming, part.path)
    has = np.zeros((len(sets), len(naming)), bool)
    for row, labels in enumerate(sets):
        has[row, [numbers[label] for label in labels]] = True
    examples = MultiLabelExamples(part.store, has, naming, part.rows)
    if limit is None or limit >= len(examples):
        return examples
    return examples.subset(np.arange(limit) * len(examples) // limit)


def _split(text: str, path: Path) -> list[str]:
    """The labels of a cell."""
    labels = [label.strip() for label in text.split(SEPARATOR)] if text else []
    if not all(labels):
        raise ArgumentError(f"{path}: {text!r} has an empty label. Leave out one {SEPARATOR!r}.")
    if len(set(labels)) < len(labels):
        raise ArgumentError(f"{path}: {text!r} has a label twice. Leave one of them.")
    return labels


def _numbers(names: Sequence[str], naming: Labels, path: Path) -> Mapping[str, int]:
    numbers = {name: number for number, name in enumerate(naming.names)}
    unknown = sorted(set(names) - numbers.keys())
    if not unknown:
        return numbers
    try:
        classes = Classes(len(naming), naming, "the model or the training data")
        return classes.understand(names, what="label").numbers
    except ArgumentError as error:
        raise ArgumentError(
            f"{path} has labels that are not among the {len(naming):,} of the model or the "
            f"training data: {listed(list(map(repr, unknown)))}. Allowed are "
            f"{listed(naming.names)}."
        ) from error
