"""Fixtures: small data sets in every form, and an augmentation."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from convnext.images.recipe import Preprocess
from convnext.train.augment import Augment, Augmentation
from convnext.train.examples import open_examples


def _picture(seed, size=(12, 10)):
    """Noise that differs from seed to seed."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


@pytest.fixture
def picture():
    """Makes an RGB picture of noise, of any size."""
    return _picture


@pytest.fixture
def png():
    """Makes the bytes of a PNG file."""

    def encode(seed=0, size=(12, 10)):
        stream = io.BytesIO()
        _picture(seed, size).save(stream, "PNG")
        return stream.getvalue()

    return encode


@pytest.fixture
def folder(tmp_path, png):
    """Writes class folders: `folder({"cat": 3, "dog": 2})` has cat/0.png to cat/2.png and so on."""

    def write(counts, name="data", size=(12, 10)):
        root = tmp_path / name
        for number, (label, count) in enumerate(counts.items()):
            (root / label).mkdir(parents=True)
            for position in range(count):
                data = png(1000 * number + position, size)
                (root / label / f"{position}.png").write_bytes(data)
        return root

    return write


@pytest.fixture
def zipped():
    """Packs a folder into a zip archive beside it."""

    def pack(root, method=zipfile.ZIP_STORED):
        path = root.with_name(f"{root.name}-{method}.zip")
        with zipfile.ZipFile(path, "w", method) as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(root))
        return path

    return pack


@pytest.fixture
def examples(folder):
    """Twenty pictures of cats and ten of dogs, all noise."""
    return open_examples(folder({"cat": 20, "dog": 10}))


@pytest.fixture
def augmentation():
    """An augmentation with every step, at 8 x 8."""
    settings = Augment(rand_augment="rand-m9-mstd0.5-inc1", erase=0.5)
    return Augmentation(settings, Preprocess(size=8))
