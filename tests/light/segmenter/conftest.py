"""A small segmentation model in a file, and one whose scores are the pixels themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from convnext.architecture import ARCHITECTURES
from convnext.engines import opening
from convnext.engines.mock import MockEngine
from convnext.images.recipe import Preprocess
from convnext.segmentation import SegmentationHead
from convnext.weights.info import WeightsInfo
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights

SIDE, POSITIONS, CLASSES = 64, 32, 5
RECIPE = Preprocess(size=SIDE, mode="squash", interpolation="bilinear")


def write(path, head, num_classes=CLASSES, **facts):
    architecture = ARCHITECTURES["test_v2"]
    weights = random_weights(architecture, num_classes, segmentation=head)
    info = WeightsInfo(
        name="small",
        labels=tuple(f"class {number}, a kind" for number in range(num_classes)),
        preprocess=RECIPE,
        **facts,
    )
    save_weights(weights, path, info=info)
    return path


@pytest.fixture(scope="session")
def upernet(tmp_path_factory):
    """Random weights of a small V2 with UPerNet."""
    return write(tmp_path_factory.mktemp("upernet") / "u.safetensors", SegmentationHead(width=16))


@pytest.fixture(scope="session")
def light(tmp_path_factory):
    """The same with the light head."""
    head = SegmentationHead("mlp", width=16)
    return write(tmp_path_factory.mktemp("mlp") / "m.safetensors", head)


def mock_scores(batch):
    """Scores that depend on each pixel, and on its position in the window."""
    pixels = batch.astype(np.float32) / 64
    rows = np.arange(SIDE, dtype=np.float32)[None, :, None, None] / SIDE
    maps = np.concatenate([pixels, pixels[..., :2] * (1 + rows)], axis=-1)
    shape = (len(batch), POSITIONS, SIDE // POSITIONS, POSITIONS, SIDE // POSITIONS, CLASSES)
    return maps.reshape(shape).mean((2, 4))


@dataclass
class Mock:
    """The model, and the sizes of the batches that it was given."""

    scores: Callable = mock_scores
    sizes: list = field(default_factory=list)


@pytest.fixture
def mock_segmenter(monkeypatch):
    """Has every engine give `mock_scores`."""
    mock = Mock()

    def answer(batch):
        mock.sizes.append(len(batch))
        return (mock_scores(batch),)

    def open_mock(network, options):
        return MockEngine(answer, size=network.preprocess.size, outputs=options.outputs)

    runtime = opening.Runtime(lambda: True, (), open_mock, int8=True)
    monkeypatch.setattr(opening, "ENGINES", {"mock": runtime})
    return mock
