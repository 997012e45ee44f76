"""Train a teacher for the bundled model: a small ResNet, from CIFAR-10's training pictures alone.

    python benchmarks/teacher.py cifar10/ runs/teacher --hold-out 100 --epochs 12 --test

writes `curve.csv` and `teacher.onnx`, which takes RGB pictures between 0 and 1 and gives the mean
of the logits of a picture and of its mirror image. An interrupted run goes on with the same
command. With `--hold-out N`, N training pictures of each class are kept apart and measured after
every epoch; `--test` measures the finished teacher on the test pictures.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.247, 0.2435, 0.2616)


def pictures_of(archive: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pictures, uint8 `[n, 3, 32, 32]`, and their classes, in order of their names."""
    pixels, names = [], []
    with zipfile.ZipFile(archive) as members:
        for name in sorted(member for member in members.namelist() if member.endswith(".jpg")):
            pixels.append(np.asarray(Image.open(io.BytesIO(members.read(name))).convert("RGB")))
            names.append(Path(name).parent.name)
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor([numbers[name] for name in names])


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch normalisation and GELU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.3),
        nn.GELU(),
    )


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(convolution(width, width), convolution(width, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.inside(features)


class Teacher(nn.Module):
    """A ResNet of three levels, 16x16, 8x8 and 4x4, for pictures of 32x32."""

    def __init__(self, widths: tuple[int, int, int] = (64, 192, 384), classes: int = 10) -> None:
        super().__init__()
        first, second, third = widths
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.GELU(),
            convolution(32, first),
            nn.MaxPool2d(2),
            Residual(first),
            convolution(first, second),
            nn.MaxPool2d(2),
            Residual(second),
            convolution(second, third),
            nn.MaxPool2d(2),
            Residual(third),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(third, classes, bias=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits of pictures between 0 and 1."""
        return self.head(self.body((pictures - self.mean) / self.std)) / 9.0


class Both(nn.Module):
    """The mean of a teacher's logits for a picture and for its mirror image."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (self.teacher(pictures) + self.teacher(pictures.flip(3))) / 2


def crops(
    pictures: torch.Tensor, generator: torch.Generator, pad: int = 2, hole: int = 8
) -> torch.Tensor:
    """Return the pictures moved by up to `pad`, half of them mirrored, each with a grey square."""
    count, _, side, _ = pictures.shape
    padded = functional.pad(pictures, (pad,) * 4, mode="reflect")
    down, right = (torch.randint(0, 2 * pad + 1, (count,), generator=generator) for _ in range(2))
    rows = down[:, None] + torch.arange(side)
    columns = right[:, None] + torch.arange(side)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    out = padded[
        torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)
    top, left = (torch.randint(0, side - hole + 1, (count,), generator=generator) for _ in range(2))
    places = torch.arange(side)
    inside_rows = (places >= top[:, None]) & (places < top[:, None] + hole)
    inside_columns = (places >= left[:, None]) & (places < left[:, None] + hole)
    hidden = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    return out.masked_fill(hidden, 0.47)


@torch.inference_mode()
def accuracy(model: nn.Module, pictures: torch.Tensor, classes: torch.Tensor) -> float:
    """Return the share of the pictures whose class has the largest logit."""
    model.eval()
    right = 0
    for begin in range(0, len(pictures), 500):
        batch = (
            pictures[begin : begin + 500]
            .float()
            .div(255)
            .contiguous(memory_format=torch.channels_last)
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            right += int((model(batch).argmax(1) == classes[begin : begin + 500]).sum())
    return right / len(pictures)


def train(folder: Path, out: Path, *, epochs: int, batch: int, hold_out: int, seed: int) -> Teacher:
    """Train a teacher, or go on with one, and return it."""
    pictures, classes = pictures_of(folder / "train.zip")
    kept = torch.zeros(len(classes), dtype=torch.bool)
    for number in range(int(classes.max()) + 1):
        kept[(classes == number).nonzero().flatten()[:hold_out]] = True
    held, held_classes = pictures[kept], classes[kept]
    pictures, classes = pictures[~kept], classes[~kept]

    torch.manual_seed(seed)
    teacher = Teacher().to(memory_format=torch.channels_last)
    decayed = [parameter for parameter in teacher.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in teacher.parameters() if parameter.ndim == 1]
    groups = [
        {"params": decayed, "weight_decay": 5e-4 * batch},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    steps = len(pictures) // batch
    total = steps * epochs
    peak = 0.4 / batch
    done = 0
    state = out / "state.pt"
    if state.exists():
        saved = torch.load(state)
        teacher.load_state_dict(saved["teacher"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["epoch"]
    with (out / "curve.csv").open("a", newline="") as file:
        curve = csv.writer(file)
        if not done:
            curve.writerow(["epoch", "loss", "held_out", "seconds"])
        for epoch in range(done, epochs):
            started = time.perf_counter()
            generator = torch.Generator().manual_seed(seed * 1000 + epoch)
            order = torch.randperm(len(pictures), generator=generator)
            teacher.train()
            losses = []
            for step in range(steps):
                at = (epoch * steps + step) / total
                for group in optimizer.param_groups:
                    group["lr"] = peak * min(at / 0.2, (1 - at) / 0.8)
                chosen = order[step * batch : (step + 1) * batch]
                view = crops(pictures[chosen].float().div(255), generator).contiguous(
                    memory_format=torch.channels_last
                )
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = teacher(view)
                loss = functional.cross_entropy(
                    logits.float(), classes[chosen], label_smoothing=0.1, reduction="sum"
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item() / batch)
            held_out = accuracy(teacher, held, held_classes) if len(held) else float("nan")
            seconds = time.perf_counter() - started
            curve.writerow(
                [epoch + 1, f"{np.mean(losses):.4f}", f"{held_out:.4f}", f"{seconds:.0f}"]
            )
            file.flush()
            print(
                f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}, "
                f"held out {held_out:.4f}, {seconds:.0f} s"
            )
            saved = {
                "teacher": teacher.state_dict(),
                "optimizer": optimizer.state_dict(),
                "epoch": epoch + 1,
            }
            torch.save(saved, state.with_suffix(".new"))
            state.with_suffix(".new").replace(state)
    return teacher


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", type=Path, help="folder with train.zip and test.zip of pictures by class"
    )
    parser.add_argument("out", type=Path, help="folder to write to, and to go on from")
    parser.add_argument(
        "--epochs", type=int, default=16, help="passes over the pictures (default: 16)"
    )
    parser.add_argument("--batch", type=int, default=512, help="pictures a step (default: 512)")
    parser.add_argument(
        "--hold-out", type=int, default=0, metavar="N", help="keep N pictures of each class apart"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)"
    )
    parser.add_argument(
        "--test", action="store_true", help="measure the finished teacher on test.zip"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    teacher = train(
        arguments.data,
        arguments.out,
        epochs=arguments.epochs,
        batch=arguments.batch,
        hold_out=arguments.hold_out,
        seed=arguments.seed,
    )
    both = Both(teacher).eval()
    torch.onnx.export(
        both,
        (torch.rand(2, 3, 32, 32),),
        arguments.out / "teacher.onnx",
        input_names=["pictures"],
        output_names=["logits"],
        dynamic_axes={"pictures": {0: "batch"}, "logits": {0: "batch"}},
        dynamo=False,
    )
    if arguments.test:
        pictures, classes = pictures_of(arguments.data / "test.zip")
        print(f"test pictures: {accuracy(teacher, pictures, classes):.4f} by one look")
        print(f"test pictures: {accuracy(both, pictures, classes):.4f} with the mirror image")


if __name__ == "__main__":
    main()
