"""`convnext reconstruct`: draw a pretrained model's reconstruction of masked pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.grammar import add_model, resolve_model

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext reconstruct cat.jpg dog.jpg --model runs/encoder --out grid.png
  convnext reconstruct photos/ --model runs/encoder --out grid.png --seed 3

For each picture: the original, the part visible to the encoder, and the decoder's reconstruction of
the rest. If the run trained on normalised patches, each patch gets the original's brightness and
contrast.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="draw a pretrained model's reconstruction of masked pictures",
        description="Mask parts of pictures, and draw their reconstruction by a model of "
        "`convnext pretrain`.",
        epilog=EXAMPLES,
    )
    add_model(parser, "folder of the run", was_positional=False)
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help="files, folders, archives")
    parser.add_argument("--out", metavar="PNG", type=Path, required=True, help="file to write")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of the masks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw the reconstructions; 0."""
    resolve_model(args, "pictures")
    from convnext.engines.keras import choose_backend

    choose_backend()
    from convnext.train.fcmae.pretraining import reconstruct

    print(reconstruct(Path(args.model), args.pictures, args.out, seed=args.seed))
    return 0
