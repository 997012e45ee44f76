"""Answers as typed columns, so that Parquet's readers find numbers and vectors, not text.

What is asked decides the columns; a picture that could not be read has its error and nulls.
It knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.classifier.results import best_classes
from convnext.errors import ImageError, WeightsError
from convnext.evaluate.accuracy import Judgement, judge
from convnext.scale.arrow import pyarrow
from convnext.scale.inputs import printable
from convnext.scale.job import Job

__all__ = ["Row", "rows_of", "schema_of", "table_of"]

Array = NDArray[Any]


class Row(NamedTuple):
    """What became of one picture.

    Attributes:
        path: Names it.
        truth: What it shows, if something said so.
        values: By column; empty if it could not be read.
        error: Why.
    """

    path: str
    truth: str | None
    values: Mapping[str, Any]
    error: str | None


def schema_of(job: Job, metadata: Mapping[str, str]) -> Any:
    """The columns, in order."""
    arrow = pyarrow()
    text, number, real = arrow.string(), arrow.int32(), arrow.float32()
    fields = [("path", text), ("truth", number if job.task == "evaluate" else text)]
    if job.task == "evaluate":
        fields += [("prediction", number), ("rank", number)]
        fields += [("log_probability", arrow.float64()), ("confidence", arrow.float64())]
    elif job.task == "predict":
        fields += [("label", text), ("index", number), ("probability", real)]
        if job.top > 1:
            fields += [
                ("top_labels", arrow.list_(text)),
                ("top_indices", arrow.list_(number)),
                ("top_probabilities", arrow.list_(real)),
            ]
    if "embedding" in job.outputs:
        fields.append(("embedding", arrow.list_(real, job.width)))
    return arrow.schema([*fields, ("error", text)], metadata=dict(metadata))


def rows_of(
    job: Job,
    outcomes: Sequence[tuple[str, str | None, ImageError | None]],
    outputs: Mapping[str, Array],
) -> list[Row]:
    """The rows of a batch.

    Args:
        job: What is asked.
        outcomes: The path, truth and error of every picture.
        outputs: What the engine gave for those without an error, in order.
    """
    good = [truth for _, truth, error in outcomes if error is None]
    answers = iter(_values(job, good, outputs))
    rows = []
    for path, truth, error in outcomes:
        values = {} if error is not None else next(answers)
        problem = values.get("error") if error is None else str(error)
        if problem is None:
            rows.append(Row(path, truth, values, None))
        else:
            rows.append(Row(path, truth, {}, printable(problem)))
    return rows


def _values(
    job: Job, truths: Sequence[str | None], outputs: Mapping[str, Array]
) -> list[dict[str, Any]]:
    if job.task == "evaluate":
        return _judged(job, truths, outputs)
    rows: list[dict[str, Any]] = [{} for _ in truths]
    for place, row in enumerate(rows):
        if "embedding" in outputs:
            row["embedding"] = outputs["embedding"][place]
        if "logits" in outputs:
            row.update(_classes(job, outputs["logits"][place]))
    return rows


def _classes(job: Job, logits: Array) -> dict[str, Any]:
    try:
        scores = best_classes(logits, job.labels, job.top)
    except WeightsError as error:  # one picture of many: its row says so
        return {"error": str(error)}
    best = scores[0]
    values = {"label": best.label, "index": best.index, "probability": best.probability}
    if job.top > 1:
        values["top_labels"] = [score.label for score in scores]
        values["top_indices"] = [score.index for score in scores]
        values["top_probabilities"] = [score.probability for score in scores]
    return values


def _judged(
    job: Job, truths: Sequence[str | None], outputs: Mapping[str, Array]
) -> list[dict[str, Any]]:
    if not truths:
        return []
    labels = [int(truth or 0) for truth in truths]
    judgements: list[Judgement] = judge(outputs["logits"], labels, job.competing)
    return [judgement._asdict() for judgement in judgements]


def table_of(schema: Any, rows: Sequence[Row]) -> Any:
    """Rows as a table."""
    return pyarrow().table([_column(field, rows) for field in schema], schema=schema)


def _column(field: Any, rows: Sequence[Row]) -> Any:
    arrow = pyarrow()
    if field.name == "embedding":
        width = field.type.list_size
        vectors = np.zeros((len(rows), width), np.float32)
        missing = np.ones(len(rows), bool)
        for place, row in enumerate(rows):
            if "embedding" in row.values:
                vectors[place], missing[place] = row.values["embedding"], False
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
