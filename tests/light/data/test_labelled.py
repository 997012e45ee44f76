"""Labelled pictures with random access."""

import logging
import pickle

import numpy as np
import pytest

from convnext.data import labelled
from convnext.data.examples import hold_out, open_examples
from convnext.data.labelled import Examples
from convnext.errors import ArgumentError


def test_pictures_labels_and_names(examples):
    assert len(examples) == 30
    assert examples.classes == ("cat", "dog")
    assert examples.counts.tolist() == [20, 10]
    assert examples.labels.dtype == np.int64
    assert examples.name(29) == "dog/9.png"
    assert examples.read(29).size == (12, 10)


def test_a_subset_keeps_its_order_and_the_classes(examples):
    part = examples.subset([25, 3, 3]).subset([2, 0])
    assert [part.name(number) for number in range(2)] == ["cat/11.png", "dog/5.png"]
    assert part.labels.tolist() == [0, 1]
    assert part.classes == ("cat", "dog")


def test_a_copy_is_the_same(examples):
    sent = pickle.loads(pickle.dumps(examples.subset([4, 20])))
    assert sent.name(1) == examples.name(20)
    assert sent.read(1).tobytes() == examples.read(20).tobytes()
    assert sent.fingerprint == examples.subset([4, 20]).fingerprint


def test_the_fingerprint_knows_names_labels_and_classes(examples):
    others = [
        examples,
        examples.subset(np.arange(29)),
        examples.subset(np.arange(30)[::-1]),
        Examples(examples._store, 1 - examples.labels, examples.naming),
        Examples(examples._store, examples.labels, None),
    ]
    assert len({other.fingerprint for other in others}) == len(others)


def test_the_fingerprint_of_arrays_knows_their_pixels(tmp_path):
    pixels = np.zeros((4, 6, 6), np.uint8)
    found = set()
    for number in range(2):
        pixels[2, 3, 3] = number
        np.savez(tmp_path / "data.npz", images=pixels, labels=np.array([0, 1, 0, 1]))
        found.add(open_examples(tmp_path / "data.npz").fingerprint)
    assert len(found) == 2


def test_labels_for_all(examples):
    with pytest.raises(ArgumentError, match="3 labels for 30 pictures"):
        Examples(examples._store, [0, 1, 0], None)


def test_held_out_pictures_are_of_every_class_and_always_the_same(examples):
    train, held = hold_out(examples, 0.2, seed=1)
    assert train.counts.tolist() == [16, 8]
    assert held.counts.tolist() == [4, 2]
    names = [[part.name(number) for number in range(len(part))] for part in (train, held)]
    assert len({*names[0], *names[1]}) == 30
    again = hold_out(examples, 0.2, seed=1)[1]
    assert again.fingerprint == held.fingerprint
    assert hold_out(examples, 0.2, seed=2)[1].fingerprint != held.fingerprint


def test_rare_classes_keep_a_picture_and_give_one_if_they_can(folder):
    examples = open_examples(folder({"one": 1, "three": 3, "two": 2}))
    train, held = hold_out(examples, 0.05)
    assert train.counts.tolist() == [1, 2, 1]
    assert held.counts.tolist() == [0, 1, 1]
    assert hold_out(examples, 0.99)[0].counts.tolist() == [1, 1, 1]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_fractions_that_leave_nothing(examples, fraction):
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        hold_out(examples, fraction)


def test_one_picture_a_class_cannot_be_divided(folder):
    with pytest.raises(ArgumentError, match="can be held out: every class has a single one"):
        hold_out(open_examples(folder({"a": 1, "b": 1})), 0.5)


def test_small_pictures_are_cached_with_a_log_message(examples, caplog):
    with caplog.at_level(logging.INFO, "convnext"):
        cached = examples.cached()
    assert "30 decoded pictures of 12 x 10" in caplog.text
    assert cached is not examples
    assert cached.cached() is cached
    assert cached.fingerprint == examples.fingerprint
    for number in (0, 29, 0):
        assert cached.read(number).tobytes() == examples.read(number).tobytes()
    assert len(cached.descriptors()) == 2


def test_a_damaged_picture_among_small_ones_stays_damaged(folder):
    root = folder({"cat": 5})
    (root / "cat" / "2.png").write_bytes(b"no picture")
    cached = open_examples(root).cached()
    for _ in range(2):
        with pytest.raises(labelled.ImageError):
            cached.read(2)


@pytest.mark.parametrize("why", ["large", "many", "different"])
def test_large_many_or_unequal_pictures_are_not_cached(folder, png, monkeypatch, why):
    root = folder({"cat": 4}, size=(97, 10) if why == "large" else (12, 10))
    if why == "many":
        monkeypatch.setattr(labelled, "CACHE_BYTES", 4 * 12 * 10 * 3 - 1)
    if why == "different":
        (root / "cat" / "1.png").write_bytes(png(0, (9, 9)))
    examples = open_examples(root)
    assert examples.cached() is examples
