"""CLIP's two towers here and in open_clip, in one process and in turns, with random weights.

    python benchmarks/zero_shot.py --model convnext_base_w --names 1000 --rounds 5

open_clip computes eagerly in PyTorch, in float32, texts with all 77 positions. Both use the same
number of threads. The time of each is the median of the rounds, and a ratio is that of the medians.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import importable_torchvision  # noqa: F401
import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from convnext.classifier.zero_shot import ZeroShot
from convnext.engines import open_engine
from convnext.images.labels import labels_for
from convnext.processors import available_processors
from convnext.text.templates import class_vectors

PROMPT = "a photo of a {}."


def timed(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def saved(name, folder):
    """A model of open_clip's with its initial weights, as files of a repository."""
    model = open_clip.create_model(name).eval()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    package = Path(open_clip.__file__).parent
    shutil.copy(package / "bpe_simple_vocab_16e6.txt.gz", folder)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="convnext_base_w")
    parser.add_argument("--names", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    args = parser.parse_args()
    threads = available_processors()
    torch.set_num_threads(threads)
    folder = Path(tempfile.mkdtemp())
    try:
        run(args, folder, threads)
    finally:
        shutil.rmtree(folder)


@torch.inference_mode()
def run(args, folder, threads):
    model = saved(args.model, folder)
    side = model.visual.image_size if isinstance(model.visual.image_size, int) else 256
    print(f"{args.model}, {side} px, {threads} threads, torch {torch.__version__}")
    engines = {
        precision: open_engine(folder, outputs="embedding", precision=precision, threads=threads)
        for precision in ("float32", "auto")
    }
    rng = np.random.default_rng(0)
    for batch in args.batches:
        pixels = rng.integers(0, 256, (batch, side, side, 3), np.uint8)
        tensor = torch.from_numpy(pixels.astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
        works = {"open_clip": lambda t=tensor: model.encode_image(t, normalize=True)}
        works |= {
            f"{engine.name} {precision} ({engine.precision})": lambda e=engine, p=pixels: e.predict(
                p
            )
            for precision, engine in engines.items()
        }
        report(f"image tower, batch {batch}", works, args.rounds)
    names = labels_for("imagenet-1k")
    labels = [f"{names.short(number)} {number}" for number in range(args.names)]
    zero_shot = ZeroShot(folder, threads=threads)
    tokenize = open_clip.get_tokenizer(args.model)

    def theirs():
        for begin in range(0, len(labels), 64):
            texts = [PROMPT.replace("{}", label) for label in labels[begin : begin + 64]]
            model.encode_text(tokenize(texts), normalize=True)

    works = {
        "open_clip": theirs,
        "ours": lambda: class_vectors(zero_shot.texts, labels, PROMPT),
    }
    report(f"{len(labels)} names to class vectors", works, max(1, args.rounds // 3))


def report(title, works, rounds):
    for work in works.values():
        if rounds > 1:
            work()
    times = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(timed(work))
    medians = {name: statistics.median(each) for name, each in times.items()}
    first = next(iter(medians.values()))
    print(title)
    for name, seconds in medians.items():
        print(f"  {name:32} {seconds * 1000:10.1f} ms  {first / seconds:6.2f} x")


if __name__ == "__main__":
    main()
