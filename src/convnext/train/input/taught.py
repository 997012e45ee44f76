"""Batches with a teacher's answers, which a thread computes ahead of the step.

The teacher sees the pictures of the step: augmented, mixed, and those of this host alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

from numpy.typing import NDArray

from convnext.train.input.loader import Loader, TrainingBatch

__all__ = ["TaughtLoader", "Teacher"]

AHEAD = 2  # batches
LOOK = 0.1  # seconds between looks at whether the run ended


class Teacher(Protocol):
    """A model whose answers another one learns.

    Attributes:
        name: For messages.
        digest: Identifies its weights.
        about: A few words for the first message of a run.
        width: Numbers in an answer.
    """

    name: str
    digest: str
    about: str
    width: int

    def answers(self, batch: TrainingBatch) -> NDArray[Any]:
        """Compute the teacher's answers for the pictures of a batch, `[n, width]` float32.

        Raises:
            TrainingError: They are not finite.
        """


class TaughtLoader:
    """A loader whose batches have a teacher's answers.

    Args:
        loader: The batches.
        teacher: The teacher.

    Attributes:
        bad: As of the loader.
        waited: Seconds spent waiting for batches with answers.
        taught: Seconds that the teacher computed.
    """

    def __init__(self, loader: Loader, teacher: Teacher) -> None:
        self._loader = loader
        self._teacher = teacher
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.bad = loader.bad
        self.waited = 0.0
        self.taught = 0.0

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds spent waiting, and seconds that the teacher computed beside the steps."""
        return {"waiting": self.waited, "teacher": self.taught}

    def batches(self, start_step: int, stop_step: int) -> Iterator[TrainingBatch]:
        """Iterate over the batches of a range of steps; see `Loader.batches`.

        Raises:
            ConvNeXtError: As of the loader and the teacher.
        """
        self.close()
        self._ended = threading.Event()
        done: queue.Queue[TrainingBatch | BaseException] = queue.Queue(AHEAD)
        self._thread = threading.Thread(
            target=self._teach,
            args=(self._loader.batches(start_step, stop_step), done, self._ended),
            name="convnext-teacher",
            daemon=True,
        )
        self._thread.start()
        for _ in range(start_step, stop_step):
            began = time.perf_counter()
            batch = done.get()
            self.waited += time.perf_counter() - began
            if isinstance(batch, BaseException):
                raise batch
            yield batch

    def _teach(
        self,
        batches: Iterator[TrainingBatch],
        done: queue.Queue[TrainingBatch | BaseException],
        ended: threading.Event,
    ) -> None:
        try:
            for batch in batches:
                began = time.perf_counter()
                taught = replace(batch, answers=self._teacher.answers(batch))
                self.taught += time.perf_counter() - began
                if not _put(done, taught, ended):
                    return
        except BaseException as error:  # raised where the batches are taken
            _put(done, error, ended)

    def close(self) -> None:
        """End the thread; the loader is closed by its owner."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> TaughtLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _put(done: queue.Queue[Any], value: Any, ended: threading.Event) -> bool:
    """Put a value as soon as there is room; False if the run ended before."""
    while not ended.is_set():
        try:
            done.put(value, timeout=LOOK)
        except queue.Full:
            continue
        return True
    return False
