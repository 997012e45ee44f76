"""Pictures and masks stay aligned; steps compared with a small reference."""

from __future__ import annotations

import colorsys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.train.augment.pairs import (
    Distortion,
    SegmentationAugment,
    SegmentationAugmentation,
    distorted,
    draw_distortion,
    nearest,
)

PLAIN = {"photometric": False, "most_of_one_class": 1.0}
RAW = Preprocess(size=24, mean=(0, 0, 0), std=(1, 1, 1), rescale=1.0)


def _pair(width=40, height=30):
    """Large blocks whose red value tells their class: 20 times its number."""
    numbers = np.kron(np.arange(12).reshape(3, 4), np.ones((height // 3, width // 4), int))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = 20 * numbers + 10
    return Image.fromarray(pixels), numbers.astype(np.int16)


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.9])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_pictures_and_masks_stay_aligned(ratio, flip):
    settings = SegmentationAugment(ratio=(ratio, ratio), flip=flip, **PLAIN)
    values, mask = SegmentationAugmentation(settings, RAW).pair(*_pair(), np.random.default_rng(1))
    inside = mask >= 0
    red = np.rint((values[..., 0] - 10) / 20)
    # Bilinear resizing mixes blocks along their borders.
    assert (red == mask)[inside].mean() > 0.75
    middles = inside & (np.abs(values[..., 0] - 20 * mask - 10) < 1e-3)
    assert middles.sum() > 0.5 * inside.sum()
    assert (values[~inside] == 0).all()


def test_resizing_cropping_and_flipping_are_the_references():
    """The reference resizes both whole, then cuts out and mirrors with NumPy."""
    picture, mask = _pair()
    settings = SegmentationAugment(ratio=(0.8, 1.7), short_side=30, **PLAIN)
    augmentation = SegmentationAugmentation(settings, RAW)
    for seed in range(6):
        values, found = augmentation.pair(picture, mask, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        scale = rng.uniform(0.8, 1.7)
        size = (round(40 * scale), round(30 * scale))
        whole = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32)
        columns, rows = (
            [int(Fraction(2 * at + 1, 2 * new) * old) for at in range(new)]
            for new, old in zip(size, picture.size, strict=True)
        )
        numbers = mask[rows][:, columns]
        top = int(rng.integers(0, max(size[1] - 24, 0) + 1))
        left = int(rng.integers(0, max(size[0] - 24, 0) + 1))
        part = np.s_[top : top + 24, left : left + 24]
        step = -1 if rng.random() < 0.5 else 1
        np.testing.assert_array_equal(values, whole[part][:, ::step])
        np.testing.assert_array_equal(found, numbers[part][:, ::step])


@pytest.mark.parametrize(("before", "after"), [(7, 12), (12, 7), (30, 30), (5, 1)])
def test_nearest_is_pillows(before, after):
    row = Image.fromarray(np.arange(before, dtype=np.uint8)[None])
    expected = np.asarray(row.resize((after, 1), Image.Resampling.NEAREST))[0]
    assert nearest(before, after).tolist() == expected.tolist()


def test_small_pictures_are_padded_at_the_right_and_the_bottom():
    settings = SegmentationAugment(ratio=(0.5, 0.5), flip=0, **PLAIN)
    picture, mask = _pair()
    values, found = SegmentationAugmentation(settings, RAW).pair(
        picture, mask, np.random.default_rng(0)
    )
    assert (found[:12, :16] >= 0).all()
    assert (found[12:] == -1).all()
    assert (found[:, 16:] == -1).all()
    assert (values[:12, :16, 0] > 0).all()


def test_crops_of_one_class_are_avoided():
    mask = np.zeros((100, 100), np.int16)
    mask[:, :12] = 1
    picture = Image.new("RGB", (100, 100))
    shares = {}
    for most in (0.75, 1.0):
        settings = SegmentationAugment(
            ratio=(1, 1), short_side=100, most_of_one_class=most, photometric=False
        )
        augmentation = SegmentationAugmentation(settings, RAW)
        drawn = [augmentation.pair(picture, mask, np.random.default_rng(n))[1] for n in range(200)]
        shares[most] = np.mean([(m == 1).mean() > 0.25 for m in drawn])
    assert shares[1.0] < 0.2
    assert shares[0.75] > 3 * shares[1.0]


def _reference(rgb: np.ndarray, d: Distortion) -> np.ndarray:
    """The distortion of one colour in real numbers."""
    values = np.clip(rgb + (d.brightness or 0), 0, 255)
    if d.contrast_first:
        values = np.clip(values * (d.contrast or 1), 0, 255)
    hue, saturation, value = colorsys.rgb_to_hsv(*(values / 255))
    saturation = min(1, saturation * (1 if d.saturation is None else d.saturation))
    values = 255 * np.array(colorsys.hsv_to_rgb((hue + (d.hue or 0)) % 1, saturation, value))
    if not d.contrast_first:
        values = np.clip(values * (d.contrast or 1), 0, 255)
    return values


@pytest.mark.parametrize(
    ("distortion", "most"),
    [
        (Distortion(brightness=20.4), 0.6),
        (Distortion(contrast=1.4), 0.6),
        (Distortion(brightness=-31.0, contrast=0.6), 0.6),
        (Distortion(saturation=0.5), 5),
        (Distortion(hue=0.1), 8),
        (Distortion(10.0, 1.2, False, 1.3, -0.07), 11),
    ],
)
def test_distortions_are_the_references(distortion, most):
    """Pillow stores hue and saturation in 8 bits, which costs a few of 255 steps."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = np.asarray(distorted(Image.fromarray(pixels), distortion), float)
    expected = np.array(
        [[_reference(rgb, distortion) for rgb in row] for row in pixels.astype(float)]
    )
    errors = np.abs(found - expected)
    assert errors.max() <= most
    assert errors.mean() < 1.5


def test_no_distortion_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (np.asarray(distorted(Image.fromarray(pixels), Distortion())) == pixels).all()


def test_half_of_all_parts_happen():
    drawn = [draw_distortion(np.random.default_rng(n)) for n in range(400)]
    for part in ("brightness", "contrast", "saturation", "hue"):
        assert np.mean([getattr(d, part) is None for d in drawn]) == pytest.approx(0.5, abs=0.1)
    assert max(abs(d.hue or 0) for d in drawn) <= 0.1


def test_settings_are_checked():
    with pytest.raises(ArgumentError, match="least, largest"):
        SegmentationAugment(ratio=(2, 1))
