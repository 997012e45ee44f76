"""Multi-label models by every function and command: sigmoid, thresholds, any number of labels.

A grey picture of shade 25 k has logit 0 for class k, and far less for the others.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from convnext.classifier import Classifier
from convnext.classifier.gallery import Results
from convnext.classifier.results import best_classes, class_score, probabilities
from convnext.cli.main import main
from convnext.data.multi_label import open_multi_label
from convnext.errors import ArgumentError, WeightsFileError, WeightsMismatchError
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.weights.info import WeightsInfo
from convnext.weights.load import load_weights, read_weights
from convnext.weights.save import convert, save_weights

NAMES = tuple(f"tag_{number}" for number in range(10))
BETWEEN = (
    1 / (1 + math.exp(12**2 / 50)),
    1 / (1 + math.exp(13**2 / 50)),
)  # of shade 37: tags 1 and 2

pytestmark = pytest.mark.usefixtures("mock_engine")


@pytest.fixture
def tagger(write_weights, tmp_path):
    return write_weights(
        tmp_path / "tagger.safetensors",
        labels=NAMES,
        thresholds=(0.5, 0.5, *(0.04,) * 8),
        preprocess=Preprocess(size=32),
    )


def _grey(shade):
    return Image.new("RGB", (16, 16), (shade,) * 3)


def _named(prediction):
    return [(score.label, pytest.approx(score.probability)) for score in prediction.classes]


def test_logits_of_labels_with_thresholds_are_not_softmaxed():
    labels = Labels(("a", "b", "c"), thresholds=(0.5, 0.9, 0.1))
    logits = np.array([2.0, 2.0, -1.0])
    wanted = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(probabilities(logits, labels), wanted)
    assert [score.label for score in best_classes(logits, labels)] == ["a", "c"]
    assert [score.label for score in best_classes(logits, labels, 1)] == ["a"]
    assert class_score(logits, 1, labels).probability == pytest.approx(wanted[1])
    plain = Labels(("a", "b", "c"))
    assert probabilities(logits, plain).sum() == pytest.approx(1)
    assert len(best_classes(logits, plain)) == 3


def test_a_picture_has_every_label_that_reaches_its_threshold(tagger):
    classifier = Classifier(tagger)
    assert _named(classifier(_grey(25))) == [("tag_1", 0.5)]
    assert _named(classifier(_grey(37))) == []
    all_of_it = Classifier(tagger, thresholds=0.03)
    assert _named(all_of_it(_grey(37))) == [
        ("tag_1", pytest.approx(BETWEEN[0])),
        ("tag_2", pytest.approx(BETWEEN[1])),
    ]
    assert len(all_of_it(_grey(37), top=1).classes) == 1
    assert len(Classifier(tagger, thresholds=0)(_grey(37)).classes) == 10


def test_without_a_label_there_is_no_best_one(tagger):
    results = Classifier(tagger).predict([_grey(37), _grey(50)])
    with pytest.raises(ArgumentError, match="no label reaches"):
        _ = results[0].best
    assert results[1].best.label == "tag_2"
    assert "no label" in repr(results)
    assert "no label" in results._repr_html_()
    assert [row["label"] for row in results.rows()] == [None, "tag_2"]
    assert isinstance(results, Results)
    results.plot()


@pytest.mark.parametrize("wrong", [-0.1, 2, [0.5] * 9, "thresholds.csv"])
def test_wrong_thresholds_are_refused(tagger, wrong):
    with pytest.raises(ArgumentError):
        Classifier(tagger, thresholds=wrong)


def test_classes_that_exclude_one_another_have_no_thresholds(named_weights, tmp_path):
    with pytest.raises(ArgumentError, match="does not say that it is a multi-label model"):
        Classifier(named_weights, thresholds=0.5)
    convert(named_weights, tmp_path / "multi.safetensors", thresholds=0.25, progress=False)
    assert Classifier(tmp_path / "multi.safetensors").labels.thresholds == (0.25,) * 10
    with pytest.raises(ArgumentError, match="no place to say that this is a multi-label"):
        convert(tmp_path / "multi.safetensors", tmp_path / "multi.pth", progress=False)


def test_a_heat_maps_score_is_a_sigmoid(tagger):
    assert Classifier(tagger).explain(_grey(75)).target.probability == pytest.approx(0.5)


def _predict(tagger, paths, *options):
    return main(["predict", *map(str, paths), "--model", str(tagger), *map(str, options)])


@pytest.fixture
def pictures(tmp_path):
    paths = []
    for shade in (25, 37, 50):
        paths.append(tmp_path / f"{shade}.png")
        _grey(shade).save(paths[-1])
    return paths


def test_predict_prints_them_in_every_form(tagger, pictures, capsys):
    assert _predict(tagger, pictures) == 0
    shown = capsys.readouterr().out
    assert "50.0%  tag_1" in shown
    assert "-  no label" in shown
    assert _predict(tagger, pictures, "--jsonl", "--threshold", 0.03) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(row["classes"]) for row in rows] == [1, 2, 1]
    assert _predict(tagger, pictures, "--threshold", 2) == 2
    assert "from 0 to 1" in capsys.readouterr().err


def test_the_csv_of_predict_is_a_table_to_train_on(tagger, pictures, tmp_path):
    out = tmp_path / "out.csv"
    assert _predict(tagger, pictures, "--out", out, "--threshold", 0.03) == 0
    first, one, two, _ = out.read_text().splitlines()
    assert first == "path,labels,probabilities,error"
    assert one.endswith("25.png,tag_1,0.5,")
    assert "tag_1|tag_2,0.0531" in two
    assert open_multi_label(out).has.sum(1).tolist() == [1, 2, 1]
    assert _predict(tagger, pictures, "--out", out, "--threshold", 0.03, "--resume") == 0
    assert len(out.read_text().splitlines()) == 4


def test_a_folder_of_parquet_files_has_lists(tagger, pictures, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert _predict(tagger, pictures, "--out", f"{tmp_path}/out/", "--threshold", 0.03) == 0
    rows = sorted(parquet.read_table(tmp_path / "out").to_pylist(), key=lambda row: row["path"])
    assert [row["labels"] for row in rows] == [["tag_1"], ["tag_1", "tag_2"], ["tag_2"]]
    assert rows[1]["probabilities"] == pytest.approx(list(BETWEEN), rel=1e-5)
    assert "label" not in rows[0]


def test_annotations_are_checked(write_weights, tmp_path):
    info = WeightsInfo(labels=("a", "b"), thresholds=(0.25, 1.0))
    assert WeightsInfo.from_metadata(info.to_metadata()) == info
    for text in ("[0.5, 2]", '"0.5"', "0.5", "[null]"):
        with pytest.raises(WeightsFileError, match="thresholds"):
            WeightsInfo.from_metadata({"convnext.thresholds": text})
    with pytest.raises(WeightsFileError, match="2 thresholds for a head of 10 classes"):
        write_weights(tmp_path / "a.safetensors", thresholds=(0.5, 0.5))


class _Softmax:
    """A model whose classifier ends in a softmax, for `load_weights`."""

    def __init__(self, activation):
        head = type("Head", (), {"name": "head", "weights": [], "activation": activation})
        self.layers = [head]


def test_a_keras_model_that_ends_in_a_softmax_is_not_filled(tagger):
    def softmax(_): ...

    with pytest.raises(WeightsMismatchError, match="classifier_activation='sigmoid'"):
        load_weights(_Softmax(softmax), tagger)


@pytest.mark.parametrize("stored", [None, [0.5, *[0.25] * 9]])
def test_transformers_say_it_by_the_problem_type(tagger, tmp_path, stored):
    with read_weights(tagger) as weights:
        values = {name: tensor.read() for name, tensor in weights.tensors.items()}
    folder = tmp_path / "theirs"
    folder.mkdir()
    save_weights(values, folder / "model.safetensors", layout="huggingface")
    config = {
        "model_type": "convnextv2",
        "hidden_sizes": [int(values[f"stage_{n}_block_0.dwconv.bias"].size) for n in range(4)],
        "depths": [
            len({k for k in values if k.startswith(f"stage_{n}_") and "dwconv.bias" in k})
            for n in range(4)
        ],
        "layer_norm_eps": 1e-6,
        "id2label": dict(enumerate(NAMES)),
    }
    kinds = {"multi_label_classification": (0.5,) * 10, "single_label_classification": None}
    for kind, wanted in kinds.items():
        more = {"problem_type": kind} | ({"thresholds": stored} if stored else {})
        (folder / "config.json").write_text(json.dumps(config | more))
        with read_weights(folder) as weights:
            given = tuple(stored) if stored and wanted else wanted
            assert weights.info.thresholds == given


def test_a_softmax_is_not_exported(tagger, tmp_path):
    from convnext.exports import export

    with pytest.raises(ArgumentError, match="make its labels exclude one another"):
        export(tagger, tmp_path / "a.onnx", softmax=True)
