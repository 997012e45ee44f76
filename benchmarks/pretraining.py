"""Times a step of FCMAE beside a supervised step of the same encoder, and weighs their memory.

A supervised step, a step of pretraining, and the decoder's part of it alone take turns, each in a
process of its own (A B C A B C ...). `without_decoder` is what the masked encoder costs beside the
ordinary one: (pretraining - decoder) / supervised. Ratios are medians of the rounds', with 95 %
intervals. Memory is the peak of each process.

    python benchmarks/pretraining.py                           # 32 and 224 pixels on PyTorch
    python benchmarks/pretraining.py --sizes 32 --backend jax

Results go to benchmarks/results/pretraining.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from records import THREADS, save, where
from turns import Contender, Report, add_limits, alternate, limits, ratio_of, serve

RESULTS = Path(__file__).parent / "results" / "pretraining.csv"
KEY = ("size", "backend", "precision")
VARIANT = "convnextv2_atto"
BATCH = {32: 128, 64: 64, 224: 16}
STRIDES = {32: (2, 2, 1, 1), 64: (2, 2, 2, 2), 224: (4, 2, 2, 2)}
KINDS = ("supervised", "pretraining", "decoder")
RATE = 1e-4


def changes(size: int, precision: str) -> list[str]:
    return [
        f"run.precision={precision}",
        f"run.batch_size={BATCH[size]}",
        f"model.variant={VARIANT}",
        f"model.resolution={size}",
        f"model.strides={list(STRIDES[size])}",
        "model.drop_path=0",
        "optimizer.method=adamw",
        "optimizer.ema=0",
        "optimizer.clip_norm=0",
    ]


def supervised(size: int, precision: str, pictures: Any) -> Callable[[], object]:
    from convnext.train.recipe import load_recipe
    from convnext.train.run.learner import classifier

    learner = classifier(load_recipe("cifar10", changes(size, precision)), 10)
    targets = np.eye(10, dtype=np.float32)[np.arange(len(pictures)) % 10]
    return lambda: learner.step([pictures], targets, RATE)


def pretraining(
    size: int, precision: str, pictures: Any, *, whole: bool = True
) -> Callable[[], object]:
    import keras

    from convnext.architecture import VARIANTS
    from convnext.nn.visible import find_places
    from convnext.train.fcmae.model import MaskedAutoencoder, autoencoder, decoded, draw_visible
    from convnext.train.recipe import PretrainingRecipe, load_recipe
    from convnext.train.run.learner import Learner, as_recipe_says

    how = changes(size, precision)
    recipe = load_recipe(
        "fcmae_cifar10", [*how, "masking.decoder_width=512"], kind=PretrainingRecipe
    )
    variant, strides = VARIANTS[VARIANT], STRIDES[size]
    with as_recipe_says(recipe.run):
        network = autoencoder(variant, size, strides, recipe.masking)
        grid = network.output_shape[1]
        visible = draw_visible(len(pictures), grid, recipe.masking.ratio, np.random.default_rng(0))
        if whole:
            learner = Learner(network, variant, recipe.optimizer, recipe.run)
            return lambda: learner.step([pictures, visible], None, RATE)
        count = int(visible[0].sum())
        features = keras.Input((count, 1, variant.dims[-1]))
        mask = keras.Input((grid, grid, 1))
        drawn = decoded(features, find_places(mask, count), recipe.masking, network.patch)
        decoder = keras.Model([features, mask], drawn)
    decoder.compile(keras.optimizers.AdamW(RATE), "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(pictures), count, 1, variant.dims[-1])).astype(np.float32)
    y = rng.normal(size=(len(pictures), *network.output_shape[1:])).astype(np.float32)
    assert isinstance(network, MaskedAutoencoder)
    return lambda: float(decoder.train_on_batch([x, visible], y))


def prepare(kind: str, size: int, precision: str) -> tuple[Report, Callable[[str], Report]]:
    """In a contender's process: build, and take a step each turn."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(BATCH[size], size, size, 3)).astype(np.float32)
    if kind == "supervised":
        step = supervised(size, precision, pictures)
    else:
        step = pretraining(size, precision, pictures, whole=kind == "pretraining")
    for _ in range(3):
        step()

    def turn(_order: str) -> Report:
        began = time.perf_counter()
        step()
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    return {}, turn


def race(size: int, args: argparse.Namespace) -> dict[str, object]:
    environment = {"KERAS_BACKEND": args.backend, "OMP_NUM_THREADS": THREADS}
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(
                Contender(kind, __file__, kind, size, args.precision, **environment)
            )
            for kind in KINDS
        ]
        alternate(contenders, limits(args), f"{size} pixels")
    plain, whole, decoder = (np.array(contender.seconds) for contender in contenders)
    memory = [contender.turns[-1]["mib"] for contender in contenders]
    ratios = {"ratio": ratio_of(whole, plain), "without_decoder": ratio_of(whole - decoder, plain)}
    for name, ratio in ratios.items():
        print(f"{size} pixels, {name}: {ratio}")
    return {
        "size": size,
        "backend": args.backend,
        "precision": args.precision,
        "supervised_ms": round(1e3 * float(np.median(plain)), 1),
        "pretraining_ms": round(1e3 * float(np.median(whole)), 1),
        "decoder_ms": round(1e3 * float(np.median(decoder)), 1),
        **ratios["ratio"].columns("ratio"),
        **ratios["without_decoder"].columns("without_decoder"),
        "supervised_mib": round(memory[0]),
        "pretraining_mib": round(memory[1]),
        "batch": BATCH[size],
        **where(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="32,224")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--precision", default="bfloat16")
    add_limits(parser)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        kind, size, precision = args.serve
        serve(lambda: prepare(kind, int(size), precision))
        return
    for size in map(int, args.sizes.split(",")):
        row = race(size, args)
        print(*(f"{key} {value}" for key, value in list(row.items())[:6]), sep="  ")
        save(RESULTS, [row], KEY)


if __name__ == "__main__":
    main()
