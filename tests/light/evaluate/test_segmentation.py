"""IoU and its relatives, against mmsegmentation's formulas and erosion one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.evaluate.segmentation import DILATION, Boundaries, PixelTally, boundary


@pytest.fixture
def maps():
    """Masks and predictions of five classes, one of which no mask has."""
    rng = np.random.default_rng(0)
    masks = [np.kron(rng.integers(0, 4, (6, 8)), np.ones((7, 9), int)) for _ in range(3)]
    predicted = [np.where(rng.random(m.shape) < 0.8, m, rng.integers(0, 5, m.shape)) for m in masks]
    for mask in masks:
        mask[rng.random(mask.shape) < 0.1] = -1
    return masks, predicted


def _mmsegmentation(masks, predicted, classes):
    """Histograms as in IoUMetric.intersect_and_union, and the ratios of total_area_to_metrics."""
    intersect, area, labels = (np.zeros(classes) for _ in range(3))
    for mask, found in zip(masks, predicted, strict=True):
        found, mask = found[mask >= 0], mask[mask >= 0]
        edges = np.arange(classes + 1) - 0.5
        intersect += np.histogram(found[found == mask], edges)[0]
        area += np.histogram(found, edges)[0]
        labels += np.histogram(mask, edges)[0]
    with np.errstate(invalid="ignore"):
        iou, recall = intersect / (area + labels - intersect), intersect / labels
    return iou, recall, intersect.sum() / labels.sum()


def test_ratios_are_mmsegmentations(maps):
    tally = PixelTally(6)
    for mask, found in zip(*maps, strict=True):
        tally.add(mask, found)
    result = tally.result()
    iou, recall, accuracy = _mmsegmentation(*maps, 6)
    np.testing.assert_allclose(result.iou, iou)
    np.testing.assert_allclose(result.recall, recall)
    assert np.isnan(iou[5])
    assert iou[4] == 0  # predicted, but in no mask
    assert result.mean_iou == pytest.approx(np.nanmean(iou))
    assert result.mean_accuracy == pytest.approx(np.nanmean(recall))
    assert result.accuracy == pytest.approx(accuracy)


def test_a_picture_adds_its_own_counts(maps):
    tally = PixelTally(5)
    counts = [tally.add(mask, found) for mask, found in zip(*maps, strict=True)]
    assert (sum(counts) == tally.counts).all()
    assert counts[0].sum() == (maps[0][0] >= 0).sum()


def _eroded(inside: np.ndarray, times: int) -> np.ndarray:
    """Erosion by a square of three pixels, with zeros beyond the border."""
    for _ in range(times):
        padded = np.pad(inside, 1)
        shifts = [
            padded[y : y + inside.shape[0], x : x + inside.shape[1]]
            for y in range(3)
            for x in range(3)
        ]
        inside = np.logical_and.reduce(shifts)
    return inside


@pytest.mark.parametrize("width", [1, 2, 5])
def test_boundaries_are_what_erosion_removes(maps, width):
    for mask in maps[0]:
        found = boundary(mask, width)
        for number in range(-1, 4):
            inside = mask == number
            assert (found[inside] == ~_eroded(inside, width)[inside]).all()


def test_boundary_iou_is_cheng_and_others(maps):
    edges = Boundaries(5)
    both, either = np.zeros(5), np.zeros(5)
    for mask, found in zip(*maps, strict=True):
        edges.add(mask, found)
        width = max(1, round(DILATION * np.hypot(*mask.shape)))
        for number in range(5):
            true, guess = mask == number, found == number
            true = true & ~_eroded(true, width)
            guess = guess & ~_eroded(guess, width) & (mask >= 0)
            both[number] += (true & guess).sum()
            either[number] += (true | guess).sum()
    np.testing.assert_allclose(edges.iou, both / either)
    assert edges.mean_iou == pytest.approx((both / either).mean())


def test_nothing_measured_is_zero():
    assert PixelTally(3).result().mean_iou == 0
    assert Boundaries(3).mean_iou == 0
