"""Class names: ImageNet's compared with other libraries, and those of files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.images.labels import (
    IMAGENET_SETS,
    Labels,
    find_class,
    labels_for,
    read_labels,
    resolve_labels,
)


@pytest.mark.parametrize(("name", "count"), IMAGENET_SETS.items())
def test_the_sets_are_complete_and_in_the_order_of_their_ids(name: str, count: int):
    labels = labels_for(name)
    assert len(labels) == len(labels.wnids) == len(set(labels.wnids)) == count
    assert list(labels.wnids) == sorted(labels.wnids)
    assert all(labels.names)


def test_well_known_classes():
    labels = labels_for("imagenet-1k")
    assert labels.names[281] == "tabby, tabby cat"
    assert (labels.short(0), labels.short(999)) == ("tench", "toilet tissue")
    assert [labels.wnids[index] for index in (134, 517)] == ["n02012849", "n03126707"]
    assert labels.short(134) == labels.short(517) == "crane"


@pytest.mark.upstream
@pytest.mark.parametrize("name", IMAGENET_SETS)
def test_names_and_order_are_timms(name: str):
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo(name)
    labels = labels_for(name)
    assert list(labels.wnids) == info.label_names()
    assert list(labels.names) == info.label_descriptions()


def test_indices_are_those_of_real_pictures(shared_data: Path):
    labels = labels_for("imagenet-1k")
    with (shared_data / "photos" / "imagenet" / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 40
    for row in rows:
        index = int(row["imagenet1k_index"])
        assert labels.wnids[index] == row["wnid"]
        assert labels.short(index).replace(" ", "_") == row["name"]


def test_an_unknown_set_is_named_with_those_there_are():
    with pytest.raises(UnknownNameError, match=r"imagenet-21k.*imagenet-22k"):
        labels_for("imagenet-21k")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "cat\ndog\nold cow\n"),
        ("names.txt", "\ufeffcat\r\n dog \r\nold cow"),
        ("names.json", '["cat", "dog", "old cow"]'),
        ("names.json", '{"2": "old cow", "0": "cat", "1": "dog"}'),
        ("names.JSON", '{"old cow": 2, "cat": 0, "dog": 1}'),
        ("config.json", '{"x": 1, "id2label": {"0": "cat", "1": "dog", "2": "old cow"}}'),
    ],
)
def test_files_of_names(name: str, text: str, tmp_path: Path):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    assert read_labels(path) == read_labels(str(path)) == Labels(("cat", "dog", "old cow"))


def test_a_file_with_ids(tmp_path: Path):
    path = tmp_path / "index.json"
    path.write_text(json.dumps({"1": ["n2", "dog"], "0": ["n1", "cat"]}))
    assert read_labels(path) == Labels(("cat", "dog"), ("n1", "n2"))


def test_eleven_classes_are_in_the_order_of_numbers(tmp_path: Path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({str(index): f"class {index}" for index in range(11)}))
    assert read_labels(path).names[10] == "class 10"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", ""),
        ("a.txt", "cat\n\ndog\n"),
        ("a.json", "[]"),
        ("a.json", "{}"),
        ("a.json", "3"),
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.json", '["cat", 3]'),
        ("a.json", '["cat", null]'),
        ("a.json", '["cat", ["n1", "dog"]]'),
        ("a.json", '{"0": "cat", "2": "dog"}'),
        ("a.json", '{"1": "cat", "2": "dog"}'),
        ("a.json", '{"cat": 0, "dog": 0}'),
        ("a.json", '{"cat": 0, "dog": "1"}'),
        ("a.json", '{"id2label": 3}'),
        ("a.json", '[["n1", "cat"], ["n2", ""]]'),
    ],
)
def test_files_that_do_not_name_every_class_once(name: str, text: str, tmp_path: Path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ArgumentError, match=path.name):
        read_labels(path)


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_labels(tmp_path / "absent.txt")
    path = tmp_path / "binary.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_labels(path)


def test_labels_from_whatever_is_given(tmp_path: Path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(["a", "b"]))
    expected = Labels(("a", "b"))
    for given in (expected, ["a", "b"], ("a", "b"), path, str(path)):
        assert resolve_labels(given, None, 2, "w") == expected
    assert resolve_labels("imagenet-1k", None, 1000, "w") is labels_for("imagenet-1k")


def test_a_text_that_is_neither_file_nor_set():
    with pytest.raises(ArgumentError, match="nor one of imagenet-1k"):
        resolve_labels("imagenet", None, 2, "w")


@pytest.mark.parametrize(
    ("given", "stored", "names"),
    [
        (None, None, ("class 0", "class 1")),
        (None, (), ("class 0", "class 1")),
        (None, ("a", "b"), ("a", "b")),
        (["c", "d"], ("a", "b"), ("c", "d")),
        (["c", "d"], "nobody's set", ("c", "d")),
    ],
)
def test_given_labels_override_those_of_the_weights(given, stored, names):
    assert resolve_labels(given, stored, 2, "w").names == names


def test_names_of_another_number_of_classes():
    with pytest.raises(ArgumentError, match=r"w\.pth has 2 classes, but 1,000 names"):
        resolve_labels(None, "imagenet-1k", 2, "w.pth")
    assert len(resolve_labels(None, "imagenet-1k", 0, "w.pth")) == 1000


def test_a_file_must_not_make_its_reader_open_another(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("a\nb\n")
    with pytest.raises(UnknownNameError, match="Unknown set of classes"):
        resolve_labels(None, str(secret), 2, "w")
    assert resolve_labels(str(secret), None, 2, "w").names == ("a", "b")


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
def test_unknown_classes_are_refused(target, error, words):
    with pytest.raises(error, match=words):
        find_class(target, IMAGENET)
