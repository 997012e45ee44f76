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
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

from starts import compare

from convnext.train import Outcome, train

RESULTS = Path(__file__).parent / "results" / "finetuning_helps.csv"
FILES = "{}-images-idx3-ubyte.gz"
PICTURES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with Fashion-MNIST's four files")
    parser.add_argument("out", type=Path, help="folder for all runs")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()

    def finetune(name: str, weights: Path | str | None, seed: int) -> Outcome:
        return train(
            "fashion_mnist",
            args.data / FILES.format("train"),
            args.out / f"{name}-{seed}",
            validation=args.data / FILES.format("t10k"),
            changes=[
                f"data.limit={PICTURES}",
                f"run.seed={seed}",
                f"run.epochs={args.epochs}",
                f"run.validate_every={args.epochs}",
                "run.batch_size=32",
                "optimizer.ema=0.99",
            ],
            init=weights,
            resume=True,
            workers=args.workers,
            progress=False,
        )

    facts: dict[str, object] = {"pictures": PICTURES, "epochs": args.epochs}
    compare({"random": None, "bundled": "bundled"}, args.seeds, finetune, facts, RESULTS)


if __name__ == "__main__":
    main()
