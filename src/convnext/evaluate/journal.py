"""The journal of an evaluation: the result of each picture, to resume an interrupted run.

A run resumes after its last complete batch, with the same batches and so the same results. The
header has everything that results depend on, and a journal of another run is refused.

Each line is JSON: the header; every picture; and, after each batch, its seconds.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from convnext import atomic
from convnext.errors import ArgumentError
from convnext.evaluate.accuracy import Judgement

__all__ = ["EvaluationRecord", "Journal", "Mode", "disk_errors", "open_journal"]

Mode = Literal["new", "resume", "restart"]

FORMAT = 1


class EvaluationRecord(NamedTuple):
    """The judgement of one picture, or the error of reading it."""

    id: str
    label: int
    judgement: Judgement | None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Convert to a line of the journal."""
        rest = self.judgement._asdict() if self.judgement else {"error": self.error}
        return {"id": self.id, "label": self.label} | rest

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> EvaluationRecord:
        """Parse a line of the journal."""
        if "error" in line:
            return cls(line["id"], line["label"], None, line["error"])
        judgement = Judgement(*(line[field] for field in Judgement._fields))
        return cls(line["id"], line["label"], judgement)


class Journal:
    """An open journal.

    Attributes:
        records: The pictures it had when it was opened.
        seconds: Their running time.
    """

    def __init__(
        self, path: Path, file: IO[bytes], records: Sequence[EvaluationRecord], seconds: float
    ) -> None:
        self.records = records
        self.seconds = seconds
        self._path = path
        self._file = file

    def append(self, records: Sequence[EvaluationRecord], seconds: float) -> None:
        """Append a batch, in one write."""
        lines = [*(record.to_json() for record in records), {"seconds": seconds}]
        with disk_errors(self._path):
            self._file.write(_encoded(*lines))
            self._file.flush()


disk_errors = functools.partial(
    atomic.disk_errors, advice=" Fix this and continue with --resume, or give another --out."
)
"""Turns errors of writing a file into errors with advice."""


@contextmanager
def open_journal(path: Path, run: Mapping[str, Any], mode: Mode = "new") -> Iterator[Journal]:
    """Create or resume a journal.

    Args:
        path: The file.
        run: Everything that results depend on.
        mode: `"new"` refuses a journal with results; `"resume"` continues after its last complete
            batch; `"restart"` discards it.

    Raises:
        ArgumentError: The journal has results of another run, or unexpected ones; it is damaged; or
            another process is writing it.
        ConvNeXtError: The journal cannot be written.
    """
    head = {"convnext_evaluation": FORMAT, "run": json.loads(json.dumps(run))}
    with _locked(path), _opened(path) as file:
        with disk_errors(path):
            records, seconds, end = _read(path, file, head, mode)
            file.truncate(end)
            if not end:
                file.write(_encoded(head))
                file.flush()
        yield Journal(path, file, records, seconds)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ArgumentError(
                f"Another process is writing {path}. Give another --out."
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with disk_errors(path):
        file = path.open("a+b")
    try:
        yield file
    finally:
        with disk_errors(path):  # closing writes the buffer, which may fail
            file.close()


def _encoded(*lines: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _read(
    path: Path, file: IO[bytes], head: Mapping[str, Any], mode: Mode
) -> tuple[list[EvaluationRecord], float, int]:
    """The records of complete batches, their seconds, and the offset of their end."""
    records: list[EvaluationRecord] = []
    seconds, end = 0.0, 0
    file.seek(0)
    first = file.readline()
    if mode == "restart" or not first.endswith(b"\n"):
        return records, seconds, end
    end = len(first)
    for batch, duration, position in _batches(path, file, end):
        records += batch
        seconds, end = seconds + duration, position
    if not records:
        return records, seconds, 0
    _check_head(path, first, head, len(records), mode)
    return records, seconds, end


def _batches(
    path: Path, file: IO[bytes], position: int
) -> Iterator[tuple[list[EvaluationRecord], float, int]]:
    """Each complete batch, its seconds, and the offset of its end. Ignores a truncated end."""
    batch: list[EvaluationRecord] = []
    damaged = None
    for number, text in enumerate(file, 2):
        position += len(text)
        line = _parsed(text)
        if line is None:
            damaged = damaged or number
        elif isinstance(line, EvaluationRecord):
            batch.append(line)
        elif damaged:
            raise ArgumentError(f"{path} is damaged in line {damaged}. Start over: --overwrite.")
        else:
            yield batch, line, position
            batch = []


def _parsed(text: bytes) -> EvaluationRecord | float | None:
    """A picture, the seconds of a batch, or None for an invalid line."""
    try:
        line: Any = json.loads(text) if text.endswith(b"\n") else None
        return float(line["seconds"]) if "seconds" in line else EvaluationRecord.from_json(line)
    except (ValueError, TypeError, KeyError):
        return None


def _check_head(
    path: Path, first: bytes, head: Mapping[str, Any], pictures: int, mode: Mode
) -> None:
    try:
        found = json.loads(first)
        theirs, ours = found["run"], head["run"]
        other = [key for key in ours | theirs if theirs.get(key) != ours.get(key)]
        known = found["convnext_evaluation"] == FORMAT
    except (ValueError, TypeError, KeyError, AttributeError):
        known = False
    if not known:
        raise ArgumentError(f"{path} is not a journal of this version. Give another --out.")
    if other:
        differences = "; ".join(
            f"{key}: {_shown(theirs.get(key))} there, {_shown(ours.get(key))} now" for key in other
        )
        raise ArgumentError(
            f"{path} has {pictures:,} pictures of another run ({differences}). Give another "
            "--out, or discard them with --overwrite."
        )
    if mode == "new":
        raise ArgumentError(
            f"{path} has the results of {pictures:,} pictures. Continue with --resume, discard "
            "them with --overwrite, or give another --out."
        )


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
