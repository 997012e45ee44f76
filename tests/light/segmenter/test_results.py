"""Areas, drawings and files of a class map."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentError, UnknownNameError
from convnext.images.masks import read_mask
from convnext.images.palettes import palette
from convnext.segmenter import Segmentation
from convnext.segmenter.run_lengths import run_lengths

MAP = np.array([[2, 2, 0], [2, 0, 0], [2, 2, 2]], np.uint8)
NAMES = ("sky, heaven", "tree", "a <b>")


@pytest.fixture
def street():
    picture = Image.new("RGB", (3, 3), "white")
    return Segmentation("street.jpg", MAP, NAMES, palette(3), picture=picture)


def decoded(counts, height, width):
    """COCO's rleFrString and rleDecode: digits of five bits, differences from the fourth run on."""
    numbers, at = [], 0
    while at < len(counts):
        value, shift = 0, 0
        while True:
            digit = ord(counts[at]) - 48
            value |= (digit & 31) << shift
            at, shift = at + 1, shift + 5
            if not digit & 32:
                break
        if digit & 16:
            value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
    flat = np.repeat(np.arange(len(numbers)) % 2, numbers)
    return flat.reshape(width, height).T


def test_areas_are_largest_first(street):
    first, second = street.areas
    assert (first.label, first.index, first.pixels) == ("a <b>", 2, 6)
    assert first.share == pytest.approx(2 / 3)
    assert second.label == "sky, heaven"


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (200, 90)])
@pytest.mark.parametrize("coarse", [1, 40])
def test_run_lengths_are_cocos(shape, coarse):
    rng = np.random.default_rng(0)
    numbers = np.repeat(rng.integers(0, 4, shape, np.uint8), coarse, axis=0)
    encoded = run_lengths(numbers)
    assert set(encoded) == set(np.unique(numbers).tolist())
    for each, counts in encoded.items():
        np.testing.assert_array_equal(decoded(counts, *numbers.shape), numbers == each)


def test_files(street, tmp_path):
    np.testing.assert_array_equal(read_mask(street.save(tmp_path / "m.png")), MAP)
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:9] == palette(3).ravel().tolist()
    written = json.loads(street.save(tmp_path / "m.json").read_text())
    assert written["areas"][1] == {
        "label": "sky, heaven",
        "index": 0,
        "colour": "#{:02x}{:02x}{:02x}".format(*palette(3)[0]),
        "pixels": 3,
        "share": 0.333333,
    }
    with Image.open(street.save(tmp_path / "m.jpg")) as overlay:
        assert overlay.size == (3, 3)
    [annotation, _] = json.loads(street.encoded("rle"))["annotations"]
    assert annotation["segmentation"]["size"] == [3, 3]
    assert annotation["area"] == 6
    with pytest.raises(ArgumentError, match=r"Allowed: \.png"):
        street.save(tmp_path / "m.txt")
    with pytest.raises(UnknownNameError):
        street.encoded("gif")


def test_an_overlay_mixes_the_colours_with_the_picture(street):
    np.testing.assert_array_equal(street.overlay(1), palette(3)[MAP])
    assert set(np.unique(street.overlay(0))) == {255}


def test_drawings(street):
    page = street._repr_html_()
    assert "<img" in page
    assert "a &lt;b&gt;" in page
    assert "66.7%" in page
    assert street.plot().width > 1000
    assert "array" not in repr(street)
