"""Run states on disk, written atomically: arrays as safetensors, the rest as JSON."""

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

__all__ = ["RunState", "RunStates", "disk_errors"]

Array = NDArray[Any]

ARRAYS, FACTS = "state.safetensors", "progress.json"

_log = logging.getLogger("convnext")


@dataclass(frozen=True)
class RunState:
    """The state from which a run resumes.

    Attributes:
        step: Updates done.
        arrays: The learner's state.
        facts: Other values that the run resumes with, as JSON.
    """

    step: int
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any]


class RunStates:
    """The run states in a folder.

    Args:
        folder: The folder; created with the first state.
        keep: How many of the latest are kept.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def write(self, state: RunState) -> Path:
        """Write a run state atomically, and remove old ones; returns its folder.

        Raises:
            TrainingError: It cannot be written; earlier run states are unchanged.
        """
        path = self.folder / f"step-{state.step:09d}"
        remove_temporaries(self.folder)
        with disk_errors(path), replaced_folder(path) as temporary:
            tensors = {n: LazyTensor.from_array(a) for n, a in state.arrays.items()}
            write_weights(temporary / ARRAYS, tensors, {"format": "convnext-training"})
            facts = {**state.facts, "step": state.step, "digest": _digest(temporary / ARRAYS)}
            (temporary / FACTS).write_text(json.dumps(facts, indent=1), "utf-8")
        paths = self._paths()
        now = paths.index(path) + 1  # later states were unreadable when the run resumed
        for old in (*paths[:now][: -self.keep], *paths[now:]):
            shutil.rmtree(old, ignore_errors=True)
        return path

    def latest(self) -> RunState | None:
        """Read the latest run state; None if there is none.

        A damaged one is skipped with a warning.

        Raises:
            TrainingError: There are some, and none can be read.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                return _read(path)
            except (ConvNeXtError, OSError, ValueError, KeyError) as error:
                _log.warning("The run state %s cannot be read and is skipped: %s", path, error)
        if paths:
            raise TrainingError(
                f"None of the {len(paths)} run states in {self.folder} can be read. Check the "
                "disk, or remove them to start the run again."
            )
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []


def _read(path: Path) -> RunState:
    facts = json.loads((path / FACTS).read_text("utf-8"))
    if facts.pop("digest", None) not in (None, _digest(path / ARRAYS)):
        raise ValueError("its bytes changed since it was written")
    with open_weights(path / ARRAYS) as file:
        arrays = {name: np.array(tensor.read()) for name, tensor in file.tensors.items()}
    return RunState(int(facts.pop("step")), arrays, facts)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into a `TrainingError` that says what to do."""
    try:
        yield
    except (OSError, WeightsError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        advice = "Free space" if cause.errno in (errno.ENOSPC, errno.EDQUOT) else "Correct this"
        raise TrainingError(
            f"{path} cannot be written: {cause.strerror or cause}. Earlier files are unchanged. "
            f"{advice}, then resume with --resume."
        ) from error
