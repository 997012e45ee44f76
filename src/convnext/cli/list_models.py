"""`convnext list`: the published checkpoints as a table or as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.table import Column, output_width, render

if TYPE_CHECKING:
    from convnext.weights.catalog import Checkpoint

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext list                            every published checkpoint
  convnext list "*_384" --family v2        by shell-style pattern on the whole name, and by family
  convnext list --size nano --json         the same facts for a program
  convnext list --cached                   what is on this machine, and where

TOP-1 is ImageNet-1k accuracy in percent as timm measured it, or else as the authors published it.
MADDS are multiply-adds for one picture of the size under PX. Exit code 1: nothing matches.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "list",
        help="list the published checkpoints",
        description="List the published checkpoints, small to large.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pattern", nargs="?", default="*", help='such as "convnextv2_*" (quote it)')
    parser.add_argument("--family", choices=("v1", "v2"), help="only ConvNeXt V1 or only V2")
    parser.add_argument("--size", help="only one size, such as tiny")
    parser.add_argument("--cached", action="store_true", help="only those on this machine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List; 0 if there was anything to list, else 1."""
    from convnext.weights.catalog import CHECKPOINTS, list_models

    names = list_models(args.pattern, family=args.family, size=args.size)
    checkpoints = [CHECKPOINTS[name] for name in names]
    files: list[Path] | None = None
    if args.cached:
        from convnext.weights.download import cached

        found = [(row, path) for row in checkpoints if (path := cached(row))]
        checkpoints, files = [row for row, _ in found], [path for _, path in found]
    if args.json:
        print(json.dumps(_records(checkpoints, files), indent=2))
    elif checkpoints:
        print(render(_columns(checkpoints, files), output_width()))
    else:
        print(_nothing(args))
    return 0 if checkpoints else 1


def _columns(rows: list[Checkpoint], files: list[Path] | None) -> list[Column]:
    columns = [
        Column("NAME", [row.name for row in rows]),
        Column("PARAMS", [f"{row.parameters / 1e6:.1f}M" for row in rows], numeric=True, rank=2),
        Column("MADDS", [f"{row.macs / 1e9:.2f}G" for row in rows], numeric=True, rank=4),
        Column("PX", [str(row.resolution) for row in rows], numeric=True, rank=3),
        Column("CLASSES", [str(row.num_classes or "-") for row in rows], numeric=True, rank=5),
        Column("TOP-1", [_percent(row.timm_top1 or row.top1) for row in rows], numeric=True),
        Column("LICENCE", [row.licence for row in rows], rank=1),
    ]
    if files is not None:
        columns.append(Column("FILE", [str(path) for path in files]))
    return columns


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _records(rows: list[Checkpoint], files: list[Path] | None) -> list[dict[str, object]]:
    records: list[dict[str, object]] = [
        {
            "name": row.name,
            "parameters": row.parameters,
            "macs": row.macs,
            "resolution": row.resolution,
            "num_classes": row.num_classes,
            "top1": row.top1,
            "timm_top1": row.timm_top1,
            "timm_top5": row.timm_top5,
            "licence": row.licence,
        }
        for row in rows
    ]
    if files is not None:
        for record, path in zip(records, files, strict=True):
            record["file"] = str(path)
    return records


def _nothing(args: argparse.Namespace) -> str:
    if args.cached:
        return "No such checkpoint is on this machine; without --cached all are listed."
    return f"No checkpoint is named {args.pattern!r}; try {f'*{args.pattern}*'!r}."
