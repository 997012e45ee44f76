"""Times a training step with the memory settings of `convnext train`, beside one with glibc's own.

    python benchmarks/huge_pages.py                            # the recipe cifar10, three backends
    python benchmarks/huge_pages.py --backends torch --set "model.strides=[2,1,2,2]"
    python benchmarks/huge_pages.py --set model.resolution=224 --set run.batch_size=16

A turn is one step on random pictures, and both processes of a backend take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from records import THREADS, where
from turns import Contender, Report, add_limits, alternate, limits, ratio_of, serve

from convnext.cli.huge_pages import TUNABLES

CLASSES = 10
ENVIRONMENTS = {"glibc's own": "", "huge pages": TUNABLES}


def prepare(backend: str, *changes: str) -> tuple[Report, Callable[[str], Report]]:
    """Build the network and its optimizer; a turn is one step."""
    os.environ["KERAS_BACKEND"] = backend
    import numpy as np

    from convnext.train.optim.precision import with_actual_precision
    from convnext.train.recipe import load_recipe
    from convnext.train.run.learner import classifier

    recipe = with_actual_precision(load_recipe("cifar10", changes))
    learner = classifier(recipe, CLASSES)
    rng = np.random.default_rng(0)
    side, count = recipe.model.resolution, recipe.run.batch_size
    pictures = rng.standard_normal((count, side, side, 3), dtype=np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, count)]

    def turn(_order: str) -> Report:
        start = time.perf_counter()
        learner.step([pictures], targets, 1e-4)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}

    for _ in range(3):  # compiles, and fills the memory that is kept
        turn("")
    return {}, turn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backends", default="torch,jax,tensorflow")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    add_limits(parser)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(lambda: prepare(*args.serve))
        return
    print("| backend | ms, glibc's own | ms, huge pages | its time over the other's | MiB |")
    print("| --- | --- | --- | --- | --- |")
    for backend in args.backends.split(","):
        with ExitStack() as stack:
            both = [
                stack.enter_context(
                    Contender(
                        name,
                        __file__,
                        backend,
                        *args.changes,
                        GLIBC_TUNABLES=tunables,
                        OMP_NUM_THREADS=THREADS,
                        TF_CPP_MIN_LOG_LEVEL=3,
                    )
                )
                for name, tunables in ENVIRONMENTS.items()
            ]
            alternate(both, limits(args), backend)
        small, huge = both
        ratio = ratio_of(small.seconds, huge.seconds)
        times = " | ".join(f"{1e3 * statistics.median(one.seconds):.0f}" for one in both)
        peaks = " and ".join(f"{one.turns[-1]['peak'] / 1024:,.0f}" for one in both)
        print(f"| {backend} | {times} | {ratio} | {peaks} |", flush=True)
    print(", ".join(where().values()))


if __name__ == "__main__":
    main()
