"""A teacher's stored answers to every picture as a run saw it.

`StoredAnswers` is a file of the answers to the batches of a run, which depend on the data, some
settings, the seed and the step alone:

    one line of JSON   the teacher, and what determines the batches
    a record a step    its number, a checksum, the mean of each picture, and the answers in float16

All records have one size, so a step has one place. What is not stored, or damaged, is computed
again if there is a teacher, and otherwise an error.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.atomic import disk_errors, replaced
from convnext.data.labelled import Examples
from convnext.errors import ArgumentError, TrainingError, listed
from convnext.train.input.loader import TrainingBatch
from convnext.train.input.taught import Teacher
from convnext.train.input.team_order import paired_rows
from convnext.train.recipe import Recipe
from convnext.train.sections import Distill
from convnext.train.settings import to_table

__all__ = ["SUFFIX", "StoredAnswers", "views_of"]

Array = NDArray[np.float32]

SUFFIX = ".answers"
FORMAT = "convnext-answers-1"
ROUNDED = " in float16"  # ends the digest, as a run with exact answers has other results
LONGEST_HEADER = 2**26  # bytes
CLOSE = 0.05  # of the means of two pictures, in deviations, if only their decoders differ

# The settings that determine the pictures of a batch, and their order.
VIEWS: dict[str, Sequence[str]] = {
    "model": ("resolution", "mean", "std", "crop_fraction", "mode"),
    "data": ("balanced",),
    "mixing": ("mixup", "cutmix", "probability", "switch"),
    "run": ("seed", "batch_size"),
}
# Those on which a teacher's answers depend.
ASKED = ("precision", "size", "mean", "std", "layout", "output", "classes")

_HEAD = struct.Struct("<QI")  # the step, and the CRC-32 of the rest


def views_of(recipe: Recipe, examples: Examples) -> dict[str, Any]:
    """What is asked of a teacher, and all that determines the batches: data, settings by name."""
    table = to_table(recipe)
    settings = {**VIEWS, "augment": tuple(asdict(recipe.augment))}
    return {
        "data": examples.fingerprint,
        "classes": list(examples.classes),
        "answers": "embeddings" if recipe.distill.loss == "features" else "logits",
        **{
            f"{section}.{name}": table[section].get(name)
            for section, names in settings.items()
            for name in names
        },
    }


class StoredAnswers:
    """The answers to the batches of a run, in a file.

    The answers are those in the file, rounded to float16, also in the run that stores them: a run
    that reads them has the same results.

    Args:
        path: The file.
        views: Of the run, from `views_of`.
        teacher: Computes and stores what is missing; without one, it is an error.
        settings: The recipe's section on this teacher.
        host: Rank of this host and number of hosts. A single one stores.

    Attributes:
        name: Of the teacher.
        digest: Identifies its weights, and that answers are rounded.
        about: A few words for the first message of a run.
        width: Numbers in an answer.

    Raises:
        ArgumentError: The file is another one, or of other pictures, settings or teacher.
    """

    def __init__(
        self,
        path: Path,
        views: Mapping[str, Any],
        teacher: Teacher | None = None,
        settings: Distill | None = None,
        host: tuple[int, int] = (0, 1),
    ) -> None:
        if path.suffix != SUFFIX:
            raise ArgumentError(f"A file of stored answers ends in {SUFFIX}; got {path}.")
        if teacher is not None and host != (0, 1):
            raise ArgumentError(
                "Several hosts cannot store answers. Store them with one host; several can read "
                "them."
            )
        self.path = path
        self.views = dict(views)
        self._start = 0  # of the records; 0 before there is a file
        self._teacher = teacher
        self._batch_size = int(views["run.batch_size"])
        self._rows = paired_rows(*host, self._batch_size)
        self._identity: dict[str, Any] = {}
        about = ""
        if teacher is not None:
            asked = to_table(settings or Distill())
            self._identity = {"digest": teacher.digest, "about": teacher.about}
            self._identity |= {f"distill.{name}": asked.get(name) for name in ASKED}
            self.name, about = teacher.name, f"{teacher.about}; "
            self.digest = f"{teacher.digest}{ROUNDED}"
            self.width = teacher.width
        if path.exists():
            self._open()
        elif teacher is None:
            raise ArgumentError(
                f"There is no file {path}. Store a teacher's answers with --teacher MODEL "
                f"--store-answers {path}."
            )
        elif not path.absolute().parent.is_dir():
            raise ArgumentError(f"The folder of {path} does not exist. Create it first.")
        self.about = f"{about}answers to {self.steps:,} steps in {path}"

    @property
    def steps(self) -> int:
        """Number of steps that the file has room for."""
        if not self._start:
            return 0
        return (self.path.stat().st_size - self._start) // self._record_size

    def check_steps(self, wanted: int) -> None:
        """Refuse a file that ends before a run, unless a teacher computes the rest.

        Raises:
            ArgumentError: It does.
        """
        if self._teacher is None and self.steps < wanted:
            raise ArgumentError(
                f"{self.path} holds the answers to {self.steps:,} of the {wanted:,} steps of this "
                f"run: it was interrupted, or truncated. {self._remedy}"
            )

    def answers(self, batch: TrainingBatch) -> Array:
        """Answers for the pictures of a batch.

        Raises:
            TrainingError: They are missing, damaged or of other pictures, or cannot be stored.
        """
        with disk_errors(self.path, done="read", kind=TrainingError):
            found = self._read(batch)
        if found is None:
            found = self._store(batch)
        answers: Array = found.astype(np.float32)
        return answers

    @property
    def _remedy(self) -> str:
        return f"Continue it with --teacher {self.name} --store-answers {self.path}."

    @property
    def _record_size(self) -> int:
        return _HEAD.size + self._batch_size * (4 + 2 * self.width)

    def _open(self) -> None:
        with disk_errors(self.path, done="read", kind=ArgumentError), self.path.open("rb") as file:
            line = file.readline(LONGEST_HEADER)
            self._start = file.tell()
        try:
            header = json.loads(line)
            if header["format"] != FORMAT or not line.endswith(b"\n"):
                raise ValueError("another format")
            self.width = int(header["width"])
            views, teacher = dict(header["views"]), dict(header["teacher"])
            self.name, self.digest = str(header["name"]), f"{teacher['digest']}{ROUNDED}"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArgumentError(
                f"{self.path} is no file of --store-answers, or was written by another version of "
                "convnext. Remove it to store answers there."
            ) from error
        other = _differences(self.views, views)
        if other:
            raise ArgumentError(
                f"{self.path} holds answers to the pictures of another run: {'; '.join(other[:3])}."
                " Give this run the same data and settings, or store its answers in another file."
            )
        other = _differences(self._identity, teacher) if self._identity else []
        if other:
            raise ArgumentError(
                f"{self.path} holds answers of another teacher, {self.name}: "
                f"{'; '.join(other[:3])}. Give the same teacher, or store the answers of this one "
                "in another file."
            )

    def _read(self, batch: TrainingBatch) -> NDArray[np.float16] | None:
        """The stored answers for a batch; None if the teacher is to compute them."""
        data = b""
        if self._start:
            with self.path.open("rb") as file:
                file.seek(self._start + batch.step * self._record_size)
                data = file.read(self._record_size)
        if not _is_whole(data, batch.step, self._record_size):
            if self._teacher is not None:
                return None
            raise TrainingError(
                f"{self.path} has no answers to step {batch.step:,}, or they are damaged. "
                f"{self._remedy}"
            )
        count = self._batch_size
        means = np.frombuffer(data, "<f4", count, _HEAD.size)
        answers = np.frombuffer(data, "<f2", offset=_HEAD.size + 4 * count).reshape(count, -1)
        other = ~(np.abs(means[self._rows] - _means(batch.pictures)) <= CLOSE)
        if other.any():
            raise TrainingError(
                f"{self.path} holds answers to other pictures at step {batch.step:,}: "
                f"{other.sum():,} of {len(other):,} differ, though their names and the settings "
                "are the same. Pictures were changed, or can be read no longer, or were read by "
                "another version of this package. Store the answers again, in another file."
            )
        found: NDArray[np.float16] = answers[self._rows]
        return found

    def _store(self, batch: TrainingBatch) -> NDArray[np.float16]:
        assert self._teacher is not None
        exact = self._teacher.answers(batch)
        with np.errstate(over="ignore"):
            answers = exact.astype("<f2")
        if not np.isfinite(answers).all():
            raise TrainingError(
                f"The teacher {self.name} gives answers of up to {np.abs(exact).max():.3g}, beyond "
                "float16. They cannot be stored: leave out --store-answers."
            )
        with disk_errors(self.path, " Free space, or correct this; then resume with --resume."):
            if not self._start:
                self._create()
            rest = _means(batch.pictures).astype("<f4").tobytes() + answers.tobytes()
            with self.path.open("r+b") as file:
                file.seek(self._start + batch.step * self._record_size)
                file.write(_HEAD.pack(batch.step, _checksum(batch.step, rest)) + rest)
        return answers

    def _create(self) -> None:
        header = {
            "format": FORMAT,
            "width": self.width,
            "name": self.name,
            "teacher": self._identity,
            "views": self.views,
        }
        line = json.dumps(header).encode() + b"\n"
        with replaced(self.path) as temporary:
            temporary.write_bytes(line)
        self._start = len(line)


def _differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Descriptions of the values that differ."""
    found = []
    for name in dict.fromkeys((*here, *there)):
        mine, theirs = here.get(name), there.get(name)
        if mine == theirs:
            continue
        if name == "data":
            found.append("the pictures or their labels are others")
        elif name == "classes":
            found.append(f"its classes are {listed(theirs or ())}, here {listed(mine or ())}")
        else:
            found.append(f"{name} is {mine!r} here and {theirs!r} there")
    return found


def _is_whole(data: bytes, step: int, size: int) -> bool:
    if len(data) != size:
        return False
    return _HEAD.unpack_from(data) == (step, _checksum(step, data[_HEAD.size :]))


def _checksum(step: int, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(step.to_bytes(8, "little")))


def _means(pictures: Array) -> Array:
    means: Array = pictures.mean(axis=(1, 2, 3), dtype=np.float32)
    return means
