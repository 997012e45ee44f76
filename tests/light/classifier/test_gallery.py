"""Predictions of several pictures: shown, drawn, saved, as a data frame."""

import json

import numpy as np
import pytest
from PIL import Image

from convnext import Classifier
from convnext.classifier import Results
from convnext.classifier.gallery import THUMBNAILS, thumbnail
from convnext.classifier.results import ClassScore, Prediction
from convnext.errors import ArgumentError, ImageError

CAT = ClassScore("cat, <house> cat", 3, 0.75, "n02121808")
DOG = ClassScore("dog", 5, 0.25)
GOOD = Prediction("photos/<a>.jpg", (CAT, DOG))
BAD = Prediction("b.jpg", error=ImageError("b.jpg is <no> picture."))


@pytest.fixture
def results():
    return Results([GOOD, BAD], [Image.new("RGB", (96, 64), "red"), None])


def test_a_classifier_gives_what_its_stream_gives(named_weights):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    classifier = Classifier(named_weights)
    sources = [*pictures, b"no picture"]
    results = classifier.predict(sources, top=2)
    streamed = list(classifier.stream(sources, top=2))
    assert [each.classes for each in results] == [each.classes for each in streamed]
    assert str(results[3].error) == str(streamed[3].error)
    assert results.plot(columns=4).height > 96
    with pytest.raises(ArgumentError, match="top must be"):
        classifier.predict(sources, top=0)


def test_results_are_a_sequence(results):
    assert len(results) == 2
    assert list(results) == [GOOD, BAD]
    assert isinstance(results[:1], Results)
    assert list(results[1:]) == [BAD]
    assert repr(results) == "photos/<a>.jpg: cat 75.0%\nb.jpg: error: b.jpg is <no> picture."
    assert repr(Results([])) == "no pictures"
    assert repr(Results([GOOD] * 12)).endswith("... and 2 more")


def test_in_a_notebook_each_picture_has_a_thumbnail_and_bars(results):
    page = results._repr_html_()
    assert page.count("<img") == 1
    assert page.count("<meter") == 2
    assert "photos/&lt;a&gt;.jpg" in page
    assert "b.jpg is &lt;no&gt; picture." in page
    many = Results([GOOD] * (THUMBNAILS + 5))
    assert "and 5 more" in many._repr_html_()


def test_a_data_frame_has_a_row_for_each_class(results):
    pytest.importorskip("pandas")
    frame = results.to_pandas()
    assert list(frame["label"].dropna()) == [CAT.label, DOG.label]
    assert list(frame["rank"].dropna()) == [1, 2]
    assert frame["error"].iloc[-1] == "b.jpg is <no> picture."


def test_files(results, tmp_path):
    lines = results.save(tmp_path / "r.csv").read_text().splitlines()
    assert lines[0] == "picture,rank,label,probability,index,wnid,error"
    assert lines[1] == 'photos/<a>.jpg,1,"cat, <house> cat",0.75,3,n02121808,'
    assert len(lines) == 4
    assert json.loads(results.save(tmp_path / "r.json").read_text())[1]["index"] == 5
    assert "<meter" in results.save(tmp_path / "r.html").read_text()
    with Image.open(results.save(tmp_path / "r.png")) as picture:
        assert picture.size == results.plot().size
    with pytest.raises(ArgumentError, match=r"Allowed: \.csv"):
        results.save(tmp_path / "r.txt")
    with pytest.raises(ArgumentError, match="no pictures"):
        Results([]).save(tmp_path / "s.png")
    assert not (tmp_path / "s.png").exists()


def test_a_thumbnail_keeps_its_shape():
    assert thumbnail(np.zeros((200, 100, 3), np.uint8)).size == (48, 96)
