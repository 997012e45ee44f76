"""Times training data: pictures a second from files to batches, ours and PyTorch's DataLoader.

The same JPEGs, the same augmentation (timm's own transforms on the other side), the same number of
worker processes, nothing that trains. They take turns (A B A B ...); the ratio is the median of the
rounds', with its 95 % interval. Batches that were made before a turn do not count. Small pictures
lie in class folders; from the second epoch on ours are kept decoded.

    python benchmarks/training_data.py                  # 32 and 224 pixels, some minutes
    python benchmarks/training_data.py --sizes 32 --rounds 1

Results go to benchmarks/results/training_data.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from photographs import write_photographs
from PIL import Image
from records import save, where
from turns import Until, add_limits, limits, ratio_of, timed, times_of

from convnext.data.examples import open_examples
from convnext.images.recipe import Preprocess
from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.augment.transforms import Augment, Augmentation
from convnext.train.input.loader import Loader
from convnext.train.input.order import Order

RESULTS = Path(__file__).parent / "results" / "training_data.csv"
CLASSES = 10
BATCH = {32: 256, 64: 128, 224: 32}
PICTURES = {32: 5120, 64: 1280, 224: 640}
STEPS = {32: 60, 64: 30, 224: 12}  # of a turn
AHEAD = 8  # batches of a turn before the clock starts, more than either makes ahead
# Without the published mstd0.5, with which timm asks Pillow for 0 bits now and then: an error in
# Pillow 13.
POLICY = "rand-m9-inc1"


def write_data(folder: Path, size: int) -> None:
    """Class folders of photographs; small ones are shrunk photographs."""
    flat = folder / "flat"
    flat.mkdir()
    write_photographs(flat, min(PICTURES[size], 640))
    for label in range(CLASSES):
        (folder / "data" / f"class-{label}").mkdir(parents=True)
    for number, file in enumerate(sorted(flat.iterdir())):
        target = folder / "data" / f"class-{number % CLASSES}"
        if size == 224:
            file.rename(target / file.name)
            continue
        with Image.open(file) as photograph:
            for copy in range(PICTURES[size] // 640):
                part = photograph.crop((copy * 20, copy * 10, copy * 20 + 300, copy * 10 + 300))
                part.resize((size, size)).save(target / f"{copy}-{file.name}", quality=95)


def ours(data: Path, size: int, workers: int) -> Iterator[object]:
    """Batches without end."""
    examples = open_examples(data)
    small = size == 32
    settings = Augment(padding=4 if small else 0, rand_augment=POLICY, erase=0.25)
    preprocess = Preprocess(size=size, crop_fraction=1.0 if small else 0.875)
    mixer = Mixer(Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1), CLASSES)
    loader = Loader(
        examples,
        Augmentation(settings, preprocess),
        mixer,
        Order(examples.labels, seed=0),
        batch_size=BATCH[size],
        seed=0,
        workers=workers,
    )
    return loader.batches(0, 10**9)


def dataloader(data: Path, size: int, workers: int) -> Iterator[object]:
    """Batches without end of PyTorch's DataLoader over timm's transforms, mixed by timm."""
    import importable_torchvision  # noqa: F401
    import torch
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.mixup import Mixup
    from timm.data.random_erasing import RandomErasing
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    if size == 32:
        fill = tuple(round(255 * mean) for mean in IMAGENET_DEFAULT_MEAN)
        options = {"img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
        transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                rand_augment_transform(POLICY, options),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
                RandomErasing(0.25, mode="pixel", device="cpu"),
            ]
        )
    else:
        transform = create_transform(
            size, is_training=True, auto_augment=POLICY, interpolation="bicubic", re_prob=0.25,
            re_mode="pixel",
        )  # fmt: skip
    loader = torch.utils.data.DataLoader(
        ImageFolder(str(data), transform),
        BATCH[size],
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
    )
    mixup = Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=CLASSES)
    return (mixup(*batch) for batch in chain.from_iterable(repeat(loader)))


def turn(batches: Iterator[Any], size: int) -> float:
    """Seconds of some batches."""
    for _ in range(AHEAD):
        next(batches)
    return timed(lambda: deque(islice(batches, STEPS[size]), 0))


def race(size: int, workers: int, until: Until) -> list[dict[str, object]]:
    """One row for each contender."""
    ways: dict[str, Callable[[Path, int, int], Iterator[object]]] = {
        "convnext": ours,
        "torch DataLoader + timm": dataloader,
    }
    with TemporaryDirectory() as name:
        write_data(Path(name), size)
        running = {way: make(Path(name) / "data", size, workers) for way, make in ways.items()}
        for batches in running.values():  # an epoch or two, which decode everything once
            for _ in range(PICTURES[size] // BATCH[size] + 1):
                next(batches)
        turns = {way: partial(turn, batches, size) for way, batches in running.items()}
        times = times_of(turns, until, f"{size} pixels")
    rows = []
    for way, own in times.items():
        rate = STEPS[size] * BATCH[size] / statistics.median(own)
        ratio = ratio_of(times["torch DataLoader + timm"], own)
        row = {"size": size, "contender": way, "workers": workers, "pictures_per_s": round(rate)}
        rows.append({**row, **ratio.columns("ratio"), **where()})
        print(
            f"{size:4} {way:26} {rate:9.0f} pictures/s; DataLoader's time over this: {ratio}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="32,224")
    parser.add_argument("--workers", type=int, default=2)
    add_limits(parser)
    parser.add_argument("--dry", action="store_true", help="print, and store nothing")
    args = parser.parse_args()
    rows = []
    for size in map(int, args.sizes.split(",")):
        rows += race(size, args.workers, limits(args))
    if not args.dry:
        save(RESULTS, rows, ("size", "contender"))


if __name__ == "__main__":
    main()
