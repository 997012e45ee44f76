"""The same fine-tuning from several weights, once for each seed: which start is the better one?

What `pretraining_helps.py` and `finetuning_helps.py` have in common.
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
) -> None:
    """Run all, print the accuracy of each and the means, and store them.

    Args:
        starts: What each is called, and the weights to start from; None for random ones.
        seeds: How many.
        finetune: From a start and a seed to how its run ended.
        facts: What else the rows are to say; a row with the same ones is replaced.
        results: The CSV.
    """
    rows: list[Row] = []
    for seed in range(seeds):
        for name, weights in starts.items():
            outcome = finetune(name, weights, seed)
            if not outcome.finished:
                raise SystemExit(130)
            print(f"{name}, seed {seed}: {outcome.accuracy:.2%}", flush=True)
            accuracy = round(outcome.accuracy or 0, 4)
            rows.append({"start": name, "seed": seed, "accuracy": accuracy, **facts, **where()})
            save(results, rows, ("start", "seed", *facts))
    for name in starts:
        found = [float(str(row["accuracy"])) for row in rows if row["start"] == name]
        print(f"{name}: {statistics.mean(found):.2%}, the mean of {len(found)} seeds")
