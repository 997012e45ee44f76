"""Augmentation against timm and torchvision, given the same random decisions.

Random numbers themselves cannot be equal, as the generators differ. So operations are compared at
the same magnitudes, boxes and factors, and what draws these is compared as a distribution.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from PIL import Image

from convnext.images.recipe import IMAGENET_MEAN, Preprocess
from convnext.train.augment.erasing import erased_boxes
from convnext.train.augment.mixing import Mixer, Mixing, Mixture, cut_box
from convnext.train.augment.rand_augment import OPERATIONS, Canvas, RandAugment, parse_policy
from convnext.train.augment.transforms import Augment, Augmentation, Evaluation, crop_box, jitter

pytestmark = [pytest.mark.upstream, pytest.mark.torch_alone]

# timm's names for what we call by one name.
TIMM_NAMES = {
    False: {"TranslateX": "TranslateXRel", "TranslateY": "TranslateYRel"},
    True: {
        "TranslateX": "TranslateXRel",
        "TranslateY": "TranslateYRel",
        **{
            name: f"{name}Increasing"
            for name in ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")
        },
    },
}
FILL = (124, 116, 104)
MAGNITUDES = (0.0, 2.5, 4.4, 7.0, 9.3, 10.0)
DRAWS = 6000
# Two samples of this size differ by more in one of a million cases (Kolmogorov-Smirnov).
LARGEST_GAP = 2.7 * (2 / DRAWS) ** 0.5


class _Coin:
    """A generator whose coin always falls the same way, and which draws the first of all."""

    def __init__(self, minus):
        self._minus = minus

    def random(self):
        return 0.9 if self._minus else 0.1

    def integers(self, *_):
        return 0


@pytest.fixture(scope="module")
def photograph():
    """Smooth shapes with edges and some noise, all 256 shades among them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    waves = [127 + 100 * np.sin(x / a) * np.cos(y / b) for a, b in ((7, 5), (11, 13), (3, 17))]
    noisy = np.stack(waves, -1) + rng.normal(0, 15, (48, 64, 3))
    noisy[10:20, 20:40] = (250, 10, 90)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _gap(first, second):
    """How far two samples' distribution functions lie apart at most."""
    both = np.sort(np.concatenate([first, second]))
    positions = [np.searchsorted(np.sort(sample), both, "right") for sample in (first, second)]
    return np.abs(positions[0] / len(first) - positions[1] / len(second)).max()


@pytest.mark.parametrize("increasing", [False, True])
def test_every_operation_paints_the_pixels_of_timms(photograph, increasing, monkeypatch):
    from timm.data import auto_augment

    compared = 0
    for name, operation in OPERATIONS[increasing].items():
        theirs = auto_augment.AugmentOp(
            TIMM_NAMES[increasing].get(name, name),
            prob=1.0,
            hparams={"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC},
        )
        for magnitude, minus in itertools.product(MAGNITUDES, (False, True)):
            if name == "Posterize" and int(magnitude * 0.4) == 4 * increasing:
                continue  # no bits are kept, which Pillow 13 refuses to timm
            monkeypatch.setattr(random, "random", lambda minus=minus: 0.9 if minus else 0.1)
            theirs.magnitude = magnitude
            ours = operation(photograph, magnitude, _Coin(minus), Canvas(FILL))
            assert ours.tobytes() == theirs(photograph).tobytes(), (name, magnitude, minus)
            compared += 1
    assert compared >= 14 * 2 * len(MAGNITUDES)


def test_the_policy_and_its_choices_are_timms():
    from timm.data.auto_augment import rand_augment_transform

    theirs = rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": FILL})
    policy = parse_policy("rand-m9-mstd0.5-inc1")
    assert theirs.num_layers == policy.count
    names = [TIMM_NAMES[True].get(name, name) for name in OPERATIONS[policy.increasing]]
    assert [op.name for op in theirs.ops] == names
    for op in theirs.ops:
        assert (op.prob, op.magnitude) == (policy.probability, policy.magnitude)
        assert op.magnitude_std == policy.deviation


@pytest.mark.parametrize("text", ["rand-m9-mstd0.5-inc1", "rand-m6-mstd101"])
def test_magnitudes_are_distributed_as_timms(text):
    from timm.data.auto_augment import rand_augment_transform

    theirs = rand_augment_transform(text, {"img_mean": FILL}).ops[0]
    drawn = []
    theirs.prob, theirs.level_fn = 1.0, lambda magnitude, _: drawn.append(magnitude) or ()
    theirs.aug_fn = lambda picture, **_: picture
    random.seed(0)
    for _ in range(DRAWS):
        theirs(None)
    ours, rng = RandAugment(parse_policy(text), Canvas()), np.random.default_rng(0)
    assert _gap([ours._magnitude(rng) for _ in range(DRAWS)], drawn) < LARGEST_GAP


@pytest.mark.parametrize("size", [(375, 500), (32, 32), (40, 400)])
def test_crops_are_distributed_as_torchvisions(size):
    import torch
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    picture = torch.empty(3, *size)
    theirs = [RandomResizedCrop.get_params(picture, scale, ratio) for _ in range(DRAWS)]
    rng = np.random.default_rng(0)
    ours = np.array([crop_box(*size, scale, ratio, rng) for _ in range(DRAWS)], float)
    theirs = np.array(theirs, float)
    for what in range(4):
        assert _gap(ours[:, what], theirs[:, what]) < LARGEST_GAP, what
    areas = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
    shapes = [boxes[:, 3] / boxes[:, 2] for boxes in (ours, theirs)]
    assert _gap(*areas) < LARGEST_GAP
    assert _gap(*shapes) < LARGEST_GAP


def test_a_crop_is_cut_and_resized_as_by_torchvision(photograph, monkeypatch):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resized_crop

    monkeypatch.setattr("convnext.train.augment.transforms.crop_box", lambda *_: (5, 9, 31, 40))
    for name in ("bicubic", "bilinear"):
        augmentation = Augmentation(Augment(flip=0, interpolation=name), Preprocess(size=24))
        ours = augmentation.picture(photograph, _Coin(False))
        expected = resized_crop(photograph, 5, 9, 31, 40, [24, 24], InterpolationMode(name))
        assert ours.tobytes() == expected.tobytes(), name


def test_padding_and_cropping_is_torchvisions(photograph):
    from torchvision.transforms.functional import crop, pad

    square = photograph.crop((0, 0, 32, 32))
    augmentation = Augmentation(Augment(padding=4, flip=0), Preprocess(32, crop_fraction=1))
    padded = pad(square, 4)
    possible = {crop(padded, top, left, 32, 32).tobytes() for top in range(9) for left in range(9)}
    found = {
        augmentation.picture(square, np.random.default_rng(seed)).tobytes() for seed in range(900)
    }
    assert found == possible


def test_colour_jitter_is_torchvisions(photograph):
    from torchvision.transforms import functional

    adjust = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
    )
    factors = [0.71, 1.37, 0.64]
    for order in itertools.permutations(range(3)):
        expected = photograph
        for number in order:
            expected = adjust[number](expected, factors[number])
        assert jitter(photograph, factors, order).tobytes() == expected.tobytes(), order


@pytest.fixture(scope="module")
def batch():
    """Pictures `[6, 10, 9, 3]` and their classes, of five."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 10, 9, 3), np.float32), rng.integers(0, 5, 6)


def _by_timm(mixup, batch):
    import torch

    pictures, labels = batch
    channels_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, 1)))
    mixed, targets = mixup(channels_first, torch.from_numpy(labels))
    return np.moveaxis(mixed.numpy(), 1, -1), targets.numpy()


def test_mixup_is_timms(batch, monkeypatch):
    from timm.data.mixup import Mixup

    for share, smoothing in itertools.product((0.9, 0.5, 0.123), (0.0, 0.1)):
        theirs = Mixup(mixup_alpha=1, label_smoothing=smoothing, num_classes=5)
        monkeypatch.setattr(np.random, "beta", lambda *_, share=share: share)
        expected, targets = _by_timm(theirs, batch)
        mixer = Mixer(Mixing(mixup=1, smoothing=smoothing), 5)
        mixed, ours = mixer.apply(*batch, Mixture(share))
        # torch multiplies and adds in one rounding where the processor can; NumPy does not.
        assert mixed == pytest.approx(expected, abs=5e-7)
        assert ours == pytest.approx(targets, abs=1e-7)


def test_cutmix_is_timms(batch, monkeypatch):
    from timm.data.mixup import Mixup

    theirs = Mixup(mixup_alpha=0, cutmix_alpha=1, label_smoothing=0.1, num_classes=5)
    mixer = Mixer(Mixing(cutmix=1, smoothing=0.1), 5)
    centers = ((0, 0), (4, 7), (8, 3), (5, 5))
    for share, center in itertools.product((0.9, 0.5, 0.3, 0.123), centers):
        remaining = list(center)
        monkeypatch.setattr(np.random, "beta", lambda *_, share=share: share)
        monkeypatch.setattr(np.random, "randint", lambda *_, left=remaining, **__: left.pop(0))
        expected, targets = _by_timm(theirs, batch)
        mixed, ours = mixer.apply(*batch, cut_box(10, 9, share, center))
        assert (mixed == expected).all()
        assert ours == pytest.approx(targets, abs=1e-7)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)])
def test_mixtures_are_distributed_as_timms(mixup, cutmix):
    from timm.data.mixup import Mixup, cutmix_bbox_and_lam

    theirs = Mixup(mixup, cutmix, prob=0.7, switch_prob=0.4)
    mixer = Mixer(Mixing(mixup=mixup, cutmix=cutmix, probability=0.7, switch=0.4), 10)
    np.random.seed(0)
    expected: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(DRAWS):
        share, cut = theirs._params_per_batch()
        if cut and share != 1:
            share = cutmix_bbox_and_lam((6, 3, 30, 40), share)[1]
        expected[bool(cut)].append(share)
    ours: dict[bool, list[float]] = {False: [], True: []}
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        mixture = mixer.draw(30, 40, rng)
        ours[mixture.box is not None].append(mixture.share)
    assert len(ours[True]) == pytest.approx(len(expected[True]), abs=0.04 * DRAWS)
    for cut in (False, True):
        if min(len(ours[cut]), len(expected[cut])) > 100:
            smaller = min(len(ours[cut]), len(expected[cut]))
            assert _gap(ours[cut], expected[cut]) < 2.7 * (2 / smaller) ** 0.5


def _extent(erased):
    """How many pixels, rows and columns."""
    return erased.sum(), erased.any(axis=1).sum(), erased.any(axis=0).sum()


@pytest.mark.parametrize("count", [1, 3])
def test_erased_areas_are_distributed_as_timms(count):
    import torch
    from timm.data.random_erasing import RandomErasing

    random.seed(0)
    theirs = RandomErasing(1.0, mode="const", max_count=count, device="cpu")
    rng = np.random.default_rng(0)
    ours, expected = [], []
    for _ in range(DRAWS // 2):
        picture = theirs(torch.ones(1, 48, 40))[0].numpy()
        expected.append(_extent(picture == 0))
        picture = np.ones((48, 40))
        for top, left, height, width in erased_boxes(48, 40, rng, count):
            picture[top : top + height, left : left + width] = 0
        ours.append(_extent(picture == 0))
    for what in range(3):
        gap = _gap(np.array(ours)[:, what], np.array(expected)[:, what])
        assert gap < LARGEST_GAP * 2**0.5, what


def test_the_whole_is_normalised_as_by_timm(photograph):
    from timm.data import create_transform

    theirs = create_transform(
        24, is_training=True, hflip=1.0, scale=(1, 1), ratio=(1, 1), color_jitter=0,
        interpolation="bicubic",
    )  # fmt: skip
    square = photograph.crop((0, 0, 40, 40))
    settings = Augment(crop_scale=(1, 1), crop_ratio=(1, 1), flip=1)
    ours = Augmentation(settings, Preprocess(24))(square, np.random.default_rng(0))
    assert (np.moveaxis(ours, -1, 0) == theirs(square).numpy()).all()
    still = create_transform(24, crop_pct=0.875, interpolation="bicubic")(photograph)
    assert (np.moveaxis(Evaluation(Preprocess(24))(photograph), -1, 0) == still.numpy()).all()


def test_the_fill_colour_is_timms():
    from timm.data import create_transform

    theirs = create_transform(24, is_training=True, auto_augment="rand-m9-mstd0.5-inc1")
    [policy] = [step for step in theirs.transforms if hasattr(step, "ops")]
    settings = Augment(rand_augment="rand-m9-mstd0.5-inc1")
    ours = Augmentation(settings, Preprocess(24, mean=IMAGENET_MEAN))
    assert ours._rand_augment.canvas.fill == policy.ops[0].kwargs["fillcolor"]
