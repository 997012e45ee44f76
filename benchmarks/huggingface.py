"""Times `convnext.hf` beside transformers on PyTorch: answers and steps of training.

Both models hold the same weights and live in one process, and take turns, one call a turn
(A B A B ...), so that a change of the machine's speed meets both. What counts is the ratio in a
round, its median and 95 % interval.

    python benchmarks/huggingface.py                    # everything, some minutes
    python benchmarks/huggingface.py forward-1 --rounds 5

Results go to benchmarks/results/huggingface.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from records import THREADS, save, where

os.environ["KERAS_BACKEND"] = "torch"
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import importable_torchvision  # noqa: F401
import torch
import transformers
from turns import Until, add_limits, limits, ratio_of, timed, times_of

from convnext import hf

RESULTS = Path(__file__).parent / "results" / "huggingface.csv"
FAMILIES = ("ConvNext", "ConvNextV2")

# task: (kind, pictures in a batch, side)
TASKS = {
    "forward-1": ("forward", 1, 224),
    "forward-16": ("forward", 16, 224),
    "step-8": ("step", 8, 224),
}


def contenders(family: str) -> dict[str, torch.nn.Module]:
    """Tiny with the same weights, ours and transformers'."""
    kind = f"{family}ForImageClassification"
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(num_labels=1000)
    theirs = getattr(transformers, kind)(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = getattr(hf, kind).from_pretrained(folder)
    return {"convnext": ours, "transformers": theirs}


def caller(model: torch.nn.Module, kind: str, batch: int, side: int) -> Callable[[], object]:
    """One call: an answer, or a step of training."""
    images = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(batch) % 1000
    if kind == "forward":
        model.eval()

        def forward() -> object:
            with torch.inference_mode():
                return model(images).logits

        return forward
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> object:
        optimizer.zero_grad()
        loss = model(images, labels=labels).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def run(family: str, task: str, until: Until) -> list[dict[str, object]]:
    kind, batch, side = TASKS[task]
    calls = {name: caller(model, kind, batch, side) for name, model in contenders(family).items()}
    for call in calls.values():
        call()
        call()
    turns = {name: partial(timed, call) for name, call in calls.items()}
    seconds = times_of(turns, until, f"{family} {task}")
    print(f"{family} {task}: {ratio_of(seconds['convnext'], seconds['transformers'])}")
    return [
        {
            "task": task,
            "family": family,
            "library": name,
            "median_ms": round(1e3 * statistics.median(found), 1),
            "min_ms": round(1e3 * min(found), 1),
            **ratio_of(found, seconds["transformers"]).columns("of_transformers"),
            **where(),
        }
        for name, found in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="by default all")
    add_limits(parser)
    parser.add_argument("--dry", action="store_true", help="print, and store nothing")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    for task in args.tasks or TASKS:
        for family in FAMILIES:
            rows = run(family, task, limits(args))
            for row in rows:
                print(
                    f"{task:12} {family:11} {row['library']:13} {row['median_ms']!s:>9} ms  "
                    f"{row['of_transformers']!s:>6} of transformers'"
                )
            if not args.dry:
                save(RESULTS, rows, ("task", "family"))


if __name__ == "__main__":
    main()
