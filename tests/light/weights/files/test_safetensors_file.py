"""Headers of .safetensors files that lie, and what our own files promise."""

from __future__ import annotations

import json
import time

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files import open_weights, write_weights
from crafted_files import lazy, write_safetensors


def entry(start, end, shape=(6,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


HOSTILE = {
    "overlapping tensors": {"a": entry(0, 16, (4,)), "b": entry(8, 24, (4,))},
    "a hole": {"a": entry(0, 8, (2,)), "b": entry(16, 24, (2,))},
    "a tensor beyond the end": {"a": entry(0, 400, (100,))},
    "100 TB": {"a": entry(0, 10**14, (25 * 10**12,))},
    "sizes that overflow": {"a": entry(0, 0, (2**63, 2**63, 4))},
    "offsets in the wrong order": {"a": entry(24, 0)},
    "a negative offset": {"a": entry(-24, 0)},
    "a negative size": {"a": entry(0, 24, (-6,))},
    "a shape that does not fit": {"a": entry(0, 24, (5,))},
    "an unknown type": {"a": entry(0, 24, (6,), "F33")},
    "a type that we do not read": {"a": entry(0, 24, (48,), "F4")},
    "bytes after the last tensor": {"a": entry(0, 20, (5,))},
    "metadata that is no text": {"__metadata__": {"a": 1}, "b": entry(0, 24)},
    "40 axes": {"a": entry(0, 24, (6,) + (1,) * 40)},
    "an endless name": {"a" * 10_000: entry(0, 24)},
    "no JSON": b"{" + b"x" * 100,
    "no text": b'{"\xff": 1}',
    "nested JSON": b'{"a":' * 100_000,
    "half a character": b'{"\\ud800":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}',
}


@pytest.mark.parametrize("header", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused(header, tmp_path):
    with pytest.raises(WeightsFileError, match=r"a\.safetensors cannot be used"):
        open_weights(write_safetensors(tmp_path / "a.safetensors", header))


def test_long_annotations_come_back(tmp_path):
    path, labels = tmp_path / "a.safetensors", {"labels": "n" * (3 << 20)}
    write_weights(path, lazy({"x": np.ones(3)}), labels)
    with open_weights(path) as file:
        assert file.metadata == labels


def test_a_header_that_we_would_not_read_is_not_written(tmp_path):
    path, labels = tmp_path / "a.safetensors", {"labels": "n" * (5 << 20)}
    with pytest.raises(ArgumentError, match=r"Shorten .* the labels of the classes"):
        write_weights(path, lazy({"x": np.ones(3)}), labels)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [5 << 20, 10**11, 2**63, 2**64 - 1])
def test_a_header_of_impossible_length_is_refused(length, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a":' + bytes(100))
    started = time.process_time()
    with pytest.raises(WeightsFileError, match=f"{length:,} bytes"):
        open_weights(path)
    assert time.process_time() - started < 1


def test_more_tensors_than_a_model_has_are_refused(tmp_path):
    header = {f"{n}": entry(0, 0, (0,)) for n in range(8_193)}
    with pytest.raises(WeightsFileError, match="more than 8,192"):
        open_weights(write_safetensors(tmp_path / "a.safetensors", header, b""))


def test_tensors_lie_where_the_library_finds_them(tmp_path):
    values = {
        "z": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.arange(3).astype(ml_dtypes.bfloat16),
        "empty": np.zeros((0, 2), np.float32),
        "m": np.arange(3, dtype=np.int8),
    }
    save_file(values, tmp_path / "a.safetensors", metadata={"format": "pt"})
    with open_weights(tmp_path / "a.safetensors") as file:
        assert file.format == "safetensors"
        assert file.metadata == {"format": "pt"}
        for name, array in values.items():
            assert file.tensors[name].dtype == array.dtype
            np.testing.assert_array_equal(file.tensors[name].read(), array)


def test_the_library_reads_what_we_write(tmp_path, arrays):
    write_weights(tmp_path / "a.safetensors", lazy(arrays), {"a": "\u00e9\n", "b": ""})
    loaded = load_file(tmp_path / "a.safetensors")
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
    with open_weights(tmp_path / "a.safetensors") as file:
        assert file.metadata == {"a": "\u00e9\n", "b": ""}


def test_the_first_tensor_is_aligned_and_so_are_the_others(tmp_path, arrays):
    write_weights(tmp_path / "a.safetensors", lazy(arrays))
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, found in json.loads(content[8 : 8 + length]).items():
        assert found["data_offsets"][0] % arrays[name].itemsize == 0


def test_types_and_names_that_the_format_lacks_are_not_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"complex128.*float32"):
        write_weights(tmp_path / "a.safetensors", lazy({"a": np.zeros(1, complex)}))
    with pytest.raises(ArgumentError, match="__metadata__"):
        write_weights(tmp_path / "a.safetensors", lazy({"__metadata__": np.zeros(1)}))
