"""Folders and archives give the same labelled pictures, or one error before decoding."""

import tarfile
import zipfile

import pytest

from convnext.data.classes import Classes
from convnext.data.datasets import check_data, open_dataset
from convnext.data.ground_truth import read_ground_truth
from convnext.errors import ArgumentError, ImageError
from convnext.images.decode import decode
from convnext.images.labels import Labels, labels_for


def grey(named):
    return decode(named.source).getpixel((0, 0))[0]


def as_zip(folder, path, below=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, f"{below}{file.relative_to(folder).as_posix()}")
        archive.writestr("__MACOSX/ant/._00.png", b"x")
        archive.writestr("read.me", b"x")
    return path


def as_tar(folder, path, below=""):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.add(file, f"{below}{file.relative_to(folder).as_posix()}")
    return path


def test_class_folders(animals, classes):
    (animals / "readme.txt").write_text("x")
    (animals / ".hidden").mkdir()
    (animals / "zebra_empty").mkdir()
    data = open_dataset(animals, classes)
    assert data.layout == "class folders, by name"
    assert data.entries[:2] == (("ant/00.png", 0), ("ant/01.png", 0))
    assert [label for _, label in data.entries] == [number // 10 for number in range(70)]
    assert (data.competing, data.notes) == (None, ())
    pictures = list(data.pictures(start=68))
    assert [(named.id, label, grey(named)) for named, label in pictures] == [
        ("gnu/68.png", 6, 68),
        ("gnu/69.png", 6, 69),
    ]


@pytest.mark.parametrize("below", ["", "set/val/"])
@pytest.mark.parametrize("name", ["d.zip", "d.tar", "d.tar.gz"])
def test_archives_hold_the_same(animals, classes, tmp_path, name, below):
    pack = as_zip if name.endswith("zip") else as_tar
    data = open_dataset(pack(animals, tmp_path / name, below), classes)
    plain = open_dataset(animals, classes)
    assert [(name.removeprefix(below), label) for name, label in data.entries] == list(
        plain.entries
    )
    named, label = next(data.pictures(start=42))
    assert (named.id, label, grey(named)) == (f"{below}eel/42.png", 4, 42)


def test_a_subfolder_belongs_to_its_class_folder(paint, classes, tmp_path):
    paint(tmp_path / "ant" / "images" / "1.png", 1)
    paint(tmp_path / "bee" / "2.png", 2)
    assert [label for _, label in open_dataset(tmp_path, classes).entries] == [0, 1]
    only_one = open_dataset(tmp_path / "ant", Classes(1), sort_folders=True)
    assert only_one.classes.labels.names == ("images",)


def test_a_single_class_folder(paint, classes, tmp_path):
    paint(tmp_path / "set" / "dog" / "1.png", 1)
    data = open_dataset(tmp_path, classes)
    assert data.entries == (("set/dog/1.png", 3),)
    assert "1 of the model's 7 classes" in data.notes[0]


def test_pictures_outside_any_class_folder(animals, classes, paint):
    paint(animals / "stray.png", 1)
    with pytest.raises(
        ArgumentError, match=r"1 of 71 pictures are not in a class folder.* 'stray\.png'"
    ):
        open_dataset(animals, classes)


def test_unknown_folders_are_one_error(animals, classes):
    (animals / "dog").rename(animals / "dgo")
    (animals / "cat").rename(animals / "house_catt")
    expected = r"2 folder names .*'dgo' \(did you mean 'dog'\?\), 'house_catt' \(did you mean 'hou"
    with pytest.raises(ArgumentError, match=expected):
        open_dataset(animals, classes)


def test_folders_in_sorted_order(animals):
    data = open_dataset(animals, Classes(7), sort_folders=True)
    assert data.layout == "class folders"
    assert data.classes.name(3) == "dog"
    assert data.entries[-1] == ("gnu/69.png", 6)
    with pytest.raises(ArgumentError, match="has 8 classes, but 7 names"):
        open_dataset(animals, Classes(8), sort_folders=True)


def test_folders_that_are_numbers_are_sorted_as_texts(paint, tmp_path):
    for number in range(12):
        paint(tmp_path / str(number) / "x.png", number)
    data = open_dataset(tmp_path, Classes(12), sort_folders=True)
    assert dict(data.entries)["10/x.png"] == 2


def test_folders_of_a_subset_keep_their_class_numbers(animals, tmp_path):
    (tmp_path / "chosen.txt").write_text("dog\n")
    data = open_dataset(animals, Classes(7), sort_folders=True, subset=tmp_path / "chosen.txt")
    assert {label for _, label in data.entries} == {3}


def test_links_to_class_folders_are_followed(animals, classes, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (animals / "dog").rename(elsewhere)
    (animals / "dog").symlink_to(elsewhere, target_is_directory=True)
    (animals / "notes.txt").write_text("x")
    data = open_dataset(animals, classes)
    assert len(data.entries) == 70
    named, label = next(data.pictures(start=35))
    assert (named.id, label, grey(named)) == ("dog/35.png", 3, 35)


def test_links_below_a_class_folder_are_followed(animals, classes, tmp_path):
    (animals / "dog").rename(tmp_path / "elsewhere")
    (animals / "dog").mkdir()
    (animals / "dog" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    data = open_dataset(animals, classes)
    named, label = next(data.pictures(start=35))
    assert (named.id, label, grey(named)) == ("dog/more/35.png", 3, 35)


@pytest.fixture
def flat(animals, tmp_path):
    root = tmp_path / "flat"
    root.mkdir()
    for file in animals.rglob("*.png"):
        file.rename(root / f"ILSVRC2012_val_000000{file.name}")
    return root


def test_flat_with_a_ground_truth(flat, classes, tmp_path):
    lines = [str(number // 10) for number in range(1, 71)]
    (tmp_path / "truth.txt").write_text("\n".join(lines).replace("7", "0"))
    (flat / "ILSVRC2012_val_00000000.png").unlink()
    truth = read_ground_truth(tmp_path / "truth.txt")
    data = open_dataset(flat, classes, ground_truth=truth)
    assert data.layout == "truth.txt: list of labels, by index"
    assert all(label == int(name[-6:-4]) // 10 for name, label in data.entries)
    archive = as_zip(flat, tmp_path / "flat.zip", "val/")
    packed = open_dataset(archive, classes, layout="imagenet-val", ground_truth=truth)
    assert [label for _, label in packed.entries] == [label for _, label in data.entries]
    with pytest.raises(ArgumentError, match="labels are the folders: give no ground truth"):
        open_dataset(flat, classes, layout="folder", ground_truth=truth)


def test_flat_without_one(flat, classes, tmp_path, paint):
    with pytest.raises(ArgumentError, match="Give a file of labels as --ground-truth"):
        open_dataset(flat, classes)
    imagenet = Classes(1000, labels_for("imagenet-1k"))
    paint(tmp_path / "named" / "ILSVRC2012_val_00000001_n01443537.png", 1)
    data = open_dataset(tmp_path / "named", imagenet)
    assert (data.layout, data.entries[0].label) == ("labels in file names, by wnid", 1)


@pytest.mark.parametrize(("numbers", "label"), [("index", 5), ("name", 4)])
def test_meaning_of_numbers_in_a_ground_truth_can_be_given(paint, tmp_path, numbers, label):
    paint(tmp_path / "flat" / "a.png", 1)
    (tmp_path / "truth.csv").write_text("a.png,5\n")
    flowers = Classes(102, Labels(tuple(str(number) for number in range(1, 103))))
    truth = read_ground_truth(tmp_path / "truth.csv", numbers=numbers)
    data = open_dataset(tmp_path / "flat", flowers, ground_truth=truth)
    assert data.entries == (("a.png", label),)


def test_a_subset_of_digits_is_of_names(paint, tmp_path):
    paint(tmp_path / "data" / "5" / "x.png", 1)
    (tmp_path / "chosen.txt").write_text("1\n5\n7\n")
    flowers = Classes(102, Labels(tuple(str(number) for number in range(1, 103))))
    data = open_dataset(tmp_path / "data", flowers, subset=tmp_path / "chosen.txt")
    assert (data.competing, data.entries) == ((0, 4, 6), (("5/x.png", 4),))


def test_subset_of_the_data(animals, classes):
    for name in ("bee", "dog", "gnu"):
        for file in (animals / name).iterdir():
            file.unlink()
    data = open_dataset(animals, classes)
    assert data.competing is None
    assert "4 of the model's 7 classes" in data.notes[0]
    data = open_dataset(animals, classes, subset="data")
    assert data.competing == (0, 2, 4, 5)
    assert data.notes == ()


def test_subset_of_a_file(animals, classes, tmp_path):
    (animals / "eel").rename(animals / "unknown thing")
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("gnu\n\nhouse cat\n")
    data = open_dataset(animals, classes, subset=chosen)
    assert data.competing == (2, 6)
    assert {label for _, label in data.entries} == {2, 6}
    assert data.notes == ("50 pictures of classes outside the subset were left out.",)
    chosen.write_text("emu\n")
    with pytest.raises(ArgumentError, match="1 subset name matches no class of the model: 'emu'"):
        open_dataset(animals, classes, subset=chosen)
    chosen.write_text("eel\n")
    with pytest.raises(ArgumentError, match=r"No picture in .* is of a class in"):
        open_dataset(animals, classes, subset=chosen)
    with pytest.raises(ArgumentError, match="'model', 'data' or a file of classes"):
        open_dataset(animals, classes, subset="everything")


def test_limit_is_spread_evenly(animals, classes):
    data = open_dataset(animals, classes, limit=14)
    assert [name for name, _ in data.entries[:3]] == ["ant/00.png", "ant/05.png", "bee/10.png"]
    assert [label for _, label in data.entries] == [number // 2 for number in range(14)]
    assert data.notes == ("Only 14 of 70 pictures, spread evenly over the data.",)
    assert [grey(named) for named, _ in data.pictures(start=12)] == [60, 65]
    assert open_dataset(animals, classes, limit=70).notes == ()
    with pytest.raises(ArgumentError, match="1 or more; got 0"):
        open_dataset(animals, classes, limit=0)


def test_the_fingerprint_is_of_names_labels_and_competitors(animals, classes, tmp_path):
    data = open_dataset(animals, classes)
    assert data.fingerprint == open_dataset(animals, classes).fingerprint
    assert data.fingerprint == open_dataset(animals.rename(tmp_path / "x"), classes).fingerprint
    others = [open_dataset(tmp_path / "x", classes, limit=69)]
    others.append(open_dataset(tmp_path / "x", classes, subset="data"))
    (tmp_path / "x" / "ant" / "00.png").rename(tmp_path / "x" / "bee" / "00.png")
    others.append(open_dataset(tmp_path / "x", classes))
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_data_that_changes_is_noticed(animals, classes):
    data = open_dataset(animals, classes)
    (animals / "dog" / "33.png").unlink()
    with pytest.raises(ArgumentError, match=r"'dog/33\.png' was moved or removed from"):
        list(data.pictures())


def test_damaged_archives_and_empty_folders_are_refused(animals, classes, tmp_path):
    whole = as_tar(animals, tmp_path / "d.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 + 700])
    with pytest.raises(ArgumentError, match="Not all of the data can be read"):
        open_dataset(tmp_path / "cut.tar", classes)
    (tmp_path / "no.zip").write_bytes(b"PK")
    with pytest.raises(ArgumentError, match="Not all of the data can be read"):
        open_dataset(tmp_path / "no.zip", classes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="has no picture: no file name ends in"):
        open_dataset(tmp_path / "empty", classes)


def test_a_damaged_member_is_a_bad_picture(animals, classes, tmp_path):
    path = as_zip(animals, tmp_path / "d.zip")
    content = (animals / "cat" / "20.png").read_bytes()
    data = bytearray(path.read_bytes())
    data[data.index(content) + 50] ^= 255
    path.write_bytes(data)
    named, label = next(open_dataset(path, classes).pictures(start=20))
    assert (named.id, label) == ("cat/20.png", 2)
    assert isinstance(named.source, ImageError)


def test_paths_and_layouts_that_are_no_data_are_refused(animals, tmp_path):
    with pytest.raises(ArgumentError, match="does not exist"):
        check_data(tmp_path / "missing")
    with pytest.raises(ArgumentError, match=r"Unknown layout: 'zipp'\. Did you mean 'zip'"):
        check_data(animals, "zipp")
    with pytest.raises(ArgumentError, match=r"an archive that ends in \.zip, which"):
        check_data(animals, "zip")
    with pytest.raises(ArgumentError, match="a folder or an archive"):
        check_data(animals / "ant" / "00.png")


def test_photographs_of_imagenet(shared_data):
    photos = shared_data / "photos" / "imagenet"
    imagenet = Classes(1000, labels_for("imagenet-1k"))
    table = open_dataset(photos, imagenet, ground_truth=read_ground_truth(photos / "labels.csv"))
    assert table.layout == "labels.csv: table of names and labels, by wnid"
    by_name = open_dataset(photos, imagenet)
    assert by_name.layout == "labels in file names, by wnid"
    assert by_name.entries == table.entries
    rows = [line.split(",") for line in (photos / "labels.csv").read_text().splitlines()[1:]]
    assert sorted(table.entries) == sorted((row[0], int(row[2])) for row in rows)


def test_cifar10(shared_data):
    data = open_dataset(shared_data / "cifar10" / "test.zip", Classes(10), sort_folders=True)
    assert len(data.entries) == 10_000
    assert data.classes.labels.names[:2] == ("airplane", "automobile")
