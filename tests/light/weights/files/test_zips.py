"""Zip archives that lie: about sizes, places, names and counts."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zipfile

import numpy as np
import pytest

from convnext.errors import WeightsFileError
from convnext.weights.files import open_weights
from crafted_files import STORAGE, contents, dictionary, tensor, write_pth, write_zip

CODE = dictionary(a=tensor())
ZEROS = bytes(9 << 20)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def refuse(path, reason: str) -> None:
    started = time.process_time()
    with pytest.raises(WeightsFileError, match=reason):
        contents(path)
    assert time.process_time() - started < 5


def patched(path, field_of_directory: str, value: int, member: int = 1):
    """Overwrites a field of a member's entry in the archive's directory."""
    offsets = {
        "flags": [(8, "<H")],
        "method": [(10, "<H")],
        "crc": [(16, "<L")],
        "stored": [(20, "<L")],
        "size": [(24, "<L")],
        "stored size": [(20, "<L"), (24, "<L")],
        "place": [(42, "<L")],
    }
    content = bytearray(path.read_bytes())
    entry = -1
    for _ in range(member + 1):
        entry = content.index(b"PK\1\2", entry + 1)
    for offset, layout in offsets[field_of_directory]:
        struct.pack_into(layout, content, entry + offset, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("flags", 1, "encrypted"),
        ("method", zipfile.ZIP_BZIP2, "compressed in a way"),
        ("method", zipfile.ZIP_DEFLATED, "damaged"),
        ("crc", 1, "wrong checksum"),
        ("stored", 2**32 - 2, "cut off"),
        ("stored size", 2**32 - 2, "cut off"),
        ("size", 2**32 - 2, "cut off"),
        ("stored", 20, "cut off"),
        ("place", 2**31, "not where its directory says"),
        ("place", 3, "not where its directory says"),
        ("place", 0, "overlaps"),
    ],
)
def test_a_directory_that_lies_about_a_member_is_refused(field, value, reason, tmp_path):
    refuse(patched(write_pth(tmp_path / "a.pth", CODE), field, value), reason)


@pytest.mark.parametrize(
    "name", ["../up", "a/../../up", "/absolute", "..\\up", "\\absolute", "a/..\\..\\up"]
)
def test_a_name_that_climbs_out_of_the_archive_is_refused(name, tmp_path):
    members = [("a/data.pkl", CODE), ("a/data/0", STORAGE.tobytes()), (name, b"x")]
    refuse(write_zip(tmp_path / "a.pth", members), "outside the archive")


def test_two_members_of_one_name_are_refused(tmp_path):
    members = [("a/data.pkl", CODE), ("a/data/0", STORAGE.tobytes()), ("a/data/0", bytes(24))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, about the second name
        path = write_zip(tmp_path / "a.pth", members)
    refuse(path, "two members")


def test_two_pickles_are_refused(tmp_path):
    members = [("a/data.pkl", CODE), ("b/data.pkl", CODE), ("a/data/0", STORAGE.tobytes())]
    refuse(write_zip(tmp_path / "a.pth", members), "one data.pkl")


def test_an_archive_of_other_things_is_refused(tmp_path):
    refuse(write_zip(tmp_path / "a.pth", [("readme.txt", b"hello")]), "neither torch")


def test_more_members_than_a_directory_may_have_are_refused(tmp_path):
    members = ((f"a/data/{index}", b"") for index in range(20_000))
    refuse(write_zip(tmp_path / "a.pth", [("a/data.pkl", CODE), *members]), "longer than")


@pytest.mark.parametrize(
    "members",
    [
        [("a/data.pkl", ZEROS), ("a/data/0", STORAGE.tobytes())],
        [("a/data.pkl", CODE), ("a/data/0", ZEROS)],
        [("a.npy", npy(np.zeros(9 << 20, np.uint8)))],
        [("model.weights.h5", ZEROS)],
    ],
    ids=["pickle", "storage", "npz", "keras"],
)
def test_a_member_that_inflates_beyond_reason_is_refused(members, tmp_path):
    refuse(write_zip(tmp_path / "a.zip", members, zipfile.ZIP_DEFLATED), "inflates from")


def test_a_pickle_of_many_bytes_is_refused(tmp_path):
    refuse(write_pth(tmp_path / "a.pth", CODE + bytes(5 << 20)), "at most")


@pytest.mark.parametrize("size", [0, 1, 4, 21, 22, 100])
def test_the_beginning_of_an_archive_is_refused(size, tmp_path):
    path = write_pth(tmp_path / "a.pth", CODE)
    path.write_bytes(path.read_bytes()[:size])
    refuse(path, "cannot be used")


def test_compressed_members_of_honest_size_are_read(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", values=values, zeros=np.zeros(1000))
    members = [("a/data.pkl", CODE), ("a/data/0", STORAGE.tobytes())]
    with (
        open_weights(tmp_path / "a.npz") as arrays,
        open_weights(write_zip(tmp_path / "a.pth", members, zipfile.ZIP_DEFLATED)) as torch_file,
    ):
        np.testing.assert_array_equal(arrays.tensors["values"].read(), values)
        np.testing.assert_array_equal(arrays.tensors["zeros"].read(), np.zeros(1000))
        np.testing.assert_array_equal(torch_file.tensors["a"].read(), STORAGE.reshape(2, 3))


def test_a_member_that_inflates_to_less_than_it_says_is_refused(tmp_path):
    members = [("a/data.pkl", CODE), ("a/data/0", STORAGE.tobytes())]
    path = write_zip(tmp_path / "a.pth", members, zipfile.ZIP_DEFLATED)
    refuse(patched(patched(path, "size", 25), "crc", 0), "damaged")


def test_folders_in_an_archive_are_passed_over(tmp_path):
    members = [("a/", b""), ("a/data.pkl", CODE), ("a/data/", b""), ("a/data/0", STORAGE.tobytes())]
    assert list(contents(write_zip(tmp_path / "a.pth", members))) == ["a"]
    np.savez(tmp_path / "a.npz", a=STORAGE)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("folder/", b"")
    assert list(contents(tmp_path / "a.npz")) == ["a"]


def test_archives_without_checksums_are_read(tmp_path):
    """torch leaves them at 0 when it is told to."""
    path = write_pth(tmp_path / "a.pth", CODE)
    for member in (0, 1):
        patched(path, "crc", 0, member)
    with open_weights(path) as file:
        np.testing.assert_array_equal(file.tensors["a"].read(), STORAGE.reshape(2, 3))
