"""Times training data: our pool of processes and grain's, which fill the same batches.

Both run `BatchMaker.fill`, and the bytes are compared. They take turns (A B A B ...); only the
loader whose turn it is has workers. grain is no dependency: install it beside this package.

    python -m pip install grain
    python benchmarks/grain_loading.py DATA --size 224 --workers 1,2
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import absl.flags
import grain
import numpy as np

from convnext.data.examples import open_data
from convnext.images.recipe import Preprocess
from convnext.train.augment.transforms import Augment, Augmentation
from convnext.train.input.loader import Loader
from convnext.train.input.order import Order
from convnext.train.input.worker import BatchMaker, Slice

AHEAD = 4  # batches that either makes ahead
ENDLESS = 10**9
POLICY = "rand-m9-inc1"

Pictures = np.ndarray
Made = tuple[Iterator[Pictures], Callable[[], None]]


class Batches:
    """Random access to batches, as grain wants it."""

    def __init__(self, maker: BatchMaker) -> None:
        self._maker = maker

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        size, count = self._maker.transform.size, self._maker.batch_size
        pictures, labels = np.empty((count, size, size, 3), np.float32), np.empty(count, np.int64)
        self._maker.fill(Slice(int(step), 0, 0, count), pictures, labels)
        return {"pictures": pictures, "labels": labels}


def ours(maker: BatchMaker, workers: int, start: int) -> Made:
    loader = Loader(
        maker.examples,
        maker.transform,
        None,
        maker.order,
        batch_size=maker.batch_size,
        seed=maker.seed,
        workers=workers,
    )
    return (batch.pictures for batch in loader.batches(start, ENDLESS)), loader.close


def grains(maker: BatchMaker, workers: int, start: int) -> Made:
    data = grain.MapDataset.source(Batches(maker))[start:]
    in_process = data.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    options = grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=-(-AHEAD // workers)
    )
    batches = iter(in_process.mp_prefetch(options))
    return (batch["pictures"] for batch in batches), batches.close


WAYS: dict[str, Callable[[BatchMaker, int, int], Made]] = {"convnext": ours, "grain": grains}


def check(maker: BatchMaker) -> None:
    """Compare batches of both, from a later step on, with one worker and two."""
    found = {}
    for way, make in WAYS.items():
        for workers in (1, 2):
            batches, close = make(maker, workers, 7)
            found[way, workers] = [np.array(next(batches)) for _ in range(5)]
            close()
    first, *others = found.values()
    assert all(np.array_equal(first, other) for other in others)
    print("same batches, with one worker and two, from step 7 on", flush=True)


def turn(make: Callable[[BatchMaker, int, int], Made], maker: BatchMaker, workers: int, steps: int):
    """Seconds to the first batch, and pictures a second after those made ahead."""
    begun = time.perf_counter()
    batches, close = make(maker, workers, 0)
    next(batches)
    first = time.perf_counter() - begun
    for _ in range(2 * AHEAD):
        next(batches)
    begun = time.perf_counter()
    for _ in range(steps):
        next(batches)
    rate = steps * maker.batch_size / (time.perf_counter() - begun)
    close()
    return first, rate


def main() -> None:
    absl.flags.FLAGS.mark_as_parsed()  # or grain stops at the first batch
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", default="1,2")
    given = parser.parse_args()
    examples, small = open_data(given.data)[0], given.size < 64
    augment = Augment(padding=4 if small else 0, rand_augment=POLICY, erase=0.25)
    preprocess = Preprocess(size=given.size, crop_fraction=1.0 if small else 0.875)
    order = Order(examples.labels, seed=0)
    maker = BatchMaker(examples, Augmentation(augment, preprocess), order, given.batch, 0)
    check(maker)
    for workers in map(int, given.workers.split(",")):
        found = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way, make in WAYS.items():
                found[way].append(turn(make, maker, workers, given.steps))
        for way, turns in found.items():
            first, rate = (statistics.median(column) for column in zip(*turns, strict=True))
            ratio = statistics.median(
                ours[1] / theirs[1] for ours, theirs in zip(turns, found["convnext"], strict=True)
            )
            print(
                f"{given.size} px, {workers} workers, {way:8} {rate:7.0f} pictures/s ({ratio:.2f} "
                f"of convnext), first batch {first:.1f} s, load {os.getloadavg()[0]:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
