"""Is the bundled model a better start than random weights for another task with few pictures?

1,000 pictures of Fashion-MNIST, a hundred of each class. The same training starts from the bundled
model, which knows photographs of animals and vehicles, and from random weights, once for each seed.
What counts is the accuracy of the averaged weights of the last step on the 10,000 test pictures.

    python benchmarks/finetuning_helps.py FASHION runs/fashion     # some minutes for each seed

FASHION is the folder of the four files of Fashion-MNIST. It goes on where it was interrupted.
Results go to benchmarks/results/finetuning_helps.csv, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import gzip
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")

from starts import compare

from convnext.train import RunResult, train

RESULTS = Path(__file__).parent / "results" / "finetuning_helps.csv"
EACH = 100  # pictures of a class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with Fashion-MNIST's four files")
    parser.add_argument("out", type=Path, help="folder for all runs")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    data = args.out / "few.npz"
    write_few(args.data, data)

    def finetune(name: str, weights: Path | str | None, seed: int) -> RunResult:
        return train(
            "fashion_mnist",
            data,
            args.out / f"{name}-{seed}",
            changes=[
                f"run.seed={seed}",
                f"run.epochs={args.epochs}",
                f"run.validate_every={args.epochs}",
                "run.batch_size=32",
                "optimizer.ema=0.99",
                "optimizer.method=adamw",
                "optimizer.warmup_epochs=1",
                "model.drop_path=0.1",
            ],
            init=weights,
            resume=True,
            workers=args.workers,
            progress=False,
        )

    facts: dict[str, object] = {"pictures": 10 * EACH, "epochs": args.epochs}
    compare({"random": None, "bundled": "bundled"}, args.seeds, finetune, facts, RESULTS)


def write_few(source: Path, target: Path) -> None:
    """The first pictures of each class to train with, and all to test with."""
    arrays = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        arrays[f"x_{split}"] = read_idx(source / f"{name}-images-idx3-ubyte.gz", 16, (-1, 28, 28))
        arrays[f"y_{split}"] = read_idx(source / f"{name}-labels-idx1-ubyte.gz", 8, (-1,))
    labels = arrays["y_train"]
    few = np.sort(np.concatenate([np.flatnonzero(labels == c)[:EACH] for c in range(10)]))
    arrays |= {"x_train": arrays["x_train"][few], "y_train": labels[few]}
    np.savez(target, **arrays)


def read_idx(path: Path, head: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=head).reshape(shape)


if __name__ == "__main__":
    main()
