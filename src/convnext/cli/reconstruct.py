"""`convnext reconstruct`: what a pretrained model thinks of the hidden parts of pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext reconstruct runs/encoder cat.jpg dog.jpg --out grid.png
  convnext reconstruct runs/encoder photos/ --out grid.png --seed 3

Of each picture you see the original, what the encoder saw of it, and what the decoder thought of
the rest. After training on normalised patches, each patch has the original's brightness and
contrast.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="draw what a pretrained model thinks of hidden parts",
        description="Hide parts of pictures, and draw what a run of `convnext pretrain` thinks of "
        "them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help="files, folders, archives")
    parser.add_argument("--out", metavar="PNG", type=Path, required=True, help="what to write")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="which parts are hidden")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw."""
    from convnext.engines.keras import choose_backend

    choose_backend()
    from convnext.train.pretraining import reconstruct

    print(reconstruct(args.model, args.pictures, args.out, seed=args.seed))
    return 0
