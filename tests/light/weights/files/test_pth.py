"""torch's tensors from hand-made files: views are honoured, and impossible ones refused."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files import LazyTensor, open_weights, write_weights
from crafted_files import (
    STORAGE,
    dictionary,
    named,
    plain,
    tensor,
    write_legacy_pth,
    write_pth,
    write_zip,
)

TERA = 10**12


@pytest.mark.parametrize("write", [write_pth, write_legacy_pth])
def test_views_of_one_storage_are_honoured(write, tmp_path):
    code = dictionary(
        whole=tensor(),
        transposed=tensor(shape=(3, 2), strides=(1, 3)),
        tail=tensor(shape=(2,), strides=(1,), offset=4),
        column=tensor(shape=(2,), strides=(3,), offset=1),
        repeated=tensor(shape=(4, 2), strides=(0, 1)),
        scalar=tensor(shape=(), strides=(), offset=3),
        empty=tensor(shape=(0, 9), strides=(9, 1), offset=6),
    )
    matrix = STORAGE.reshape(2, 3)
    expected = {
        "whole": matrix,
        "transposed": matrix.T,
        "tail": STORAGE[4:],
        "column": matrix[:, 1],
        "repeated": np.tile(STORAGE[:2], (4, 1)),
        "scalar": np.float32(3),
        "empty": np.zeros((0, 9), np.float32),
    }
    with open_weights(write(tmp_path / "a.pth", code)) as file:
        assert file.format == "pth"
        assert list(file.tensors) == list(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(file.tensors[name].read(), values)


IMPOSSIBLE = {
    "100 TB": {"shape": (100 * TERA,), "strides": (1,), "count": 100 * TERA},
    "100 TB of a small storage": {"shape": (100 * TERA,), "strides": (1,)},
    "100 TB of one number": {"shape": (100 * TERA,), "strides": (0,)},
    "more elements than there are numbers": {"shape": (2**40,) * 30, "strides": (0,) * 30},
    "too many elements and none": {"shape": (2**40, 2**40, 0), "strides": (0, 0, 0)},
    "a stride of nothing": {"strides": (None, 1)},
    "a negative size": {"shape": (-2, 3)},
    "a negative stride": {"strides": (-3, 1)},
    "a negative offset": {"offset": -1},
    "a negative count": {"count": -6},
    "a stride beyond the storage": {"strides": (4, 1)},
    "an offset beyond the storage": {"offset": 1},
    "an offset of many digits": {"offset": 2 ** (8 * 10_000)},
    "a size of many digits": {"shape": (2 ** (8 * 10_000), 3)},
    "more sizes than strides": {"shape": (1, 2, 3)},
    "a thousand axes": {"shape": (1,) * 1000, "strides": (1,) * 1000},
    "sizes that are no integers": {"shape": (2.0, 3)},
    "sizes that are no tuple": {"shape": [2, 3]},
    "a missing storage": {"key": "1"},
    "a storage elsewhere": {"key": "../../elsewhere"},
    "a key that is no text": {"key": 0},
    "numbers of no type": {"storage": named("torch", "float32")},
}


@pytest.mark.parametrize("write", [write_pth, write_legacy_pth])
@pytest.mark.parametrize("wrong", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_tensor_is_refused(write, wrong, tmp_path):
    with pytest.raises(WeightsFileError, match=r"a\.pth cannot be used"):
        open_weights(write(tmp_path / "a.pth", dictionary(a=tensor(**wrong))))


def test_a_legacy_storage_of_another_length_than_pickled_is_refused(tmp_path):
    with pytest.raises(WeightsFileError, match="not as long"):
        open_weights(write_legacy_pth(tmp_path / "a.pth", dictionary(a=tensor()), count=7))


def test_a_legacy_storage_that_nothing_uses_is_refused(tmp_path):
    with pytest.raises(WeightsFileError, match="no tensor uses"):
        open_weights(write_legacy_pth(tmp_path / "a.pth", dictionary(a=tensor()), keys=("0", "1")))


def test_a_pickle_that_is_no_pth_file_is_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(dictionary(a=plain(1)))
    with pytest.raises(WeightsFileError, match=r"not a \.pth file"):
        open_weights(tmp_path / "a.pth")


def test_big_endian_storages_are_read(tmp_path):
    members = [
        ("a/data.pkl", dictionary(a=tensor())),
        ("a/data/0", STORAGE.astype(">f4").tobytes()),
        ("a/byteorder", b"big"),
    ]
    with open_weights(write_zip(tmp_path / "a.pth", members)) as file:
        assert file.tensors["a"].dtype == np.float32
        np.testing.assert_array_equal(file.tensors["a"].read(), STORAGE.reshape(2, 3))


def test_a_damaged_storage_is_found_when_it_is_read(tmp_path):
    path = write_pth(tmp_path / "a.pth", dictionary(a=tensor()))
    path.write_bytes(path.read_bytes().replace(STORAGE.tobytes(), STORAGE[::-1].tobytes()))
    with (
        open_weights(path) as file,
        pytest.raises(WeightsFileError, match=r"a\.pth cannot be used.*checksum"),
    ):
        file.tensors["a"].read()


def test_written_tensors_can_be_nested_under_a_key(tmp_path, arrays):
    tensors = {"norm.weight": LazyTensor.from_array(arrays["stem/kernel"])}
    write_weights(tmp_path / "a.pth", tensors, nested_under="model")
    with open_weights(tmp_path / "a.pth") as file:
        assert list(file.tensors) == ["model.norm.weight"]
        np.testing.assert_array_equal(
            file.tensors["model.norm.weight"].read(), arrays["stem/kernel"]
        )


def test_numbers_that_torch_has_no_storage_for_are_refused_for_writing(tmp_path):
    with pytest.raises(ArgumentError, match=r"uint16.*float32"):
        write_weights(tmp_path / "a.pth", {"a": LazyTensor.from_array(np.zeros(1, np.uint16))})
    assert not list(tmp_path.iterdir())
