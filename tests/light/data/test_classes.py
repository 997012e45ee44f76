"""Names of every kind match the right classes, or none."""

import pytest

from convnext.data.classes import Classes, class_level
from convnext.errors import ArgumentError
from convnext.images.labels import Labels, labels_for


@pytest.fixture(scope="module")
def imagenet():
    return Classes(1000, labels_for("imagenet-1k"), "imagenet-1k")


def test_every_wnid_and_every_number(imagenet):
    wnids = imagenet.labels.wnids
    naming = imagenet.understand(wnids)
    assert naming.by == "wnid"
    assert [naming.numbers[wnid] for wnid in wnids] == list(range(1000))
    naming = imagenet.understand([str(number) for number in range(1000)])
    assert naming.by == "index"
    assert naming.numbers["999"] == 999


def test_every_whole_name_that_is_not_two_classes(imagenet):
    names = imagenet.labels.names
    clear = [name for name in names if name not in ("crane", "maillot")]
    naming = imagenet.understand(clear)
    assert naming.by == "name"
    assert all(names[naming.numbers[name]] == name for name in clear)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("tench", 0),
        ("Tinca_tinca", 0),
        ("GREAT-WHITE-SHARK", 2),
        ("Cardigan", 264),
        ("cardigan", 474),
        ("maillot, tank suit", 639),
        ("mouth harp", 593),
        ("harp", 594),
    ],
)
def test_spellings(imagenet, text, index):
    assert imagenet.understand([text]).numbers == {text: index}


def test_a_name_of_two_classes_is_refused(imagenet):
    with pytest.raises(ArgumentError, match=r"'crane' \(may be class 134 or 517\)"):
        imagenet.understand(["crane", "tench"])
    with pytest.raises(ArgumentError, match=r"'CARDIGAN' \(may be class 264 or 474\)"):
        imagenet.understand(["CARDIGAN", "tench"])


def test_unknown_names_are_all_listed_with_suggestions(imagenet):
    with pytest.raises(ArgumentError) as caught:
        imagenet.understand(["goldfsh", "hen", "tench", "zzz"])
    message = str(caught.value)
    assert message.startswith("2 folder names match no class of the model: 'goldfsh' (did you mean")
    assert "'goldfish'?), 'zzz'. Classes may be named all by WordNet id (n01440764)" in message
    many = [f"z{number}" for number in range(30)]
    with pytest.raises(ArgumentError, match=r"30 folder names .* and 20 more"):
        imagenet.understand(many)


def test_all_names_of_a_data_set_are_of_one_kind(imagenet):
    """A folder 7 among names is an error, not class 7."""
    with pytest.raises(ArgumentError, match="1 folder name matches no class of the model: '7'"):
        imagenet.understand(["tench", "goldfish", "7"])
    with pytest.raises(ArgumentError, match=r"'1000'.*0 to 999"):
        imagenet.understand(["0", "1000"])


def test_names_that_are_digits_are_names():
    odd = Classes(3, Labels(("9", "7", "8")))
    assert odd.understand(["7", "9"]).numbers == {"7": 1, "9": 0}


def test_digits_that_are_class_names_are_read_as_names():
    flowers = Classes(102, Labels(tuple(str(number) for number in range(1, 103))))
    naming = flowers.understand(["1", "5", "101"])
    assert (naming.by, naming.numbers) == ("name", {"1": 0, "5": 4, "101": 100})


def test_the_kind_of_names_can_be_given():
    flowers = Classes(102, Labels(tuple(str(number) for number in range(1, 103))))
    assert flowers.understand(["1", "101"], by="index").numbers == {"1": 1, "101": 101}
    with pytest.raises(ArgumentError, match="1 label name matches no class of the model: '102'"):
        flowers.understand(["1", "102"], by="index", what="label")
    with pytest.raises(ArgumentError, match=r"classes are unknown. Give them with --labels"):
        Classes(102).understand(["1"], by="name")


@pytest.mark.parametrize("text", ["-1", "1.0", "²", "٣", "9" * 5000, ""])
def test_numerals_that_are_not_plain_digits_are_no_class_numbers(text):
    with pytest.raises(ArgumentError, match="1 folder name matches no class"):
        Classes(10).understand([text])


def test_unknown_names_can_be_allowed_but_not_all():
    pets = Classes(2, Labels(("cat", "dog")))
    naming = pets.understand(["cat", "emu"], partial=True)
    assert (naming.numbers, naming.unknown) == ({"cat": 0}, ("emu",))
    with pytest.raises(ArgumentError, match="1 folder name matches no class"):
        pets.understand(["emu"], partial=True)


def test_names_of_another_number_of_classes_are_refused():
    with pytest.raises(ArgumentError, match="has 3 classes, but 2 names"):
        Classes(3, Labels(("cat", "dog")))


@pytest.mark.parametrize(
    ("paths", "level"),
    [
        (["cat/1.png", "dog/2.png"], 0),
        (["cat/deep/1.png", "dog/2.png"], 0),
        (["set/val/cat/1.png", "set/val/dog/2.png"], 2),
        (["set/val/cat/1.png", "set/val/cat/2.png"], 2),
        (["set/val/cat/1.png", "set/2.png"], 0),
        (["cat/deep/1.png"], 1),
        (["1.png", "cat/2.png"], 0),
    ],
)
def test_class_folders_are_the_first_that_differ_or_the_last_that_all_share(paths, level):
    assert class_level([path.split("/") for path in paths]) == level


def test_a_split_folder_is_no_parent_of_class_folders_where_splits_are_looked_for():
    paths = [["data", "Train", "cat", "1.png"], ["data", "Train", "dog", "2.png"]]
    assert class_level(paths) == 2
    assert class_level(paths, splits=("train",)) == 1
