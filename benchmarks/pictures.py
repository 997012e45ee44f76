"""Times pictures from files to answers: ours, transformers' pipeline and a plain loop on timm.

1,000 JPEGs of about 500x375, made of four photographs. Beside `Classifier.stream` runs the bare
engine on tensors that are ready: what is lost to it is what reading pictures costs.

Each contender lives in a process of its own; they take turns (A B C A B C ...), each turn with the
same part of the pictures. What counts is the ratio in a round, its median and 95 % interval. All
have the same random weights.

    python benchmarks/pictures.py                      # tiny and atto, some minutes
    python benchmarks/pictures.py convnext_tiny --rounds 1 --only stream,engine
    python benchmarks/pictures.py --precision float32

Results go to benchmarks/results/pictures.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from photographs import write_photographs
from records import THREADS, save, where
from turns import Contender, Report, add_limits, alternate, limits, ratio_of, serve

from convnext import VARIANTS

RESULTS = Path(__file__).parent / "results" / "pictures.csv"
MODELS = ("convnext_tiny", "convnextv2_atto")
CONTENDERS = ("stream", "engine", "transformers", "timm")
KEY = ("model", "contender", "precision")
PICTURES = 1000
BATCH = 32


# ---- in a contender's process


@dataclass(frozen=True)
class Opened:
    """A model: what is done before the clock starts, and what it times."""

    run: Callable[[Any], object]
    precision: str = "float32"
    prepare: Callable[[Sequence[Path]], Any] = lambda files: files


def prepare(contender: str, folder: Path, precision: str) -> tuple[Report, Any]:
    """Open the model; a turn's order names the pictures."""
    files = sorted((folder / "pictures").iterdir())
    ways = {"stream": stream, "engine": engine, "transformers": transformers, "timm": timm}
    opened = ways[contender](folder, precision)
    opened.run(opened.prepare(files[:BATCH]))

    def turn(order: str) -> Report:
        start, stop = map(int, order.split())
        prepared = opened.prepare(files[start:stop])
        begun = time.perf_counter()
        opened.run(prepared)
        return {"seconds": time.perf_counter() - begun}

    return {"precision": opened.precision}, turn


def batched(files: Sequence[Path]) -> Iterator[list[Path]]:
    rest = iter(files)
    while batch := list(islice(rest, BATCH)):
        yield batch


def stream(folder: Path, precision: str) -> Opened:
    from convnext import Classifier

    classifier = Classifier(folder / "convnext.safetensors", precision=precision)

    def run(files: Sequence[Path]) -> None:
        for prediction in classifier.stream(files, batch_size=BATCH):
            assert prediction.error is None

    return Opened(run, engine(folder, precision).precision)


def engine(folder: Path, precision: str) -> Opened:
    from convnext.engines import open_engine
    from convnext.images.batches import batches
    from convnext.images.recipe import Preprocess

    opened = open_engine(folder / "convnext.safetensors", precision=precision)

    def prepare(files: Sequence[Path]) -> list[Any]:
        return [batch.pixels for batch in batches(files, Preprocess(), BATCH)]

    def run(arrays: list[Any]) -> None:
        for pixels in arrays:
            opened.predict(pixels)

    return Opened(run, opened.precision, prepare)


def transformers(folder: Path, precision: str) -> Opened:
    del precision
    from loading import torch_with_torchvision

    torch_with_torchvision()
    from transformers import pipeline

    pipe = pipeline("image-classification", model=str(folder / "huggingface"), batch_size=BATCH)

    def run(files: Sequence[Path]) -> None:
        for _ in pipe((str(path) for path in files), top_k=5):
            pass

    return Opened(run)


def timm(folder: Path, precision: str) -> Opened:
    del precision
    from loading import torch_with_torchvision

    torch: Any = torch_with_torchvision()
    from PIL import Image
    from safetensors.torch import load_file
    from timm.data import create_transform
    from timm.models.convnext import ConvNeXt

    variant = VARIANTS[(folder / "variant").read_text()]
    state = load_file(folder / "timm.safetensors")
    model = ConvNeXt(
        depths=variant.depths,
        dims=variant.dims,
        use_grn=variant.has_grn,
        ls_init_value=variant.layer_scale_init_value,
        conv_mlp=state["stages.0.blocks.0.mlp.fc1.weight"].ndim == 4,
    ).eval()
    model.load_state_dict(state)
    transform = create_transform(224, interpolation="bicubic", crop_pct=0.875)

    def run(files: Sequence[Path]) -> None:
        with torch.inference_mode():
            for batch in batched(files):
                pictures = [transform(Image.open(path).convert("RGB")) for path in batch]
                model(torch.stack(pictures)).softmax(-1).topk(5)

    return Opened(run)


# ---- in the process that keeps time


def run(name: str, folder: Path, args: argparse.Namespace) -> list[dict[str, object]]:
    write_model(name, folder)
    with ExitStack() as stack:
        contenders = []
        for way in args.only:
            one = Contender(way, __file__, way, folder, args.precision, OMP_NUM_THREADS=THREADS)
            contenders.append(stack.enter_context(one))
        share = PICTURES // 4

        def order(number: int) -> str:
            start = (number - 1) % 4 * share
            return f"{start} {start + share}"

        alternate(contenders, limits(args), name, order=order)
    ratios = [ratio_of(one.seconds, contenders[0].seconds) for one in contenders]
    for contender, ratio in list(zip(contenders, ratios, strict=True))[1:]:
        print(f"{name}, stream over {contender.name}: {ratio}")
    return [
        {
            "model": name,
            "contender": contender.name,
            "precision": contender.report["precision"],
            "pictures_per_s": round(share / statistics.median(contender.seconds), 2),
            **ratio.columns("stream_over_this"),
            "pictures": share,
            "batch": BATCH,
            **where(),
        }
        for contender, ratio in zip(contenders, ratios, strict=True)
    ]


def write_model(name: str, folder: Path) -> None:
    """The same random weights for everyone, each in the layout it reads."""
    from convnext.bench.material import write_material, write_weights

    model = write_weights(name, folder, random=True)
    none = np.zeros((0, 224, 224, 3), np.uint8)
    write_material(folder, model, none, ("timm", "huggingface"))
    (folder / "variant").write_text(name)
    write_processor(folder / "huggingface")


def write_processor(folder: Path) -> None:
    """What transformers does to pictures: the recipe of the published checkpoints."""
    recipe = {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 224},
        "crop_pct": 0.875,
        "resample": 3,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, help="variants")
    add_limits(parser)
    parser.add_argument("--only", type=lambda text: text.split(","), default=CONTENDERS)
    parser.add_argument("--precision", default="auto", help="of ours")
    parser.add_argument("--pictures", type=Path, help="a folder made before, to be kept")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        way, material, precision = args.serve
        serve(lambda: prepare(way, Path(material), precision))
        return
    for name in args.models:
        with TemporaryDirectory(prefix="convnext-pictures-") as folder:
            pictures = Path(folder) / "pictures"
            if args.pictures:
                args.pictures.mkdir(exist_ok=True)
                pictures.symlink_to(args.pictures.resolve())
            else:
                pictures.mkdir()
            if len(list(pictures.iterdir())) < PICTURES:
                write_photographs(pictures, PICTURES)
            rows = run(name, Path(folder), args)
        for row in rows:
            print(
                f"{row['model']:16} {row['contender']:13} {row['precision']:9} "
                f"{row['pictures_per_s']:>8} pictures/s  stream is {row['stream_over_this']:.2f}x"
            )
        save(RESULTS, rows, KEY)


if __name__ == "__main__":
    main()
