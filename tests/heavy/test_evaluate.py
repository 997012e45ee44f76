"""An evaluation gives what timm gives: its own transform and model, the same weights and files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from convnext import save_weights
from convnext.architecture import VARIANTS
from convnext.cli.main import main
from peers import random_weights, timm_model

pytestmark = [pytest.mark.upstream, pytest.mark.torch_first]
VARIANT = VARIANTS["test_v2"]


@pytest.fixture
def folders(tmp_path):
    """Pictures as they come: sideways, grey, transparent, small, of odd sizes."""
    random = np.random.default_rng(3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, (width, height) in enumerate([(301, 200), (97, 333), (224, 224), (40, 31)] * 3):
        coarse = random.integers(0, 256, (5, 5, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        path = tmp_path / "data" / str(number % 6) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 4 == 1:
            image = image.convert("L")
        if number % 4 == 2:
            path = path.with_suffix(".png")
            image.putalpha(Image.fromarray(random.integers(0, 256, (height, width), np.uint8)))
        image.save(path, exif=exif)
    return tmp_path / "data"


def rgb(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def timm_says(weights, paths):
    import torch
    from timm.data import create_transform

    transform = create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875)
    batch = torch.stack([transform(rgb(path)) for path in paths])
    with torch.inference_mode():
        return timm_model(VARIANT, weights, len(weights["head.bias"]))(batch)


def test_every_picture_as_timm(folders, tmp_path, capsys):
    import torch
    from timm.utils import accuracy

    weights = random_weights(VARIANT, 10)
    save_weights(weights, tmp_path / "w.safetensors")
    command = [
        "evaluate",
        "--model",
        str(tmp_path / "w.safetensors"),
        "--data",
        str(folders),
        "--batch",
        "5",
    ]
    assert main([*command, "--engine", "keras", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    lines = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()[1:]
    ours = [line for line in map(json.loads, lines) if "id" in line]
    logits = timm_says(weights, [folders / line["id"] for line in ours])
    labels = torch.tensor([int(line["id"].split("/")[0]) for line in ours])
    assert len(ours) == 12
    assert [line["label"] for line in ours] == labels.tolist()
    assert [line["prediction"] for line in ours] == logits.argmax(1).tolist()
    order = logits.argsort(1, descending=True)
    assert [line["rank"] for line in ours] == (order == labels[:, None]).int().argmax(1).tolist()
    expected = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    np.testing.assert_allclose([line["log_probability"] for line in ours], expected, atol=1e-4)

    results = json.loads((tmp_path / "out" / "report.json").read_text())["results"]
    top1, top5 = accuracy(logits, labels, (1, 5))
    assert results["top1"]["percent"] == pytest.approx(top1.item(), rel=1e-6)
    assert results["top5"]["percent"] == pytest.approx(top5.item(), rel=1e-6)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert results["log_loss"] == pytest.approx(loss, rel=1e-4)


def test_photographs_as_timm(class_folders, tmp_path, capsys):
    photos = class_folders / "train"
    weights = random_weights(VARIANT, 4)
    save_weights(weights, tmp_path / "w.safetensors")
    command = ["evaluate", "--model", str(tmp_path / "w.safetensors"), "--data", str(photos)]
    command += ["--labels", "folders", "--engine", "keras", "--out", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()[1:]
    ours = [line for line in map(json.loads, lines) if "id" in line]
    logits = timm_says(weights, [photos / line["id"] for line in ours])
    assert len(ours) == 24
    assert [line["prediction"] for line in ours] == logits.argmax(1).tolist()
    confidences = logits.softmax(1).max(1).values
    np.testing.assert_allclose([line["confidence"] for line in ours], confidences, atol=1e-4)
