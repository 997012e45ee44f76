"""The writing door: a file is complete or it is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from convnext.errors import ArgumentError, WeightsError
from convnext.weights.files import LazyTensor, open_weights, write_weights
from crafted_files import lazy

KINDS = ["safetensors", "npz", "pth", "h5"]


@pytest.mark.parametrize("kind", KINDS)
def test_progress_counts_the_bytes_of_each_tensor(kind, tmp_path, arrays):
    counted: list[int] = []
    write_weights(tmp_path / f"a.{kind}", lazy(arrays), on_progress=counted.append)
    assert sorted(counted) == sorted(array.nbytes for array in arrays.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tensors_make_the_same_file(kind, tmp_path, arrays):
    for name in ("a", "b"):
        write_weights(tmp_path / f"{name}.{kind}", lazy(arrays))
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_half_way_leaves_the_old_file_and_nothing_else(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    path.write_text("the old file")

    def fail():
        raise KeyboardInterrupt

    tensors = lazy({"a/a": np.zeros(1000)}) | {"a/b": LazyTensor((1,), np.dtype("f4"), fail)}
    with pytest.raises(KeyboardInterrupt):
        write_weights(path, tensors)
    assert path.read_text() == "the old file"
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from convnext.errors import WeightsError
from convnext.weights.files import LazyTensor, write_weights

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_weights(sys.argv[1], {"a/a": LazyTensor.from_array(np.zeros(100_000))})
except WeightsError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system cannot bound the size of a file")
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_is_an_error_and_leaves_nothing(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, path], capture_output=True, text=True
    )
    assert done.stdout.startswith(f"{path} cannot be written: "), done.stderr
    assert not done.stderr
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_found_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 79))
    with pytest.raises(WeightsError, match="80 bytes are needed and 79 are free"):
        write_weights(tmp_path / "a.npz", lazy({"a": np.zeros(10)}))


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="No such file or directory"):
        write_weights(tmp_path / "missing" / "a.npz", lazy({"a": np.zeros(1)}))


@pytest.mark.skipif(os.name == "nt", reason="the system has other permissions")
def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"a\.npz cannot be written: Not a directory"):
        write_weights(tmp_path / "file" / "a.npz", lazy({"x": np.ones(3)}))


def test_a_new_file_has_the_permissions_that_any_new_file_has(tmp_path):
    (tmp_path / "any").touch()
    write_weights(tmp_path / "a.npz", lazy({"a": np.zeros(1)}))
    assert (tmp_path / "a.npz").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_file_can_be_rewritten_from_itself(tmp_path, arrays):
    write_weights(tmp_path / "a.npz", lazy(arrays))
    with open_weights(tmp_path / "a.npz") as file:
        write_weights(tmp_path / "a.npz", {"all": file.tensors["stem/kernel"]})
    with open_weights(tmp_path / "a.npz") as file:
        np.testing.assert_array_equal(file.tensors["all"].read(), arrays["stem/kernel"])


def test_an_open_file_keeps_its_values_when_replaced(tmp_path, arrays):
    write_weights(tmp_path / "a.npz", lazy(arrays))
    with open_weights(tmp_path / "a.npz") as file:
        values = file.tensors["stem/kernel"].read()
        write_weights(tmp_path / "a.npz", lazy({"a": np.zeros(10_000)}))
        np.testing.assert_array_equal(values, arrays["stem/kernel"])


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("a.txt", {}, "safetensors, npz, pth, h5"),
        ("a", {}, "Unknown format"),
        ("a.npz", {"format": "keras"}, "'keras'"),
        ("a.weights.h5", {}, "Keras 3"),
        ("a.npz", {"metadata": {"a": "b"}}, "no place for metadata"),
        ("a.pth", {"metadata": {"a": "b"}}, "no place for metadata"),
        ("a.npz", {"nested_under": "model"}, "nested_under"),
    ],
)
def test_invalid_names_and_options_are_refused_before_writing(name, options, reason, tmp_path):
    with pytest.raises(ArgumentError, match=reason):
        write_weights(tmp_path / name, lazy({"a": np.zeros(1)}), **options)
    assert not list(tmp_path.iterdir())
