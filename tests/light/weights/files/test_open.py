"""The reading door: what a file is, folders and shards, and errors that name the file."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from convnext.errors import ArgumentTypeError, WeightsFileError, WeightsUnavailableError
from convnext.weights.files import LazyTensor, open_weights, write_weights
from crafted_files import lazy, write_safetensors

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pth", "h5"])
def test_the_content_counts_and_not_the_name(kind, tmp_path, arrays):
    write_weights(tmp_path / "weights.txt", lazy(arrays), format=kind)
    with open_weights(str(tmp_path / "weights.txt")) as file:
        assert file.format == kind
        assert file.tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.tensors[name].read(), array)
            assert file.tensors[name].dtype == array.dtype
            assert file.tensors[name].nbytes == array.nbytes


@pytest.mark.parametrize("length", [0x80, 0x7B20])  # the first bytes of a pickle, and of JSON
def test_the_length_of_a_safetensors_header_is_no_signature(length, tmp_path):
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + b"\7")
    with open_weights(path) as file:
        assert file.format == "safetensors"
        assert file.tensors["a"].read() == 7


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pth"])
def test_values_are_read_only_views_of_the_file(kind, tmp_path, arrays):
    write_weights(tmp_path / "weights", lazy(arrays), format=kind)
    with open_weights(tmp_path / "weights") as file:
        values = file.tensors["stem/kernel"].read()
    assert not values.flags.writeable
    while values.base is not None and not isinstance(values, np.memmap):
        values = values.base
    assert isinstance(values, np.memmap)


def test_a_lazy_tensor_that_breaks_its_promise_is_an_error():
    tensor = LazyTensor((2,), np.dtype(np.float32), lambda: np.zeros(3, np.float32))
    with pytest.raises(WeightsFileError, match=r"\(2,\).*\(3,\)"):
        tensor.read()


def test_a_tensor_in_memory_stays_writeable_for_its_owner():
    array = np.arange(3, dtype=">f4")
    assert LazyTensor.from_array(array).dtype.isnative
    native = np.arange(3)
    assert not LazyTensor.from_array(native).read().flags.writeable
    assert native.flags.writeable


def test_a_missing_file_is_unavailable(tmp_path):
    with pytest.raises(WeightsUnavailableError, match="No such file"):
        open_weights(tmp_path / "a.pth")


def test_weights_by_anything_but_a_path_are_refused():
    with pytest.raises(ArgumentTypeError, match="by a path, not int"):
        open_weights(3)


@pytest.mark.parametrize("name", ["a\0b", "\ud800\0"])
def test_a_name_that_no_file_can_have_is_unavailable(name):
    with pytest.raises(WeightsUnavailableError, match="cannot be read: "):
        open_weights(name)


@pytest.mark.parametrize("content", [b"", b"\n", b"\x89PNG\r\n", b"\x80", bytes(100), b"<html>"])
def test_files_that_hold_no_weights_are_refused(content, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(WeightsFileError, match=r"a\.pth cannot be used"):
        open_weights(tmp_path / "a.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(WeightsFileError, match="neither a file nor a folder"):
        open_weights(tmp_path / "a.pth")


@pytest.fixture
def sharded(tmp_path):
    """A folder with two shards and their index."""
    write_weights(tmp_path / "1.safetensors", lazy({"a": np.zeros(2), "x": np.ones(1)}))
    write_weights(tmp_path / "2.safetensors", lazy({"b": np.ones(3)}))
    index = {"metadata": {}, "weight_map": {"b": "2.safetensors", "a": "1.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(index, indent=1))
    return tmp_path


@pytest.mark.parametrize("name", [INDEX, ""])
def test_shards_are_one_set_of_tensors(name, sharded):
    with open_weights(sharded / name) as file:
        assert file.format == "safetensors"
        assert list(file.tensors) == ["b", "a"]
        np.testing.assert_array_equal(file.tensors["b"].read(), np.ones(3))


def test_shards_of_torch_are_read(tmp_path):
    write_weights(tmp_path / "1.bin", lazy({"a": np.zeros(2)}))
    index = {"weight_map": {"a": "1.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with open_weights(tmp_path) as file:
        assert file.format == "pth"
        assert list(file.tensors) == ["a"]


def test_a_folder_with_one_file_is_that_file(tmp_path):
    write_weights(tmp_path / "pytorch_model.bin", lazy({"a": np.zeros(2)}))
    write_weights(tmp_path / "model.safetensors", lazy({"b": np.zeros(2)}))
    with open_weights(tmp_path) as file:
        assert list(file.tensors) == ["b"]


def test_a_folder_without_weights_says_what_it_looked_for(tmp_path):
    with pytest.raises(WeightsFileError, match=r"model\.safetensors.*SavedModel"):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"weight_map": {"a": "../1.safetensors"}}, "outside its own folder"),
        ({"weight_map": {"a": "..\\1.safetensors"}}, "outside its own folder"),
        ({"weight_map": {"a": "/1.safetensors"}}, "outside its own folder"),
        ({"weight_map": {"a": ".."}}, "cannot be used"),
        ({"weight_map": {"a": ""}}, "cannot be used"),
        ({"weight_map": {"a": 1}}, "outside its own folder"),
        ({"weight_map": {"a": "x\0y"}}, "unprintable characters"),
        ({"weight_map": {"a": "\ud800"}}, "unprintable characters"),
        ({"weight_map": {"a": "2.safetensors"}}, "lacks 'a'"),
        ({"weight_map": {"a": INDEX}}, "no format we read"),
        ({"weight_map": {}}, "weight_map"),
        ({"weight_map": 1}, "weight_map"),
        ({"a": 1}, "weight_map"),
        ('{"a":' * 100_000, "no JSON"),
        ('{"a": ', "no JSON"),
        ("{" + " " * (2 << 20), "at most"),
    ],
)
def test_a_hostile_index_is_refused(index, reason, sharded):
    text = index if isinstance(index, str) else json.dumps(index)
    (sharded / INDEX).write_text(text)
    with pytest.raises(WeightsFileError, match=reason):
        open_weights(sharded)


def test_a_missing_shard_is_unavailable_and_named(sharded):
    (sharded / "1.safetensors").unlink()
    with pytest.raises(WeightsUnavailableError, match=r"1\.safetensors"):
        open_weights(sharded)


def test_a_damaged_shard_is_refused(sharded):
    write_safetensors(sharded / "1.safetensors", b"{")
    with pytest.raises(WeightsFileError, match="header is damaged"):
        open_weights(sharded)
