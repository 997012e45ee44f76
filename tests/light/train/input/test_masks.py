"""Batches of pictures with masks are the same whatever the number of workers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from convnext.data.segmented import open_segmented
from convnext.errors import ImageError
from convnext.images.masks import write_mask
from convnext.images.palettes import palette
from convnext.images.recipe import Preprocess
from convnext.train.augment.pairs import SegmentationAugment, SegmentationAugmentation
from convnext.train.input.loader import Loader
from convnext.train.input.order import Order


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("pictures", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(12):
        pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
        mask = rng.integers(0, 3, (20, 24))
        write_mask(tmp_path / "masks" / f"{number}.png", mask, palette(3))
    return tmp_path


def _batches(root, workers, start=0, stop=4):
    examples = open_segmented(root, classes=3).train
    augmentation = SegmentationAugmentation(SegmentationAugment(), Preprocess(size=16))
    order = Order(examples.labels, seed=3)
    with Loader(
        examples, augmentation, None, order, batch_size=5, seed=3, workers=workers
    ) as loader:
        return list(loader.batches(start, stop))


def test_any_number_of_workers_gives_the_same_batches(root):
    expected = [pickle.dumps(batch) for batch in _batches(root, 0)]
    assert [pickle.dumps(batch) for batch in _batches(root, 2)] == expected
    assert [pickle.dumps(batch) for batch in _batches(root, 1, start=2)] == expected[2:]
    [first, *_] = _batches(root, 0)
    assert first.targets.shape == (5, 16, 16)
    assert first.targets.dtype == np.int16
    assert set(np.unique(first.targets)) <= {-1, 0, 1, 2}


def test_an_unreadable_mask_is_replaced_and_reported(root):
    (root / "masks" / "3.png").write_bytes(b"no picture")
    bad = {name: why for batch in _batches(root, 0) for name, why in batch.bad}
    assert list(bad) == ["pictures/3.png"]
    assert "masks/3.png" in bad["pictures/3.png"]


def test_a_mask_with_an_unknown_class_ends_the_run(root):
    write_mask(root / "masks" / "3.png", np.full((20, 24), 7), palette(3))
    with pytest.raises(ImageError, match=r"masks/3\.png has the numbers 7"):
        _batches(root, 1)
