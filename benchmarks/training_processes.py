"""Times training on PyTorch: one process with a thread for each core, and a process for each.

V2 Atto at 32 pixels and the recipe `cifar10`, the same batch for both: of a team every process
computes its part, and gradients are averaged as under torchrun. The pictures are noise that is
there already. Both live in processes of their own and take turns (A B A B ...).

    python benchmarks/training_processes.py                    # strides 2-2-2-2 and 2-1-2-2
    python benchmarks/training_processes.py --strides 2,2,2,2 --rounds 1

Results go to benchmarks/results/training_processes.csv, with machine and versions in each row.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from records import save, where
from turns import Contender, Report, Until, add_limits, alternate, limits, ratio_of, serve

from convnext.processors import available_processors

RESULTS = Path(__file__).parent / "results" / "training_processes.csv"
CLASSES, SIDE, BATCH = 10, 32, 256
STEPS = 5  # of a turn
RATE = 1e-4


def learn(strides: str, port: int, rank: int, count: int) -> Any:
    """A function that makes one step with the others."""
    import numpy as np

    from convnext.train.recipe import load_recipe
    from convnext.train.run.learner import classifier
    from convnext.train.team.forming import form_team

    team = form_team("torch", hosts=f"localhost:{port},{rank},{count}" if count > 1 else None)
    team.__enter__()  # for as long as this process lives
    changes = [f"model.strides=[{strides}]", f"run.batch_size={BATCH}"]
    learner = classifier(load_recipe("cifar10", changes), CLASSES, team)
    random = np.random.default_rng(rank)
    pictures = random.standard_normal((BATCH // count, SIDE, SIDE, 3), np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[random.integers(CLASSES, size=len(pictures))]
    return lambda: learner.step([pictures], targets, RATE)


def prepare(strides: str, count: int) -> tuple[Report, Any]:
    """In a contender's process: start the others, and get ready; a turn is some steps."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for rank in range(1, count):
        arguments = ["--follow", strides, port, rank, count]
        subprocess.Popen([sys.executable, __file__, *map(str, arguments)])
    step = learn(strides, port, 0, count)
    for _ in range(3):
        step()

    def turn(_order: str) -> Report:
        began = time.perf_counter()
        for _ in range(STEPS):
            step()
        return {"seconds": time.perf_counter() - began}

    return {}, turn


def race(strides: str, until: Until) -> list[dict[str, object]]:
    """One row for each contender."""
    cores = available_processors()
    with ExitStack() as stack:
        contenders = []
        for count in (1, cores):
            threads = cores // count
            one = Contender(
                f"{count} x {threads}", __file__, strides, count,
                KERAS_BACKEND="torch", OMP_NUM_THREADS=threads,
            )  # fmt: skip
            contenders.append(stack.enter_context(one))
        alternate(contenders, until, strides)
    rows = []
    for contender in contenders:
        ratio = ratio_of(contenders[0].seconds, contender.seconds)
        if contender is not contenders[0]:
            print(f"{strides}, {contender.name} over one process: {ratio}")
        rows.append(
            {
                "strides": strides.replace(",", "-"),
                "processes x threads": contender.name,
                "pictures_per_s": round(STEPS * BATCH / statistics.median(contender.seconds), 1),
                **ratio.columns("over_one_process"),
                "batch": BATCH,
                **where(),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strides", nargs="+", default=["2,2,2,2", "2,1,2,2"])
    add_limits(parser)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--follow", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        strides, count = args.serve
        serve(lambda: prepare(strides, int(count)))
        return
    if args.follow:
        strides, *numbers = args.follow
        step = learn(strides, *map(int, numbers))
        with suppress(RuntimeError):  # the first one is gone
            while True:
                step()
        return
    for strides in args.strides:
        rows = race(strides, limits(args))
        for row in rows:
            print(*(f"{key} {value}" for key, value in list(row.items())[:4]), sep="  ")
        save(RESULTS, rows, ("strides", "processes x threads"))


if __name__ == "__main__":
    main()
