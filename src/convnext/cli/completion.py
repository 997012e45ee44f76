"""`convnext completion`: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse

from convnext.errors import MissingDependencyError

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext completion bash > ~/.local/share/bash-completion/completions/convnext
  convnext completion zsh > ~/.zfunc/_convnext      with ~/.zfunc in fpath
  convnext completion tcsh > ~/.convnext.completion

Needs shtab: pip install 'convnext[completion]'.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "completion",
        help="complete commands and options in a shell",
        description="Print a script that completes commands, options and files in a shell.",
        epilog=EXAMPLES,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="shell to print it for")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script; 0."""
    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError("shtab", "completion") from error
    for action in args.main_parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.help = "command"  # without one, shtab leaves the commands out
    print(shtab.complete(args.main_parser, args.shell))
    return 0
