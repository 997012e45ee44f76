"""`convnext convert`: convert weights between layouts and file formats."""

from __future__ import annotations

import argparse
from pathlib import Path

from convnext.cli.pictures import add_statements, check_target, threshold_of

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext convert convnext_tiny_1k_224_ema.pth tiny.safetensors
  convnext convert tiny.safetensors pytorch_model.bin --to huggingface
  convnext convert convnextv2_base.fcmae_ft_in1k base.safetensors --dtype float16
  convnext convert my_model.keras model.h5 --to keras_applications
  convnext convert tags.pth tags.safetensors --threshold 0.5  a multi-label model
  convnext convert segmenter.safetensors upernet --to huggingface  a folder for transformers

IN is a file, a folder or the name of a published checkpoint; its layout is detected. The suffix of
OUT decides the format: .safetensors, .pth, .npz, or, for the layouts keras_applications and kecam,
.h5. Without a suffix, a segmentation model in the layout huggingface becomes a folder.

layouts:
{layouts}
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "convert",
        help="convert weights to another library's names or another file format",
        description="Convert weights, tensor by tensor, and verify the written file.",
        epilog=EXAMPLES,
    )
    parser.add_argument("source", metavar="IN", help="a file, a folder or a checkpoint's name")
    parser.add_argument("target", metavar="OUT", type=Path, help="the file to write")
    parser.add_argument("--from", dest="from_layout", metavar="LAYOUT", help="layout of IN")
    parser.add_argument(
        "--to",
        dest="to_layout",
        metavar="LAYOUT",
        default="convnext",
        help="layout of OUT (default: convnext)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="round to this float type (default: that of IN)",
    )
    add_statements(parser)
    parser.add_argument(
        "--threshold",
        metavar="P",
        help="say that it is a multi-label model: least probability of a label, or a .csv file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, and print a report; 0."""
    check_target(args.target, overwrite=args.overwrite)
    from convnext.weights.save import convert

    report = convert(
        args.source,
        args.target,
        from_layout=args.from_layout,
        to_layout=args.to_layout,
        dtype=args.dtype,
        architecture=args.arch,
        preprocess=args.mean_std,
        thresholds=threshold_of(args),
    )
    print(report)
    return 0
