"""`convnext quantize`: calibrate a model for int8, and measure the effect on its outputs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.grammar import add_model, resolve_model
from convnext.cli.pictures import add_statements, check_target
from convnext.errors import ArgumentError

if TYPE_CHECKING:
    from convnext.int8.calibration import Calibration

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext quantize photos/ --model convnext_tiny.fb_in1k --out tiny-int8.safetensors
  convnext predict cat.jpg --model convnext_tiny.fb_in1k --precision int8 \\
      --calibration tiny-int8.safetensors

Pictures should be representative; one or two hundred are enough. FILE is small and has no weights:
give it as --calibration with the same model and --precision int8. Needs the engine openvino.
"""

WORST = 3  # layers to name


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "quantize",
        help="prepare a model for int8, from some pictures",
        description="Calibrate a model for int8, and print how well its outputs then agree with "
        "float32.",
        epilog=EXAMPLES,
    )
    add_model(parser, "a published checkpoint or a weights file", was_positional=False)
    parser.add_argument(
        "pictures", nargs="+", metavar="PICTURES", help="pictures, folders, archives or patterns"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="a .safetensors file to write"
    )
    parser.add_argument("--size", type=int, help="side of the pictures (default: the weights')")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    add_statements(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Calibrate, write the file, and print the agreement with float32; 0."""
    if args.size is not None and args.size < 1:
        raise ArgumentError(f"--size must be 1 or more; got {args.size}.")
    resolve_model(args, "pictures")
    check_target(args.out, overwrite=args.overwrite)
    from tqdm import tqdm

    from convnext.engines import quantize
    from convnext.int8.calibration import check_name

    check_name(args.out)
    with tqdm(unit=" steps", delay=1, disable=None, leave=False) as bar:

        def on_progress(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        calibration = quantize(
            args.model,
            args.pictures,
            size=args.size,
            preprocess=args.mean_std,
            architecture=args.arch,
            on_progress=on_progress,
        )
    calibration.save(args.out)
    print(_report(calibration))
    print(f"Written to {args.out}.", file=sys.stderr)
    return 0


def _report(calibration: Calibration) -> str:
    agreed = calibration.agreement
    assert agreed is not None
    worst = sorted(calibration.layers.items(), key=lambda item: item[1].decibels)[:WORST]
    named = ", ".join(f"{name} ({levels.decibels:.0f} dB)" for name, levels in worst)
    return (
        f"{len(calibration.layers)} linear layers, from {calibration.pictures} pictures.\n"
        f"Against float32 on these pictures: the same largest output for {agreed.top1:.1%}, "
        f"outputs differ by {agreed.mean_difference:.2g} on average and "
        f"{agreed.max_difference:.2g} at most (noise {agreed.decibels:.0f} dB below the signal).\n"
        f"Layers with the largest errors: {named}."
    )
