"""One walk for every reader of folders: order, links, hidden files, folders that cannot be read."""

import os

import pytest

from convnext.data.finding import find
from convnext.data.stores import picture_names
from convnext.errors import ArgumentError, ImageError
from convnext.images.folders import walk
from convnext.images.sources import iterate


@pytest.fixture
def root(tmp_path):
    root = tmp_path / ".cache" / "photos"
    for name in ("b/2.png", "b/10.png", "b/deep/x.png", "b.png", "a.png", "B.png", "notes.txt",
                 ".hidden.png", ".git/y.png", "__MACOSX/z.png"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


ORDER = ["B.png", "a.png", "b/10.png", "b/2.png", "b/deep/x.png", "b.png"]


def below(root, paths):
    return [path.removeprefix(f"{root.as_posix()}/") for path in paths]


def test_every_reader_of_folders_finds_the_same_pictures_in_the_same_order(root):
    assert below(root, [named.id for named in iterate(root)]) == ORDER
    assert below(root, [found.path for found in find(root)]) == ORDER
    assert list(picture_names(root)) == ORDER


def test_a_folder_may_be_named_by_its_parent(root, monkeypatch):
    monkeypatch.chdir(root / "b")
    assert [found.path for found in find("../b/deep")] == ["../b/deep/x.png"]
    assert list(picture_names(root / "b" / "..")) == ORDER


def test_links_to_folders_are_followed_on_request_but_not_upwards(root):
    (root / "b" / "deep" / "link").symlink_to(root / "b")
    (root / "c").symlink_to(root / "b")
    (root / "loop").symlink_to("loop")
    (root / "loop.png").symlink_to("loop.png")
    unfollowed = [*ORDER, "c", "loop", "loop.png"]
    unfollowed[5:5] = ["b/deep/link"]
    paths = [entry.path for entry in walk(root)]
    assert [path for path in below(root, paths) if path != "notes.txt"] == sorted_as(unfollowed)
    linked = ["c/10.png", "c/2.png", "c/deep/x.png"]
    assert list(picture_names(root)) == [*ORDER, *linked, "loop.png"]


def sorted_as(names):
    return sorted(names, key=lambda name: name.split("/"))


def test_a_folder_with_a_mark_is_left_out_with_all_below_it(root):
    (root / "b" / "mark").touch()
    names = below(root, [entry.path for entry in walk(root, unless="mark")])
    assert names == ["B.png", "a.png", "b.png", "notes.txt"]


def test_a_folder_that_cannot_be_read_is_an_error_in_its_position(root, monkeypatch):
    scandir = os.scandir

    def refuse_one(folder):
        if os.fspath(folder) == str(root / "b"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse_one)
    assert [type(found).__name__ for found in walk(root)] == [
        *("DirEntry", "DirEntry", "PermissionError", "DirEntry", "DirEntry")
    ]
    named = [item for item in iterate(root) if isinstance(item.source, ImageError)]
    assert [item.id for item in named] == [(root / "b").as_posix()]
    with pytest.raises(ArgumentError, match="Permission denied"):
        list(find(root))
    with pytest.raises(ArgumentError, match=r"folder .*/b cannot be read"):
        list(picture_names(root))


def test_a_folder_that_is_none_is_an_error(root):
    [error] = walk(root / "absent")
    assert isinstance(error, FileNotFoundError)
