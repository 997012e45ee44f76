"""Price of gradient checkpointing: memory and time of a training step with it and without.

    python benchmarks/checkpointing.py --variant tiny --batch 16 --backends torch

Each contender is a process of its own; on PyTorch timm's model takes part too. Memory is the most
that a step takes beyond what the process has between steps, with freed memory going back to the
system at once. Time is measured in other processes, which take turns, one step a turn; ratios are
medians of the rounds', with 95 % intervals.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from turns import Contender, Report, add_limits, alternate, limits, ratio_of, serve

# Memory that is freed goes back to the system at once, so that it is not counted.
FREED = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CLASSES = 10
WAYS = ("as it comes", "checkpointing")


def megabytes(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024


def keras_step(way: str, variant: str, batch: int, side: int) -> Callable[[], object]:
    import numpy as np

    from convnext import create_convnext_v1, set_grad_checkpointing

    shape = (side, side, 3)
    model = create_convnext_v1(variant, CLASSES, shape)
    set_grad_checkpointing(model, way == "checkpointing")
    model.compile("sgd", "sparse_categorical_crossentropy")
    pictures = np.random.default_rng(0).random((batch, *shape), np.float32)
    labels = np.arange(batch) % CLASSES
    return lambda: model.train_on_batch(pictures, labels)


def timm_step(way: str, variant: str, batch: int, side: int) -> Callable[[], object]:
    import importable_torchvision  # noqa: F401
    import timm
    import torch

    model = timm.create_model(f"convnext_{variant}", num_classes=CLASSES).train()
    model.set_grad_checkpointing(way == "checkpointing")
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    pictures, labels = torch.rand(batch, 3, side, side), torch.arange(batch) % CLASSES

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def prepare(
    library: str, way: str, variant: str, batch: int, side: int
) -> tuple[Report, Callable[[str], Report]]:
    """In a contender's process: get ready; a turn is one step."""
    step = (timm_step if library == "timm" else keras_step)(way, variant, batch, side)
    step()

    def turn(_order: str) -> Report:
        gc.collect()
        before = megabytes("VmRSS")
        RESET.write_text("5")  # the peak begins anew
        started = time.perf_counter()
        step()
        return {"seconds": time.perf_counter() - started, "mib": megabytes("VmHWM") - before}

    return {}, turn


def race(backend: str, args: argparse.Namespace) -> None:
    """Print a row of Markdown for each contender."""
    libraries = ("convnext", "timm") if backend == "torch" else ("convnext",)
    pairs = [(library, way) for library in libraries for way in WAYS]

    def contender(library: str, way: str, **environment: str) -> Contender:
        given = (library, way, args.variant, args.batch, args.side)
        environment |= {"KERAS_BACKEND": backend, "OMP_NUM_THREADS": str(os.cpu_count())}
        return Contender(f"{library}, {way}", __file__, *given, **environment)

    memory = []
    for pair in pairs:
        with contender(*pair, **FREED) as one:
            one.turn()
            memory.append(one.turns[-1]["mib"])
    with ExitStack() as stack:
        contenders = [stack.enter_context(contender(*pair)) for pair in pairs]
        alternate(contenders, limits(args), backend)
    for one, mib in zip(contenders, memory, strict=True):
        ratio = ratio_of(one.seconds, contenders[0].seconds)
        seconds = statistics.median(one.seconds)
        print(f"| {backend} | {one.name} | {mib:.0f} | {seconds:.2f} | {ratio} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--backends", default="torch,jax,tensorflow")
    add_limits(parser)
    parser.add_argument("--serve", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        library, way, variant, batch, side = args.serve
        serve(lambda: prepare(library, way, variant, int(batch), int(side)))
        return
    print("| backend | contender | MiB of a step | s a step | time to as it comes |")
    print("| --- | --- | --- | --- | --- |")
    for backend in args.backends.split(","):
        race(backend, args)


if __name__ == "__main__":
    main()
