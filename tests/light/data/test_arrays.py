"""Data sets stored as arrays."""

import gzip
import struct

import numpy as np
import pytest

from convnext.data.arrays import idx_parts, is_idx_folder, npz_parts
from convnext.data.shared_memory import MappedArray, SharedArray
from convnext.errors import ArgumentError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 6), np.uint8)
LABELS = np.array([0, 2, 1, 2, 0], np.uint8)


def _idx(array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Writes MNIST's four files, gzipped or not."""

    def write(packed):
        for part, count in (("train", 5), ("t10k", 2)):
            for name, array in (("images-idx3", PIXELS), ("labels-idx1", LABELS)):
                data = _idx(array[:count])
                path = tmp_path / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
                path.write_bytes(gzip.compress(data) if packed else data)
        return tmp_path

    return write


@pytest.mark.parametrize("packed", [False, True])
def test_mnists_files(mnist, packed):
    path = mnist(packed)
    assert is_idx_folder(path)
    parts = idx_parts(path)
    assert sorted(parts) == ["test", "train"]
    assert len(parts["test"].store) == 2
    assert parts["train"].labels.tolist() == LABELS.tolist()
    picture = np.asarray(parts["train"].store.read(3))
    assert (picture == PIXELS[3][..., None]).all()
    kept = parts["train"].store._pixels
    assert isinstance(kept, SharedArray if packed else MappedArray)


def test_a_missing_file(mnist):
    path = mnist(False)
    (path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ArgumentError, match="no labels of the split 'test'"):
        idx_parts(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_short(mnist, packed):
    path = mnist(packed)
    file = path / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ArgumentError, match="train-images"):
        idx_parts(path)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**31, 2**31), "header says"),
        (struct.pack(">HBBIII", 0, 13, 3, 1, 1, 1), "no IDX file"),
        (struct.pack(">HBBII", 0, 8, 2, 1, 1), "no IDX file|unpack"),
        (b"", "unpack"),
    ],
)
def test_headers_with_a_wrong_size_or_type(mnist, header, problem):
    path = mnist(False)
    (path / "train-images-idx3-ubyte").write_bytes(header)
    with pytest.raises(ArgumentError, match=problem):
        idx_parts(path)


def test_labels_for_every_picture(mnist):
    path = mnist(False)
    (path / "train-labels-idx1-ubyte").write_bytes(_idx(LABELS[:3]))
    with pytest.raises(ArgumentError, match="each of 5 pictures"):
        idx_parts(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("x_train", "y_train"), ("train_images", "train_labels")])
def test_arrays_of_one_file(tmp_path, save, names):
    path = tmp_path / "data.npz"
    test = dict.fromkeys(("x_test", "y_test"))
    arrays = {names[0]: PIXELS, names[1]: LABELS[:, None], "x_test": PIXELS[:2]}
    arrays |= {"y_test": LABELS[:2].astype(np.int64), "classes": np.array(["a", "b", "c"])}
    assert test.keys() <= arrays.keys()
    save(path, **arrays)
    parts = npz_parts(path)
    assert sorted(parts) == ["test", "train"]
    assert parts["train"].labels.tolist() == LABELS.tolist()
    assert parts["train"].classes == ("a", "b", "c")
    assert (np.asarray(parts["train"].store.read(4)) == PIXELS[4][..., None]).all()
    kept = parts["train"].store._pixels
    assert isinstance(kept, MappedArray if save is np.savez else SharedArray)


def _flip(path, place):
    data = bytearray(path.read_bytes())
    data[place : place + 8] = bytes(255 - byte for byte in data[place : place + 8])
    path.write_bytes(data)


def test_packed_files_with_wrong_bytes_in_the_middle(mnist, tmp_path):
    path = mnist(True)
    _flip(path / "train-images-idx3-ubyte.gz", 60)
    with pytest.raises(ArgumentError, match=r"train-images.*cannot be read"):
        idx_parts(path)
    np.savez_compressed(tmp_path / "data.npz", images=PIXELS, labels=LABELS)
    _flip(tmp_path / "data.npz", 120)
    with pytest.raises(ArgumentError, match=r"data.*cannot be read"):
        npz_parts(tmp_path / "data.npz")


def test_undivided_arrays_in_any_memory_order(tmp_path):
    colour = np.asfortranarray(np.random.default_rng(1).integers(0, 256, (3, 4, 5, 3), np.uint8))
    np.savez(tmp_path / "data.npz", images=colour, labels=np.array(["b", "a", "b"]))
    [(name, part)] = npz_parts(tmp_path / "data.npz").items()
    assert name == ""
    assert part.labels.tolist() == ["b", "a", "b"]
    assert (np.asarray(part.store.read(1)) == colour[1]).all()


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"images": PIXELS / 255.0}, "float64, whose range is not defined"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, "channels-first"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "shape"),
        ({"images": PIXELS, "labels": LABELS[:4]}, "each of 5 pictures"),
        ({"images": PIXELS, "labels": np.eye(5)}, "argmax"),
        ({"images": PIXELS, "labels": np.array([0, 1, -1, 0, 1])}, "smallest label in .* is -1"),
        ({"photos": PIXELS}, "holds photos"),
        ({"images": np.array([{}, {}])}, "cannot be read"),
    ],
)
def test_arrays_that_are_no_pictures(tmp_path, arrays, problem):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(ArgumentError, match=problem):
        npz_parts(tmp_path / "data.npz")


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"PK no")
    with pytest.raises(ArgumentError, match="cannot be read"):
        npz_parts(tmp_path / "data.npz")
