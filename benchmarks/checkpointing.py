"""Memory and time of a training step with gradient checkpointing and without.

    python benchmarks/checkpointing.py --variant tiny --batch 16

Each is a process of its own. What is printed is the most memory that a step takes beyond what the
process has between steps, from the second step on, and how long a step takes.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import subprocess
import sys
import time
from pathlib import Path

# Memory that is freed goes back to the system at once, so that it is not counted.
FREED = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def megabytes(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024


def measure(args: argparse.Namespace) -> None:
    import numpy as np

    from convnext import create_convnext_v1, set_grad_checkpointing

    shape = (args.side, args.side, 3)
    model = create_convnext_v1(args.variant, 10, shape)
    set_grad_checkpointing(model, args.checkpointing)
    model.compile("sgd", "sparse_categorical_crossentropy")
    pictures = np.random.default_rng(0).random((args.batch, *shape), np.float32)
    labels = np.arange(args.batch) % 10
    model.train_on_batch(pictures, labels)
    gc.collect()
    before = megabytes("VmRSS")
    RESET.write_text("5")  # the peak begins anew
    started = time.perf_counter()
    model.train_on_batch(pictures, labels)
    seconds = time.perf_counter() - started
    way = "checkpointing" if args.checkpointing else "as it comes"
    peak = megabytes("VmHWM") - before
    print(f"{os.environ['KERAS_BACKEND']:12} {way:14} {peak:6.0f} MB {seconds:6.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--backends", default="torch,jax,tensorflow")
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        measure(args)
        return
    for backend in args.backends.split(","):
        for more in ((), ("--checkpointing",)):
            command = [sys.executable, __file__, *sys.argv[1:], "--here", *more]
            environment = {**os.environ, **FREED, "KERAS_BACKEND": backend}
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
