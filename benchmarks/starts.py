"""The same fine-tuning from several weights, once for each seed: which start is the better one?

What `pretraining_helps.py`, `finetuning_helps.py` and `segmentation_learning.py` have in common.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from records import Row, save, where

from convnext.train import RunResult


def compare(
    starts: Mapping[str, Path | str | None],
    seeds: int,
    finetune: Callable[[str, Path | str | None, int], RunResult],
    facts: Row,
    results: Path,
    measure: str = "accuracy",
) -> None:
    """Run all, print the accuracy of each and the means, and store them.

    Args:
        starts: What each is called, and the weights to start from; None for random ones.
        seeds: How many.
        finetune: From a start and a seed to how its run ended.
        facts: What else the rows are to say; a row with the same ones is replaced.
        results: The CSV.
        measure: What counts: a metric of the last validation, with averaged weights if there are.
    """
    rows: list[Row] = []
    for seed in range(seeds):
        for name, weights in starts.items():
            outcome = finetune(name, weights, seed)
            if not outcome.finished:
                raise SystemExit(130)
            numbers = outcome.validation
            found = round(numbers.get(f"average_{measure}", numbers[measure]), 4)
            print(f"{name}, seed {seed}: {found:.2%}", flush=True)
            rows.append({"start": name, "seed": seed, measure: found, **facts, **where()})
            save(results, rows, ("start", "seed", *facts))
    for name in starts:
        every = [float(str(row[measure])) for row in rows if row["start"] == name]
        print(f"{name}: {statistics.mean(every):.2%}, the mean of {len(every)} seeds")
