"""The main job: what pictures show, where it was seen, and how fast, with the bundled model.

    python examples/demo.py

Needs neither a network nor a training framework. The bundled model knows the ten classes of
CIFAR-10, at 32 pixels; a picture of none of them should leave it unsure.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from convnext import Classifier
from convnext.classifier.heatmap import contact_sheet

PHOTOS = Path(__file__).parent / "photos"
SHEET = Path("demo.png")
UNSURE = 0.8  # below this, two of three test pictures get the right class; above, 49 of 50
PICTURES, SIDE = 2000, 32


def main() -> int:
    """Classify, draw, time."""
    started = time.perf_counter()
    classifier = Classifier("bundled")
    print(f"{classifier.variant.name} for {', '.join(classifier.labels.names)}.\n")
    panels = []
    for path in sorted(PHOTOS.iterdir()):
        explanation = classifier.explain(path)
        first, second, *_ = classifier(path).classes
        doubt = "" if first.probability > UNSURE else f", or {second.label}? Not sure"
        print(f"{path.name:14} {first.probability:6.1%} {first.label}{doubt}")
        panels.append(replace(explanation, id=path.name).draw(224))
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


if __name__ == "__main__":
    sys.exit(main())
