"""`convnext verify`: compare a checkpoint's logits for one picture with the published ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.table import Column, render
from convnext.errors import ImageError, UnknownNameError

if TYPE_CHECKING:
    from PIL import Image

    from convnext.weights.catalog import Checkpoint

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext verify convnextv2_tiny --picture 000000039769.jpg
  convnext verify convnextv2_atto --picture cats.png --weights convnextv2_atto_1k_224_ema.pt

The picture is number 000000039769 of COCO's val2017 set, two cats: the JPEG of that set, or a PNG
made of it. Weights come from the cache or are downloaded, unless a file is given. Needs Keras;
KERAS_BACKEND selects the backend. Exit code 1: the logits differ from the published ones.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "verify",
        help="compare a checkpoint's first logits with the published ones",
        description="Run a checkpoint on one known picture and compare its first logits with "
        "those that were published.",
        epilog=EXAMPLES,
    )
    parser.add_argument("name", help="any name the checkpoint is known by")
    parser.add_argument("--picture", metavar="PATH", required=True, help="COCO's picture")
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="a weights file, instead of downloading"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compare; 0 if the logits are as published, else 1."""
    import numpy as np

    from convnext.images.decode import decode
    from convnext.weights.catalog import get_checkpoint, licence_notice
    from convnext.weights.download import fetch
    from convnext.weights.published_logits import PUBLISHED_LOGITS, TOLERANCE

    checkpoint = get_checkpoint(args.name)
    if checkpoint.name not in PUBLISHED_LOGITS:
        raise UnknownNameError(
            "checkpoint with published logits", checkpoint.name, PUBLISHED_LOGITS
        )
    published = PUBLISHED_LOGITS[checkpoint.name]
    picture = decode(args.picture)
    _check_picture(picture, args.picture)
    weights = args.weights or fetch(checkpoint).path
    print(licence_notice(checkpoint))
    ours = _logits(checkpoint, weights, picture)[: len(published)]
    differences = np.abs(np.subtract(ours, published))
    worst = differences.max()
    print(_table(ours, published, differences.tolist()))
    same = bool(worst <= TOLERANCE)
    print(
        f"{checkpoint.name} {'answers as published' if same else 'DOES NOT ANSWER AS PUBLISHED'}: "
        f"the largest difference is {worst:.4f}, allowed are {TOLERANCE:g}."
    )
    return 0 if same else 1


def _check_picture(picture: Image.Image, path: str) -> None:
    import numpy as np
    from PIL.Image import Resampling

    from convnext.weights.published_logits import PICTURE, PICTURE_SIZE, PICTURE_TILES

    expected = np.array(PICTURE_TILES)
    tiles = np.asarray(picture.resize(expected.shape[1::-1], Resampling.BOX)).astype(int)
    if picture.size != PICTURE_SIZE or np.abs(tiles - expected).max() > 1:
        raise ImageError(
            f"{path} is another picture ({picture.width} x {picture.height} pixels). Give "
            f"{PICTURE}, {PICTURE_SIZE[0]} x {PICTURE_SIZE[1]} pixels, as COCO distributes it: "
            "neither resized nor recompressed."
        )


def _logits(checkpoint: Checkpoint, weights: Path, picture: Image.Image) -> list[float]:
    import convnext
    from convnext.images.transform import normalise, pixels

    create = {"v1": convnext.create_convnext_v1, "v2": convnext.create_convnext_v2}
    variant = convnext.VARIANTS[checkpoint.variant]
    recipe = checkpoint.preprocess
    model = create[variant.family](
        variant.size,
        checkpoint.num_classes,
        (recipe.size, recipe.size, 3),
        classifier_activation=None,
        weights=weights,
    )
    batch = normalise(pixels(picture, recipe), recipe)[None]
    row: list[float] = model.predict_on_batch(batch)[0].tolist()
    return row


def _table(ours: Sequence[float], published: Sequence[float], differences: Sequence[float]) -> str:
    columns = {"OURS": ours, "PUBLISHED": published, "DIFFERENCE": differences}
    return render(
        [
            Column("LOGIT", [str(index) for index in range(len(ours))], numeric=True),
            *(
                Column(title, [f"{value:.4f}" for value in values], numeric=True)
                for title, values in columns.items()
            ),
        ]
    )
