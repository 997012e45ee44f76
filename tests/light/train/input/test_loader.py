"""Batches: in order, ahead of time, and identical for any number of workers."""

import logging
import pickle

import numpy as np
import pytest

from convnext.data.examples import open_examples
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise, pixels
from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.augment.transforms import Evaluation
from convnext.train.input.loader import Loader, evaluation_batches
from convnext.train.input.order import Order
from convnext.train.input.team_order import paired_rows

MIXING = Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1)


@pytest.fixture
def loaded(examples, augmentation):
    """The batches of some steps, as bytes."""

    def load(start, stop, workers=0, data=examples, **options):
        settings = {"batch_size": 10, "seed": 5, **options}
        order = Order(data.labels, seed=settings["seed"])
        with Loader(
            data, augmentation, Mixer(MIXING, 2), order, workers=workers, **settings
        ) as loader:
            return [pickle.dumps(batch) for batch in loader.batches(start, stop)]

    return load


def test_batches_are_the_same_whatever_the_number_of_workers(loaded):
    expected = loaded(0, 9)
    assert len(set(expected)) == 9
    for workers, prefetch in ((1, 1), (2, None), (3, 7)):
        assert loaded(0, 9, workers, prefetch=prefetch) == expected, workers


def test_damage_is_told_in_the_same_order_whatever_the_number_of_workers(loaded, folder):
    root = folder({"cat": 20, "dog": 20}, name="damaged")
    for number in range(0, 20, 2):
        (root / "cat" / f"{number}.png").write_bytes(b"no picture")
    data = open_examples(root)
    assert loaded(0, 20, workers=3, data=data) == loaded(0, 20, data=data)


def test_batches_are_the_same_wherever_one_begins(loaded):
    expected = loaded(0, 9)
    assert loaded(4, 9) == expected[4:]
    assert loaded(7, 9, workers=2) == expected[7:]
    assert loaded(3, 3, workers=1) == []


def test_another_seed_gives_other_batches(loaded):
    assert not set(loaded(0, 3)) & set(loaded(0, 3, seed=6))


def test_a_batch_has_pictures_and_mixed_targets_of_its_step(examples, augmentation):
    order = Order(examples.labels, seed=0)
    mixer = Mixer(Mixing(), 5)
    with Loader(examples, augmentation, mixer, order, batch_size=7, seed=0, workers=1) as loader:
        first, second = loader.batches(3, 5)
        assert loader.waited > 0
    assert (first.step, second.step) == (3, 4)
    assert (first.pictures.shape, first.pictures.dtype) == ((7, 8, 8, 3), np.float32)
    assert (first.targets.shape, first.targets.dtype) == ((7, 5), np.float32)
    labels = examples.labels[order.indices(21, 7)]
    assert first.targets.argmax(axis=1).tolist() == labels.tolist()
    assert not np.shares_memory(first.pictures, second.pictures)


def test_the_pictures_are_those_of_the_order(examples):
    preprocess = Preprocess(size=8)
    order = Order(examples.labels, seed=2)
    with Loader(
        examples, Evaluation(preprocess), None, order, batch_size=6, seed=2, workers=1
    ) as loader:
        [batch] = loader.batches(1, 2)
    for picture, index in zip(batch.pictures, order.indices(6, 6), strict=True):
        assert (picture == normalise(pixels(examples.read(index), preprocess), preprocess)).all()
    assert batch.targets.shape == (6, 0)


def test_each_step_is_mixed_anew(folder, augmentation):
    examples = open_examples(folder({"cat": 1, "dog": 1}, name="pair"))
    order = Order(examples.labels, seed=0)
    mixer = Mixer(Mixing(mixup=1.0), 2)
    with Loader(examples, augmentation, mixer, order, batch_size=2, seed=0, workers=0) as loader:
        shares = {float(batch.targets.max()) for batch in loader.batches(0, 6)}
    assert len(shares) == 6


def test_a_batch_stays_as_it_is_while_others_are_made(examples, augmentation):
    order = Order(examples.labels, seed=0)
    with Loader(
        examples, augmentation, None, order, batch_size=4, seed=0, workers=1, prefetch=1
    ) as loader:
        batches = loader.batches(0, 20)
        first = next(batches)
        copy = first.pictures.copy()
        list(batches)
    assert (first.pictures == copy).all()


def test_asking_anew_in_the_middle(examples, augmentation, loaded):
    expected = loaded(0, 9)
    order = Order(examples.labels, seed=5)
    with Loader(
        examples, augmentation, Mixer(MIXING, 2), order, batch_size=10, seed=5, workers=2
    ) as loader:
        left = loader.batches(0, 100)
        for _ in range(3):
            next(left)
        again = [pickle.dumps(batch) for batch in loader.batches(2, 6)]
        assert again == expected[2:6]
        with pytest.raises(ArgumentError, match="called again"):
            next(left)


def test_hosts_share_a_batch(examples, augmentation):
    order = Order(examples.labels, seed=1)

    def first(host):
        with Loader(
            examples, augmentation, None, order, batch_size=12, seed=1, workers=0, host=host
        ) as loader:
            return next(iter(loader.batches(2, 3))).pictures

    whole, parts = first((0, 1)), [first((index, 3)) for index in range(3)]
    assert [len(part) for part in parts] == [4, 4, 4]
    for index, part in enumerate(parts):
        assert (part == whole[paired_rows(index, 3, 12)]).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_pictures_are_replaced_named_and_counted_once(
    folder, augmentation, caplog, workers
):
    root = folder({"cat": 10, "dog": 10})
    (root / "cat" / "3.png").write_bytes(b"no picture")
    (root / "dog" / "5.png").write_bytes((root / "dog" / "4.png").read_bytes()[:150])
    examples = open_examples(root)
    order = Order(examples.labels, seed=0)
    mixer = Mixer(Mixing(), 2)
    with Loader(
        examples, augmentation, mixer, order, batch_size=5, seed=0, workers=workers
    ) as loader:
        batches = list(loader.batches(0, 12))  # three epochs
        assert set(loader.bad) == {"cat/3.png", "dog/5.png"}
    named = [name for batch in batches for name, _ in batch.bad]
    assert named.count("cat/3.png") >= 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    for batch in batches:
        assert batch.pictures.reshape(5, -1).any(axis=1).all()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"batch_size": 0}, "batch_size is a positive multiple"),
        ({"batch_size": 9, "host": (0, 2)}, "the number of hosts, 2"),
        ({"host": (2, 2)}, "rank below count"),
        ({"workers": -1}, "workers is 0 or more"),
        ({"prefetch": 0}, "prefetch 1 or more"),
        ({"seed": -1}, "seed"),
        ({"mixer": Mixer(Mixing(), 1)}, "has a class 1"),
        ({"order": Order([0, 1], seed=0)}, "order is of 2 examples"),
    ],
)
def test_arguments_that_make_no_sense(examples, augmentation, options, problem):
    order = options.pop("order", Order(examples.labels, seed=0))
    settings = {"batch_size": 10, "seed": 0, "workers": 0, **options}
    mixer = settings.pop("mixer", None)
    with pytest.raises(ArgumentError, match=problem):
        Loader(examples, augmentation, mixer, order, **settings)


@pytest.mark.parametrize("span", [(-1, 2), (3, 2)])
def test_steps_that_make_no_sense(examples, augmentation, span):
    order = Order(examples.labels, seed=0)
    with (
        Loader(examples, augmentation, None, order, batch_size=4, seed=0, workers=0) as loader,
        pytest.raises(ArgumentError, match="Steps are 0 or more"),
    ):
        loader.batches(*span)


@pytest.mark.parametrize("cached", [False, True])
def test_evaluation_batches_are_all_pictures_in_order_and_one_size(examples, cached):
    preprocess = Preprocess(size=8)
    data = examples.cached() if cached else examples
    batches = list(evaluation_batches(data, preprocess, 7))
    assert [batch[0].shape for batch in batches] == [(7, 8, 8, 3)] * 5
    assert [count for _, _, count in batches] == [7, 7, 7, 7, 2]
    assert not batches[-1][0][2:].any()
    labels = np.concatenate([labels[:count] for _, labels, count in batches])
    assert labels.tolist() == examples.labels.tolist()
    pictures = np.concatenate([pictures[:count] for pictures, _, count in batches])
    evaluation = Evaluation(preprocess)
    for number in range(30):
        assert (pictures[number] == evaluation(examples.read(number))).all()


def test_evaluation_leaves_out_what_cannot_be_read(folder, caplog):
    root = folder({"cat": 4, "dog": 4})
    (root / "cat" / "1.png").write_bytes(b"no picture")
    batches = list(evaluation_batches(open_examples(root), Preprocess(size=8), 7, workers=1))
    assert [count for _, _, count in batches] == [7]
    assert batches[0][1].tolist() == [0] * 3 + [1] * 4
    assert "cat/1.png is skipped" in caplog.text
