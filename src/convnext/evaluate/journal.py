"""What became of each picture, written down as it happens.

Why it exists: 50,000 pictures take hours on a small machine. A run that was interrupted goes on
from its last whole batch, and because batches are then the same as without interruption, so are the
results, to the last bit. Whatever would make them differ is written at the head, and a journal of
another run is refused.

A line of JSON each: the head; every picture; and, behind each batch, how long it took.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from convnext.errors import ArgumentError, ConvNeXtError
from convnext.evaluate.accuracy import Judgement

__all__ = ["Journal", "Mode", "Record", "disk_errors", "open_journal"]

Mode = Literal["new", "resume", "restart"]

FORMAT = 1


class Record(NamedTuple):
    """One picture: the model's judgement, or why it could not be read."""

    id: str
    label: int
    judgement: Judgement | None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a line of the journal."""
        rest = self.judgement._asdict() if self.judgement else {"error": self.error}
        return {"id": self.id, "label": self.label} | rest

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record:
        """From a line of the journal."""
        if "error" in line:
            return cls(line["id"], line["label"], None, line["error"])
        judgement = Judgement(*(line[field] for field in Judgement._fields))
        return cls(line["id"], line["label"], judgement)


class Journal:
    """An open journal.

    Attributes:
        records: Every picture of the batches that were there when it was opened.
        seconds: What these took.
    """

    def __init__(
        self, path: Path, file: IO[bytes], records: Sequence[Record], seconds: float
    ) -> None:
        self.records = records
        self.seconds = seconds
        self._path = path
        self._file = file

    def append(self, records: Sequence[Record], seconds: float) -> None:
        """Write down a batch, in one go."""
        lines = [*(record.to_json() for record in records), {"seconds": seconds}]
        with disk_errors(self._path):
            self._file.write(_encoded(*lines))
            self._file.flush()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say what to do when a disk does not take a file."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ConvNeXtError(
            f"{path} cannot be written: {reason}. Mend this and go on with --resume, which takes "
            "up what is there; or give another --out."
        ) from error


@contextmanager
def open_journal(path: Path, run: Mapping[str, Any], mode: Mode = "new") -> Iterator[Journal]:
    """Begin a journal, or go on with one.

    Args:
        path: The file.
        run: Everything that results depend on.
        mode: `"new"` refuses a journal with results; `"resume"` goes on behind its last whole
            batch, if there is one; `"restart"` discards it.

    Raises:
        ArgumentError: There are results already, of another run or not asked for; the journal is
            damaged; or another process is writing it.
        ConvNeXtError: It cannot be written.
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
        with disk_errors(path):  # what could not be written is tried once more
            file.close()


def _encoded(*lines: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _read(
    path: Path, file: IO[bytes], head: Mapping[str, Any], mode: Mode
) -> tuple[list[Record], float, int]:
    """The records of whole batches, their time, and where they end in the file."""
    records: list[Record] = []
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
) -> Iterator[tuple[list[Record], float, int]]:
    """Each whole batch, its time, and where it ends. What is torn at the end is passed over."""
    batch: list[Record] = []
    damaged = None
    for number, text in enumerate(file, 2):
        position += len(text)
        line = _parsed(text)
        if line is None:
            damaged = damaged or number
        elif isinstance(line, Record):
            batch.append(line)
        elif damaged:
            raise ArgumentError(f"{path} is damaged in line {damaged}. Begin anew: --restart.")
        else:
            yield batch, line, position
            batch = []


def _parsed(text: bytes) -> Record | float | None:
    """A picture, the seconds of a batch, or None for what is neither."""
    try:
        line: Any = json.loads(text) if text.endswith(b"\n") else None
        return float(line["seconds"]) if "seconds" in line else Record.from_json(line)
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
        raise ArgumentError(f"{path} is no journal of this version. Give another --out.")
    if other:
        differences = "; ".join(
            f"{key}: {_shown(theirs.get(key))} there, {_shown(ours.get(key))} now" for key in other
        )
        raise ArgumentError(
            f"{path} holds {pictures:,} pictures of another run ({differences}). Give another "
            "--out, or discard them with --restart."
        )
    if mode == "new":
        raise ArgumentError(
            f"{path} holds the results of {pictures:,} pictures. Go on with --resume, discard them "
            "with --restart, or give another --out."
        )


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
