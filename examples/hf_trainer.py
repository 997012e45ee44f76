"""Fine-tune a classifier of `convnext.hf` with `transformers.Trainer`.

pip install transformers accelerate
KERAS_BACKEND=torch python examples/hf_trainer.py
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import torch
from transformers import Trainer, TrainingArguments

from convnext.hf import ConvNextV2Config, ConvNextV2ForImageClassification

SMALL = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 64, 96]}


def rows(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Noise with more of the first or more of the last channel in it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=generator)
    pixels = torch.randn(count, 3, 64, 64, generator=generator)
    pixels[labels == 0, 0] += 1
    pixels[labels == 1, 2] += 1
    return [{"pixel_values": p, "labels": n} for p, n in zip(pixels, labels, strict=True)]


def main() -> None:
    torch.manual_seed(0)
    config = ConvNextV2Config(id2label={0: "first", 1: "last"}, **SMALL)
    with TemporaryDirectory() as folder:
        trainer = Trainer(
            ConvNextV2ForImageClassification(config),
            TrainingArguments(
                folder,
                per_device_train_batch_size=16,
                max_steps=20,
                learning_rate=1e-3,
                logging_steps=5,
                report_to=[],
                save_strategy="no",
            ),
            train_dataset=rows(320, 0),
            eval_dataset=rows(64, 1),
        )
        trainer.train()
        print(trainer.evaluate())
        trainer.model.save_pretrained(f"{folder}/saved")
        again = ConvNextV2ForImageClassification.from_pretrained(f"{folder}/saved")
        print(again.loading_report)


if __name__ == "__main__":
    main()
