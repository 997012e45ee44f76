"""Data sets of every form, opened as labelled examples."""

import tarfile
import time

import numpy as np
import pytest

from convnext.data.examples import find_splits, open_data, open_examples, open_pictures
from convnext.errors import ArgumentError, UnknownNameError
from convnext.images.labels import Labels, labels_for


def _names(examples):
    return [examples.name(number) for number in range(len(examples))]


def test_class_folders(folder):
    examples = open_examples(folder({"dog": 2, "cat": 1}))
    assert examples.classes == ("cat", "dog")
    assert dict(zip(_names(examples), examples.labels.tolist(), strict=True)) == {
        "cat/0.png": 0,
        "dog/0.png": 1,
        "dog/1.png": 1,
    }


def test_folders_that_all_share_are_skipped_and_those_below_a_class_belong_to_it(folder):
    root = folder({"cat": 1, "dog": 1}, name="outer/inner")
    (root / "dog" / "0.png").rename(root / "dog" / "x.png")
    (root / "cat" / "deep").mkdir()
    (root / "cat" / "0.png").rename(root / "cat" / "deep" / "0.png")
    examples = open_examples(root.parent)
    assert examples.classes == ("cat", "dog")
    assert examples.labels.tolist() == [0, 1]


def test_one_class_is_a_class(folder):
    assert open_examples(folder({"cat": 3})).classes == ("cat",)


def test_numbers_are_sorted_as_numbers(folder):
    assert open_examples(folder({"10": 1, "9": 1, "2": 1})).classes == ("2", "9", "10")


def test_archives_are_the_same_data(folder, zipped):
    root = folder({"cat": 2, "dog": 3})
    with tarfile.open(root.with_suffix(".tar"), "w") as archive:
        archive.add(root, "flowers")
    expected = open_examples(root)
    for path in (zipped(root), root.with_suffix(".tar")):
        examples = open_examples(path)
        assert examples.classes == expected.classes
        assert examples.labels.tolist() == expected.labels.tolist()
        for number in range(5):
            assert examples.read(number).tobytes() == expected.read(number).tobytes()


def test_a_limit_is_spread_over_the_data(folder):
    root = folder({"a": 10, "b": 10, "c": 10})
    assert open_examples(root, limit=6).counts.tolist() == [2, 2, 2]
    assert len(open_examples(root, limit=100)) == 30
    with pytest.raises(ArgumentError, match="1 or more"):
        open_examples(root, limit=0)


def test_empty_class_folders_are_no_training_data(folder):
    root = folder({"cat": 2, "dog": 0, "eel": 0, ".hidden": 0})
    with pytest.raises(ArgumentError, match=r"2 class folders .* 'dog', 'eel'"):
        open_examples(root)
    assert open_examples(root, classes=["cat", "dog"]).classes == ("cat", "dog")


def test_pictures_outside_any_class(folder, png):
    root = folder({"cat": 2, "dog": 2})
    (root / "stray.png").write_bytes(png())
    with pytest.raises(ArgumentError, match=r"1 of 5 pictures .*'stray.png'"):
        open_examples(root)
    assert len(open_pictures(root)) == 5


@pytest.mark.parametrize("name", ["nothing", "empty", "text.txt", "packed.tar.gz"])
def test_paths_that_are_no_data_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("")
    (tmp_path / "packed.tar.gz").write_bytes(b"")
    problem = {"nothing": "There is no", "empty": "no file", "text.txt": "is no data set"}
    with pytest.raises(ArgumentError, match=problem.get(name, "compressed as a whole")):
        open_examples(tmp_path / name)


def test_given_classes_decide_the_numbers(folder):
    root = folder({"house_cat": 1, "dog": 1})
    examples = open_examples(root, classes=Labels(("dog", "cat, house cat", "eel")))
    assert examples.labels.tolist() == [0, 1]
    assert len(examples.classes) == 3
    with pytest.raises(ArgumentError, match=r"not among the 2 of the training data: 'house_cat'"):
        open_examples(root, classes=["dog", "cat"])


def test_names_that_are_numbers_are_names_first(folder):
    examples = open_examples(folder({"1": 1, "2": 1}), classes=["1", "2", "3"])
    assert examples.labels.tolist() == [0, 1]


def test_wordnet_ids_have_words(folder):
    examples = open_examples(folder({"n01443537": 1, "n01440764": 1}))
    assert examples.classes[0] == "tench, Tinca tinca"
    assert examples.naming.wnids == ("n01440764", "n01443537")
    by_word = open_examples(folder({"tench": 1}, name="words"), classes=examples.naming)
    assert by_word.labels.tolist() == [0]


def test_all_of_imagenets_ids_have_imagenets_numbers(tmp_path):
    known = labels_for("imagenet-1k")
    for wnid in known.wnids:
        (tmp_path / wnid).mkdir()
        (tmp_path / wnid / f"{wnid}_0.JPEG").write_bytes(b"")
    examples = open_examples(tmp_path)
    assert examples.naming == known
    assert examples.labels.tolist() == list(range(1000))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_parts_are_found_by_their_names(folder, zipped, name):
    root = folder({"train/cat": 3, "train/dog": 2, f"{name}/dog": 1, f"{name}/cat": 1})
    for path in (root, zipped(root)):
        train, validation = find_splits(path)
        assert (len(train), len(validation)) == (5, 2)
        assert validation.classes == train.classes == ("cat", "dog")
        assert [validation.name(n)[len(name) + 1 :] for n in range(2)] == ["cat/0.png", "dog/0.png"]
        assert validation.labels.tolist() == [0, 1]


def test_the_test_part_is_left_alone_where_there_is_another(folder):
    root = folder({"train/cat": 3, "val/cat": 1, "test/cat": 2})
    assert len(find_splits(root).validation) == 1
    assert len(open_examples(root, split="test")) == 2
    assert len(open_pictures(root)) == 3
    with pytest.raises(ArgumentError, match="has the splits test, train, validation"):
        open_examples(root)
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        open_examples(root, split="trian")


def test_undivided_data_has_no_validation(folder):
    root = folder({"cat": 2, "test": 2})
    assert find_splits(root).validation is None
    assert find_splits(root).train.classes == ("cat", "test")
    with pytest.raises(ArgumentError, match="it has no splits"):
        open_examples(root, split="train")


@pytest.mark.parametrize("around", ["", "data/"])
def test_parts_may_be_spelled_in_capitals(folder, around):
    parts = {"Train/cat": 3, "Train/dog": 2, "TEST/dog": 1, "TEST/cat": 1}
    train, validation = find_splits(folder({f"{around}{name}": n for name, n in parts.items()}))
    assert (train.classes, len(train), len(validation)) == (("cat", "dog"), 5, 2)


def test_parts_beside_other_folders_are_no_classes(folder):
    root = folder({"train/cat": 3, "train/dog": 2, "val/cat": 1, "samples/cat": 1})
    with pytest.raises(ArgumentError, match=r"split folders and other folders, 'samples'"):
        find_splits(root)


def test_the_classes_of_a_validation_split_alone_are_its_folders(folder):
    assert open_examples(folder({"val/cat": 2, "val/dog": 1})).classes == ("cat", "dog")


def test_a_class_may_be_called_train(folder):
    assert find_splits(folder({"train": 2, "bus": 1})).train.classes == ("bus", "train")


def test_validation_data_is_held_out_or_given(folder):
    root = folder({"cat": 8, "dog": 8})
    train, validation = open_data(root, held_out=0.25, seed=1)
    assert (len(train), len(validation)) == (12, 4)
    assert open_data(root).validation is None
    other = folder({"dog": 3}, name="other")
    train, validation = open_data(root, other, held_out=0.25)
    assert (len(train), validation.labels.tolist()) == (16, [1, 1, 1])


def test_one_class_is_nothing_to_tell_apart(folder):
    with pytest.raises(ArgumentError, match=r"of one class, 'cat'.*contains the class folders"):
        open_data(folder({"cat": 3}))


def test_archives_beside_each_other(folder, zipped, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    zipped(folder({"cat": 3, "dog": 2}, name="first")).rename(both / "train.zip")
    zipped(folder({"dog": 1}, name="second")).rename(both / "test.zip")
    train, validation = find_splits(both)
    assert (len(train), validation.labels.tolist()) == (5, [1])


def test_a_class_only_in_the_validation_part(folder):
    root = folder({"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/eel": 1})
    with pytest.raises(ArgumentError, match=r"not among the 2 of the training data: 'eel'"):
        find_splits(root)


def test_a_training_part_alone(folder):
    train, validation = find_splits(folder({"train/cat": 1, "train/dog": 1}))
    assert (train.classes, validation) == (("cat", "dog"), None)


def test_imagenets_layout_with_ids_in_the_names(folder, png):
    root = folder({"train/n01440764": 2, "train/n01443537": 1})
    (root / "val").mkdir()
    for number, wnid in enumerate(("n01443537", "n01440764")):
        (root / "val" / f"ILSVRC2012_val_0000000{number + 1}_{wnid}.JPEG").write_bytes(png())
    assert find_splits(root).validation.labels.tolist() == [1, 0]


@pytest.mark.parametrize("place", ["val", "."])
def test_imagenets_layout_with_a_ground_truth(folder, png, place):
    root = folder({"train/n01440764": 2, "train/n01443537": 1})
    (root / "val" / "images").mkdir(parents=True)
    for number in range(3):
        (root / "val" / "images" / f"val_{number}.JPEG").write_bytes(png())
    lines = ["val_0.JPEG\tn01443537\t0", "val_1.JPEG\tn01440764\t0", "val_2.JPEG\tn01443537\t0"]
    (root / place / "val_annotations.txt").write_text("\n".join(lines))
    train, validation = find_splits(root)
    assert train.labels.tolist() == [0, 0, 1]
    assert validation.labels.tolist() == [1, 0, 1]


def test_a_validation_part_without_labels(folder, png):
    root = folder({"train/cat": 2, "train/dog": 1})
    (root / "test").mkdir()
    (root / "test" / "a.png").write_bytes(png())
    assert find_splits(root).validation is None
    (root / "test").rename(root / "val")
    with pytest.raises(ArgumentError, match="there is no file of labels"):
        find_splits(root)


def test_tables(folder):
    root = folder({"x": 2, "y": 2})
    (root / "all.csv").write_text(
        "file,label,split\nx/0.png,wolf,train\ny/1.png,fox,train\nx/1.png,wolf,val\n"
    )
    train, validation = find_splits(root / "all.csv")
    assert (train.classes, train.labels.tolist()) == (("fox", "wolf"), [1, 0])
    assert validation.labels.tolist() == [1]
    assert validation.read(0).tobytes() == open_pictures(root).read(1).tobytes()
    (root / "plain.csv").write_text("x/0.png\ny/0.png\n")
    assert open_pictures(root / "plain.csv").classes == ()
    with pytest.raises(ArgumentError, match="no file of labels"):
        open_examples(root / "plain.csv")
    (root / "odd.csv").write_text("file,label,split\nx/0.png,wolf,trian\n")
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        find_splits(root / "odd.csv")


def test_labels_too_long_for_numbers_are_names(folder):
    root = folder({"x": 2})
    long = "9" * 5000
    (root / "all.csv").write_text(f"file,label\nx/0.png,{long}\nx/1.png,10\n")
    assert open_examples(root / "all.csv").classes == ("10", long)


def test_arrays(tmp_path):
    pixels, labels = np.zeros((4, 6, 6, 3), np.uint8), np.array([0, 2, 1, 2])
    path = tmp_path / "data.npz"
    np.savez(path, x_train=pixels, y_train=labels, x_test=pixels[:2], y_test=labels[:2])
    train, validation = find_splits(path)
    assert train.classes == ("0", "1", "2")
    assert validation.labels.tolist() == [0, 2]
    assert find_splits(path, classes=["a", "b", "c", "d"]).train.classes == ("a", "b", "c", "d")
    with pytest.raises(ArgumentError, match="has a class 2, but only 2 class names"):
        find_splits(path, classes=["a", "b"])
    np.savez(path, x_train=pixels, y_train=labels % 2, x_test=pixels[:2], y_test=labels[:2])
    with pytest.raises(ArgumentError, match="has a class 2"):
        find_splits(path)


def test_pictures_without_labels_lie_anywhere(folder, png):
    root = folder({"a/b/c": 2, "d": 1})
    (root / "top.png").write_bytes(png())
    pictures = open_pictures(root)
    assert len(pictures) == 4
    assert pictures.classes == ()
    assert not pictures.labels.any()
    assert len(open_pictures(root, limit=2)) == 2


def test_cifar_opens_at_once(shared_data):
    began = time.perf_counter()
    train, validation = find_splits(shared_data / "cifar10")
    assert time.perf_counter() - began < 10  # 0.4 s on an idle machine
    assert train.counts.tolist() == [5000] * 10
    assert validation.counts.tolist() == [1000] * 10
    assert train.classes[:2] == ("airplane", "automobile")
    assert train.read(49_999).size == (32, 32)
