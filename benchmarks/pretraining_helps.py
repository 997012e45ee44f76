"""Does FCMAE help where labels are few? CIFAR-10, labels for a tenth of the training pictures.

An encoder is pretrained on all training pictures without labels. Then the same fine-tuning, with
the same 5,000 labelled pictures and the same number of steps, starts from it and from random
weights, once for each seed: from those of the recipe, spread by fan-in, and from those that the
encoder itself began with, spread as published. What counts is the accuracy of the averaged weights
of the last step on the 10,000 test pictures, and the means over the seeds. The network is half as
wide as V2 Atto and has half of its blocks: what two cores without bfloat16 pretrain in 30 minutes.

    python benchmarks/pretraining_helps.py CIFAR10 runs/helps            # an hour on two cores
    python benchmarks/pretraining_helps.py CIFAR10 runs/helps --pretraining 2 --epochs 5 --seeds 1

It goes on where it was interrupted. Results go to benchmarks/results/pretraining_helps.csv, with
the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

from starts import compare

from convnext.train import Outcome, pretrain, train
from convnext.variants import VARIANTS, Variant

RESULTS = Path(__file__).parent / "results" / "pretraining_helps.csv"
LABELS = 5000
HALF_ATTO = Variant("convnextv2_half_atto", "v2", "half_atto", (1, 1, 3, 1), (20, 40, 80, 160))
STRIDES = "2,2,2,1"  # leaves 4x4 patches to hide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with CIFAR-10's train.zip and test.zip")
    parser.add_argument("out", type=Path, help="folder for all runs")
    parser.add_argument("--pretraining", type=int, default=12, help="epochs (default: 12)")
    parser.add_argument("--epochs", type=int, default=10, help="of fine-tuning (default: 10)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variant", default=HALF_ATTO.name)
    parser.add_argument("--strides", default=STRIDES, help=f"of stem and stages ({STRIDES})")
    parser.add_argument("--method", default="adamw", help="adamw or muon, of all runs")
    parser.add_argument(
        "--initial", default="published", help="spread of the encoder's first weights, or fan_in"
    )
    parser.add_argument("--precision", default="auto", help="float32 or bfloat16")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    VARIANTS[HALF_ATTO.name] = HALF_ATTO
    common = [
        f"model.variant={args.variant}",
        f"model.strides=[{args.strides}]",
        f"optimizer.method={args.method}",
        f"run.precision={args.precision}",
    ]
    encoder = pretrain(
        "fcmae_cifar10",
        args.data,
        args.out / "encoder",
        changes=[
            *common,
            f"model.initial={args.initial}",
            f"run.epochs={args.pretraining}",
            "run.batch_size=128",
            "masking.decoder_width=128",
            "optimizer.warmup_epochs=1",
            "run.validate_every=5",
        ],
        resume=True,
        workers=args.workers,
        progress=False,
    )
    if not encoder.finished:
        raise SystemExit(130)

    def finetune(name: str, weights: Path | str | None, seed: int) -> Outcome:
        return train(
            "cifar10",
            args.data / "train.zip",
            args.out / f"{name}-{seed}",
            validation=args.data / "test.zip",
            changes=[
                *common,
                f"data.limit={LABELS}",
                f"model.initial={'published' if name == 'random-published' else 'fan_in'}",
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
    starts = {"random": None, "random-published": None, "fcmae": encoder.folder}
    compare(starts, args.seeds, finetune, facts, RESULTS)


if __name__ == "__main__":
    main()
