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
  convnext list                            every published checkpoint, by task
  convnext list --task embedding           classification, embedding, clip or encoder
  convnext list --commercial               those whose licence allows commercial use
  convnext list --licence mit --size tiny  by licence and size
  convnext list "*_384" --family v2        by shell-style pattern on the whole name, and by family
  convnext list --size nano --json         as JSON
  convnext list --cached                   the files in the cache

A star marks the default checkpoint of an architecture, the one that a name such as convnext_tiny
means. TOP-1 is ImageNet-1k accuracy in percent as measured by timm, or else as published; ZERO-SHOT
the same without training on it, by comparison with texts. MADDS are multiply-adds for one picture
of the size under PX. Exit code 1: nothing matches.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "list",
        help="list the published checkpoints",
        description="List the published checkpoints, small to large.",
        epilog=EXAMPLES,
    )
    parser.add_argument("pattern", nargs="?", default="*", help='such as "convnextv2_*" (quote it)')
    parser.add_argument("--family", choices=("v1", "v2"), help="only ConvNeXt V1 or only V2")
    parser.add_argument("--size", help="only one size, such as tiny")
    parser.add_argument("--task", help="only checkpoints for this task: see below")
    parser.add_argument("--licence", metavar="NAME", help="only weights under it, such as MIT")
    parser.add_argument(
        "--commercial",
        action="store_true",
        help="only weights whose licence allows commercial use",
    )
    parser.add_argument("--cached", action="store_true", help="only those in the cache")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List; 0 if there was anything to list, else 1."""
    from convnext.weights.catalog import CHECKPOINTS, list_models

    names = list_models(
        args.pattern,
        family=args.family,
        size=args.size,
        task=args.task,
        licence=args.licence,
        commercial=True if args.commercial else None,
    )
    checkpoints = [CHECKPOINTS[name] for name in names]
    files: dict[str, Path] | None = None
    if args.cached:
        from convnext.weights.download import cached

        files = {row.name: path for row in checkpoints if (path := cached(row))}
        checkpoints = [row for row in checkpoints if row.name in files]
    if args.json:
        print(json.dumps(_records(checkpoints, files), indent=2))
    elif checkpoints:
        print(_tables(checkpoints, files))
    else:
        print(_nothing(args))
    return 0 if checkpoints else 1


def _tables(rows: list[Checkpoint], files: dict[str, Path] | None) -> str:
    """A table for each task, with a title if there is more than one."""
    from convnext.weights.catalog import TASKS

    by_task = {task: [row for row in rows if row.task == task] for task in TASKS}
    tables = {
        task: render(_columns(alike, files), output_width())
        for task, alike in by_task.items()
        if alike
    }
    if len(tables) == 1:
        return next(iter(tables.values()))
    return "\n\n".join(
        f"{task} ({len(by_task[task])}): these {TASKS[task]}\n\n{table}"
        for task, table in tables.items()
    )


def _columns(rows: list[Checkpoint], files: dict[str, Path] | None) -> list[Column]:
    classify, compare = rows[0].task == "classification", rows[0].task == "clip"
    columns = [
        Column("NAME", [row.name for row in rows]),
        Column("PARAMS", [f"{row.parameters / 1e6:.1f}M" for row in rows], numeric=True, rank=2),
        Column("MADDS", [f"{row.macs / 1e9:.2f}G" for row in rows], numeric=True, rank=4),
        Column("PX", [str(row.resolution) for row in rows], numeric=True, rank=3),
    ]
    if classify:
        columns.insert(1, Column("", ["*" if _is_default(row) else "" for row in rows], rank=5))
        classes = [str(row.num_classes) for row in rows]
        columns.append(Column("CLASSES", classes, numeric=True, rank=5))
        accuracies = [_percent(row.timm_top1 or row.top1) for row in rows]
        columns.append(Column("TOP-1", accuracies, numeric=True))
    else:
        columns.append(Column("VECTOR", [_vector(row) for row in rows], numeric=True, rank=5))
    if compare:
        accuracies = [_percent(row.zero_shot_top1) for row in rows]
        columns.append(Column("ZERO-SHOT", accuracies, numeric=True))
    columns.append(Column("LICENCE", [row.licence for row in rows], rank=1))
    if files is not None:
        columns.append(Column("FILE", [str(files[row.name]) for row in rows]))
    return columns


def _is_default(row: Checkpoint) -> bool:
    from convnext.weights.catalog import default_checkpoint

    return row.name == default_checkpoint(row.variant).name


def _vector(row: Checkpoint) -> str:
    from convnext.architecture import VARIANTS

    return str(row.projection or VARIANTS[row.variant].dims[-1]) if row.head_norm else "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _records(rows: list[Checkpoint], files: dict[str, Path] | None) -> list[dict[str, object]]:
    from convnext.weights.catalog import TERMS

    records: list[dict[str, object]] = [
        {
            "name": row.name,
            "task": row.task,
            "parameters": row.parameters,
            "macs": row.macs,
            "resolution": row.resolution,
            "num_classes": row.num_classes,
            "projection": row.projection,
            "top1": row.top1,
            "timm_top1": row.timm_top1,
            "timm_top5": row.timm_top5,
            "zero_shot_top1": row.zero_shot_top1,
            "licence": row.licence,
            "commercial": TERMS[row.licence].commercial,
        }
        for row in rows
    ]
    if files is not None:
        for record, row in zip(records, rows, strict=True):
            record["file"] = str(files[row.name])
    return records


def _nothing(args: argparse.Namespace) -> str:
    if args.cached:
        return "No such checkpoint is in the cache. List all without --cached."
    if args.pattern == "*":
        return "No checkpoint matches all options. Leave one out."
    return f"No checkpoint matches {args.pattern!r}. Try {f'*{args.pattern}*'!r}."
