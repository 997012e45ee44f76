"""Fine-tune a classifier of `convnext.hf` on PyTorch, with a plain loop.

KERAS_BACKEND=torch python examples/hf_torch_loop.py [MODEL]

MODEL is a folder, a repository or a name of `convnext list`; without one, a small network learns
from nothing to tell red pictures from blue ones.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from PIL import Image

from convnext.hf import (
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
)

LABELS = {0: "red", 1: "blue"}
SMALL = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 64, 96]}


def pictures(count: int, seed: int) -> tuple[list[Image.Image], torch.Tensor]:
    """Noise with more red or more blue in it, and which of the two."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    made = []
    for label in labels:
        pixels = rng.integers(0, 156, (64, 64, 3))
        pixels[..., 0 if label == 0 else 2] += 100
        made.append(Image.fromarray(pixels.astype(np.uint8)))
    return made, torch.from_numpy(labels)


def build() -> torch.nn.Module:
    if len(sys.argv) == 1:
        return ConvNextV2ForImageClassification(ConvNextV2Config(id2label=LABELS, **SMALL))
    return ConvNextForImageClassification.from_pretrained(
        sys.argv[1], id2label=LABELS, ignore_mismatched_sizes=True
    )


def main() -> None:
    torch.manual_seed(0)
    processor = ConvNextImageProcessor(size={"shortest_edge": 64})
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    for step in range(20):
        images, labels = pictures(16, step)
        inputs = processor(images, return_tensors="pt")
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step:2}  loss {loss.item():.4f}")
    model.eval()
    images, labels = pictures(64, 99)
    with torch.inference_mode():
        logits = model(**processor(images, return_tensors="pt")).logits
    print(f"accuracy on new pictures: {(logits.argmax(-1) == labels).float().mean():.2f}")


if __name__ == "__main__":
    main()
