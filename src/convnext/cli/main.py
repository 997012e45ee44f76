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
from typing import Any

from convnext import __version__
from convnext.cli import (
    bench,
    completion,
    convert,
    embed,
    evaluate,
    explain,
    export,
    head,
    hub_publish,
    info,
    list_models,
    predict,
    pretrain,
    quantize,
    reconstruct,
    search,
    segment,
    serve,
    temperature,
    train,
    verify,
)
from convnext.cli.grammar import HelpWithTables
from convnext.errors import ConvNeXtError, UnknownNameError

__all__ = ["build_parser", "main"]

GROUPS = {
    "use": (predict, segment, embed, search, explain, evaluate, list_models, info),
    "train": (train, head, temperature, pretrain, reconstruct),
    "ship": (export, quantize, serve, convert, hub_publish),
    "inspect": (bench, verify, completion),
}

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # shells' exit code after SIGINT
EXIT_BROKEN_PIPE = 141  # shells' exit code after SIGPIPE

EXAMPLES = """\
examples:
  convnext predict cat.jpg                  classify a picture
  convnext embed photos/ --out photos.npz   pictures as vectors
  convnext search photos.npz "red bicycle"  the nearest of them to a text or a picture
  convnext head CLIP --classes names.txt --out names.safetensors
  convnext explain cat.jpg --out heat.png   heat map of the class
  convnext segment photos/ --out masks/     the class of each pixel
  convnext evaluate --model convnext_tiny --data val
  convnext bench --against timm             time this package and others on this machine
  convnext list                             every published checkpoint
  convnext list "*.fcmae*" --size tiny      those of one recipe and size
  convnext info convnextv2_tiny             sizes, accuracy, licence, sources
  convnext info facebook/convnext-tiny-224  the same, by its Hugging Face name
  convnext convert model.pth model.safetensors --to huggingface
  convnext quantize photos/ --model convnext_tiny --out int8.safetensors
  convnext export --model convnext_tiny --out tiny.onnx
  convnext hub-publish collection/          the TF-Hub collection, and new modules like it
  convnext serve --model convnext_tiny      an HTTP server with a web page
  convnext train cifar10 --data cifar10/ --out runs/first
  convnext pretrain fcmae_cifar10 --data photos/ --out runs/encoder
  convnext verify convnextv2_tiny --picture 000000039769.jpg

`convnext COMMAND --help` shows the help of a command.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command in it."""
    parser = argparse.ArgumentParser(
        prog="convnext",
        usage="convnext [-h] [--version] [--debug] COMMAND ...",
        description="ConvNeXt: published weights, and commands that use, train and ship them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"convnext {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(
        dest="command", prog="convnext", required=True, help=argparse.SUPPRESS
    )
    lines = []
    for title, commands in GROUPS.items():
        group = _Group(subparsers)
        for command in commands:
            command.add_parser(group)
        lines += [f"{title}:", *group.lines, ""]
    parser.set_defaults(main_parser=parser)
    parser.epilog = "\n".join([*lines, EXAMPLES])
    return parser


class _Group:
    """Collects the help of commands, which argparse would list without groups."""

    def __init__(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        self.subparsers = subparsers
        self.lines: list[str] = []

    def add_parser(self, name: str, *, help: str, **options: Any) -> argparse.ArgumentParser:
        """Add a command as `add_parser` of the parser does; its description may be left out."""
        self.lines.append(f"  {name:14}{help}")
        options = {"description": f"{help[0].upper()}{help[1:]}.", **options}
        return self.subparsers.add_parser(
            name, help=help, formatter_class=HelpWithTables, **options
        )


def _check_command(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Suggest the nearest command if the first word is none.

    Raises:
        UnknownNameError: It is none.
    """
    [action] = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    first = next((word for word in argv if not word.startswith("-")), None)
    if first is not None and first not in action.choices:
        raise UnknownNameError("command", first, action.choices)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the return value is the exit code."""
    parser = build_parser()
    try:
        _check_command(parser, sys.argv[1:] if argv is None else argv)
    except UnknownNameError as error:
        print(f"convnext: {error}", file=sys.stderr)
        return EXIT_ERROR
    args = parser.parse_args(argv)
    args.restarts = argv is None
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
