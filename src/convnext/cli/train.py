"""`convnext train`: train or fine-tune a classifier or a segmentation model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.cli.grammar import old_spelling
from convnext.cli.huge_pages import restart_in_huge_pages
from convnext.errors import ArgumentError

if TYPE_CHECKING:
    from convnext.train import RunResult

__all__ = ["add_parser", "add_run_options", "listing", "missing", "run", "start"]

EXAMPLES = """\
examples:
  convnext train finetune_small_data --data flowers/ --out runs/flowers --init convnext_tiny
  convnext train linear_probe --data flowers.zip --out runs/probe --init convnext_tiny
  convnext train cifar10 --data cifar10/ --out runs/cifar10
  convnext train cifar10 --data cifar10/ --out runs/cifar10 --resume
  convnext train my.toml --data imagenet/ --out runs/mine --set run.accumulate=8
  KERAS_BACKEND=jax convnext train my.toml --data imagenet/ --out runs/mine --devices 4
  KERAS_BACKEND=jax convnext train my.toml ... --hosts 10.0.0.1:29500,0,2     on the first of two
  KERAS_BACKEND=jax convnext train my.toml ... --hosts 10.0.0.1:29500,1,2     on the second
  KERAS_BACKEND=torch torchrun --nproc-per-node 4 -m convnext train my.toml ...
  convnext train cifar10 --data cifar10/ --out runs/taught --teacher teacher.onnx
  convnext train cifar10 --data cifar10/ --out runs/again --teacher cifar10.answers
  convnext train segment_small_data --data street/ --out runs/street --init convnextv2_atto
  convnext train cifar10 --data cifar10/ --show-batch batch.png     draw an augmented batch
  convnext train list                                               the recipes in the package
  convnext train settings                                           all settings of a recipe

then:
  convnext predict cat.jpg --model runs/flowers/model
  convnext evaluate --model runs/flowers/model --data flowers-test/

DATA is a folder with a folder for each class, a zip or tar archive of it, a folder with train/ and
val/ (or train.zip and test.zip), ImageNet's original files, arrays (.npz, MNIST's files), or a CSV
of paths and labels. Without validation data, a tenth of the pictures is held out.

A recipe with the sections [head] and [masks] trains a segmentation model. Its data is a folder or
an archive with pictures/ and masks/ (PNG, pixels are class numbers); docs/segmentation_training.md.

A run can be stopped at any moment, even by kill -9: with --resume it continues from its last saved
state, with the same results, bit for bit, as without interruption. Ctrl-C stops after the current
step and saves the state; a second Ctrl-C stops at once.

KERAS_BACKEND selects the backend: torch, jax or tensorflow. On a CPU torch is the fastest. On Linux
the process starts once more, with its memory in huge pages, unless GLIBC_TUNABLES is set.

Several devices and hosts share every batch: run.batch_size is the total. All hosts need the same
pictures, and RUN on a shared file system. A run can be resumed with another number of hosts. On
tensorflow a run has one device. docs/scale_training.md describes Slurm and Kubernetes.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "train",
        help="train or fine-tune a classifier or a segmentation model",
        description="Train a classifier or a segmentation model from random or published weights. "
        "The result is a\nfolder for use in all other commands.",
        epilog=EXAMPLES,
    )
    add_run_options(parser, example="optimizer.learning_rate=1e-3")
    parser.add_argument("--validation", metavar="DATA", type=Path, help="validation pictures")
    parser.add_argument(
        "--teacher",
        metavar="MODEL",
        help="classifier to learn from: a checkpoint's name, a file, a run, ONNX, or stored "
        "answers",
    )
    parser.add_argument(
        "--store-answers",
        metavar="FILE",
        type=Path,
        help="store the teacher's answers in FILE.answers, for --teacher of the same run again",
    )
    parser.add_argument(
        "--show-batch", metavar="PNG", type=Path, help="draw an augmented batch, and stop"
    )
    parser.set_defaults(run=run)


def add_run_options(parser: argparse.ArgumentParser, *, example: str) -> None:
    """Add the options common to `train` and `pretrain`.

    Args:
        parser: The command's.
        example: An example of `--set`.
    """
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="one of `list`, or a file")
    parser.add_argument("--data", metavar="DATA", type=Path, help="pictures: see below")
    parser.add_argument("--out", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="changes",
        help=f"change a setting of the recipe: {example}",
    )
    parser.add_argument(
        "--init", metavar="WEIGHTS", help="initial weights: a checkpoint's name, a file or a run"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="reading processes (default: one per processor)"
    )
    parser.add_argument(
        "--devices",
        metavar="N",
        type=int,
        help="devices of this host that share a batch, on JAX (default: one; with --hosts all)",
    )
    parser.add_argument(
        "--hosts",
        metavar="HOST:PORT,RANK,COUNT",
        help="address of the first host, rank of this one from 0, and number of hosts",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs as well")
    for mode in MODES:
        parser.add_argument(f"--{mode}", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Train; 0 if the run finished, 130 if it was interrupted."""
    from convnext.train.recipe import Recipe, SegmentationRecipe

    if (text := listing(args, Recipe, SegmentationRecipe)) is not None:
        print(text)
        return 0
    lacking = missing(args, "recipe", "data", *(() if args.show_batch else ("out",)))
    if lacking is not None:
        print(f"{lacking} is missing; `convnext train --help` shows examples.", file=sys.stderr)
        return 2
    if args.show_batch:
        return _show_batch(args)
    return start(
        args,
        _task,
        validation=args.validation,
        teacher=args.teacher,
        store_answers=args.store_answers,
    )


def _task() -> Callable[..., RunResult]:
    from convnext.train import train

    return train


def start(
    args: argparse.Namespace, task: Callable[[], Callable[..., RunResult]], **options: Any
) -> int:
    """Run a recipe; 0 if the run finished, 130 if it was interrupted.

    Args:
        args: The command's arguments.
        task: Imports `train` or `pretrain`, once the backend is chosen.
        options: Arguments that only one of them has.
    """
    if args.restarts:
        restart_in_huge_pages()
    from convnext.engines.keras import choose_backend

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    choose_backend()
    outcome = task()(
        args.recipe,
        args.data,
        args.out,
        changes=args.changes,
        init=args.init,
        resume=args.resume,
        workers=args.workers,
        devices=args.devices,
        hosts=args.hosts,
        tensorboard=args.tensorboard,
        say=lambda line: print(line, flush=True),
        **options,
    )
    return 0 if outcome.finished else 130


def _show_batch(args: argparse.Namespace) -> int:
    from convnext.data.examples import open_data
    from convnext.data.multi_label import open_multi_label_data
    from convnext.train.augment.mixing import Mixer
    from convnext.train.augment.transforms import Augmentation
    from convnext.train.input.preview import contact_sheet
    from convnext.train.recipe import Recipe, load_recipe, recipe_kind

    if recipe_kind(args.recipe) is not Recipe:
        raise ArgumentError("--show-batch draws batches of classifiers alone.")
    recipe = load_recipe(args.recipe, args.changes)
    opened = open_multi_label_data if recipe.labels.multi else open_data
    examples, _ = opened(
        args.data,
        args.validation,
        limit=recipe.data.limit,
        held_out=recipe.data.hold_out,
        seed=recipe.run.seed,
    )
    contact_sheet(
        examples,
        Augmentation(recipe.augment, recipe.model.preprocess),
        Mixer(recipe.mixing, len(examples.classes)),
        recipe.run.seed,
        args.show_batch,
        balanced=recipe.data.balanced,
    )
    print(f"{args.show_batch}: an augmented batch.")
    return 0


def missing(args: argparse.Namespace, *names: str) -> str | None:
    """The name of the first missing argument, as on the command line; None if all are given."""
    for name in names:
        if getattr(args, name) is None:
            return name.upper() if name == "recipe" else f"--{name}"
    return None


def listing(args: argparse.Namespace, *kinds: type[Any]) -> str | None:
    """The text of `list` or `settings`, if it is requested instead of a run.

    Args:
        args: The command's arguments.
        kinds: The kinds of recipes to list.
    """
    for mode, listed in MODES.items():
        if getattr(args, mode):
            old_spelling(f"convnext {args.command} --{mode}", f"convnext {args.command} {mode}")
        if getattr(args, mode) or args.recipe == mode:
            return "\n\n".join(listed(kind) for kind in kinds)
    return None


def _recipes(kind: type[Any]) -> str:
    """The package's recipes of a kind, each with its header comment."""
    from convnext.train.recipe import published_recipes, recipe_header

    parts = []
    for name in published_recipes(kind):
        lines = recipe_header(name, kind).splitlines()
        parts.append("\n".join([name, *(f"    {line}" for line in lines)]))
    return "\n\n".join(parts)


def _settings(kind: type[Any]) -> str:
    """Every setting of a kind of recipe, with its default and meaning."""
    from convnext.train.settings import describe

    rows = describe(kind)
    titles = {"recipes": "Recipes of classifiers", "recipes/segmentation": "Of segmentation models"}
    width = max(len(row.name) for row in rows)
    defaults = max(len(row.default) for row in rows)
    lines = [f"{r.name:{width}}  {r.default:{defaults}}  {r.about}" for r in rows]
    return "\n".join([f"{titles[kind.folder]}:", *lines] if kind.folder in titles else lines)


MODES = {"list": _recipes, "settings": _settings}
