from __future__ import annotations

import os

import pytest

from convnext.data.finding import Found, find
from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.images.folders import is_picture


def names(sources):
    return [found.path for found in find(sources)]


@pytest.fixture
def tree(here):
    for name in ("a/2.jpg", "a/10.JPG", "a/b/1.png", "a/.hidden/3.jpg", "a/.4.jpg", "a/notes.txt"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(b"x" * len(name))
    return here


def test_a_folder_is_its_pictures_in_order(tree):
    assert list(find("a")) == [
        Found("file", "a/10.JPG", 8),
        Found("file", "a/2.jpg", 7),
        Found("file", "a/b/1.png", 9),
    ]
    (tree / "a/link").symlink_to(tree / "a/b")
    assert len(names(tree / "a")) == 3


def test_folders_of_output_are_left_out(tree):
    for name in ("a/b/out/_plan.json", "a/b/out/part-00000-of-00001.parquet", "a/b/out/deep/1.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    assert names("a") == ["a/10.JPG", "a/2.jpg", "a/b/1.png"]


def test_kinds_of_files_follow_their_suffixes(here):
    for name in ("x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.parquet", "x.bin"):
        (here / name).touch()
    kinds = [found.kind for found in find(["x.zip", "x.tar", "x.tar.gz", "x.tgz", "x.parquet"])]
    assert kinds == ["zip", "tar", "stream", "stream", "table"]
    assert next(find("x.bin")).kind == "file", "whatever is named is taken for a picture"
    assert list(find("http://example.org/cat.jpg?size=2")) == [
        Found("file", "http://example.org/cat.jpg?size=2", 0)
    ]


def test_patterns_and_numbered_names(here):
    for number in range(12):
        (here / f"part-{number:03}.tar").touch()
    assert names("part-{003..005}.tar") == ["part-003.tar", "part-004.tar", "part-005.tar"]
    assert len(names("part-*.tar")) == 12
    assert names("part-00[12].tar") == ["part-001.tar", "part-002.tar"]
    (here / "{1..2}.jpg").touch()
    assert names("{1..2}.jpg") == ["{1..2}.jpg"], "a file of that name comes first"


def test_folders_and_patterns_behind_a_url():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("/find/b/2.jpg", "/find/a.jpg", "/find/.x/3.jpg", "/find/deep/er/1.jpg"):
        memory.pipe(name, b"12345")
    try:
        everything = ["memory://find/a.jpg", "memory://find/b/2.jpg", "memory://find/deep/er/1.jpg"]
        assert names("memory://find") == everything
        assert names("memory://find/**/*.jpg") == everything
        assert names("memory://find/*/[0-9].jp?") == ["memory://find/b/2.jpg"]
        assert list(find("memory://find/a.jpg")) == [Found("file", "memory://find/a.jpg", 5)]
        for name in ("_plan.json", "part-00000-of-00001.parquet", "deep/1.jpg"):
            memory.pipe(f"/find/b/out/{name}", b"")
        assert names("memory://find") == everything, "answers are no sources"
        memory.rm("/find/b/out", recursive=True)
        memory.pipe("/tars/x.tar", b"")
        assert next(find("memory://tars")).kind == "stream", "nobody looks for its headers"
        for absent in ("memory://find/absent.jpg", "memory://find/*.tar"):
            with pytest.raises(ArgumentError, match=r"absent\.jpg|matches no file"):
                names(absent)
    finally:
        memory.rm("/find", recursive=True)
        memory.rm("/tars", recursive=True)


@pytest.mark.parametrize(
    "pattern",
    [
        "[!x].jpg",
        "[^x].jpg",
        "[x-z].jpg",
        "[]x].jpg",
        r"[\w].jpg",
        "?.jpg",
        "a/**",
        "**",
        "**/?.jpg",
    ],
)
def test_a_pattern_means_the_same_behind_a_url(here, pattern):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("w.jpg", "x.jpg", "y.jpg", "^.jpg", "].jpg", "a/z.jpg", "a/b/xy.jpg"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
        memory.pipe(f"/globbed/{name}", b"")
    try:
        there = [
            path.removeprefix("memory://globbed/") for path in names(f"memory://globbed/{pattern}")
        ]
        assert sorted(there) == sorted(names(pattern))
    finally:
        memory.rm("/globbed", recursive=True)


def test_a_file_url_is_a_path(tree):
    assert len(names(f"file://{tree}/a")) == 3


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("absent", "absent cannot be read"),
        ("*.gif", "matches no file"),
        ("empty", "holds no picture, no archive and no Parquet file"),
        ("mixed", r"holds pictures as well as archives.* such as 1\.jpg and x\.tar"),
        ("{9..3}.jpg", "must count upwards"),
        ("nothing://x/y.jpg", "cannot be opened"),
    ],
)
def test_invalid_sources_are_refused(here, source, words):
    (here / "empty").mkdir()
    (here / "mixed").mkdir()
    (here / "mixed/1.jpg").touch()
    (here / "mixed/x.tar").touch()
    with pytest.raises(ArgumentError, match=words):
        names(source)


def test_pictures_in_memory_are_refused():
    with pytest.raises(ArgumentTypeError, match=r"convnext\.Classifier"):
        names([b"bytes"])
    with pytest.raises(ArgumentTypeError, match="not int"):
        names(3)


@pytest.mark.skipif(os.name == "nt", reason="names there are text")
def test_names_of_any_bytes(here):
    (here / os.fsdecode(b"caf\xe9.png")).touch()
    assert os.fsencode(names(".")[0]) == b"caf\xe9.png"


def test_pictures_are_recognised_by_suffix_unless_hidden():
    assert is_picture("a/b.JPeG")
    assert not any(map(is_picture, ["a/.b.jpg", ".a/b.jpg", "__MACOSX/b.jpg", "b.txt", "jpg"]))
