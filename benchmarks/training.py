"""Times training: V2 Atto on pictures from files, ours on each backend and a plain loop on timm.

Everything that a step needs is in: reading and augmenting in worker processes, mixing, the forward
and backward pass, AdamW, and the averaged weights' update. The other side is timm's model, its
transforms in PyTorch's DataLoader, and PyTorch's AdamW; the same pictures, augmentation, batch and
number of workers. Each contender lives in a process of its own; they take turns (A B C A B C ...).

    python benchmarks/training.py                          # 32, 64 and 224 pixels, half an hour
    python benchmarks/training.py --sizes 32 --rounds 1 --only torch,timm
    python benchmarks/training.py --precision float32

Ratios are medians of the rounds', with 95 % intervals; `waiting` is the part of the time that the
step waits for pictures. Results go to benchmarks/results/training.csv, with the machine and the
versions in each row.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from records import save, where
from training_data import BATCH, CLASSES, dataloader, ours, write_data
from turns import Contender, Report, add_limits, alternate, limits, ratio_of, serve

RESULTS = Path(__file__).parent / "results" / "training.csv"
CONTENDERS = ("torch", "tensorflow", "jax", "timm")
KEY = ("size", "contender", "precision")
VARIANT = "convnextv2_atto"
STRIDES = {32: (2, 2, 2, 2), 64: (2, 2, 2, 2), 224: (4, 2, 2, 2)}
WORKERS = 2
STEPS = 5  # of a turn
RATE = 1e-4

Step = Callable[[Any], float]


def keras_step(size: int, precision: str) -> Step:
    """Ours: what `convnext train` does for each batch."""
    from convnext.train.recipe import load_recipe
    from convnext.train.run.learner import classifier

    changes = [
        f"run.precision={precision}",
        f"run.batch_size={BATCH[size]}",
        f"model.resolution={size}",
        f"model.strides={list(STRIDES[size])}",
        "model.drop_path=0",
    ]
    learner = classifier(load_recipe("cifar10", changes), CLASSES)
    return lambda batch: learner.step([batch.pictures], batch.targets, RATE)["loss"]


def timm_step(size: int, precision: str) -> Step:
    """A plain loop."""
    import timm
    import torch
    from timm.utils import ModelEmaV2

    model = timm.create_model(VARIANT, num_classes=CLASSES, patch_size=4)
    if STRIDES[size][0] != 4:  # timm's stem has a stride as wide as its patch
        stem = model.stem[0]
        model.stem[0] = torch.nn.Conv2d(3, stem.out_channels, 4, STRIDES[size][0], padding=1)
    model = model.to(memory_format=torch.channels_last).train()
    decaying = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=RATE
    )
    average = ModelEmaV2(model, decay=0.999)
    loss_of = torch.nn.functional.cross_entropy

    def step(batch: Any) -> float:
        pictures, targets = batch
        pictures = pictures.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(pictures)
        loss = loss_of(logits.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        average.update(model)
        return float(loss.detach())

    return step


def prepare(contender: str, size: int, data: Path, precision: str) -> tuple[Report, Any]:
    """In a contender's process: get ready; a turn is some steps."""
    plain = contender == "timm"
    batches = (dataloader if plain else ours)(data, size, WORKERS)
    step = (timm_step if plain else keras_step)(size, precision)
    for _ in range(3):
        step(next(batches))

    def turn(_order: str) -> Report:
        waited, began = 0.0, time.perf_counter()
        for _ in range(STEPS):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            step(batch)
        return {"seconds": time.perf_counter() - began, "waited": waited}

    return {}, turn


def race(size: int, data: Path, args: argparse.Namespace) -> list[dict[str, object]]:
    """One row for each contender."""
    with ExitStack() as stack:
        contenders = []
        for name in args.only:
            backend = "torch" if name == "timm" else name
            one = Contender(name, __file__, name, size, data, args.precision, KERAS_BACKEND=backend)
            contenders.append(stack.enter_context(one))
        alternate(contenders, limits(args), f"{size} pixels", base=-1)
    last = contenders[-1]
    rows = []
    for contender in contenders:
        ratio = ratio_of(last.seconds, contender.seconds)
        if contender is not last:
            print(f"{size} pixels, {last.name} over {contender.name}: {ratio}")
        rows.append(
            {
                "size": size,
                "contender": contender.name,
                "precision": args.precision,
                "pictures_per_s": round(
                    STEPS * BATCH[size] / statistics.median(contender.seconds), 1
                ),
                **ratio.columns(f"{last.name}_over_this"),
                "waiting": round(
                    statistics.median(t["waited"] / t["seconds"] for t in contender.turns), 4
                ),
                "batch": BATCH[size],
                **where(),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="32,64,224")
    parser.add_argument("--precision", default="bfloat16")
    add_limits(parser)
    parser.add_argument("--only", type=lambda text: text.split(","), default=CONTENDERS)
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        contender, size, data, precision = args.serve
        serve(lambda: prepare(contender, int(size), Path(data), precision))
        return
    for size in map(int, args.sizes.split(",")):
        with TemporaryDirectory(prefix="convnext-training-") as folder:
            write_data(Path(folder), size)
            rows = race(size, Path(folder) / "data", args)
        for row in rows:
            print(*(f"{key} {value}" for key, value in list(row.items())[:6]), sep="  ")
        save(RESULTS, rows, KEY)


if __name__ == "__main__":
    main()
