"""The `convnext` command: finds the subcommand, and turns errors into one line and an exit code.

Nothing slow is imported before a subcommand runs, so `convnext --help` answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence

from convnext import __version__
from convnext.cli import (
    bench,
    convert,
    embed,
    evaluate,
    explain,
    export,
    hub_publish,
    info,
    list_models,
    predict,
    pretrain,
    quantize,
    reconstruct,
    serve,
    train,
    verify,
)
from convnext.errors import ConvNeXtError

__all__ = ["build_parser", "main"]

COMMANDS = (
    *(predict, embed, explain, evaluate, bench, list_models, info, convert, quantize, export),
    *(train, pretrain, reconstruct, hub_publish, serve, verify),
)

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended
EXIT_BROKEN_PIPE = 141  # as a shell reports a program whose reader went away

EXAMPLES = """\
examples:
  convnext predict cat.jpg                  what a picture shows
  convnext embed photos/ --out photos.npz   pictures as vectors
  convnext explain cat.jpg --out heat.png   where the class was seen
  convnext evaluate convnext_tiny --data val
  convnext bench --against timm             how fast this machine is, and others on it
  convnext list                             every published checkpoint
  convnext list "*.fcmae*" --size tiny      those of one recipe and size
  convnext info convnextv2_tiny             sizes, accuracy, licence, sources
  convnext info facebook/convnext-tiny-224  the same, by its Hugging Face name
  convnext convert model.pth model.safetensors --to huggingface
  convnext quantize convnext_tiny photos/ --out int8.safetensors
  convnext export convnext_tiny --out tiny.onnx
  convnext hub-publish collection/          the TF-Hub collection, and more like it
  convnext serve --model convnext_tiny      over HTTP, with a page to try it on
  convnext train cifar10 --data cifar10/ --out runs/first
  convnext pretrain fcmae_cifar10 --data photos/ --out runs/encoder
  convnext verify convnextv2_tiny --picture 000000039769.jpg

`convnext COMMAND --help` says more about a command.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command in it."""
    parser = argparse.ArgumentParser(
        prog="convnext",
        description="ConvNeXt V1 and V2: the published weights and what can be done with them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"convnext {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the return value is the exit code."""
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have letters that it has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("convnext: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _flush()
        return EXIT_BROKEN_PIPE
    except (ConvNeXtError, OSError) as error:
        _flush()
        if args.debug:
            traceback.print_exc()
        else:
            print(f"convnext: {error}", file=sys.stderr)
        return EXIT_ERROR
    return code


def _flush() -> None:
    """What has nowhere to go is dropped: Python would fail to write it once more on exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
