"""Slices of batches, filled in this process; test_pool uses worker processes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convnext.data.examples import open_examples
from convnext.errors import ImageError
from convnext.train.input.order import Order
from convnext.train.input.worker import BatchMaker, Slice, SliceDone, messages, packed


@pytest.fixture
def maker(examples, augmentation):
    order = Order(examples.labels, seed=7)
    return BatchMaker(examples, augmentation, order, batch_size=6, seed=7)


def _filled(maker, *tasks):
    pictures, labels = np.zeros((6, 8, 8, 3), np.float32), np.full(6, -1, np.int64)
    bad = [maker.fill(task, pictures, labels) for task in tasks]
    return pictures, labels, bad


def test_parts_are_what_the_whole_is(maker):
    whole = _filled(maker, Slice(3, 0, 0, 6))
    parts = _filled(maker, Slice(3, 0, 4, 6), Slice(3, 0, 0, 1), Slice(3, 0, 1, 4))
    assert whole[0].tobytes() == parts[0].tobytes()
    assert whole[1].tolist() == parts[1].tolist()
    assert whole[1].tolist() == maker.examples.labels[maker.order.indices(18, 6)].tolist()


def test_a_slice_fills_only_its_own_rows(maker):
    pictures, labels, _ = _filled(maker, Slice(0, 0, 2, 4))
    assert not pictures[[0, 1, 4, 5]].any()
    assert pictures[2:4].any()
    assert (labels == -1).tolist() == [True, True, False, False, True, True]


def test_an_example_seen_again_is_augmented_anew(maker):
    one = maker.examples.subset([4])
    again = replace(maker, examples=one, order=Order(one.labels, seed=7))
    pictures, _, _ = _filled(again, Slice(0, 0, 0, 6))
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_a_damaged_picture_is_replaced_and_named(folder, augmentation):
    root = folder({"cat": 20, "dog": 10})
    for number in range(10):
        (root / "cat" / f"{number}.png").write_bytes(b"no picture")
    examples = open_examples(root)
    maker = BatchMaker(examples, augmentation, Order(examples.labels, seed=0), 30, 0)
    pictures = [np.zeros((30, 8, 8, 3), np.float32) for _ in range(2)]
    labels = np.full(30, -1, np.int64)
    bad = [maker.fill(Slice(0, 0, 0, 30), array, labels) for array in pictures]
    assert bad[0] == bad[1]
    assert {name for name, _ in bad[0]} == {f"cat/{number}.png" for number in range(10)}
    assert "is not a picture in a supported format" in bad[0][0][1]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    assert pictures[0].reshape(30, -1).any(axis=1).all()
    assert np.bincount(labels).tolist()[0] < 20


def test_one_damaged_picture_leaves_all_others_as_they_were(maker):
    before = _filled(maker, Slice(0, 0, 0, 6))[0]
    index = int(maker.order.indices(2, 1)[0])
    Path(maker.examples._store._root, maker.examples.name(index)).write_bytes(b"no picture")
    after = _filled(maker, Slice(0, 0, 0, 6))[0]
    assert (before != after).any(axis=(1, 2, 3)).tolist() == [False, False, True] + [False] * 3


def test_a_worker_ends_if_no_picture_can_be_read(folder, augmentation):
    root = folder({"cat": 3})
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    examples = open_examples(root)
    maker = BatchMaker(examples, augmentation, Order(examples.labels, seed=0), 6, 0)
    with pytest.raises(ImageError, match=r"more than half .* was cat/\d.png"):
        _filled(maker, Slice(0, 0, 0, 6))


def test_messages_come_out_as_they_went_in_however_they_are_cut():
    sent = [SliceDone(Slice(1, 2, 3, 4), (("a", "b"),)), {"x": 1}, None]
    stream, buffer, found = b"".join(map(packed, sent)), bytearray(), []
    for place in range(0, len(stream), 7):
        buffer += stream[place : place + 7]
        found += messages(buffer)
    assert found == sent
    assert not buffer


def test_a_worker_imports_light_modules_only():
    code = (
        "import sys, convnext.train.input.worker; "
        "heavy = {'keras', 'torch', 'jax', 'tensorflow', 'timm', 'transformers', 'matplotlib', "
        "'httpx', 'multiprocessing.popen_spawn_posix', 'convnext.evaluate', 'convnext.engines'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
