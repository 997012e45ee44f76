"""Predictions of several pictures: display in a notebook, contact sheet, files, data frame."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.atomic import replaced
from convnext.classifier.results import Prediction
from convnext.errors import ArgumentError, MissingDependencyError
from convnext.images.sheets import captioned, contact_sheet

__all__ = ["THUMBNAILS", "Results", "thumbnail"]

THUMBNAILS = 200  # largest number of thumbnails in memory
SIDE = 96
COLUMNS = ("picture", "rank", "label", "probability", "index", "wnid", "error")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class Results(Sequence[Prediction]):
    """Predictions, in the order of the pictures.

    A notebook displays a thumbnail of each picture and a bar for each class.

    Args:
        predictions: One for each picture.
        thumbnails: Small versions of the first pictures; None for one that could not be read.

    Example:
        results = Classifier("convnext_tiny.fb_in1k").predict("photos/")
        results.save("photos.csv")
        results.plot().show()
        results.to_pandas().groupby("label").size()
    """

    def __init__(
        self, predictions: Sequence[Prediction], thumbnails: Sequence[Image.Image | None] = ()
    ) -> None:
        self._predictions = tuple(predictions)
        self._thumbnails = tuple(thumbnails)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Prediction | Results:
        if isinstance(index, slice):
            return Results(self._predictions[index], self._padded()[index])
        return self._predictions[index]

    def __len__(self) -> int:
        return len(self._predictions)

    def __repr__(self) -> str:
        lines = [f"{each.id}: {_summary(each)}" for each in self._predictions[:10]]
        more = len(self) - len(lines)
        return "\n".join([*lines, *([f"... and {more} more"] if more else [])]) or "no pictures"

    def _repr_html_(self) -> str:
        pairs = zip(self._predictions[:THUMBNAILS], self._padded(), strict=False)
        rows = [_html_row(*pair) for pair in pairs]
        more = f"<p>... and {len(self) - len(rows)} more</p>" if len(self) > len(rows) else ""
        return f"<table>{''.join(rows)}</table>{more}"

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a record for each class of each picture, best first, or one without a class."""
        for each in self._predictions:
            if not each.classes:
                error = None if each.error is None else str(each.error)
                yield dict.fromkeys(COLUMNS) | {"picture": each.id, "error": error}
            for rank, score in enumerate(each.classes, 1):
                numbers = (score.label, score.probability, score.index, score.wnid, None)
                yield dict(zip(COLUMNS, (each.id, rank, *numbers), strict=True))

    def to_pandas(self) -> Any:
        """The records of `rows` as a `pandas.DataFrame`.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingDependencyError("pandas", "pandas") from error
        return pandas.DataFrame(list(self.rows()), columns=list(COLUMNS))

    def plot(self, columns: int | None = None) -> Image.Image:
        """Draw a contact sheet: each picture above its best class.

        Args:
            columns: Pictures in a row; by default for a square sheet.

        Raises:
            ArgumentError: There are no pictures.
        """
        panels = [
            captioned(
                [picture or Image.new("RGB", (SIDE, SIDE), "lightgrey")], _summary(each), each.id
            )
            for each, picture in zip(self._predictions, self._thumbnails, strict=False)
        ]
        if not panels:
            raise ArgumentError("There are no pictures to draw.")
        return contact_sheet(panels, columns or math.ceil(math.sqrt(len(panels))))

    def save(self, path: str | Path) -> Path:
        """Write a file atomically; its suffix determines the format.

        Args:
            path: `.csv` or `.json` for the records, `.html` for the display of a notebook, `.png`,
                `.jpg` or `.webp` for the contact sheet.

        Raises:
            ArgumentError: The suffix is none of these.
        """
        path = Path(path)
        content = self._encoded(path.suffix.lower())
        with replaced(path) as draft:
            draft.write_bytes(content)
        return path

    def _encoded(self, suffix: str) -> bytes:
        if suffix in PICTURES:
            stream = io.BytesIO()
            self.plot().save(stream, Image.registered_extensions()[suffix])
            return stream.getvalue()
        if suffix == ".json":
            return json.dumps(list(self.rows()), indent=1, ensure_ascii=False).encode()
        if suffix == ".csv":
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows())
            return text.getvalue().encode()
        if suffix == ".html":
            return f'<!doctype html><meta charset="utf-8">{self._repr_html_()}'.encode()
        allowed = ", ".join((".csv", ".json", ".html", *PICTURES))
        raise ArgumentError(
            f"Results have no format with the suffix {suffix!r}. Allowed: {allowed}."
        )

    def _padded(self) -> tuple[Image.Image | None, ...]:
        return self._thumbnails + (None,) * (len(self) - len(self._thumbnails))


def thumbnail(pixels: NDArray[np.uint8]) -> Image.Image:
    """Reduce a model's input picture, `[height, width, 3]`, to a thumbnail."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _summary(prediction: Prediction) -> str:
    if prediction.error is not None:
        return f"error: {prediction.error}"
    if not prediction.classes:
        return "no label"
    return f"{_name(prediction.best.label)} {prediction.best.probability:.1%}"


def _name(label: str) -> str:
    """The first of a class's synonyms."""
    return label.split(",")[0]


def _html_row(prediction: Prediction, picture: Image.Image | None) -> str:
    image = ""
    if picture is not None:
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        data = base64.b64encode(stream.getvalue()).decode()
        image = f'<img alt="" src="data:image/png;base64,{data}">'
    if prediction.error is not None:
        text = html.escape(str(prediction.error))
    elif not prediction.classes:
        text = "no label"
    else:
        text = "".join(
            '<div style="display:flex;gap:.5em"><span style="width:12em;text-align:right">'
            f'{html.escape(_name(score.label))}</span><meter value="{score.probability:.4f}">'
            f"</meter><span>{score.probability:.1%}</span></div>"
            for score in prediction.classes
        )
    name = html.escape(prediction.id)
    return f"<tr><td>{image}</td><td>{name}</td><td>{text}</td></tr>"
