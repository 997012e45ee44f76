"""`convnext export`: write a model for another runtime, and compare it with the original."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convnext.cli.grammar import add_model, resolve_model
from convnext.errors import ArgumentError

__all__ = ["add_parser", "hear_notices", "run", "steps"]

EXAMPLES = """\
examples:
  convnext export --model convnext_tiny.fb_in1k --out tiny.onnx
  convnext export --model convnext_tiny.fb_in1k --out tiny --format saved_model
  convnext export --model convnextv2_tiny_1k_224_fe --out tiny_fe.tar.gz
  convnext export --model mine.safetensors --out mine.xml --with-preprocessing
  convnext export --model mine.safetensors --out mine.tflite --precision int8 --calibration photos/
  convnext export --model mine.safetensors --out mine.onnx --precision int8 \\
      --calibration int8.safetensors
  convnext export --model convnextv2_atto --out atto.onnx --resolution any --output embedding
  convnext export --model convnextv2_atto --out maps.onnx --output stage_3 --output-stride 8
  convnext export --model convnextv2_nano --random --out nano.onnx

MODEL is a published checkpoint, a repository of the Hugging Face Hub, a module of `convnext
hub-publish`, or a weights file. The suffix of OUT decides the format, unless --format is given.

{formats}

The exported model takes normalised pictures (float32, channels last) and computes logits, unless
options change this. It is run in its runtime and compared with the original; if the outputs differ,
the file is deleted, and the exit code is 2.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "export",
        help="write a model for another runtime, and verify it",
        description="Write a model for another runtime, run it there, and keep it only if its "
        "outputs are\nthose of the original.",
        epilog=EXAMPLES,
    )
    add_model(parser, "a checkpoint, a module or a weights file")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="file to write")
    parser.add_argument("--format", help="default: by the suffix of OUT")
    parser.add_argument(
        "--resolution",
        type=_resolution,
        metavar="N",
        help="side of the pictures, or any (default: the weights')",
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        default="dynamic",
        metavar="N",
        help="batch size, or dynamic (default)",
    )
    parser.add_argument("--precision", help="of the file (default: float32)")
    parser.add_argument(
        "--with-preprocessing", action="store_true", help="take pixels in 0..255 and normalise them"
    )
    parser.add_argument("--softmax", action="store_true", help="compute probabilities, not logits")
    parser.add_argument("--output", metavar="NAME", help="default: logits, or the last there is")
    parser.add_argument(
        "--output-stride",
        type=int,
        metavar="N",
        help="8 or 16: larger feature maps, by dilation (default: 32)",
    )
    parser.add_argument(
        "--drop-path", type=float, metavar="RATE", help="of the last block, for further training"
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        help="for int8: representative pictures, or a file of convnext quantize",
    )
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        help="pictures to compare on (default: those of the calibration, or generated ones)",
    )
    parser.add_argument(
        "--random", action="store_true", help="MODEL is an architecture, with random weights"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.set_defaults(run=run)


def _resolution(text: str) -> int | str:
    return text if text == "any" else int(text)


def _batch(text: str) -> int | str:
    return text if text == "dynamic" else int(text)


def run(args: argparse.Namespace) -> int:
    """Export, and print the comparison; 0."""
    resolve_model(args)
    from convnext.exports import export

    hear_notices()
    with steps() as on_progress:
        report = export(
            **_model(args),
            path=args.out,
            format=args.format,
            batch=args.batch,
            precision=args.precision,
            with_preprocessing=args.with_preprocessing,
            softmax=args.softmax,
            output_stride=args.output_stride,
            drop_path_rate=args.drop_path,
            random=args.random,
            pictures=args.pictures,
            calibration=args.calibration,
            overwrite=args.overwrite,
            on_progress=on_progress,
        )
    print(report)
    return 0


def _model(args: argparse.Namespace) -> dict[str, Any]:
    """The model, resolution and output; a module's name determines all three."""
    from convnext.hub import MODULES

    options = {"model": args.model, "resolution": args.resolution, "output": args.output}
    module = MODULES.get(args.model.lower())
    if module is None or args.random or Path(args.model).exists():
        return options
    if module.feature_extractor and args.output not in (None, "embedding"):
        raise ArgumentError(
            f"{module.name} is a feature extractor, whose output is embedding, not {args.output}. "
            f"For that output, name {module.checkpoint}."
        )
    return {
        "model": module.checkpoint,
        "resolution": args.resolution or module.resolution,
        "output": "embedding" if module.feature_extractor else args.output,
    }


def hear_notices() -> None:
    """Silence the log of licences, as the report prints them."""
    logger = logging.getLogger("convnext")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


@contextmanager
def steps() -> Iterator[Callable[[str], object]]:
    """Yield a function that shows a step and the elapsed time on the terminal."""
    from tqdm import tqdm

    with tqdm(bar_format="{elapsed}  {desc}", disable=None, leave=False, file=sys.stderr) as bar:
        yield bar.set_description_str
