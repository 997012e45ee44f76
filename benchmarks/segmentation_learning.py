"""Does segmentation learn, and is a pretrained encoder a better start than random weights?

Data are scenes that this script draws: discs, squares, triangles and crosses on a photograph, each
filled with a piece of one of three others. The class of a pixel is the photograph that it is from.
The same training starts from the encoder of the bundled model, which knows ten classes of
photographs and no masks, and from random weights, once for each seed. What counts is the mIoU of
the last step on other scenes from the same photographs.

    python benchmarks/segmentation_learning.py runs/scenes                 # minutes for each run
    python benchmarks/segmentation_learning.py runs/camvid --data camvid --ignore 11 --side 96

With --data, pictures and masks of one's own take the place of the scenes; their results are printed
alone. It goes on where it was interrupted. Results go to benchmarks/results/segmentation_learning
.csv, with the machine and the versions, and the curves beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

os.environ.setdefault("KERAS_BACKEND", "torch")

from starts import compare

from convnext.images.masks import write_mask
from convnext.images.palettes import palette
from convnext.train import RunResult, train

RESULTS = Path(__file__).parent / "results" / "segmentation_learning.csv"
PHOTOS = Path(__file__).parent.parent / "examples" / "photos"
CLASSES = ("astronaut", "chelsea", "coffee", "rocket")  # the photographs; the first is behind
SHAPES = ("disc", "square", "triangle", "cross")
SCENE = 80  # pixels
COUNT = (2, 5)  # shapes in a scene, at least and at most
SMOOTH = 4  # a shape is drawn this many times larger, so that its border is not ragged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for all runs")
    parser.add_argument("--data", type=Path, help="pictures and masks instead of scenes")
    parser.add_argument("--ignore", type=int, default=255, help="number of pixels without a class")
    parser.add_argument("--scenes", type=int, default=160, help="to train on (default: 160)")
    parser.add_argument("--side", type=int, default=64, help="of crops, in pixels (default: 64)")
    parser.add_argument("--strides", default="4,2,2,2", help="of stem and stages (4,2,2,2)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data = args.data or args.out / "scenes"
    if not data.exists():
        draw_scenes(data, {"train": args.scenes, "val": 40})

    def trained(name: str, weights: Path | str | None, seed: int) -> RunResult:
        return train(
            "segment_small_data",
            data,
            args.out / f"{name}-{seed}",
            changes=[
                f"run.seed={seed}",
                f"run.epochs={args.epochs}",
                "run.validate_every=2",
                f"masks.ignore={args.ignore}",
                f"model.resolution={args.side}",
                f"model.strides=[{args.strides}]",
                "model.drop_path=0",
                # Random weights as they learn best: spread by their inputs, at the same rate in
                # all layers.
                "model.initial=fan_in",
                f"optimizer.layer_decay={0.9 if weights else 1.0}",
                "optimizer.learning_rate=2e-3",
                "augment.ratio=[0.8,1.6]",
                "optimizer.warmup_epochs=1",
            ],
            init=weights,
            resume=True,
            workers=args.workers,
            progress=False,
        )

    facts: dict[str, object] = {
        "data": args.data.name if args.data else f"{args.scenes} scenes",
        "side": args.side,
        "strides": args.strides,
        "epochs": args.epochs,
    }
    results = args.out / "results.csv" if args.data else RESULTS
    compare({"random": None, "bundled": "bundled"}, args.seeds, trained, facts, results, "mean_iou")
    names = [(start, seed) for start in ("random", "bundled") for seed in range(args.seeds)]
    draw_curves({pair: curve(args.out / f"{pair[0]}-{pair[1]}") for pair in names}, results)


def draw_scenes(folder: Path, counts: dict[str, int]) -> None:
    """Write scenes and their masks, the same ones each time."""
    photos = [Image.open(next(PHOTOS.glob(f"{name}.*"))).convert("RGB") for name in CLASSES]
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for kind in ("pictures", "masks"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            scene, mask = draw_scene(photos, rng)
            scene.save(folder / "pictures" / split / f"{number:04}.png")
            write_mask(folder / "masks" / split / f"{number:04}.png", mask, palette(len(CLASSES)))
    (folder / "classes.txt").write_text("\n".join(CLASSES), "utf-8")


def draw_scene(
    photos: list[Image.Image], rng: np.random.Generator
) -> tuple[Image.Image, np.ndarray]:
    """A scene, and the class of each of its pixels."""
    scene = piece(photos[0], rng)
    mask = np.zeros((SCENE, SCENE), np.uint8)
    for _ in range(int(rng.integers(*COUNT, endpoint=True))):
        number = int(rng.integers(1, len(CLASSES)))
        shape = draw_shape(SHAPES[int(rng.integers(len(SHAPES)))], rng)
        scene.paste(piece(photos[number], rng), mask=shape)
        mask[np.asarray(shape) > 127] = number
    return scene, mask


def piece(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random part of a photograph."""
    side = int(rng.integers(SCENE, min(photo.size), endpoint=True))
    left, top = (int(rng.integers(0, whole - side, endpoint=True)) for whole in photo.size)
    return photo.resize((SCENE, SCENE), box=(left, top, left + side, top + side))


def draw_shape(name: str, rng: np.random.Generator) -> Image.Image:
    """A shape of random size and place, turned by a random angle, as a grey picture."""
    side = SCENE * SMOOTH
    radius = side * rng.uniform(0.16, 0.3)
    centre = rng.uniform(0.15, 0.85, 2) * side
    turn = rng.uniform(0, 2 * np.pi)
    picture = Image.new("L", (side, side))
    pen = ImageDraw.Draw(picture)
    if name == "disc":
        pen.ellipse([*(centre - radius), *(centre + radius)], fill=255)
    elif name == "cross":
        for angle in (turn, turn + np.pi / 2):
            along = np.array([np.cos(angle), np.sin(angle)]) * radius * 1.15
            across = np.array([-along[1], along[0]]) * 0.28
            corners = (along + across, along - across, -along - across, -along + across)
            pen.polygon([tuple(centre + corner) for corner in corners], fill=255)
    else:
        count = 3 if name == "triangle" else 4
        angles = turn + 2 * np.pi * np.arange(count) / count
        corners = centre + 1.2 * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        pen.polygon([tuple(corner) for corner in corners], fill=255)
    return picture.resize((SCENE, SCENE), Image.Resampling.BOX)


def curve(run: Path) -> list[tuple[float, float]]:
    """The epochs of a run's validations, and their mIoU."""
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["epoch"], r["mean_iou"]) for r in records if r["kind"] == "validation"]


def draw_curves(curves: dict[tuple[str, int], list[tuple[float, float]]], results: Path) -> None:
    """Write the curves of all runs as a table and a small plot."""
    from matplotlib.figure import Figure

    with results.with_name(f"{results.stem}_curves.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("start", "seed", "epoch", "mean_iou"))
        for (start, seed), points in curves.items():
            writer.writerows((start, seed, epoch, round(iou, 4)) for epoch, iou in points)
    figure = Figure(figsize=(4.6, 3), layout="constrained")
    axes = figure.subplots()
    for (start, seed), points in curves.items():
        colour = {"random": "C7", "bundled": "C0"}[start]
        label = start if seed == 0 else None
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, label=label)
    axes.set(xlabel="epoch", ylabel="mIoU of validation", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(results.with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    main()
