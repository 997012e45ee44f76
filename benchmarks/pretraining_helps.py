"""Does FCMAE help where labels are few? CIFAR-10, labels for a tenth of the training pictures.

An encoder is pretrained on all training pictures without labels. Then the same fine-tuning, with
the same 5,000 labelled pictures and the same number of steps, starts from it and from random
weights, spread as those that the encoder itself began with, once for each seed. What counts is the
accuracy of the averaged weights of the last step on the 10,000 test pictures, and the means over
the seeds. The network is half as wide as V2 Atto and has half of its blocks: what two cores without
bfloat16 pretrain in 75 minutes.

    python benchmarks/pretraining_helps.py CIFAR10 runs/helps            # hours on two cores
    python benchmarks/pretraining_helps.py CIFAR10 runs/helps --pretraining 2 --epochs 5 --seeds 1

It goes on where it was interrupted. Results go to benchmarks/results/pretraining_helps.csv, with
the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

from starts import compare

from convnext.architecture import ARCHITECTURES
from convnext.train import RunResult, pretrain, train

RESULTS = Path(__file__).parent / "results" / "pretraining_helps.csv"
LABELS = 5000
HALF_ATTO = replace(
    ARCHITECTURES["convnextv2_atto"],
    name="convnextv2_half_atto",
    size="half_atto",
    depths=(1, 1, 3, 1),
    dims=(20, 40, 80, 160),
)
STRIDES = "2,2,1,1"  # 64 patches of 4x4 pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with CIFAR-10's train.zip and test.zip")
    parser.add_argument("out", type=Path, help="folder for all runs")
    parser.add_argument("--pretraining", type=int, default=26, help="epochs (default: 26)")
    parser.add_argument("--encoder", type=Path, help="a run of such a pretraining, made before")
    parser.add_argument("--epochs", type=int, default=15, help="of fine-tuning (default: 15)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variant", default=HALF_ATTO.name)
    parser.add_argument("--strides", default=STRIDES, help=f"of stem and stages ({STRIDES})")
    parser.add_argument("--method", default="muon", help="adamw or muon, of all runs")
    parser.add_argument(
        "--initial", default="fan_in", help="spread of the first weights, or published"
    )
    parser.add_argument("--precision", default="auto", help="float32 or bfloat16")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    ARCHITECTURES[HALF_ATTO.name] = HALF_ATTO
    common = [
        f"model.variant={args.variant}",
        f"model.strides=[{args.strides}]",
        f"optimizer.method={args.method}",
        f"model.initial={args.initial}",
        f"run.precision={args.precision}",
    ]
    encoder = args.encoder
    if encoder is None:
        outcome = pretrain(
            "fcmae_cifar10",
            args.data,
            args.out / "encoder",
            changes=[
                *common,
                f"run.epochs={args.pretraining}",
                "run.batch_size=128",
                "masking.decoder_width=64",
                "optimizer.learning_rate=6e-3",
                "optimizer.warmup_epochs=0.5",
                "run.validate_every=2",
            ],
            resume=True,
            workers=args.workers,
            progress=False,
        )
        if not outcome.finished:
            raise SystemExit(130)
        encoder = outcome.folder

    def finetune(name: str, weights: Path | str | None, seed: int) -> RunResult:
        return train(
            "cifar10",
            args.data / "train.zip",
            args.out / f"{name}-{seed}",
            validation=args.data / "test.zip",
            changes=[
                *common,
                f"data.limit={LABELS}",
                f"run.seed={seed}",
                f"run.epochs={args.epochs}",
                f"run.validate_every={args.epochs}",
                "optimizer.warmup_epochs=1",
                "optimizer.ema=0.99",
            ],
            init=weights,
            resume=True,
            workers=args.workers,
            progress=False,
        )

    facts: dict[str, object] = {
        "variant": args.variant,
        "labels": LABELS,
        "strides": args.strides,
        "method": args.method,
        "initial": args.initial,
        "pretraining_epochs": args.pretraining,
        "epochs": args.epochs,
    }
    compare({"random": None, "fcmae": encoder}, args.seeds, finetune, facts, RESULTS)


if __name__ == "__main__":
    main()
