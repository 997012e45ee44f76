"""`convnext pretrain`: pretrain an encoder on pictures without labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from convnext.cli.train import add_run_options, listing, missing, start

if TYPE_CHECKING:
    from convnext.train import RunResult

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext pretrain fcmae_cifar10 --data photos/ --out runs/encoder
  convnext pretrain fcmae_imagenet1k --data imagenet/ --out runs/tiny \\
      --set model.variant=convnextv2_tiny --set run.accumulate=32
  convnext pretrain fcmae_cifar10 --data photos/ --out runs/encoder --resume
  KERAS_BACKEND=torch torchrun --nproc-per-node 4 -m convnext pretrain fcmae_cifar10 ...
  convnext reconstruct cat.jpg dog.jpg --model runs/encoder --out grid.png
  convnext train cifar10 --data cifar10/ --out runs/tuned --init runs/encoder \\
      --set model.strides=[2,2,1,1]         as in pretraining
  convnext pretrain list                    the recipes in the package
  convnext pretrain settings                all settings of a recipe

DATA is any folder of pictures, with any subfolders; labels are not read. A tenth of the pictures,
5,000 at most, is held out for validation. RUN/reconstructions has reconstructions of masked
pictures; their look tells little about the quality of the encoder.

RUN/model has the encoder without decoder. For the authors' training layout with decoder:
  convnext convert runs/encoder/model/pretraining.safetensors fcmae.pth --to fcmae
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "pretrain",
        help="pretrain an encoder on pictures without labels (FCMAE)",
        description="Pretrain a V2 encoder as a masked autoencoder, on pictures without labels.",
        epilog=EXAMPLES,
    )
    add_run_options(parser, example="masking.ratio=0.75")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Pretrain; 0 if the run finished, 130 if it was interrupted."""
    from convnext.train.recipe import PretrainingRecipe

    if (text := listing(args, PretrainingRecipe)) is not None:
        print(text)
        return 0
    if (lacking := missing(args, "recipe", "data", "out")) is not None:
        print(f"{lacking} is missing; `convnext pretrain --help` shows examples.", file=sys.stderr)
        return 2
    return start(args, _task)


def _task() -> Callable[..., RunResult]:
    from convnext.train.fcmae.pretraining import pretrain

    return pretrain
