"""A run's checkpoints: complete, or not there.

Why it exists: a run is killed at any moment, and what it finds afterwards must be whole. Arrays go
into a safetensors file, the rest into JSON, both into a folder that takes its name once everything
is on disk. It knows no network.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.atomic import remove_temporaries, replaced_folder
from convnext.errors import ConvNeXtError, TrainingError, WeightsError
from convnext.weights.files import LazyTensor, open_weights, write_weights

__all__ = ["Checkpoint", "Checkpoints", "disk_errors"]

Array = NDArray[Any]

ARRAYS, FACTS = "state.safetensors", "progress.json"

_log = logging.getLogger("convnext")


@dataclass(frozen=True)
class Checkpoint:
    """What was kept.

    Attributes:
        step: Updates that were done.
        arrays: The learner's state.
        facts: Whatever else the run needs to go on.
    """

    step: int
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any]


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        folder: Where they are; made when the first is written.
        keep: How many of the last stay.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def write(self, checkpoint: Checkpoint) -> Path:
        """Keep a checkpoint, and forget those that are too old.

        Raises:
            TrainingError: It cannot be written; the earlier ones are as they were.
        """
        place = self.folder / f"step-{checkpoint.step:09d}"
        remove_temporaries(self.folder)
        with disk_errors(place), replaced_folder(place) as temporary:
            tensors = {n: LazyTensor.from_array(a) for n, a in checkpoint.arrays.items()}
            write_weights(temporary / ARRAYS, tensors, {"format": "convnext-training"})
            facts = {
                **checkpoint.facts,
                "step": checkpoint.step,
                "digest": _digest(temporary / ARRAYS),
            }
            (temporary / FACTS).write_text(json.dumps(facts, indent=1), "utf-8")
        places = self._places()
        now = places.index(place) + 1  # what is behind it was passed over when the run went on
        for old in (*places[:now][: -self.keep], *places[now:]):
            shutil.rmtree(old, ignore_errors=True)
        return place

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that can be read; None if there is none.

        One that is damaged, which only a failing disk brings about, is passed over with a warning.

        Raises:
            TrainingError: There are some, and none can be read.
        """
        places = self._places()
        for place in reversed(places):
            try:
                return _read(place)
            except (ConvNeXtError, OSError, ValueError, KeyError) as error:
                _log.warning("The checkpoint %s cannot be read and is left out: %s", place, error)
        if places:
            raise TrainingError(
                f"None of the {len(places)} checkpoints in {self.folder} can be read. Is the disk "
                "there and whole? Remove them to begin anew."
            )
        return None

    def _places(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []


def _read(place: Path) -> Checkpoint:
    facts = json.loads((place / FACTS).read_text("utf-8"))
    if facts.pop("digest", None) not in (None, _digest(place / ARRAYS)):
        raise ValueError("it holds other bytes than were written")
    with open_weights(place / ARRAYS) as file:
        arrays = {name: np.array(tensor.read()) for name, tensor in file.tensors.items()}
    return Checkpoint(int(facts.pop("step")), arrays, facts)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say what to do when a disk takes nothing more."""
    try:
        yield
    except (OSError, WeightsError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        advice = "Make room" if cause.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend this"
        raise TrainingError(
            f"{path} cannot be written: {cause.strerror or cause}. What was there before is whole. "
            f"{advice}, then go on with --resume."
        ) from error
