"""Random access to pictures in files, archives and arrays."""

import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convnext.data.shared_memory import SharedArray
from convnext.data.stores import (
    ArrayStore,
    CachedStore,
    FileStore,
    Names,
    TarStore,
    ZipStore,
)
from convnext.errors import ArgumentError, ImageError
from convnext.evaluate.run import READ
from convnext.images.folders import SUFFIXES, is_picture


@pytest.fixture
def root(folder):
    root = folder({"cat": 2, "dog": 2})
    (root / "cat" / ".hidden.png").write_bytes(b"")
    (root / ".git").mkdir()
    (root / ".git" / "0.png").write_bytes(b"")
    (root / "cat" / "notes.txt").write_text("no picture")
    return root


@pytest.fixture
def tar(root):
    path = root.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        archive.add(root, ".")
    return path


PATHS = ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]


def _contents(store):
    names = [store.name(row) for row in range(len(store))]
    return dict(zip(names, (store.read(row).tobytes() for row in range(len(store))), strict=True))


def test_names_are_one_string():
    names = Names(["a", "", "ü/ß.png", "\udcff.png"])
    assert [names[row] for row in range(4)] == ["a", "", "ü/ß.png", "\udcff.png"]
    assert list(pickle.loads(pickle.dumps(names))) == list(names)


def test_a_million_names_are_cheap_to_send():
    names = Names(f"n01440764/n01440764_{number}.JPEG" for number in range(20_000))
    assert len(pickle.dumps(names)) < 50 * 20_000


@given(st.text("a./_MACOSX\\ ", max_size=20), st.sampled_from(["", ".png", ".JPG", ".txt"]))
def test_a_picture_has_a_known_suffix_and_no_hidden_part(stem, suffix):
    name = f"{stem}{suffix}"
    if not name.endswith("/") and "//" not in name:
        parts = name.split("/")
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        assert is_picture(name) == (not hidden and Path(name).suffix.lower() in SUFFIXES)


def test_every_store_has_the_same_pictures(root, tar, zipped):
    stores = [
        FileStore.below(root),
        ZipStore(zipped(root)),
        ZipStore(zipped(root, zipfile.ZIP_DEFLATED)),
        TarStore(tar),
    ]
    expected = _contents(stores[0])
    assert sorted(expected) == PATHS
    for store in stores:
        assert _contents(store) == expected
        sent = pickle.loads(pickle.dumps(store))
        assert _contents(sent) == expected
        assert store.descriptors() == ()


def test_every_kind_of_picture_is_read_as_for_evaluation(tmp_path, picture):
    rgb = picture(0, (20, 16))
    rgb.convert("L").save(tmp_path / "grey.png")
    Image.fromarray(np.arange(320, dtype=np.uint16).reshape(16, 20) * 200).save(
        tmp_path / "deep.png"
    )
    rgb.convert("CMYK").save(tmp_path / "print.jpg")
    rgb.convert("P").save(tmp_path / "colours.gif")
    translucent = rgb.copy()
    translucent.putalpha(100)
    translucent.save(tmp_path / "translucent.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    rgb.save(tmp_path / "turned.jpg", exif=turned)
    store = FileStore.below(tmp_path)
    assert len(store) == 6
    for row in range(6):
        found = store.read(row)
        assert (found.mode, found.size) == ("RGB", (20, 16))
        assert found.tobytes() == READ(tmp_path / store.name(row)).tobytes()


def test_links_to_folders_are_followed_but_not_in_circles(root, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cat").symlink_to(root / "cat")
    (root / "cat" / "up").symlink_to(root)
    assert _contents(FileStore.below(tmp_path / "linked")).keys() >= {"cat/0.png", "cat/1.png"}


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match="cannot be read"):
        FileStore.below(tmp_path / "nothing")


def test_a_removed_file_is_an_image_error(root):
    store = FileStore.below(root)
    (root / "cat" / "0.png").unlink()
    with pytest.raises(ImageError, match="No such file"):
        store.read(0)


@pytest.mark.parametrize("cut", [10, 300, 800])
def test_a_zip_archive_cut_short(root, zipped, cut):
    path = zipped(root)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ArgumentError, match="Copy it again"):
        ZipStore(path)


def test_a_tar_archive_that_ends_between_members_is_refused(make, png, tmp_path):
    path = make.tar(tmp_path / "x.tar", [(f"{n}.png", png(n)) for n in range(3)])
    path.write_bytes(path.read_bytes()[: 2 * (512 + 1024)])
    with pytest.raises(ArgumentError, match="truncated or damaged"):
        TarStore(path)


def test_a_changed_member_of_a_zip_is_an_image_error(root, zipped):
    path = zipped(root)
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT") + 10
    data[place] ^= 1
    path.write_bytes(data)
    store = ZipStore(path)
    with pytest.raises(ImageError, match="checksum"):
        store.read(0)
    assert store.read(1).size == (12, 10)


def test_a_deflated_member_that_was_changed(root, zipped):
    path = zipped(root, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    place = data.index(b"cat/0.png") + 30
    data[place : place + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged in the archive"):
        ZipStore(path).read(0)


@pytest.mark.parametrize(
    ("method", "problem"), [(zipfile.ZIP_LZMA, "compressed by method 14"), (None, "encrypted")]
)
def test_members_that_cannot_be_read_in_place(root, zipped, method, problem):
    path = zipped(root, method or zipfile.ZIP_STORED)
    if method is None:
        data = bytearray(path.read_bytes())
        for place in range(len(data) - 4):
            if data[place : place + 4] == b"PK\1\2":
                data[place + 8] |= 1
        path.write_bytes(data)
    with pytest.raises(ImageError, match=problem):
        ZipStore(path).read(0)


def test_a_member_that_claims_too_much(root, zipped):
    store = ZipStore(zipped(root))
    store._locations[0, 2] = 2**40
    with pytest.raises(ImageError, match="more than the allowed"):
        store.read(0)


def test_a_long_extra_field_is_no_obstacle(png, tmp_path):
    path = tmp_path / "extra.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("a/0.png")
        member.extra = b"\x99\x99" + (500).to_bytes(2, "little") + bytes(500)
        archive.writestr(member, png(1))
    assert ZipStore(path).read(0).size == (12, 10)


def test_tar_archives_that_have_no_random_access(root, tar):
    packed = tar.with_suffix(".gz")
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(root, ".")
    with pytest.raises(ArgumentError, match="unpack it into a folder"):
        TarStore(packed)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5, 4, 1), (3, 5, 4, 3)])
def test_arrays(shape):
    shared = SharedArray(shape, np.uint8)
    shared.array[:] = np.random.default_rng(0).integers(0, 256, shape)
    store = ArrayStore(shared, "images")
    picture = store.read(2)
    assert (picture.size, picture.mode) == ((4, 5), "RGB")
    assert (np.asarray(picture) == shared.array[2].reshape(5, 4, -1)).all()
    assert store.name(2) == "images[2]"
    assert store.descriptors() == (shared.descriptor,)


class _Counting:
    """A store that counts reads."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.reads = 0

    def __len__(self):
        return len(self.pictures)

    def read(self, row):
        self.reads += 1
        return self.pictures[row]

    def name(self, row):
        return str(row)

    def descriptors(self):
        return ()


def test_a_cache_reads_each_picture_once(picture):
    inner = _Counting([picture(seed) for seed in range(3)])
    store = CachedStore(inner, (12, 10))
    for _ in range(3):
        for row in range(3):
            assert store.read(row).tobytes() == inner.pictures[row].tobytes()
    assert inner.reads == 3
    assert len(store.descriptors()) == 2


def test_a_cache_does_not_trust_pixels_without_their_checksum(picture):
    inner = _Counting([picture(0)])
    store = CachedStore(inner, (12, 10))
    store.read(0)
    store._pixels.array[0, 3, 3] ^= 255  # as if another process were half-way through
    assert store.read(0).tobytes() == inner.pictures[0].tobytes()
    assert inner.reads == 2


def test_a_cache_leaves_pictures_of_other_sizes_alone(picture):
    inner = _Counting([picture(0), Image.new("RGB", (5, 5))])
    store = CachedStore(inner, (12, 10))
    assert [store.read(1).size for _ in range(2)] == [(5, 5), (5, 5)]
    assert inner.reads == 2
