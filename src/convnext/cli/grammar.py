"""The grammar that all commands share: the model's option, old spellings, tables in help texts."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable

from convnext.errors import ArgumentError

__all__ = ["HelpWithTables", "add_model", "old_spelling", "resolve_model"]

WIDTH = 100  # of help texts


def add_model(parser: argparse.ArgumentParser, help: str, *, was_positional: bool = True) -> None:
    """Add `--model`, and the positional MODEL that it replaces.

    Args:
        parser: The command's.
        help: The help of the option.
        was_positional: Whether the command took MODEL as an argument of its own; False where it
            has other arguments, of which the first was the model.
    """
    parser.add_argument("--model", metavar="MODEL", help=help)
    if was_positional:
        parser.add_argument("old_model", nargs="?", help=argparse.SUPPRESS)


def resolve_model(args: argparse.Namespace, others: str | None = None) -> None:
    """Set `args.model`, also from the old positional spelling, with a message.

    Args:
        args: Parsed by a parser with `add_model`.
        others: Name of the list of arguments whose first was the model, where there is one.

    Raises:
        ArgumentError: No model is given, or two.
    """
    old = getattr(args, "old_model", None)
    if others is not None and args.model is None:
        values = getattr(args, others)
        if len(values) > 1:
            old, *values = values
            setattr(args, others, values)
    if old is not None and args.model is not None:
        raise ArgumentError(f"Two models are given: {args.model} and {old}. Leave out one.")
    if old is not None:
        args.model = old
        old_spelling(f"convnext {args.command} {old}", f"convnext {args.command} --model {old}")
    if args.model is None:
        raise ArgumentError(
            f"Give a model: convnext {args.command} --model MODEL. `convnext list` has names."
        )


def old_spelling(old: str, new: str) -> None:
    """Print that a spelling has been replaced."""
    print(
        f"convnext: `{old}` is now `{new}`; the old spelling works until the next release.",
        file=sys.stderr,
    )


class HelpWithTables(argparse.RawDescriptionHelpFormatter):
    """Help whose tables are filled in on request, so that their modules are not imported before."""

    def format_help(self) -> str:
        """The help text."""
        text = super().format_help()
        for name, table in TABLES.items():
            if name in text:
                text = text.replace(name, table())
        return text


def _peers() -> str:
    from convnext.bench.contenders import PEERS

    return _table({name: peer.about for name, peer in PEERS.items()})


def _formats() -> str:
    from convnext.exports.formats import FORMATS

    return _table(
        {row.name: f"{row.about} ({', '.join(row.precisions)})" for row in FORMATS.values()}
    )


def _layouts() -> str:
    from convnext.weights.layouts import LAYOUTS

    return _table({name: layout.about for name, layout in LAYOUTS.items()})


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows)) + 4
    lines = []
    for name, about in rows.items():
        lines += textwrap.wrap(
            about, WIDTH, initial_indent=f"  {name:{width - 2}}", subsequent_indent=" " * width
        )
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "{peers}": _peers,
    "{formats}": _formats,
    "{layouts}": _layouts,
}
