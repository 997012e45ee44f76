"""Write results as rows of text, one by one, and read them back to resume a run.

Each row is flushed, so an interrupted run leaves at most its last row incomplete, which
`written_rows` removes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from convnext.atomic import disk_errors
from convnext.errors import ArgumentError, ConvNeXtError

if TYPE_CHECKING:
    from convnext.classifier import ClassScore, Prediction

__all__ = [
    "Format",
    "Rows",
    "as_json",
    "csv_format",
    "json_format",
    "jsonl_format",
    "labels_format",
    "printable",
    "table_format",
    "written_rows",
]

SEPARATOR = "|"  # between labels of one picture, as in tables to train on
ROW_START = b'{"id": "'  # of every row in JSON lines
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


@dataclass(frozen=True)
class Format:
    """A text format for predictions.

    Attributes:
        row: Formats one prediction.
        start: Text before the first row.
        between: Text between rows.
        end: Text after the last row.
    """

    row: Callable[[Prediction], str]
    start: str = ""
    between: str = ""
    end: str = ""


def printable(text: str) -> str:
    r"""Escape control characters and lone surrogates, which file names may contain.

    Example:
        >>> print(printable("cat\n.jpg"))
        cat\x0a.jpg
    """
    return text.encode("utf-8", "backslashreplace").decode().translate(CONTROLS)


def as_json(row: dict[str, Any]) -> str:
    """Encode a row as one line of JSON, without newline, with id and error made printable."""
    plain = {name: printable(row[name]) for name in ("id", "error") if name in row}
    return json.dumps({**row, **plain}, ensure_ascii=False)


def _record(prediction: Prediction) -> str:
    if prediction.error is not None:
        return as_json({"id": prediction.id, "error": str(prediction.error)})
    return as_json({"id": prediction.id, "classes": [_fields(s) for s in prediction.classes]})


def _fields(score: ClassScore) -> dict[str, Any]:
    wnid = {} if score.wnid is None else {"wnid": score.wnid}
    return {
        "label": score.label,
        **wnid,
        "index": score.index,
        "probability": _digits(score.probability),
    }


def _digits(probability: float) -> float:
    return float(f"{probability:.6g}")


def json_format() -> Format:
    """A JSON array."""
    return Format(_record, start="[\n", between=",\n", end="\n]\n")


def jsonl_format() -> Format:
    """JSON lines: one object per line."""
    return Format(lambda prediction: f"{_record(prediction)}\n")


def csv_format(top: int, has_wnids: bool) -> Format:
    """CSV: one line per picture, with columns for each of its `top` classes."""
    fields = ("label", *(["wnid"] if has_wnids else []), "index", "probability")
    names = [f"{field}_{rank}" for rank in range(1, top + 1) for field in fields]

    def row(prediction: Prediction) -> str:
        scores = [_fields(score) for score in prediction.classes]
        cells = [score[field] for score in scores for field in fields]
        cells += [""] * (len(names) - len(cells))
        return _csv_line([prediction.id, *cells, str(prediction.error or "")])

    return Format(row, start=_csv_line(["id", *names, "error"]))


def labels_format() -> Format:
    """CSV for multi-label models: one line per picture, in the form that training reads.

    The labels of a picture are in one cell, and so are their probabilities, with `|` between them.
    """

    def row(prediction: Prediction) -> str:
        names = [score.label for score in prediction.classes]
        numbers = [str(_digits(score.probability)) for score in prediction.classes]
        cells = [SEPARATOR.join(names), SEPARATOR.join(numbers)]
        return _csv_line([prediction.id, *cells, str(prediction.error or "")])

    return Format(row, start=_csv_line(["path", "labels", "probabilities", "error"]))


def _csv_line(cells: list[Any]) -> str:
    text = io.StringIO()
    plain = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(text, lineterminator="\n").writerow(plain)
    return text.getvalue()


def table_format() -> Format:
    """Plain text: each picture's name above its classes. Pictures with an error are left out."""

    def row(prediction: Prediction) -> str:
        if prediction.error is not None:
            return ""
        lines = [f"{s.probability:7.1%}  {printable(s.label)}" for s in prediction.classes]
        lines = lines or ["      -  no label"]
        return "\n".join([printable(prediction.id), *lines, ""])

    return Format(row)


def _open(path: Path | None) -> IO[str]:
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack characters of labels
            sys.stdout.reconfigure(errors="backslashreplace")
        return sys.stdout
    with disk_errors(path):
        return path.open("a", encoding="utf-8", errors="backslashreplace", newline="")


class Rows:
    """Writes rows to a file or to standard output, flushing each.

    An existing file is replaced when the first row is written, so that a mistake in the options
    does not delete it.

    Args:
        path: The file; None for standard output.
        start: Text before the first row of a new file.
        between: Text between rows.
        end: Text after the last row, also written after an exception.
        append: Whether to keep existing rows of the file.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        start: str = "",
        between: str = "",
        end: str = "",
        append: bool = False,
    ) -> None:
        self.count = 0
        self._path = path
        self._between = between
        self._end = end
        self._stream = _open(path)
        size = 0 if path is None else path.stat().st_size
        self._start = "" if size and append else start
        self._replaces = size > 0 and not append

    def add(self, row: str) -> None:
        """Write one row."""
        self._write((self._between if self.count else "") + row)
        self.count += 1

    def _write(self, text: str) -> None:
        text, self._start = self._start + text, ""
        if not text:
            return
        kept = f" The {self.count} rows before are kept; continue with --resume."
        # The caller handles a closed pipe.
        with disk_errors(self._path, kept) if self._path else nullcontext():
            if self._replaces:
                self._replaces = False
                self._stream.truncate(0)
            self._stream.write(text)
            self._stream.flush()

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # Keep the first exception.
            with suppress(OSError, ConvNeXtError) if error else nullcontext():
                if not error or not self._start:
                    self._write(self._end)
        finally:
            self._close()

    def _close(self) -> None:
        if self._path is not None:
            with suppress(OSError):  # every row was flushed, or its error raised
                self._stream.close()


def written_rows(
    path: Path, header: str | None = None, *, answer: str = "classes", width: int | None = None
) -> dict[str, str | None]:
    """Read the rows of an earlier run: the id of each picture, and its error or None.

    Removes an incomplete last row from the file.

    Args:
        path: The file, which may be missing.
        header: The first line of a CSV file; None for JSON lines.
        answer: The member of a JSON row with the result.
        width: Length of the result; None for any.

    Raises:
        ArgumentError: The file was not written by this command with these options.
    """
    if not path.exists():
        return {}
    found: dict[str, str | None] = {}
    complete = 0
    begins = ROW_START if header is None else header.encode()
    with path.open("rb") as stream:
        for number, record in enumerate(stream):
            if not record.endswith(b"\n"):  # rows contain no newlines, see `printable`
                _check_torn(path, record, begins)
                break
            complete += len(record)
            text = record.decode("utf-8", "replace")
            if header is not None and number == 0:
                if text != header:
                    raise ArgumentError(
                        f"{path} has other columns than this run would write: it was made with "
                        "other options. Give the same ones, or another file."
                    )
                begins = b""  # a CSV row may begin with any name
                continue
            try:
                name, error = _csv_row(text) if header else _json_row(text, answer, width)
            except (ValueError, LookupError, TypeError, RecursionError, csv.Error) as problem:
                raise ArgumentError(
                    f"{path} was not written by this command with this model: row {number + 1} is "
                    "invalid. Give another file."
                ) from problem
            found[name] = error
    os.truncate(path, complete)
    return found


def _check_torn(path: Path, record: bytes, begins: bytes) -> None:
    """Refuse to remove an incomplete last line that is not one of our rows."""
    if not record.startswith(begins) and not begins.startswith(record):
        raise ArgumentError(
            f"{path} was not written by this command: its last line is not one of its rows. Give "
            "another file."
        )


def _json_row(text: str, answer: str, width: int | None) -> tuple[str, str | None]:
    row = json.loads(text)
    name, error = row["id"], row.get("error")
    if not isinstance(name, str):
        raise TypeError("the id must be a string")
    if error is None and width not in (None, len(row[answer])):
        raise ValueError("the result is of another model")
    return name, error


def _csv_row(text: str) -> tuple[str, str | None]:
    [row] = csv.reader(io.StringIO(text, newline=""))
    return row[0], row[-1] or None
