"""Mixup and cutmix by themselves; tests/heavy compares them with timm."""

import numpy as np
import pytest

from convnext.errors import ArgumentError
from convnext.train.augment.mixing import Mixer, Mixing, Mixture, cut_box


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 8, 10, 3), np.float32), np.array([0, 1, 2, 2, 1, 0])


def test_without_mixing_pictures_are_copied_and_labels_smoothed(batch):
    pictures, labels = batch
    mixed, targets = Mixer(Mixing(smoothing=0.3), 3)(pictures, labels, np.random.default_rng(0))
    assert (mixed == pictures).all()
    assert not np.shares_memory(mixed, pictures)
    assert targets[labels == 1] == pytest.approx(np.array([[0.1, 0.8, 0.1]] * 2))


def test_mixup_blends_with_the_batch_read_backwards(batch):
    pictures, labels = batch
    before = pictures.copy()
    mixed, targets = Mixer(Mixing(mixup=1.0), 3).apply(pictures, labels, Mixture(0.75))
    assert mixed == pytest.approx(0.75 * pictures + 0.25 * pictures[::-1], abs=1e-6)
    assert targets[0].tolist() == [1, 0, 0]
    assert targets[1].tolist() == [0, 1, 0]
    assert (pictures == before).all()


def test_cutmix_takes_a_box_from_the_partner(batch):
    pictures, labels = batch
    labels = np.array([0, 1, 2, 0, 2, 1])
    mixture = cut_box(8, 10, 0.75, (4, 5))
    mixed, targets = Mixer(Mixing(cutmix=1.0), 3).apply(pictures, labels, mixture)
    top, bottom, left, right = mixture.box
    inside = np.zeros((8, 10), bool)
    inside[top:bottom, left:right] = True
    assert (mixed[:, inside] == pictures[::-1, inside]).all()
    assert (mixed[:, ~inside] == pictures[:, ~inside]).all()
    assert targets[0].tolist() == pytest.approx([mixture.share, 1 - mixture.share, 0])
    assert mixture.share == 1 - inside.mean()


def test_a_box_is_clipped_and_its_share_corrected():
    assert cut_box(8, 8, 0.0, (4, 4)) == Mixture(0.0, (0, 8, 0, 8))
    assert cut_box(9, 7, 0.0, (4, 3)) == Mixture(0.0, (0, 9, 0, 7))
    corner = cut_box(8, 8, 0.0, (0, 0))
    assert corner.box == (0, 4, 0, 4)
    assert corner.share == 0.75


def test_settings_decide_how_often_what_is_mixed():
    rng = np.random.default_rng(0)
    mixer = Mixer(Mixing(mixup=0.8, cutmix=1.0, probability=0.5, switch=0.25), 3)
    drawn = [mixer.draw(32, 32, rng) for _ in range(4000)]
    mixed = [mixture for mixture in drawn if mixture.share != 1 or mixture.box]
    assert len(mixed) / 4000 == pytest.approx(0.5, abs=0.04)
    cut = [mixture for mixture in mixed if mixture.box]
    assert len(cut) / len(mixed) == pytest.approx(0.25, abs=0.04)
    assert all(mixture.box is None for mixture in (Mixer(Mixing(mixup=1), 3).draw(8, 8, rng),))
    assert Mixer(Mixing(cutmix=1.0), 3).draw(8, 8, rng).box


def test_targets_always_sum_to_one(batch):
    pictures, labels = batch
    mixer = Mixer(Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1), 7)
    for seed in range(20):
        _, targets = mixer(pictures, labels, np.random.default_rng(seed))
        assert targets.sum(axis=1) == pytest.approx(1, abs=1e-6)
        assert targets.dtype == np.float32


@pytest.mark.parametrize("settings", [{"mixup": -1}, {"smoothing": 1.5}, {"switch": 2}])
def test_numbers_out_of_range(settings):
    with pytest.raises(ArgumentError, match=next(iter(settings))):
        Mixing(**settings)


def test_mixing_without_classes_is_refused():
    with pytest.raises(ArgumentError, match="num_classes is 1 or more"):
        Mixer(Mixing(), 0)
