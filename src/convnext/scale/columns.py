"""Converts outputs of the model to typed columns of a Parquet table.

The options of the run determine the columns; an unreadable picture has its error and nulls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.classifier.results import best_classes
from convnext.data.arrow import pyarrow
from convnext.errors import ImageError, WeightsError
from convnext.evaluate.accuracy import Judgement, judge
from convnext.scale.inputs import printable
from convnext.scale.run_options import RunOptions

__all__ = ["PictureRow", "rows_of", "schema_of", "table_of"]

Array = NDArray[Any]


class PictureRow(NamedTuple):
    """The row of a picture.

    Attributes:
        path: Of the picture.
        truth: Its label, if there is one.
        values: Values by column; empty if it could not be read.
        error: Why it could not be read.
    """

    path: str
    truth: str | None
    values: Mapping[str, Any]
    error: str | None


def schema_of(options: RunOptions, metadata: Mapping[str, str]) -> Any:
    """Schema of the table, with its columns in order."""
    arrow = pyarrow()
    text, number, real = arrow.string(), arrow.int32(), arrow.float32()
    fields = [("path", text), ("truth", number if options.task == "evaluate" else text)]
    if options.task == "evaluate":
        fields += [("prediction", number), ("rank", number)]
        fields += [("log_probability", arrow.float64()), ("confidence", arrow.float64())]
    elif options.task == "predict":
        if options.labels.thresholds is not None:
            fields += [
                ("labels", arrow.list_(text)),
                ("indices", arrow.list_(number)),
                ("probabilities", arrow.list_(real)),
            ]
        else:
            fields += [("label", text), ("index", number), ("probability", real)]
        if options.top > 1 and options.labels.thresholds is None:
            fields += [
                ("top_labels", arrow.list_(text)),
                ("top_indices", arrow.list_(number)),
                ("top_probabilities", arrow.list_(real)),
            ]
    if "embedding" in options.outputs:
        fields.append(("embedding", arrow.list_(real, options.width)))
    return arrow.schema([*fields, ("error", text)], metadata=dict(metadata))


def rows_of(
    options: RunOptions,
    outcomes: Sequence[tuple[str, str | None, ImageError | None]],
    outputs: Mapping[str, Array],
) -> list[PictureRow]:
    """Create the rows of a batch.

    Args:
        options: Of the run.
        outcomes: The path, label and error of every picture.
        outputs: Outputs of the engine for those without an error, in order.
    """
    good = [truth for _, truth, error in outcomes if error is None]
    answers = iter(_values(options, good, outputs))
    rows = []
    for path, truth, error in outcomes:
        values = {} if error is not None else next(answers)
        problem = values.get("error") if error is None else str(error)
        if problem is None:
            rows.append(PictureRow(path, truth, values, None))
        else:
            rows.append(PictureRow(path, truth, {}, printable(problem)))
    return rows


def _values(
    options: RunOptions, truths: Sequence[str | None], outputs: Mapping[str, Array]
) -> list[dict[str, Any]]:
    if options.task == "evaluate":
        return _judged(options, truths, outputs)
    rows: list[dict[str, Any]] = [{} for _ in truths]
    for index, row in enumerate(rows):
        if "embedding" in outputs:
            row["embedding"] = outputs["embedding"][index]
        if "logits" in outputs:
            row.update(_classes(options, outputs["logits"][index]))
    return rows


def _classes(options: RunOptions, logits: Array) -> dict[str, Any]:
    try:
        scores = best_classes(logits, options.labels, options.top)
    except WeightsError as error:  # of this picture alone
        return {"error": str(error)}
    lists: dict[str, Any] = {
        "labels": [score.label for score in scores],
        "indices": [score.index for score in scores],
        "probabilities": [score.probability for score in scores],
    }
    if options.labels.thresholds is not None:
        return lists
    best = scores[0]
    values: dict[str, Any] = {
        "label": best.label,
        "index": best.index,
        "probability": best.probability,
    }
    if options.top > 1:
        values |= {f"top_{name}": column for name, column in lists.items()}
    return values


def _judged(
    options: RunOptions, truths: Sequence[str | None], outputs: Mapping[str, Array]
) -> list[dict[str, Any]]:
    if not truths:
        return []
    labels = [int(truth or 0) for truth in truths]
    judgements: list[Judgement] = judge(outputs["logits"], labels, options.competing)
    return [judgement._asdict() for judgement in judgements]


def table_of(schema: Any, rows: Sequence[PictureRow]) -> Any:
    """Convert rows to an Arrow table."""
    return pyarrow().table([_column(field, rows) for field in schema], schema=schema)


def _column(field: Any, rows: Sequence[PictureRow]) -> Any:
    arrow = pyarrow()
    if field.name == "embedding":
        width = field.type.list_size
        vectors = np.zeros((len(rows), width), np.float32)
        missing = np.ones(len(rows), bool)
        for index, row in enumerate(rows):
            if "embedding" in row.values:
                vectors[index], missing[index] = row.values["embedding"], False
        mask = arrow.array(missing)
        values = arrow.array(vectors.ravel())
        return arrow.FixedSizeListArray.from_arrays(values, width, mask=mask)
    if field.name == "path":
        return arrow.array([printable(row.path) for row in rows], field.type)
    if field.name == "truth":
        whole = field.type == arrow.int32()
        truths = [row.truth for row in rows]
        cells = [None if t is None else int(t) if whole else printable(t) for t in truths]
        return arrow.array(cells, field.type)
    if field.name == "error":
        return arrow.array([row.error for row in rows], field.type)
    return arrow.array([row.values.get(field.name) for row in rows], field.type)
