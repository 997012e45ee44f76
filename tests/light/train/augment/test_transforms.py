"""Augmentation by itself; tests/heavy compares it with timm and torchvision."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from convnext.errors import ArgumentError, UnknownNameError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise, pixels
from convnext.train.augment.transforms import Augment, Augmentation, Evaluation, crop_box, jitter
from convnext.train.settings import from_table

PREPROCESS = Preprocess(size=16)


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_augmentation_is_normalised_and_depends_on_the_generator_alone(picture):
    settings = Augment(rand_augment="rand-m9-mstd0.5-inc1", erase=0.5, interpolation="random")
    augmentation = Augmentation(settings, PREPROCESS)
    given = picture(0, (50, 40))
    first, same, other = (augmentation(given, _rng(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == ((16, 16, 3), np.float32)
    assert (first == same).all()
    assert (first != other).any()


def test_in_the_centre_without_chance_it_is_the_evaluation_transform(picture):
    given = picture(0, (50, 40))
    still = Augmentation(Augment(crop="center", flip=0), PREPROCESS)(given, _rng())
    seen = Evaluation(PREPROCESS)(given)
    assert (still == seen).all()
    assert (seen == normalise(pixels(given, PREPROCESS), PREPROCESS)).all()


def test_flips(picture):
    augmentation = Augmentation(Augment(crop="center", flip=1), PREPROCESS)
    given = picture(0, (16, 16))
    straight = Augmentation(Augment(crop="center", flip=0), PREPROCESS)(given, _rng())
    assert (augmentation(given, _rng()) == straight[:, ::-1]).all()
    half = Augmentation(Augment(crop="center"), PREPROCESS)
    rng = _rng()
    flipped = sum((half(given, rng) != straight).any() for _ in range(400))
    assert flipped / 400 == pytest.approx(0.5, abs=0.08)


def test_padding_moves_the_picture_over_black(picture):
    preprocess = Preprocess(size=16, crop_fraction=1.0)
    augmentation = Augmentation(Augment(padding=3, flip=0), preprocess)
    given = picture(0, (16, 16))
    padded = np.asarray(ImageOps.expand(given, 3))
    places = set()
    for seed in range(400):
        found = np.asarray(augmentation.picture(given, _rng(seed)))
        for top in range(7):
            for left in range(7):
                if (padded[top : top + 16, left : left + 16] == found).all():
                    places.add((top, left))
    assert len(places) == 49


def test_padding_of_pictures_of_other_sizes_begins_with_what_validation_sees(picture):
    augmentation = Augmentation(Augment(padding=1, flip=0), PREPROCESS)
    given = picture(0, (40, 30))
    seen = pixels(given, PREPROCESS)
    found = {augmentation.picture(given, _rng(seed)).tobytes() for seed in range(60)}
    assert len(found) == 9
    assert seen.tobytes() in found


def test_a_random_crop_is_resized_to_the_model(picture):
    augmentation = Augmentation(Augment(crop_scale=(1, 1), crop_ratio=(1, 1), flip=0), PREPROCESS)
    given = picture(0, (64, 64))
    expected = given.resize((16, 16), Image.Resampling.BICUBIC)
    assert augmentation.picture(given, _rng()).tobytes() == expected.tobytes()


def test_crops_lie_inside_and_fall_back_to_the_centre():
    rng = _rng()
    for _ in range(500):
        top, left, height, width = crop_box(37, 53, (0.08, 1), (3 / 4, 4 / 3), rng)
        assert 0 <= top <= 37 - height
        assert 0 <= left <= 53 - width
    assert crop_box(10, 400, (1, 1), (3 / 4, 4 / 3), rng) == (0, 193, 10, 13)
    assert crop_box(400, 10, (1, 1), (3 / 4, 4 / 3), rng) == (193, 0, 13, 10)
    assert crop_box(1, 1, (0.08, 0.08), (1, 1), rng) == (0, 0, 1, 1)


def test_colour_jitter_stays_within_its_share():
    augmentation = Augmentation(
        Augment(crop="center", flip=0, color_jitter=0.4), Preprocess(size=4, crop_fraction=1.0)
    )
    grey = Image.new("RGB", (4, 4), (100, 100, 100))  # grey: no contrast, no saturation
    shades = [np.asarray(augmentation.picture(grey, _rng(seed)))[0, 0, 0] for seed in range(300)]
    assert (min(shades), max(shades)) == (pytest.approx(60, abs=2), pytest.approx(140, abs=2))


def test_jitter_by_one_changes_nothing(picture):
    given = picture(0)
    assert jitter(given, [1, 1, 1], [2, 0, 1]).tobytes() == given.tobytes()
    first, second = (jitter(given, [0.5, 1.5, 1.2], order) for order in ([0, 1, 2], [2, 1, 0]))
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"crop_scale": (0.5, 0.2)}, "crop_scale"),
        ({"crop_scale": (0, 1)}, "crop_scale"),
        ({"crop_ratio": (0, 1)}, "crop_ratio"),
        ({"flip": 1.5}, "flip"),
        ({"padding": -1}, "padding"),
        ({"crop": "center", "padding": 4}, "set one"),
        ({"rand_augment": "rand-m9", "color_jitter": 0.4}, "color_jitter = 0"),
        ({"rand_augment": "trivial"}, "begins with 'rand'"),
        ({"crop": "centre"}, "Did you mean 'center'"),
        ({"erase_mode": "pixels"}, "Did you mean 'pixel'"),
        ({"erase_count": 0}, "erase_count"),
    ],
)
def test_settings_that_make_no_sense(settings, problem):
    with pytest.raises(ArgumentError, match=problem):
        Augment(**settings)


def test_settings_come_from_a_recipe():
    table = {"crop_scale": [0.2, 1], "erase": 0.25, "erase_mode": "const"}
    assert from_table(Augment, table) == Augment(
        crop_scale=(0.2, 1.0), erase=0.25, erase_mode="const"
    )
    with pytest.raises(UnknownNameError, match="Did you mean 'erase'"):
        from_table(Augment, {"erasee": 1})
