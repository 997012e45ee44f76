"""Times training steps with a teacher: asked before each step, ahead in a thread, or in a process.

    python benchmarks/teaching.py runs/teacher/teacher.onnx
    python benchmarks/teaching.py bundled --rounds 9

A turn is some steps of the recipe `distill_cifar10` on random pictures, so no picture is read. All
ways train in turns (A B C D A B C D ...), and a row has the median of the ratios to the step
without a teacher, of the time, and of the time of all processors.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np

from convnext.train.distillation.student import student, taught_targets
from convnext.train.distillation.teacher import open_teacher
from convnext.train.input.loader import TrainingBatch
from convnext.train.input.taught import TaughtLoader
from convnext.train.optim.precision import with_actual_precision
from convnext.train.recipe import Recipe, load_recipe
from convnext.train.run.learner import classifier

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)


class Batches:
    """A loader of random pictures."""

    def __init__(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(0)
        side, count = recipe.model.resolution, recipe.run.batch_size
        self.pictures = rng.normal(size=(count, side, side, 3)).astype(np.float32)
        self.targets = np.eye(len(CLASSES), dtype=np.float32)[rng.integers(0, 10, count)]
        self.bad: dict[str, str] = {}

    def batches(self, start: int, stop: int) -> Iterator[TrainingBatch]:
        for step in range(start, stop):
            yield TrainingBatch(step, self.pictures, self.targets)


class Remote:
    """A teacher in a process of its own."""

    name, digest, about, width = "remote", "", "", len(CLASSES)

    def __init__(self, source: str, changes: list[str]) -> None:
        self.connection, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(
            target=answer, args=(theirs, source, changes), daemon=True
        )
        process.start()

    def answers(self, batch: TrainingBatch) -> Any:
        self.connection.send_bytes(batch.pictures)
        data = np.frombuffer(self.connection.recv_bytes(), np.float32)
        return data.reshape(len(batch.pictures), -1)

    def cpu(self) -> float:
        self.connection.send_bytes(b"cpu")
        return float(self.connection.recv_bytes())


def answer(connection: Connection, source: str, changes: list[str]) -> None:
    """Answer until the other process ends."""
    recipe = load_recipe("distill_cifar10", changes)
    teacher = open_teacher(source, recipe, CLASSES)
    side = recipe.model.resolution
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        if data == b"cpu":
            connection.send_bytes(repr(cpu()).encode())
            continue
        pictures = np.frombuffer(data, np.float32).reshape(-1, side, side, 3)
        connection.send_bytes(teacher.of_pictures(pictures))


def cpu() -> float:
    """Seconds of all processors that this process used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("teacher")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="of a turn")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    arguments = parser.parse_args()
    changes = list(arguments.changes)
    if not arguments.teacher.endswith(".onnx"):
        changes = ["distill.mean=[0.4914,0.4822,0.4465]", "distill.std=[0.247,0.2435,0.2616]"]
        changes += ["distill.classes=", *arguments.changes]
    recipe = with_actual_precision(load_recipe("distill_cifar10", changes))
    near = open_teacher(arguments.teacher, recipe, CLASSES)
    far = Remote(arguments.teacher, changes)
    taught, alone = student(recipe, len(CLASSES), len(CLASSES)), classifier(recipe, len(CLASSES))
    source: Any = Batches(recipe)

    def without(steps: int) -> None:
        for batch in source.batches(0, steps):
            alone.step([batch.pictures], batch.targets, 1e-4)

    def before(steps: int) -> None:
        for batch in source.batches(0, steps):
            targets = np.concatenate([batch.targets, near.answers(batch)], axis=1)
            taught.step([batch.pictures], targets, 1e-4)

    def ahead(teacher: Any, steps: int) -> None:
        with TaughtLoader(source, teacher) as loader:
            for batch in loader.batches(0, steps):
                taught.step([batch.pictures], taught_targets(batch), 1e-4)

    ways = {
        "without a teacher": without,
        "before each step": before,
        "ahead in a thread": lambda steps: ahead(near, steps),
        "ahead in a process": lambda steps: ahead(far, steps),
    }
    show(race(ways, far, arguments.rounds, arguments.steps), arguments.steps)


def race(
    ways: dict[str, Callable[[int], None]], far: Remote, rounds: int, steps: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and seconds of all processors, of each turn."""
    for way in ways.values():
        way(2)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            used, began = cpu() + far.cpu(), time.perf_counter()
            way(steps)
            seconds = time.perf_counter() - began
            found[name].append((seconds, cpu() + far.cpu() - used))
    return found


def show(found: dict[str, list[tuple[float, float]]], steps: int) -> None:
    """Print a row for each way."""
    base = next(iter(found.values()))
    print(f"{'':20} ms a step  ratio  processors' ratio")
    for name, turns in found.items():
        step = statistics.median(turn[0] for turn in turns) / steps
        pairs = list(zip(turns, base, strict=True))
        ratios = [statistics.median(a[kind] / b[kind] for a, b in pairs) for kind in (0, 1)]
        print(f"{name:20} {1000 * step:9.0f}  {ratios[0]:5.2f}  {ratios[1]:5.2f}")


if __name__ == "__main__":
    main()
