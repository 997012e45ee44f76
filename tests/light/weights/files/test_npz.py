"""NumPy's archives: honest ones of every kind, and headers that lie."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convnext.errors import ArgumentError, WeightsFileError
from convnext.weights.files import open_weights, write_weights
from crafted_files import lazy, write_zip


def npy(header: str, data: bytes = bytes(24), version: bytes = b"\1\0") -> bytes:
    size = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + header.encode() + data


def header(descr="'<f4'", shape="(2, 3)", order="False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


HOSTILE = {
    "a pickle": npy(header("'|O'")),
    "a record": npy(header("[('a', '<f4')]")),
    "a nested record": npy(header("[('a', '<f4', (1000000, 1000000))]")),
    "a text": npy(header("'<U6'")),
    "a date": npy(header("'<M8[s]'")),
    "100 TB": npy(header(shape="(25000000000000,)")),
    "a negative size": npy(header(shape="(-2, 3)")),
    "a size of many digits": npy(header(shape=f"({'9' * 4000},)")),
    "a size in Fortran order that overflows": npy(
        header(shape="(4000000000, 4000000000, 4000000000)", order="True")
    ),
    "five axes too many": npy(header(shape=f"({'1,' * 37})")),
    "an order of its own": npy(header(order="7")),
    "a call": npy(header(shape="(__import__('os').system('touch ran'),)")),
    "brackets": npy(header(shape="(" * 4000)),
    "signs": npy(header(shape="-" * 9000 + "1")),
    "a header that is too long": npy(header(shape="(2, 3)" + " " * 60_000)),
    "a header that is cut off": npy(header())[:40],
    "no header": b"",
    "something else": b"hello",
    "lines that are indented oddly": npy("  a\n b\n"),
    "a version of the future": npy(header(), version=b"\x09\0"),
    "numbers that are cut off": npy(header(), bytes(23)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_array_is_refused(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsFileError, match=r"a\.npz cannot be used"):
        open_weights(write_zip(tmp_path / "a.npz", [("a.npy", content)]))
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_more_arrays_than_a_model_has_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.npz", ((f"{n}.npy", b"") for n in range(8_193)))
    with pytest.raises(WeightsFileError, match="more than 8,192"):
        open_weights(path)


def test_arrays_of_every_kind_are_read(tmp_path, arrays):
    wanted = arrays | {
        "fortran": np.asfortranarray(arrays["stem/kernel"]),
        "big endian": np.arange(3, dtype=">i4"),
        "complex": np.array([1j]),
        "bfloat16": np.arange(3).astype(ml_dtypes.bfloat16),
    }
    np.savez(tmp_path / "a.npz", **wanted)
    with open_weights(tmp_path / "a.npz") as file:
        assert file.format == "npz"
        assert list(file.tensors) == list(wanted)
        for name, array in wanted.items():
            assert file.tensors[name].dtype.isnative
            np.testing.assert_array_equal(file.tensors[name].read(), array)


def test_numpy_reads_what_we_write(tmp_path, arrays):
    bfloat16 = np.arange(3).astype(ml_dtypes.bfloat16)
    write_weights(tmp_path / "a.npz", lazy(arrays | {"bfloat16": bfloat16}))
    with np.load(tmp_path / "a.npz") as loaded:
        assert list(loaded) == [*arrays, "bfloat16"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
        np.testing.assert_array_equal(loaded["bfloat16"].view(ml_dtypes.bfloat16), bfloat16)


def test_other_numbers_without_a_name_in_numpy_are_refused_for_writing(tmp_path):
    with pytest.raises(ArgumentError, match="float8_e5m2"):
        write_weights(tmp_path / "a.npz", lazy({"a": np.zeros(1, ml_dtypes.float8_e5m2)}))


def test_trained_weights_are_read(shared_data):
    path = next((shared_data / "trained-nano-prefix").glob("*timm_names.npz"))
    with open_weights(path) as file, np.load(path) as loaded:
        assert list(file.tensors) == list(loaded)
        for name in loaded:
            np.testing.assert_array_equal(file.tensors[name].read(), loaded[name])
