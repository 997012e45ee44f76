"""Tables with any number of labels a picture, and all that is ambiguous or wrong in them."""

from __future__ import annotations

import pickle

import pytest
from PIL import Image

from convnext.data.examples import open_data
from convnext.data.multi_label import open_multi_label, open_multi_label_data
from convnext.errors import ArgumentError, UnknownNameError
from convnext.images.labels import Labels

TABLE = "path,labels,split\n0.png,cat|dog,train\n1.png,,train\n2.png, dog ,train\n3.png,cat,val\n"


@pytest.fixture
def table(tmp_path):
    for number in range(4):
        Image.new("RGB", (9, 9), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")

    def write(text=TABLE, name="labels.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_labels_are_separated_by_bars_and_may_be_none(table):
    examples = open_multi_label(table(), split="train")
    assert examples.classes == ("cat", "dog")
    assert examples.has.tolist() == [[True, True], [False, False], [False, True]]
    assert examples.counts.tolist() == [1, 2]
    picture, target = examples.example(2, lambda image, _: image.getpixel((0, 0)), None)
    assert picture == (120, 0, 0)
    assert target.tolist() == [False, True]


def test_splits_subsets_and_copies_keep_the_labels(table):
    train, validation = open_multi_label_data(table())
    assert validation.naming == train.naming
    assert validation.has.tolist() == [[True, False]]
    assert pickle.loads(pickle.dumps(train)).has.tolist() == train.has.tolist()
    assert train.cached().subset([2, 0]).has.tolist() == [[False, True], [True, True]]
    assert len(open_multi_label(table(), split="train", limit=2)) == 2


def test_the_fingerprint_tells_labels_apart(table):
    one = open_multi_label(table(), split="train").fingerprint
    other = open_multi_label(table(TABLE.replace("cat|dog", "cat")), split="train").fingerprint
    assert one != other


def test_part_of_a_table_without_splits_is_held_out(table):
    text = "path,labels\n" + "".join(f"{number}.png,cat\n" for number in range(4))
    train, validation = open_multi_label_data(table(text), held_out=0.25, seed=1)
    assert (len(train), len(validation)) == (3, 1)
    assert open_multi_label_data(table(text)).validation is None


def test_labels_of_a_model_keep_their_order(table):
    examples = open_multi_label(table(), split="val", classes=Labels(("dog", "bird", "cat, puss")))
    assert examples.has.tolist() == [[False, False, True]]


WRONG = {
    "path,labels\n0.png,cat|cat\n": "has a label twice",
    "path,labels\n0.png,cat||dog\n": "has an empty label",
    "path,labels\n0.png,|cat\n": "has an empty label",
    "path,labels\n0.png,cat\n1.png\n": "fewer columns",
    "path,labels\n0.png,\n1.png,\n": "No picture in .* has a label",
    "path,label\n0.png,cat\n1.png,dog\n": "one class, or none",
    "0.png,cat|dog\n1.png,dog\n": "one class, or none",
    "path\n0.png\n": "one class, or none",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_ambiguous_or_incomplete_is_refused(table, text):
    with pytest.raises(ArgumentError, match=WRONG[text]):
        open_multi_label_data(table(text))


def test_class_folders_are_for_another_recipe(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "1.png")
    with pytest.raises(ArgumentError, match="recipe for one class a picture"):
        open_multi_label_data(tmp_path)


def test_labels_that_training_lacks_are_refused(table):
    with pytest.raises(ArgumentError, match=r"not among the 2 .*'cow'.* Allowed are cat, dog"):
        open_multi_label_data(table(TABLE.replace("3.png,cat", "3.png,cow")))
    with pytest.raises(ArgumentError, match="'dog'"):
        open_multi_label(table(), split="train", classes=Labels(("cat", "bird")))


def test_a_split_is_chosen(table):
    with pytest.raises(ArgumentError, match="has the splits train, validation"):
        open_multi_label(table())
    with pytest.raises(UnknownNameError):
        open_multi_label(table(), split="tests")
    with pytest.raises(ArgumentError, match="1 or more"):
        open_multi_label(table(), split="train", limit=0)


@pytest.mark.parametrize("cell", ["cat|dog", ""])
def test_a_recipe_for_one_class_refuses_several_labels(table, cell):
    text = f"path,labels\n0.png,{cell}\n1.png,cat\n2.png,dog\n"
    with pytest.raises(ArgumentError, match="multi-label recipe"):
        open_data(table(text))


def test_one_label_in_each_cell_is_still_one_class_a_picture(table):
    train = open_data(table("path,labels\n0.png,cat\n1.png,dog\n")).train
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 1]
    both = "path,labels,label\n0.png,a|b,cat\n1.png,,dog\n"
    assert open_data(table(both)).train.classes == ("cat", "dog")
