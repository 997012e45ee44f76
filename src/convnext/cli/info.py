"""`convnext info`: describe one checkpoint, as text or as JSON."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.table import output_width

if TYPE_CHECKING:
    from convnext.images.recipe import Preprocess
    from convnext.weights.catalog import Checkpoint

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext info convnextv2_tiny.fcmae_ft_in22k_in1k_384
  convnext info convnext_base               the default checkpoint of an architecture
  convnext info facebook/convnext-tiny-224  also by its name in Hugging Face, TF-Hub, Keras, files
  convnext info convnext_base_w/laion2b_s13b_b82k  and in open_clip
  convnext info convnext_atto --json        as JSON
"""

LABEL_WIDTH = 15


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "info",
        help="describe one checkpoint",
        description="Describe one checkpoint: sizes, accuracy, licence, input, sources.",
        epilog=EXAMPLES,
    )
    parser.add_argument("name", help="any name the checkpoint is known by")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show one checkpoint."""
    from convnext.weights.catalog import get_checkpoint
    from convnext.weights.download import cached

    checkpoint = get_checkpoint(args.name)
    file = cached(checkpoint)
    if args.json:
        print(json.dumps(_record(checkpoint, file), indent=2))
    else:
        print(_page(checkpoint, file, output_width()))
    return 0


def _record(row: Checkpoint, file: Path | None) -> dict[str, object]:
    from convnext.weights.catalog import TERMS

    computed = {
        "task": row.task,
        "num_classes": row.num_classes,
        "resolution": row.resolution,
        "parameters": row.parameters,
        "macs": row.macs,
        "commercial": TERMS[row.licence].commercial,
        "aliases": row.all_names[1:],
        "file": str(file) if file else None,
    }
    return asdict(row) | computed


def _page(row: Checkpoint, file: Path | None, width: int | None) -> str:
    from convnext.architecture import VARIANTS
    from convnext.weights.catalog import TASKS

    variant = VARIANTS[row.variant]
    entries = {
        "task": [f"{row.task}: to {TASKS[row.task]}"],
        "architecture": [
            f"{row.variant}: depths {_numbers(variant.depths)}; channels {_numbers(variant.dims)}"
        ],
        "parameters": [f"{row.parameters:,}"],
        "multiply-adds": [f"{row.macs / 1e9:.2f} G at {row.resolution}x{row.resolution}"],
        "classifier": [_classifier(row)],
        "accuracy": _accuracy(row),
        "preprocessing": [_preprocessing(row.preprocess)],
        "licence": _licence(row),
        "sources": [f"{source} ({source.layout} layout)" for source in row.sources],
        "on this machine": [str(file) if file else "no"],
        "also known as": [", ".join(name for name in row.all_names[1:] if "://" not in name)],
    }
    lines = [row.name]
    for label, values in entries.items():
        for index, value in enumerate(values):
            head = "" if index else label
            lines.extend(_wrapped(f"  {head:<{LABEL_WIDTH}}  ", value, width))
    return "\n".join(lines)


def _wrapped(head: str, value: str, width: int | None) -> list[str]:
    if width is None:
        return [head + value]
    return textwrap.wrap(
        value,
        max(width, 2 * len(head)),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,  # keeps addresses usable
        break_on_hyphens=False,
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(map(str, values))


def _classifier(row: Checkpoint) -> str:
    if row.labels:
        return f"{row.num_classes:,} classes, {row.labels}"
    if row.projection:
        return f"none; the head's output is a vector of {row.projection} numbers"
    return "none"


def _licence(row: Checkpoint) -> list[str]:
    """The licence, whether it allows commercial use, and a different licence on a model card."""
    from convnext.weights.catalog import TERMS, licence_notice

    commercial = TERMS[row.licence].commercial
    lines = [
        licence_notice(row),
        f"Commercial use: {'allowed' if commercial else 'NOT allowed'}.",
    ]
    if row.card_licence:
        lines.append(
            f"The model card on the Hugging Face Hub states {row.card_licence}; {row.licence} is "
            f"the licence stated by {row.origin}."
        )
    return lines


def _accuracy(row: Checkpoint) -> list[str]:
    accuracy = []
    if row.top1 is not None:
        accuracy.append(f"top-1 {row.top1:.1f} as published")
    if row.timm_top1 is not None:
        accuracy.append(f"top-1 {row.timm_top1:.3f}, top-5 {row.timm_top5:.3f} as timm measured")
    if row.zero_shot_top1 is not None:
        accuracy.append(f"top-1 {row.zero_shot_top1:.2f} zero-shot")
    return accuracy or ["not published"]


def _preprocessing(recipe: Preprocess) -> str:
    size = f"{recipe.size}x{recipe.size}"
    if recipe.mode == "squash":
        resize = f"resize to {size}, ignoring the aspect ratio ({recipe.interpolation})"
    else:
        side = recipe.resized_side
        resize = (
            f"resize the short side to {side} ({recipe.interpolation}), crop {size} at the centre"
        )
    return (
        f"{resize}; mean {_numbers(recipe.mean)}, std {_numbers(recipe.std)} on a scale of 0 to 1"
    )
