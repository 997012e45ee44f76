from __future__ import annotations

import io
import tarfile

import pytest

from convnext.data.archives import LabelledSource, Location, picture_locations, stream_tar
from convnext.errors import ImageError
from convnext.images.read import Limits

DATASET = [
    ("./d/1.cls", b"7\n"),
    ("./d/1.jpg", b"one"),
    ("./d/1.json", b'{"label": "seven"}'),
    ("./d/2.png", b"two"),
    ("./d/2.txt", b" a cat "),
    ("./d/3.left.jpg", b"3l"),
    ("./d/3.right.jpg", b"3r"),
    ("./d/3.json", b'{"caption": "no label"}'),
    ("./d/4.json", b'{"label": 4, "x": [1]}'),
    ("./d/4.jpg", b"4444"),
]
EXPECTED = [
    ("d/1.jpg", b"one", "7"),
    ("d/2.png", b"two", "a cat"),
    ("d/3.left.jpg", b"3l", None),
    ("d/3.right.jpg", b"3r", None),
    ("d/4.jpg", b"4444", "4"),
]


def placed(path):
    data = path.read_bytes()
    return [
        (place.name, data[place.start : place.stop], place.label)
        for place in picture_locations(str(path))
        if place.error is None
    ]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_of_one_name_belong_together(tmp_path, form):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in DATASET:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert placed(path) == EXPECTED
    assert list(stream_tar(str(path))) == [LabelledSource(*row) for row in EXPECTED]


@pytest.mark.parametrize("size", [511, 512, 513, 1024])
def test_files_of_whole_blocks(make, tmp_path, size):
    members = [(f"{n}.jpg", bytes([n]) * size) for n in range(3)]
    path = make.tar(tmp_path / "x.tar", members)
    expected = [(name, data, None) for name, data in members]
    assert placed(path) == expected
    assert list(stream_tar(str(path))) == [LabelledSource(*row) for row in expected]
    packed = make.tar(tmp_path / "x.tar.gz", members, "w:gz")
    assert list(stream_tar(str(packed))) == [LabelledSource(*row) for row in expected]


def test_long_names(make, tmp_path):
    name = f"{'long/' * 60}1.jpg"
    path = make.tar(tmp_path / "x.tar", [(name, b"one"), ("2.jpg", b"two")])
    assert [row[0] for row in placed(path)] == [name, "2.jpg"]
    assert [streamed.name for streamed in stream_tar(str(path))] == [name, "2.jpg"]


def hostile(path):
    """Links, devices, names outside of the folder, invalid labels."""
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{int(kind)}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name, data in (
            ("../../etc/0.jpg", b"hidden, by its dots"),
            ("/etc/1.jpg", b"out"),
            ("2.cls", b"x" * 100_000),
            ("2.jpg", b"two"),
            ("3.json", b"[" * 50_000),
            ("3.jpg", b"three"),
            ("4.json", b'{"label": {"deep": 1}}'),
            ("4.jpg", b"four"),
            ("5.cls", b"\xff\xfe"),
            ("5.jpg", b"five"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_hostile_members_are_names_or_nothing(tmp_path):
    path = hostile(tmp_path / "x.tar")
    expected = [
        ("/etc/1.jpg", b"out", None),
        ("2.jpg", b"two", None),
        ("3.jpg", b"three", None),
        ("4.jpg", b"four", None),
        ("5.jpg", b"five", "\ufffd\ufffd"),
    ]
    assert placed(path) == expected
    assert list(stream_tar(str(path))) == [LabelledSource(*row) for row in expected]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.tar"]


@pytest.mark.parametrize("cut", [600, 1500, 2048, 2100, 3072])
def test_a_truncated_archive_gives_what_is_there_and_an_error(make, tmp_path, cut):
    path = make.tar(tmp_path / "x.tar", [(f"{n}.jpg", b"x" * 500) for n in range(3)])
    path.write_bytes(path.read_bytes()[:cut])
    places, streamed = list(picture_locations(str(path))), list(stream_tar(str(path)))
    assert "x.tar cannot be read: ReadError" in places[-1].error
    assert places[-1].name == streamed[-1].name == ""
    assert isinstance(streamed[-1].source, ImageError)
    assert 1 <= len(streamed) <= len(places) <= 4


def test_a_header_that_claims_too_much(tmp_path):
    path = tmp_path / "x.tar"
    member = tarfile.TarInfo("y")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**33
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    [place] = picture_locations(str(path))
    assert "claims 8,589,934,592 bytes" in place.error
    [streamed] = stream_tar(str(path))
    assert "claims 8,589,934,592 bytes" in str(streamed.source)


def test_a_picture_is_read_up_to_the_limit(make, tmp_path):
    path = make.tar(tmp_path / "x.tar", [("1.jpg", b"x" * 5000), ("2.jpg", b"two")])
    large, small = stream_tar(str(path), Limits(bytes=100))
    assert len(large.source) == 101
    assert small.source == b"two"


def test_many_pictures_of_one_name_do_not_pile_up(make, tmp_path):
    members = [*((f"k.{n}.jpg", b"x") for n in range(40)), ("k.cls", b"1")]
    path = make.tar(tmp_path / "x.tar", members)
    assert [label for *_, label in placed(path)] == [None] * 32 + ["1"] * 8


def test_zip_archives(make, tmp_path):
    members = [("a/.2.jpg", b""), ("b.txt", b""), ("a/1.jpg", b"1")]
    path = make.zip(tmp_path / "x.zip", members)
    assert list(picture_locations(str(path))) == [Location("a/1.jpg", 2)]
    path.write_bytes(path.read_bytes()[:-30])
    [problem] = picture_locations(str(path))
    assert "x.zip cannot be read: BadZipFile" in problem.error


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz")]
)
def test_archives_behind_a_url_are_read_as_streams(make, tmp_path, name, mode):
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("pyarrow")
    path = make.tar(tmp_path / name, [("1.jpg", b"one"), ("1.cls", b"7")], mode)
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/streamed/{name}", path.read_bytes())
    try:
        found = list(stream_tar(f"memory://streamed/{name}"))
    finally:
        memory.rm("/streamed", recursive=True)
    assert found == [LabelledSource("1.jpg", b"one", "7")]
