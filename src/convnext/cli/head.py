"""`convnext head`: make a classifier of class names, from a CLIP model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from convnext.cli.classes import add_class_options, class_names
from convnext.cli.pictures import add_statements, check_target
from convnext.errors import ArgumentError

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext head laion/CLIP-convnext_base_w-laion2B-s13B-b82K --classes pets.txt \\
      --out pets.safetensors
  convnext head clip/ --classes "cat,dog,car" --template "a photo of a {}" --out three.safetensors
  convnext head clip/ --classes names.txt --template imagenet --out names.safetensors
  convnext predict photos/ --model pets.safetensors
  convnext serve --model pets.safetensors

The names become vectors, once, by CLIP's text tower; the file is that of an ordinary classifier,
for every engine, export, server and evaluation. CLIP is a checkpoint or a repository with a text
tower, or a folder with open_clip's files: the weights, open_clip_config.json and tokenizer.json.
pip install 'convnext[text,openvino]'. More: docs/zero_shot.md
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "head",
        help="make a classifier of class names, without training",
        description="Make a classifier of any class names, without training, from a CLIP model.",
        epilog=EXAMPLES,
    )
    parser.add_argument("model", metavar="CLIP", help="a CLIP model with a text tower")
    add_class_options(parser, required=True)
    parser.add_argument("--engine", default="auto", help="default: the fastest installed one")
    add_statements(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="ends in .safetensors"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the classifier, and print a report; 0."""
    if args.out.suffix.lower() != ".safetensors":
        raise ArgumentError(f"{args.out.name}: name a file that ends in .safetensors.")
    check_target(args.out, overwrite=args.overwrite)
    names, templates = class_names(args)
    from convnext.classifier import save_head

    report = save_head(
        args.model,
        names,
        args.out,
        templates,
        engine=args.engine,
        architecture=args.arch,
        preprocess=args.mean_std,
    )
    print(report)
    prompts = "prompt" if len(templates) == 1 else "prompts"
    print(f"{len(names):,} classes, of {len(templates)} {prompts} each.", file=sys.stderr)
    return 0
