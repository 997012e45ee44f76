from __future__ import annotations

import numpy as np
import pytest

from convnext.errors import ArgumentError
from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.input.loader import Loader
from convnext.train.input.order import Order
from convnext.train.input.team_order import PairedOrder, paired_rows


@pytest.mark.parametrize(("count", "batch"), [(1, 5), (2, 8), (3, 12), (4, 8)])
def test_every_row_is_one_hosts_and_partners_stay_together(count, batch):
    parts = [paired_rows(index, count, batch) for index in range(count)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(batch))
    for part in parts:
        assert (part[::-1] == batch - 1 - part).all()


@pytest.mark.parametrize(
    ("index", "count", "batch", "said"),
    [(2, 2, 8, "rank below count"), (0, 2, 6, "multiple of 4"), (0, 2, 0, "multiple of 4")],
)
def test_shares_that_cannot_be(index, count, batch, said):
    with pytest.raises(ArgumentError, match=said):
        paired_rows(index, count, batch)


@pytest.mark.parametrize("balanced", [False, True])
def test_hosts_have_the_sequence_of_one(balanced):
    order = Order([0, 0, 0, 1, 1, 2, 0], seed=3, balanced=balanced)
    whole = order.indices(0, 24).reshape(2, 12)
    for index in range(3):
        part = PairedOrder(order, index, 3, 12)
        expected = whole[:, paired_rows(index, 3, 12)]
        assert (part.indices(0, 8) == expected.ravel()).all()
        assert (part.indices(5, 2) == expected.ravel()[5:7]).all()
        assert len(part) == 7


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_pictures_are_mixed_as_one_host_mixes_them(examples, augmentation, kind, workers):
    order = Order(examples.labels, seed=1)

    def batches(host):
        mixer = Mixer(Mixing(**kind, smoothing=0.1), 2)
        settings = {"batch_size": 12, "seed": 1, "workers": workers, "host": host}
        with Loader(examples, augmentation, mixer, order, **settings) as loader:
            return list(loader.batches(1, 4))

    whole = batches((0, 1))
    for index in range(3):
        rows = paired_rows(index, 3, 12)
        for one, part in zip(whole, batches((index, 3)), strict=True):
            assert (part.pictures == one.pictures[rows]).all()
            assert (part.targets == one.targets[rows]).all()
