"""Sums over shards equal those of a single run."""

from __future__ import annotations

import pytest

from convnext.errors import ArgumentError, WeightsMismatchError
from convnext.evaluate import evaluate, open_dataset, open_subject
from convnext.scale.judging import evaluate_dataset

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("mock_engine", "here")


@pytest.fixture
def subject(named_weights):
    return open_subject(named_weights)


@pytest.fixture
def members(make):
    """Sixty pictures in six class folders, some in a wrong one, and a file that is no picture."""
    found = [
        (f"shade {n // 10}/{n:02}.png", make.encoded(25 * (n // 10 + (n % 7 == 0))))
        for n in range(60)
    ]
    return [*found, ("shade 5/99.png", b"no picture")]


@pytest.fixture
def data(here, members):
    for name, content in members:
        (here / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "data" / name).write_bytes(content)
    return here / "data"


def both(subject, model, data, out, **options):
    """Measure the data in a single run and in shards."""
    whole = evaluate(subject.engine, subject.preprocess, data, 8)
    parts = evaluate_dataset(
        subject, model, data, out, batch_size=8, shard_size=16, runner="local", **options
    )
    return whole, parts


@pytest.mark.parametrize("form", ["folder", "zip", "tar"])
def test_evaluation_in_shards_equals_a_single_run(
    form, subject, named_weights, data, members, make, here
):
    path = data
    if form != "folder":
        path = getattr(make, form)(here / f"data.{form}", members)
    dataset = open_dataset(path, subject.classes)
    whole, parts = both(subject, named_weights, dataset, here / "out")
    assert parts.accuracy == whole.accuracy
    assert whole.accuracy.pictures == 60
    assert 0 < whole.accuracy.correct < 60
    assert [bad.id for bad in parts.bad] == [bad.id for bad in whole.bad] == ["shade 5/99.png"]
    assert parts.seconds > 0
    again = evaluate_dataset(
        *(subject, named_weights, dataset, here / "out"),
        batch_size=8,
        shard_size=16,
        runner="local",
        mode="resume",
    )
    assert (again.accuracy, again.bad) == (parts.accuracy, parts.bad)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(subject, named_weights, make, here):
    members = [("shade 1/1.png", make.encoded(25)), ("shade 1/1.png", make.encoded(50))]
    dataset = open_dataset(make.zip(here / "data.zip", members), subject.classes)
    _, parts = both(subject, named_weights, dataset, here / "out")
    assert (parts.accuracy.pictures, parts.accuracy.correct) == (2, 1)


@pytest.mark.parametrize("options", [{"limit": 23}, {"subset": "data"}])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_some_pictures_and_some_classes(
    form, options, subject, named_weights, data, members, make, here
):
    path = data if form == "folder" else make.zip(here / "data.zip", members)
    dataset = open_dataset(path, subject.classes, **options)
    whole, parts = both(subject, named_weights, dataset, here / "out")
    assert parts.accuracy == whole.accuracy


def test_other_data_is_refused(subject, named_weights, data, here):
    dataset = open_dataset(data, subject.classes)
    both(subject, named_weights, dataset, here / "out")
    fewer = open_dataset(data, subject.classes, limit=60)
    with pytest.raises(ArgumentError, match="on other pictures"):
        both(subject, named_weights, fewer, here / "out", mode="resume")
    among = open_dataset(data, subject.classes, subset="data")
    with pytest.raises(ArgumentError, match="competing: null there"):
        both(subject, named_weights, among, here / "out", mode="resume")


def test_workers_with_other_weights_are_refused(subject, write_weights, data, here):
    dataset = open_dataset(data, subject.classes)
    other = write_weights(here / "other.safetensors", labels=tuple("abcdefghij"))
    with pytest.raises(WeightsMismatchError, match=r"weights at .*other\.safetensors differ"):
        evaluate_dataset(subject, other, dataset, here / "out", runner="local")
    assert not (here / "out").exists()


def test_archives_that_cannot_be_shared(subject, named_weights, members, make, here):
    path = make.tar(here / "data.tar.gz", members, "w:gz")
    dataset = open_dataset(path, subject.classes)
    with pytest.raises(ArgumentError, match="has no random access"):
        both(subject, named_weights, dataset, here / "out")


def test_an_archive_that_changed(subject, named_weights, members, make, here):
    dataset = open_dataset(make.zip(here / "data.zip", members), subject.classes)
    make.zip(here / "data.zip", members[1:])
    with pytest.raises(ArgumentError, match="no longer in"):
        evaluate_dataset(subject, named_weights, dataset, here / "out", runner="local")


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"shard_size": 0}])
def test_sizes_below_1_are_refused(subject, named_weights, data, here, options):
    dataset = open_dataset(data, subject.classes)
    with pytest.raises(ArgumentError, match="1 or more"):
        evaluate_dataset(subject, named_weights, dataset, here / "out", runner="local", **options)
