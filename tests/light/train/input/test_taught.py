"""Batches with a teacher's answers, computed ahead."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from convnext.errors import TrainingError
from convnext.train.input.loader import TrainingBatch
from convnext.train.input.taught import AHEAD, TaughtLoader


class Batches:
    """A loader of batches that hold their number."""

    def __init__(self):
        self.bad = {}
        self.made = []

    def batches(self, start, stop):
        for step in range(start, stop):
            self.made.append(step)
            yield TrainingBatch(step, np.full((2, 1, 1, 3), step, np.float32), np.zeros((2, 2)))


class Doubles:
    """A teacher that doubles the pictures' first value."""

    name, digest, about, width = "doubles", "0", "", 1

    def __init__(self, fails_at=None):
        self.fails_at = fails_at

    def answers(self, batch):
        if batch.step == self.fails_at:
            raise TrainingError("the teacher is ill")
        return 2 * batch.pictures[:, 0, 0, :1]


def test_every_batch_has_the_answers_for_its_own_pictures():
    with TaughtLoader(Batches(), Doubles()) as loader:
        found = list(loader.batches(3, 8))
        assert [batch.step for batch in found] == [3, 4, 5, 6, 7]
        for batch in found:
            np.testing.assert_array_equal(batch.answers, 2 * batch.pictures[:, 0, 0, :1])
        assert loader.seconds.keys() == {"waiting", "teacher"}
        assert loader.taught > 0


def test_answers_are_a_few_batches_ahead_and_no_more():
    source = Batches()
    with TaughtLoader(source, Doubles()) as loader:
        batches = loader.batches(0, 100)
        next(batches)
        end = time.monotonic() + 10
        while len(source.made) < AHEAD + 2 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(source.made) == AHEAD + 2  # one taken, some in the queue, one that waits


def test_an_error_of_the_teacher_is_raised_at_its_batch():
    with TaughtLoader(Batches(), Doubles(fails_at=2)) as loader:
        batches = loader.batches(0, 5)
        assert [next(batches).step, next(batches).step] == [0, 1]
        with pytest.raises(TrainingError, match="ill"):
            next(batches)


def test_the_thread_ends_with_the_loader():
    with TaughtLoader(Batches(), Doubles()) as loader:
        next(loader.batches(0, 10**6))
        assert any(thread.name == "convnext-teacher" for thread in threading.enumerate())
    assert not any(thread.name == "convnext-teacher" for thread in threading.enumerate())
