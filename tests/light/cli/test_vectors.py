"""Many vectors in one file."""

from __future__ import annotations

import errno
import io
import sys
import tracemalloc

import numpy as np
import pytest

from convnext.cli import vectors
from convnext.cli.vectors import npz_file, parquet_file
from convnext.errors import ConvNeXtError, MissingDependencyError, WeightsUnavailableError

KINDS = {
    "npz": lambda path, width: npz_file(path, width, {"model": "m"}),
    "parquet": lambda path, width: parquet_file(path, width, {"model": "m"}),
}


def read(path):
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return list(arrays["ids"]), arrays["embeddings"]
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    return table["id"].to_pylist(), np.array(table["embedding"].to_pylist(), np.float32)


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


@pytest.mark.parametrize("count", [1, 4, 5])
def test_vectors_and_names_are_read_as_they_were_added(kind, count, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "ROW_GROUP", 4)
    expected = np.random.default_rng(0).standard_normal((count, 3), np.float32)
    names = [f"pictur\u00e9 \U0001f408\n{'x' * number}" for number in range(count)]
    path = tmp_path / f"v.{kind}"
    with KINDS[kind](path, 3) as file:
        for name, vector in zip(names, expected, strict=True):
            file.add(name, vector)
        assert not path.exists()
    found_names, found = read(path)
    assert found_names == names
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_file_without_vectors_can_be_read(kind, tmp_path):
    path = tmp_path / f"v.{kind}"
    with KINDS[kind](path, 3):
        pass
    names, found = read(path)
    assert (names, len(found)) == ([], 0)


def test_parquet_says_what_is_known(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    with parquet_file(tmp_path / "v.parquet", 3, {"licence": "MIT"}) as file:
        file.add("a", np.zeros(3, np.float32))
    schema = parquet.read_schema(tmp_path / "v.parquet")
    assert schema.metadata[b"licence"] == b"MIT"
    assert str(schema.field("embedding").type) == "fixed_size_list<element: float>[3]"


@pytest.mark.parametrize("error", [KeyboardInterrupt, WeightsUnavailableError])
def test_an_unfinished_file_leaves_nothing_and_takes_nothing(kind, error, tmp_path):
    path = tmp_path / f"v.{kind}"
    path.write_text("the one before")

    def failing():
        with KINDS[kind](path, 3) as file:
            file.add("a", np.zeros(3, np.float32))
            raise error

    with pytest.raises(error):
        failing()
    assert path.read_text() == "the one before"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    class FullDisk(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(vectors.tempfile, "TemporaryFile", lambda **_: FullDisk())
    message = r"v\.npz cannot be written: No space left on device"
    with pytest.raises(ConvNeXtError, match=message), npz_file(tmp_path / "v.npz", 3, {}) as file:
        file.add("a", np.zeros(3, np.float32))


def test_memory_does_not_grow_with_the_number(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "ROW_GROUP", 64)
    vector = np.zeros(256, np.float32)
    with KINDS[kind](tmp_path / f"v.{kind}", len(vector)) as file:
        for number in range(2 * 64):  # writing the first group imports more
            file.add(f"first/{number}.jpg", vector)
        tracemalloc.start()
        for number in range(5_000):  # 5 MB
            file.add(f"pictures/{number}.jpg", vector)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 500_000


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = r"pip install 'convnext\[parquet\]'"
    with (
        pytest.raises(MissingDependencyError, match=message),
        parquet_file(tmp_path / "v.parquet", 3, {}),
    ):
        pass
