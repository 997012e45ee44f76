"""The main job: what pictures show, where it was seen, and how fast, with the bundled model.

    python examples/demo.py

Needs neither a network nor a training framework. The bundled model knows the ten classes of
CIFAR-10, at 32 pixels; a picture of none of them should leave it unsure. One look can be sure
and wrong, so each photograph is seen four times: all of it and its middle, each also mirrored.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from convnext import Classifier
from convnext.classifier.heatmap import contact_sheet

PHOTOS = Path(__file__).parent / "photos"
SHEET = Path("demo.png")
UNSURE = 0.7  # below this, two of three test pictures get the right class; above, 39 of 40
MARGIN = 0.1  # of the picture, around its middle
PICTURES, SIDE = 2000, 32


def main() -> int:
    """Classify, draw, time."""
    started = time.perf_counter()
    classifier = Classifier("bundled")
    print(f"{classifier.variant.name} for {', '.join(classifier.labels.names)}.\n")
    panels = []
    for path in sorted(PHOTOS.iterdir()):
        (first, probability), (second, _), *_ = mean_probabilities(classifier, path)
        sure = probability > UNSURE
        doubt = "" if sure else f", or {second}? Not sure"
        print(f"{path.name:14} {probability:6.1%} {first}{doubt}")
        explanation = classifier.explain(path, first)
        score = replace(explanation.target, probability=probability)
        title = path.name if sure else f"{path.name}: not sure"
        panels.append(replace(explanation, id=title, target=score).draw(224))
    contact_sheet(panels, 2).save(SHEET)
    print(f"\n{SHEET}: the pictures, and what the answers rest on.")
    print(f"{time.perf_counter() - started:.1f} s so far, with the model's loading and compiling.")

    rng = np.random.default_rng(0)
    noise = list(rng.integers(0, 256, (PICTURES, SIDE, SIDE, 3), dtype=np.uint8))
    answered = sum(1 for _ in classifier.stream(noise[:200]))  # to warm up
    began = time.perf_counter()
    answered = sum(1 for _ in classifier.stream(noise, batch_size=100))
    seconds = time.perf_counter() - began
    print(f"{answered:,} generated pictures of {SIDE}x{SIDE}: {answered / seconds:,.0f} a second.")
    return 0


def mean_probabilities(
    classifier: Classifier, picture: Path | IO[bytes]
) -> list[tuple[str, float]]:
    """Each class and its mean probability over several looks, the likeliest first."""
    with Image.open(picture) as file:
        whole = file.convert("RGB")
    middle = ImageOps.crop(whole, round(MARGIN * min(whole.size)))
    looks = [whole, ImageOps.mirror(whole), middle, ImageOps.mirror(middle)]
    total: dict[str, float] = defaultdict(float)
    for prediction in classifier.stream(looks, top=len(classifier.labels.names)):
        for score in prediction.classes:
            total[score.label] += score.probability / len(looks)
    return sorted(total.items(), key=itemgetter(1), reverse=True)


if __name__ == "__main__":
    sys.exit(main())
