"""The `convnext` command: runs a subcommand, and turns errors into a message and an exit code.

Slow imports are left to the subcommands, so `convnext --help` is fast.
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
EXIT_INTERRUPTED = 130  # shells' exit code after SIGINT
EXIT_BROKEN_PIPE = 141  # shells' exit code after SIGPIPE

EXAMPLES = """\
examples:
  convnext predict cat.jpg                  classify a picture
  convnext embed photos/ --out photos.npz   pictures as vectors
  convnext explain cat.jpg --out heat.png   heat map of the class
  convnext evaluate convnext_tiny --data val
  convnext bench --against timm             time this package and others on this machine
  convnext list                             every published checkpoint
  convnext list "*.fcmae*" --size tiny      those of one recipe and size
  convnext info convnextv2_tiny             sizes, accuracy, licence, sources
  convnext info facebook/convnext-tiny-224  the same, by its Hugging Face name
  convnext convert model.pth model.safetensors --to huggingface
  convnext quantize convnext_tiny photos/ --out int8.safetensors
  convnext export convnext_tiny --out tiny.onnx
  convnext hub-publish collection/          the TF-Hub collection, and new modules like it
  convnext serve --model convnext_tiny      an HTTP server with a web page
  convnext train cifar10 --data cifar10/ --out runs/first
  convnext pretrain fcmae_cifar10 --data photos/ --out runs/encoder
  convnext verify convnextv2_tiny --picture 000000039769.jpg

`convnext COMMAND --help` shows the help of a command.
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="convnext",
        description="ConvNeXt V1 and V2: use, evaluate, convert, serve and train models.",
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
    """Run a command line and return the exit code."""
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # its encoding may lack characters of names
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
    """Flush, or discard, buffered output: Python would raise again when it flushes on exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
