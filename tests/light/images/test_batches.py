"""Batches keep the order, bound the look-ahead, survive bad pictures and end cleanly."""

from __future__ import annotations

import functools
import io
import itertools
import signal
import subprocess
import sys
import threading
import time
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from convnext.errors import ArgumentError, ArgumentTypeError, ImageError
from convnext.images.batches import batches
from convnext.images.decode import decode
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named, iterate
from convnext.images.transform import pixels

TINY = Preprocess(size=4)


def flat(shade: int) -> np.ndarray:
    return np.full((8, 8), shade, np.uint8)


def worker_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("convnext-images")]


@given(
    good=st.lists(st.booleans(), max_size=40),
    batch_size=st.integers(1, 9),
    workers=st.integers(1, 5),
)
@settings(max_examples=60, derandomize=True, deadline=None)
def test_order_is_kept_and_bad_pictures_keep_their_positions(
    good: list[bool], batch_size: int, workers: int
):
    def read(source: np.ndarray) -> Image.Image:
        if source.ndim == 2:
            time.sleep(source[0, 0] % 7 / 10_000)  # so that later ones are often ready first
        return decode(source)

    sources = [flat(index) if fine else flat(index)[0] for index, fine in enumerate(good)]
    found = list(batches(sources, TINY, batch_size, read=read, workers=workers))
    assert [len(batch.ids) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert [name for batch in found for name in batch.ids] == [f"#{i}" for i in range(len(good))]
    outcomes = [pair for batch in found for pair in batch.outcomes(batch.pixels[:, 0, 0, 0])]
    for index, (name, outcome) in enumerate(outcomes):
        assert name == f"#{index}"
        if good[index]:
            assert outcome == index
        else:
            assert isinstance(outcome, ImageError)
    assert not worker_threads()


def test_batches_hold_the_pixels_of_the_transform(tmp_path: Path):
    random = np.random.default_rng(0)
    arrays = [
        random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(9, 7), (5, 30), (4, 4)]
    ]
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index, array in enumerate(arrays):
            stream = io.BytesIO()
            Image.fromarray(array).save(stream, "PNG")
            archive.writestr(f"{index}.png", stream.getvalue())
    [batch] = batches(path, TINY)
    assert batch.ids == tuple(f"{path}/{index}.png" for index in range(3))
    assert batch.pixels.dtype == np.uint8
    for found, array in zip(batch.pixels, arrays, strict=True):
        np.testing.assert_array_equal(found, pixels(Image.fromarray(array), TINY))


def test_the_function_that_reads_pictures_can_be_chosen():
    clear = np.zeros((8, 8, 4), np.uint8)
    read = functools.partial(decode, background=(1, 2, 3))
    [batch] = batches(clear, TINY, read=read)
    assert batch.pixels[0, 0, 0].tolist() == [1, 2, 3]


def test_a_batch_of_bad_pictures_only_is_empty_and_keeps_its_shape():
    [batch] = batches([b"bad", Named("worse", ImageError("gone"))], TINY)
    assert batch.pixels.shape == (0, 4, 4, 3)
    assert batch.ids == ("#0", "worse")
    assert str(batch.errors[1]) == "gone"
    assert [name for name, _ in batch.outcomes([])] == ["#0", "worse"]


def test_an_empty_input_gives_no_batch():
    assert list(batches([], TINY)) == []


def test_an_error_does_not_keep_the_picture_in_memory():
    strip = Image.new("RGB", (2000, 1))
    alive = weakref.ref(strip)
    [batch] = batches(iter([strip]), TINY)
    del strip
    assert "2000 x 1" in str(batch.errors[0])
    assert batch.errors[0].__traceback__ is None
    assert alive() is None


@pytest.mark.parametrize(("batch_size", "workers", "bound"), [(8, 2, 16), (1, 3, 7), (1, 1, 3)])
def test_the_lookahead_is_bounded(batch_size: int, workers: int, bound: int):
    taken = itertools.count()
    last = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal last
        while True:
            last = next(taken) + 1
            yield flat(0)

    stream = batches(endless(), TINY, batch_size, workers=workers)
    for number in range(1, 5):
        next(stream)
        assert last == bound + (number - 1) * batch_size
    stream.close()


def test_pictures_are_prepared_while_the_caller_works():
    ready = threading.Semaphore(0)

    def read(source: np.ndarray) -> Image.Image:
        ready.release()
        return decode(source)

    stream = batches([flat(0)] * 4, TINY, 2, read=read, workers=1)
    next(stream)
    for _ in range(4):
        assert ready.acquire(timeout=5)
    stream.close()


def test_leaving_the_loop_ends_the_threads_and_closes_the_sources():
    closed = threading.Event()
    begun = []

    def endless() -> Iterator[np.ndarray]:
        try:
            while True:
                yield flat(0)
        finally:
            closed.set()

    def read(source: np.ndarray) -> Image.Image:
        begun.append(1)
        time.sleep(0.01)
        return decode(source)

    for _ in batches(endless(), TINY, 64, read=read, workers=2):
        assert worker_threads()
        break
    assert not worker_threads()
    assert closed.is_set()
    assert len(begun) < 128


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_error_in_the_loop_ends_the_threads(error: type[BaseException]):
    def run() -> None:
        for _ in batches(itertools.repeat(flat(0)), TINY, 2):
            raise error

    with pytest.raises(error):
        run()
    assert not worker_threads()


def test_control_c_ends_a_run_that_waits_for_a_picture():
    program = """
import itertools, time
from convnext.images.batches import batches
from convnext.images.recipe import Preprocess
def read(source):
    time.sleep(0.3)  # all that may be submitted has been by then
    print("begun", flush=True)
    time.sleep(0.3)
for _ in batches(itertools.repeat(b"x"), Preprocess(), 99, read=read, workers=1):
    pass
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        begun, problem = process.communicate(timeout=10)
    assert problem.splitlines()[-1] == "KeyboardInterrupt"
    assert begun.count("begun") <= 1  # the one under way may end, no other is begun


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_of_the_sources_comes_through_and_ends_the_threads(error: type[BaseException]):
    def sources() -> Iterator[np.ndarray]:
        yield flat(0)
        raise error

    with pytest.raises(error):
        list(batches(sources(), TINY))
    assert not worker_threads()


def test_sources_of_a_wrong_type_raise_instead_of_counting_as_bad_pictures():
    with pytest.raises(ArgumentTypeError):
        list(batches([flat(0), 3], TINY))
    with pytest.raises(ArgumentTypeError, match="open it in mode 'rb'"):
        list(batches([io.StringIO("text")], TINY))
    assert not worker_threads()


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}, {"batch_size": -1}])
def test_numbers_are_checked_at_once(wrong: dict[str, int]):
    with pytest.raises(ArgumentError, match="1 or more"):
        batches([], TINY, **wrong)


def test_rows_must_be_as_many_as_pictures():
    [batch] = batches([flat(0), flat(1)], TINY)
    with pytest.raises(ArgumentError, match="2 pictures"):
        list(batch.outcomes([1]))


def test_iterate_may_be_used_with_limits_of_its_own():
    [batch] = batches(iterate([flat(0)]), TINY)
    assert batch.ids == ("#0",)
