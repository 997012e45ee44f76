"""The main job: classify photographs, show where each class was seen, and how fast it is.

    python examples/demo.py

With a network it takes a published checkpoint for ImageNet's thousand classes, fetched once.
Without one it takes the bundled model, which knows the ten classes of CIFAR-10 at 32 pixels, and
photographs of these. One look of a model that small can be sure and wrong, so it looks at each
photograph four times: all of it and its middle, each also mirrored. No framework is needed.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import defaultdict
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageOps

from convnext import Classifier
from convnext.errors import WeightsUnavailableError
from convnext.images.sheets import contact_sheet
from convnext.weights.catalog import get_checkpoint
from convnext.weights.download import cached, is_offline

CHECKPOINT = "convnext_atto.d2_in1k"  # 15 MB, Apache-2.0, 75.7 % top-1 on ImageNet
PHOTOS = Path(__file__).parent / "photos"
KNOWN = (PHOTOS / "chelsea.png", *sorted((PHOTOS / "cifar10").glob("*.jpg")))
SHEET = Path("demo.png")
UNSURE = 0.88  # below this, two of three test pictures get the right class; above, 49 of 50
MARGIN = 0.1  # of the picture, around its middle
PICTURES = 2000
SECONDS = 3  # to wait for the Hub


def main() -> int:
    """Classify, draw, time."""
    started = time.perf_counter()
    classifier = published()
    photos = sorted(PHOTOS.glob("*.*g"))
    if classifier is None:
        classifier, photos = Classifier("bundled"), list(KNOWN)
    panels = []
    for path in photos:
        (first, probability), (second, _), *_ = mean_probabilities(classifier, path)
        sure = probability > UNSURE or classifier.info.name != "bundled"
        doubt = "" if sure else f", or {short(second)}? Not sure"
        print(f"{path.name:14} {probability:6.1%} {short(first)}{doubt}")
        explanation = classifier.explain(path, first)
        score = replace(explanation.target, probability=probability)
        title = path.name if sure else f"{path.name}: not sure"
        panels.append(replace(explanation, id=title, target=score).draw(224))
    contact_sheet(panels, 2).save(SHEET)
    print(f"\n{SHEET}: the pictures, and the regions that decided.")
    print(f"{time.perf_counter() - started:.1f} s so far, with the model's loading and compiling.")
    time_it(classifier)
    return 0


def published() -> Classifier | None:
    """The published checkpoint, or None if it is neither in the cache nor to be fetched."""
    checkpoint = get_checkpoint(CHECKPOINT)
    there = cached(checkpoint) is not None
    if not there and not hub_answers():
        print(f"No network: the bundled model answers instead of {CHECKPOINT}.\n")
        return None
    print(f"{'Using' if there else 'Fetching'} {CHECKPOINT} ({checkpoint.licence}).\n")
    try:
        return Classifier(CHECKPOINT)
    except WeightsUnavailableError:
        print("It cannot be fetched: the bundled model answers instead.\n")
        return None


def hub_answers() -> bool:
    """Whether the Hugging Face Hub accepts a connection."""
    url = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if is_offline() or url.hostname is None:
        return False
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname, port), SECONDS).close()
    except OSError:
        return False
    return True


def short(label: str) -> str:
    """The first of a class's synonyms."""
    return label.split(",")[0]


def time_it(classifier: Classifier) -> None:
    """Print how many generated pictures are classified in a second."""
    side = classifier.preprocess.size
    count = PICTURES if side <= 64 else PICTURES // 10
    rng = np.random.default_rng(0)
    noise = list(rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8))
    for _ in classifier.stream(noise[:100], batch_size=100):
        pass  # to warm up
    began = time.perf_counter()
    answered = sum(1 for _ in classifier.stream(noise, batch_size=100))
    seconds = time.perf_counter() - began
    print(f"{answered:,} generated pictures of {side}x{side}: {answered / seconds:,.0f} a second.")


def mean_probabilities(
    classifier: Classifier, picture: Path | IO[bytes]
) -> list[tuple[str, float]]:
    """Each class and its mean probability over several looks, the likeliest first."""
    with Image.open(picture) as file:
        whole = file.convert("RGB")
    middle = ImageOps.crop(whole, round(MARGIN * min(whole.size)))
    looks = [whole, ImageOps.mirror(whole), middle, ImageOps.mirror(middle)]
    total: dict[str, float] = defaultdict(float)
    for prediction in classifier.stream(looks, top=len(classifier.labels)):
        for score in prediction.classes:
            total[score.label] += score.probability / len(looks)
    return sorted(total.items(), key=itemgetter(1), reverse=True)


if __name__ == "__main__":
    sys.exit(main())
