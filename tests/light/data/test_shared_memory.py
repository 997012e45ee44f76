"""Arrays in anonymous shared memory."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from convnext.data.shared_memory import MappedArray, SharedArray
from convnext.errors import TrainingError


def test_a_shared_array_begins_as_zeros_and_its_pickle_shares_memory():
    shared = SharedArray((3, 4), np.float32)
    assert not shared.array.any()
    other = pickle.loads(pickle.dumps(shared))
    other.array[1, 2] = 7
    assert shared.array[1, 2] == 7
    assert shared.array.flags.writeable


def test_another_process_writes_into_it():
    shared = SharedArray((5,), np.int64)
    code = (
        "import pickle, sys; shared = pickle.load(sys.stdin.buffer); "
        "shared.array[:] = [1, 2, 3, 4, 5]"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(shared),
        pass_fds=[shared.descriptor],
        check=True,
    )
    assert shared.array.tolist() == [1, 2, 3, 4, 5]


def test_its_descriptor_is_closed_with_it_and_views_live_on():
    shared = SharedArray((2,), np.uint8)
    descriptor, view = shared.descriptor, shared.array[1:]
    del shared
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    view[:] = 3
    assert view.tolist() == [3]


def test_an_empty_one():
    assert SharedArray((0, 3), np.uint8).array.shape == (0, 3)


def test_an_array_larger_than_memory_is_refused():
    with pytest.raises(TrainingError, match="cannot be allocated"):
        SharedArray((2**62,), np.uint8)


def test_an_array_inside_a_file(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"abc" + bytes(range(6)))
    mapped = MappedArray(path, 3, (2, 3))
    sent = pickle.dumps(mapped)
    assert len(sent) < 300
    for array in (mapped.array, pickle.loads(sent).array):
        assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert not array.flags.writeable
