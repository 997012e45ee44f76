"""Train a teacher for the bundled model: a small network, from CIFAR-10's training pictures alone.

    python benchmarks/teacher.py cifar10/ runs/teacher --hold-out 100 --test

writes `curve.csv` and `teacher.onnx`, which takes RGB pictures between 0 and 1 and gives the mean
of the logits of a picture and of its mirror image. An interrupted run goes on with the same
command. With `--hold-out N`, N training pictures of each class are kept apart and measured after
every epoch; `--test` measures the finished teacher on the test pictures.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
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

RATE, MOMENTUM, DECAY = 11.5, 0.85, 0.0153  # for 1,024 pictures, after all of their momentum
WHITENED = 3  # epochs in which the bias of the first convolution is trained


def names_of(archive: Path) -> list[str]:
    """Return the names of the pictures, in order."""
    with zipfile.ZipFile(archive) as members:
        return sorted(name for name in members.namelist() if name.endswith(".jpg"))


def pictures_of(archive: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pictures, uint8 `[n, 3, 32, 32]`, and their classes, in order of their names."""
    names = names_of(archive)
    with zipfile.ZipFile(archive) as members:
        opened = (Image.open(io.BytesIO(members.read(name))) for name in names)
        pixels = [np.asarray(image.convert("RGB")) for image in opened]
    classes = [Path(name).parent.name for name in names]
    numbers = {name: number for number, name in enumerate(sorted(set(classes)))}
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor([numbers[name] for name in classes])


class Convolution(nn.Conv2d):
    """A 3x3 convolution without bias, which at first passes on its inputs as far as it can."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        nn.init.dirac_(self.weight.data[:inputs])


class Norm(nn.BatchNorm2d):
    """Batch normalisation with a shift, and without a scale that is trained."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-12, momentum=0.4)
        self.weight.requires_grad = False


def level(inputs: int, outputs: int) -> nn.Sequential:
    """Return two convolutions, of which the first halves the sides."""
    return nn.Sequential(
        Convolution(inputs, outputs),
        nn.MaxPool2d(2),
        Norm(outputs),
        nn.GELU(),
        Convolution(outputs, outputs),
        Norm(outputs),
        nn.GELU(),
    )


class Teacher(nn.Module):
    """A network of seven convolutions for pictures of 32x32.

    The first, over 2x2 pixels, is fixed: it makes the colours of neighbouring pixels independent.
    """

    def __init__(self, widths: tuple[int, int, int] = (64, 256, 256), classes: int = 10) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad = False
        levels = (level(*pair) for pair in itertools.pairwise((24, *widths)))
        self.body = nn.Sequential(nn.GELU(), *levels, nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def fit_whitening(self, pictures: torch.Tensor) -> None:
        """Set the first convolution to the principal components of patches, and their negatives."""
        patches = ((pictures - self.mean) / self.std).unfold(2, 2, 1).unfold(3, 2, 1)
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        kernels = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.whiten.weight.data[:] = torch.cat([kernels, -kernels])

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits of pictures between 0 and 1."""
        return self.head(self.body(self.whiten((pictures - self.mean) / self.std))) / 9.0


class Both(nn.Module):
    """The mean of a teacher's logits for a picture and for its mirror image."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return (self.teacher(pictures) + self.teacher(pictures.flip(3))) / 2


def moved(
    pictures: torch.Tensor, mirrored: torch.Tensor, generator: torch.Generator, pad: int = 2
) -> torch.Tensor:
    """Return the pictures moved by up to `pad` pixels, and mirrored where told."""
    count, _, side, _ = pictures.shape
    padded = functional.pad(pictures, (pad,) * 4, mode="reflect")
    down, right = (torch.randint(0, 2 * pad + 1, (count,), generator=generator) for _ in range(2))
    rows = down[:, None] + torch.arange(side)
    columns = right[:, None] + torch.arange(side)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    every = torch.arange(count)[:, None, None]
    return padded[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def look_ahead(teacher: Teacher, slow: dict[str, torch.Tensor], share: float) -> None:
    """Move the slow weights to the teacher's, but for a share of them, and the teacher there."""
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            slow[name].lerp_(value, 1 - share)
            value.copy_(slow[name])


@torch.inference_mode()
def logits_of(model: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Return the model's logits of pictures, in float32."""
    model.eval()
    found = []
    for some in pictures.split(500):
        batch = some.float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(model(batch).float())
    return torch.cat(found)


def accuracy(model: nn.Module, pictures: torch.Tensor, classes: torch.Tensor) -> float:
    """Return the share of the pictures whose class has the largest logit."""
    return float((logits_of(model, pictures).argmax(1) == classes).float().mean())


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
    teacher.fit_whitening(pictures[::10].float().div(255))
    shifts = [p for p in teacher.body.parameters() if p.requires_grad and p.ndim == 1]
    others = [p for p in teacher.parameters() if p.requires_grad and p.ndim > 1]
    scale = 1024 * (1 + 1 / (1 - MOMENTUM))
    peak, decay = RATE / scale, DECAY * batch / scale
    groups = [
        {"params": others, "peak": peak, "weight_decay": decay / peak},
        {"params": shifts, "peak": 64 * peak, "weight_decay": decay / (64 * peak)},
        {"params": [teacher.whiten.bias], "peak": peak, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=peak, momentum=MOMENTUM, nesterov=True)
    slow = {name: value.clone() for name, value in teacher.state_dict().items()}
    flipped = torch.rand(len(pictures), generator=torch.Generator().manual_seed(seed)) < 0.5
    steps = len(pictures) // batch
    total = steps * epochs
    done = 0
    state = out / "state.pt"
    if state.exists():
        saved = torch.load(state)
        teacher.load_state_dict(saved["teacher"])
        optimizer.load_state_dict(saved["optimizer"])
        slow = saved["slow"]
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
            teacher.whiten.bias.requires_grad = epoch < WHITENED
            losses = []
            for step in range(steps):
                at = (epoch * steps + step) / total
                rate = 0.2 + 0.8 * at / 0.23 if at < 0.23 else 1 - 0.93 * (at - 0.23) / 0.77
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * rate
                chosen = order[step * batch : (step + 1) * batch]
                view = pictures[chosen].float().div(255)
                view = moved(view, flipped[chosen] ^ bool(epoch % 2), generator)
                view = view.contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = teacher(view)
                loss = functional.cross_entropy(
                    logits.float(), classes[chosen], label_smoothing=0.2, reduction="sum"
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if (epoch * steps + step) % 5 == 0:
                    look_ahead(teacher, slow, 0.95**5 * at**3)
                losses.append(loss.item() / batch)
            if epoch + 1 == epochs:
                look_ahead(teacher, slow, 1.0)
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
                "slow": slow,
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
        "--epochs", type=int, default=13, help="passes over the pictures (default: 13)"
    )
    parser.add_argument("--batch", type=int, default=1024, help="pictures a step (default: 1024)")
    parser.add_argument(
        "--hold-out", type=int, default=0, metavar="N", help="keep N pictures of each class apart"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)"
    )
    parser.add_argument(
        "--test", action="store_true", help="measure the finished teacher on test.zip"
    )
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="NPZ",
        help="write its logits of the training pictures, for `distill.fixed`",
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
    if arguments.answers:
        archive = arguments.data / "train.zip"
        names = ["/".join(Path(name).parts[-2:]) for name in names_of(archive)]
        logits = logits_of(both, pictures_of(archive)[0]).numpy()
        np.savez(arguments.answers, ids=np.array(names), logits=logits)
    if arguments.test:
        pictures, classes = pictures_of(arguments.data / "test.zip")
        print(f"test pictures: {accuracy(teacher, pictures, classes):.4f} by one look")
        print(f"test pictures: {accuracy(both, pictures, classes):.4f} with the mirror image")


if __name__ == "__main__":
    main()
