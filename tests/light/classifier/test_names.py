"""Which class a name means."""

import pytest

from convnext.classifier.names import find_class
from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.images.labels import Labels, labels_for

IMAGENET = labels_for("imagenet-1k")


@pytest.mark.parametrize("target", ["tabby", "Tabby Cat", "tabby, tabby cat", "n02123045", "281"])
def test_a_class_by_any_of_its_names(target):
    assert find_class(target, IMAGENET) == find_class(281, IMAGENET) == 281


def test_every_class_is_found_by_its_id():
    assert [find_class(wnid, IMAGENET) for wnid in IMAGENET.wnids] == list(range(1000))


def test_a_name_of_two_classes_is_refused_with_both():
    with pytest.raises(ArgumentError, match=r"134 \(crane\); 517 \(crane\)"):
        find_class("crane", IMAGENET)


def test_a_whole_name_goes_before_a_synonym():
    assert find_class("cat", Labels(("lion, cat", "cat"))) == 1


def test_names_that_are_numbers_are_names():
    labels = Labels(("7", "0"))
    assert find_class("0", labels) == 1
    assert find_class(0, labels) == 0
    assert find_class("1", labels) == 1


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("tabyy", ArgumentError, "Did you mean 'tabby'"),
        ("", ArgumentError, "a number from 0 to 999"),
        (1000, ArgumentError, "from 0 to 999"),
        ("1000", ArgumentError, "from 0 to 999"),
        ("9" * 5000, ArgumentError, "No class is called"),
        (-1, ArgumentError, "from 0 to 999"),
        (True, ArgumentTypeError, "not bool"),
        (2.0, ArgumentTypeError, "not float"),
    ],
)
def test_no_such_class(target, error, words):
    with pytest.raises(error, match=words):
        find_class(target, IMAGENET)
