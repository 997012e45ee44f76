"""One stream of named pictures from lists, folders, patterns, archives and generators."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentTypeError, ImageError
from convnext.images.decode import decode
from convnext.images.read import Limits
from convnext.images.sources import Named, iterate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files whose content is their name."""
    root = tmp_path / "photos"
    for name in (
        "b.jpg", "a.PNG", "notes.txt", "b/2.webp", "b/10.jpeg", "b/deep/x.tiff", "B.gif",
        ".hidden.jpg", ".git/y.jpg", "none/readme", "a-b.bmp",
    ):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def contents(named: list[Named], root: Path) -> list[tuple[str, str]]:
    return [
        (item.id.removeprefix(f"{root.as_posix()}/"), Path(item.source).read_text())
        for item in named
    ]


def test_single_pictures_and_lists():
    array, image, stream = np.zeros((2, 2), np.uint8), Image.new("L", (2, 2)), io.BytesIO(b"x")
    assert list(iterate(b"x")) == [("#0", b"x")]
    assert list(iterate("a.jpg")) == [("a.jpg", Path("a.jpg"))]
    assert list(iterate("https://a/b.jpg")) == [("https://a/b.jpg", "https://a/b.jpg")]
    named = list(iterate([b"x", image, "c/d.png", stream, Named("mine", b"y")]))
    assert named == [
        ("#0", b"x"), ("#1", image), ("c/d.png", Path("c/d.png")), ("#3", stream), ("mine", b"y"),
    ]  # fmt: skip
    [only] = iterate(array)
    assert only.id == "#0"
    assert only.source is array


def test_a_generator_is_advanced_lazily():
    asked = []

    def endless():
        for number in itertools.count():
            asked.append(number)
            yield bytes([number])

    stream = iterate(endless())
    assert [next(stream).id for _ in range(3)] == ["#0", "#1", "#2"]
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("wrong", [3, None, [b"x", 3]])
def test_sources_of_a_wrong_type_are_an_error(wrong: object):
    with pytest.raises(ArgumentTypeError, match="Cannot read pictures from"):
        list(iterate(wrong))


class Tensor:
    """Iterates to scalars that also have `__iter__`, like frameworks' tensors."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __iter__(self):
        count, *inner = self.shape
        return iter([Tensor(*inner)] * count)


def test_a_tensor_is_an_error_that_says_how_to_make_it_an_array():
    with pytest.raises(ArgumentTypeError, match=r"from Tensor: .*\.numpy\(\)"):
        list(iterate(Tensor(3, 4, 4)))


def test_a_folder_is_walked_in_the_order_of_its_paths(folder: Path):
    names = ["B.gif", "a-b.bmp", "a.PNG", "b/10.jpeg", "b/2.webp", "b/deep/x.tiff", "b.jpg"]
    for given in (folder, str(folder), f"{folder}/", [folder]):
        assert contents(list(iterate(given)), folder) == [(name, name) for name in names]


def test_links_to_folders_are_not_followed(folder: Path):
    (folder / "none" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "none" / "link.jpg").symlink_to(folder / "b.jpg")
    found = [item.id.removeprefix(f"{folder}/") for item in iterate(folder)]
    assert len(found) == 8
    assert "none/link.jpg" in found


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["b.jpg"]),
        ("b/*", ["b/10.jpeg", "b/2.webp", "b/deep/x.tiff"]),
        ("**/*.[tw]*", ["b/2.webp", "b/deep/x.tiff", "notes.txt"]),
    ],
)
def test_patterns(pattern: str, names: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch):
    absolute = contents(list(iterate(str(folder / pattern))), folder)
    assert absolute == [(name, name) for name in names]
    monkeypatch.chdir(folder)
    assert [item.id for item in iterate(pattern)] == names


@pytest.mark.parametrize("pattern", ["**", "**/**", "**/*[!et]", "**/b", "**/b*"])
def test_patterns_of_any_depth_yield_no_picture_twice(pattern: str, folder: Path):
    (folder / "none/readme").unlink()
    found = [
        item.id for item in iterate(folder / pattern) if not isinstance(item.source, Exception)
    ]
    assert f"{folder}/b/deep/x.tiff" in found
    assert len(found) == len(set(found))


def test_a_pattern_of_all_that_is_in_a_folder_is_the_folder(folder: Path):
    assert list(iterate(folder / "**")) == list(iterate(folder))
    assert list(iterate(folder / "b*" / "**")) == list(iterate(folder / "b"))


def test_a_file_named_like_a_pattern_is_a_file(tmp_path: Path):
    path = tmp_path / "a[1].jpg"
    path.touch()
    assert list(iterate(path)) == [(path.as_posix(), path)]


def test_broken_links_are_pictures_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "*.jpg").symlink_to("gone")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for given in (tmp_path, f"{tmp_path}/*.jpg"):
        found = list(iterate(given))
        assert [item.id for item in found] == [f"{tmp_path}/*.jpg", f"{tmp_path}/loop.jpg"]
        for item in found:
            with pytest.raises(ImageError, match="cannot be read"):
                decode(item.source)


@pytest.mark.parametrize("name", ["none", "*.heic"])
def test_folders_and_patterns_without_pictures_are_errors(name: str, folder: Path):
    [item, after] = iterate([folder / name, b"x"])
    assert item.id == (folder / name).as_posix()
    assert isinstance(item.source, ImageError)
    assert "has no picture" in str(item.source) or "matches no file" in str(item.source)
    assert after == ("#1", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read(folder: Path):
    (folder / "b").chmod(0)
    errors = [item.id for item in iterate(folder) if isinstance(item.source, ImageError)]
    (folder / "b").chmod(0o700)
    assert errors == [f"{folder}/b"]


def test_a_name_too_long_for_the_system():
    [item] = iterate("x" * 5000)
    assert isinstance(item.source, ImageError)


# Archives

MEMBERS = (
    "z.jpg",
    "a/1.png",
    "a/notes.txt",
    "a/._1.png",
    "__MACOSX/a/1.png",
    "../up.jpg",
    "/abs.JPG",
)
PICTURES = ("z.jpg", "a/1.png", "/abs.JPG")


def archive(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
            for name, data in members.items():
                written.writestr(zipfile.ZipInfo(name), data)
    else:
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as written:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                written.addfile(member, io.BytesIO(data))
    return path


ARCHIVES = pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.TGZ"])


@ARCHIVES
def test_an_archive_is_read_in_place_and_in_its_order(name: str, tmp_path: Path):
    path = archive(tmp_path / name, {member: member.encode() for member in MEMBERS})
    expected = [(f"{path}/{member}", member.encode()) for member in PICTURES]
    assert list(iterate(path)) == expected
    assert list(tmp_path.iterdir()) == [path]


@ARCHIVES
def test_a_member_that_is_too_large_is_read_up_to_the_limit_and_one_byte(name: str, tmp_path: Path):
    path = archive(tmp_path / name, {"bomb.jpg": bytes(10**7), "good.jpg": b"x"})
    limits = Limits(bytes=100)
    bomb, good = iterate(path, limits)
    assert len(bomb.source) == 101
    with pytest.raises(ImageError, match="more than the allowed 100 bytes"):
        decode(bomb.source, limits=limits)
    assert good.source == b"x"


@ARCHIVES
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7])
def test_a_truncated_archive_says_so_once(name: str, kept: float, tmp_path: Path):
    random = np.random.default_rng(0)
    path = archive(tmp_path / name, {f"{i}.jpg": random.bytes(9000) for i in range(10)})
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    *read, last = iterate(path)
    assert last.id == path.as_posix()
    assert isinstance(last.source, ImageError)
    assert not any(isinstance(item.source, ImageError) for item in read)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_a_tar_archive_that_ends_between_members_is_truncated(name: str, tmp_path: Path):
    path = archive(tmp_path / name, {f"{i}.jpg": b"x" for i in range(3)})
    plain = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
    path.write_bytes(gzip.compress(plain[:2048]) if name.endswith("gz") else plain[:2048])
    *read, last = iterate(path)
    assert [item.source for item in read] == [b"x", b"x"]
    assert "it is truncated or damaged. Copy it again" in str(last.source)


@ARCHIVES
def test_an_archive_without_pictures(name: str, tmp_path: Path):
    [item] = iterate(archive(tmp_path / name, {"a.txt": b""}))
    assert "has no picture: no file name ends in" in str(item.source)


def test_damage_to_one_member_of_a_zip_leaves_the_others(tmp_path: Path):
    path = archive(tmp_path / "x.zip", {"1.jpg": b"first" * 99, "2.jpg": b"second" * 99})
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(data)
    first, second = iterate(path)
    assert isinstance(first.source, ImageError)
    assert second.source == b"second" * 99


def test_a_tar_of_the_folder_itself(tmp_path: Path):
    path = archive(tmp_path / "x.tar", {"./cats/1.jpg": b"x", "./.hidden/2.jpg": b"x"})
    assert [named.id for named in iterate(path)] == [f"{path.as_posix()}/cats/1.jpg"]


def tar_of(path: Path, kind: bytes, name: str) -> Path:
    with tarfile.open(path, "w") as written:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        written.addfile(member)
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_are_errors(kind: bytes, tmp_path: Path):
    [item] = iterate(tar_of(tmp_path / "x.tar", kind, "link.jpg"))
    assert item.id == f"{tmp_path}/x.tar/link.jpg"
    with pytest.raises(ImageError, match=r"link\.jpg is a link.*--hard-dereference"):
        raise item.source


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (tarfile.FIFOTYPE, "x.jpg"),
        (tarfile.DIRTYPE, "x.jpg"),
        (tarfile.SYMTYPE, "x.txt"),
        (tarfile.LNKTYPE, ".hidden/x.jpg"),
    ],
)
def test_other_members_of_a_tar_are_left_out(kind: bytes, name: str, tmp_path: Path):
    [item] = iterate(tar_of(tmp_path / "x.tar", kind, name))
    assert "has no picture: no file name ends in" in str(item.source)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 10**8
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.tobuf())
        for _ in range(100):
            stream.write(bytes(10**6))
    tracemalloc.start()
    [item] = iterate(path, Limits(bytes=10**6))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "claims 100,000,256 bytes" in str(item.source)
    assert peak < 10**7


def test_memory_does_not_grow_with_the_number_of_members(tmp_path: Path):
    path = archive(tmp_path / "x.tar", {f"{i}.jpg": b"x" for i in range(3000)})
    stream = iterate(path)
    next(stream)
    tracemalloc.start()
    count = sum(1 for _ in stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2999
    assert peak < 200_000
