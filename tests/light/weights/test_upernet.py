"""Segmentation weights in files: what files say besides tensors, and what transformers needs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from convnext.architecture import ARCHITECTURES
from convnext.errors import ArgumentError, WeightsFileError, WeightsMismatchError
from convnext.images.recipe import SEGMENTATION
from convnext.segmentation import SegmentationHead
from convnext.weights.beside import Beside, companions, read_beside
from convnext.weights.canonical import parameter_shapes
from convnext.weights.files import LazyTensor, write_weights
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise, to_foreign
from convnext.weights.load import load_weights, read_weights
from convnext.weights.random_weights import random_weights
from convnext.weights.save import convert, save_weights

V1, V2 = ARCHITECTURES["test_v1"], ARCHITECTURES["test_v2"]
UPERNET = SegmentationHead("upernet", 8, auxiliary=4)
HEADS = {"upernet": UPERNET, "mlp": SegmentationHead("mlp", 8)}
CONFIG = {
    "model_type": "upernet",
    "backbone_config": {
        "model_type": "convnextv2",
        "depths": list(V2.depths),
        "hidden_sizes": list(V2.dims),
        "layer_norm_eps": 1e-12,
    },
    "hidden_size": 8,
    "id2label": {"0": "sky", "1": "tree", "2": "road"},
}
PROCESSOR = {
    "size": {"height": 96, "width": 96},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}


def write(folder, config=CONFIG, processor=PROCESSOR):
    for name, content in (("config.json", config), ("preprocessor_config.json", processor)):
        (folder / name).write_text(json.dumps(content), "utf-8")
    return folder


def weights(head=UPERNET, architecture=V2, classes=3):
    return random_weights(architecture, classes, segmentation=head)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_file_tells_its_head_its_classes_and_its_task(tmp_path, head):
    path = tmp_path / "a.safetensors"
    info = WeightsInfo(labels=("sky", "tree", "road"))
    save_weights(weights(head), path, info=info)
    with read_weights(path) as read:
        assert (read.found.segmentation, read.num_classes) == (head, 3)
        assert read.info == replace(info, task="segmentation")
        assert read.recipe == SEGMENTATION, "as published, since the file does not say"
        assert read.found.kind == f"segmentation model of 3 classes ({head.kind})"


def test_as_many_labels_as_classes(tmp_path):
    with pytest.raises(WeightsFileError, match="2 labels for a head of 3 classes"):
        save_weights(weights(), tmp_path / "a.safetensors", info=WeightsInfo(labels=("a", "b")))


def test_the_config_of_transformers(tmp_path):
    found = read_beside(write(tmp_path))
    assert found.num_classes == 3
    assert found.info.labels == ("sky", "tree", "road")
    assert (found.info.task, found.info.bins) == ("segmentation", None)
    assert found.info.preprocess == replace(
        SEGMENTATION, size=96, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    assert found.architecture.is_usual, "there is no norm after pooling with that epsilon"
    assert found.architecture.same_encoder(V2)
    assert companions(tmp_path / "config.json") == ("preprocessor_config.json",)


def test_the_config_of_a_upernet_on_another_encoder(tmp_path):
    write(tmp_path, CONFIG | {"backbone_config": {"model_type": "swin"}})
    with pytest.raises(WeightsFileError, match="its backbone is 'swin', which is no ConvNeXt"):
        read_beside(tmp_path)
    with pytest.raises(WeightsFileError, match="that of 'upernet', which is no ConvNeXt"):
        companions(tmp_path / "config.json")


def test_other_classes_in_the_config_than_in_the_weights(tmp_path):
    save_weights(weights(classes=4), tmp_path / "a.pth", layout="huggingface")
    write(tmp_path)
    with (
        pytest.raises(WeightsMismatchError, match="says 3 classes, and their classifier has 4"),
        read_weights(tmp_path / "a.pth"),
    ):
        pass


@pytest.mark.parametrize("bins", [(1, 2, 4, 8), (2, 5), (8, 7, 6, 5, 4, 3, 2, 1)])
def test_grids_of_pooled_context_come_from_the_config_and_stay_in_our_file(tmp_path, bins):
    head = replace(UPERNET, bins=bins)
    write(tmp_path, CONFIG | {"pool_scales": list(bins)})
    theirs, ours, again = (tmp_path / name for name in ("a.pth", "b.safetensors", "c.safetensors"))
    foreign = to_foreign(weights(head), "huggingface", V2)
    write_weights(theirs, {name: LazyTensor.of(array) for name, array in foreign.items()})
    convert(theirs, ours)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).unlink()
    convert(ours, again, to_layout="mmpretrain")
    for path in (ours, again):
        with read_weights(path) as read:
            assert read.found.segmentation == head
            assert read.info.bins == bins
    for layout in ("convnext", "facebook"):
        with pytest.raises(ArgumentError, match=r"\.pth file has no place for the grids"):
            convert(ours, tmp_path / "d.pth", to_layout=layout)


def test_another_number_of_grids_must_be_stated():
    shapes = parameter_shapes(V2, 3, segmentation=replace(UPERNET, bins=(1, 2, 4)))
    with pytest.raises(WeightsMismatchError, match=r"to 3 grids, and not to 4, 1, 2, 3, 6\."):
        recognise(shapes)
    assert recognise(shapes, bins=(1, 2, 4)).segmentation.bins == (1, 2, 4)


@pytest.mark.parametrize("bins", [[0], "1236", [1, 2, 3, 6000]])
def test_impossible_grids_are_refused(tmp_path, bins):
    with pytest.raises(WeightsFileError, match="grids of pooled context"):
        read_beside(write(tmp_path, CONFIG | {"pool_scales": bins}))
    with pytest.raises(WeightsFileError, match=r"'convnext\.bins' cannot be understood"):
        WeightsInfo.from_metadata({"convnext.bins": json.dumps(bins)})


def test_a_missing_tensor_is_named():
    shapes = parameter_shapes(V2, 3, segmentation=UPERNET)
    del shapes["segment_smooth_1_norm.moving_mean"]
    with pytest.raises(WeightsMismatchError, match=r"missing \(1\):\n    segment_smooth_1_norm"):
        recognise(shapes)
    shapes = parameter_shapes(V2, 3, segmentation=UPERNET)
    shapes["segment_lateral_1_conv.kernel"] = (1, 1, 99, 8)
    with pytest.raises(WeightsMismatchError, match=r"segment_lateral_1_conv.kernel: \(1, 1, 99"):
        recognise(shapes)


@pytest.mark.parametrize("architecture", [V1, V2], ids=lambda row: row.name)
def test_a_folder_for_transformers_is_what_we_read(tmp_path, architecture):
    source, folder = tmp_path / "a.safetensors", tmp_path / "folder"
    recipe = replace(SEGMENTATION, size=64, interpolation="bicubic", mean=(0.1, 0.2, 0.3))
    info = WeightsInfo(labels=("sky", "tree", "road"), preprocess=recipe)
    head = replace(UPERNET, bins=(1, 3, 4, 6))
    report = save_weights(weights(head, architecture), source, info=replace(info, bins=head.bins))
    written = convert(source, folder, to_layout="huggingface", dtype="bfloat16")
    assert (written.path, written.variant) == (folder, report.variant)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "model.safetensors", "preprocessor_config.json"]
    beside = read_beside(folder)
    assert beside.architecture.same_encoder(architecture)
    stated = replace(info, task="segmentation", bins=head.bins)
    assert beside == Beside(beside.architecture, stated, 3)
    config = json.loads((folder / "config.json").read_text())
    assert (config["dtype"], config["auxiliary_channels"]) == ("bfloat16", 4)
    with read_weights(folder) as read:
        assert read.found.segmentation == head
        assert read.architecture.is_usual
    with pytest.raises(ArgumentError, match="exists already"):
        convert(source, folder, to_layout="huggingface")


def test_a_name_without_a_suffix_is_no_folder_for_other_weights(tmp_path, write_weights):
    classifier = write_weights(tmp_path / "a.safetensors")
    with pytest.raises(ArgumentError):
        convert(classifier, tmp_path / "folder", to_layout="huggingface")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


class Variable:
    def __init__(self, name, array):
        self.path, self.array = name.replace(".", "/"), array
        self.shape, self.dtype = array.shape, array.dtype

    def numpy(self):
        return self.array

    def assign(self, array):
        self.array = array


class Layer:
    def __init__(self, name, variables):
        self.name, self.weights = name, variables


class Pooling(Layer):
    def __init__(self, bins):
        super().__init__("pool", ())
        self.bins = bins


class Model:
    """What loading needs of a Keras model."""

    def __init__(self, arrays, bins=()):
        layers = {}
        for name, array in arrays.items():
            layers.setdefault(name.partition(".")[0], []).append(Variable(name, array))
        self.layers = [Layer(name, variables) for name, variables in layers.items()]
        self.layers += [Pooling(number) for number in bins]


def test_a_model_takes_weights_of_its_own_grids_only(tmp_path):
    source = tmp_path / "a.safetensors"
    save_weights(weights(), source)
    load_weights(Model(weights(), UPERNET.bins), source)
    with pytest.raises(WeightsMismatchError, match=r"grids \(1, 2, 3, 6\), the model to \(1, 2, 4"):
        load_weights(Model(weights(), (1, 2, 4, 8)), source)


def test_a_models_grids_are_saved(tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(Model(weights(), (1, 2, 4, 8)), path)
    with read_weights(path) as read:
        assert read.found.segmentation.bins == (1, 2, 4, 8)


def test_a_segmenter_takes_the_encoder_of_a_classifier(tmp_path):
    source = tmp_path / "a.safetensors"
    of_classifier = random_weights(V2, 10, seed=1)
    save_weights(of_classifier, source)
    model = Model(weights(), UPERNET.bins)
    with pytest.raises(WeightsMismatchError, match=r"no segmentation head .* pass head='new'"):
        load_weights(model, source)
    report = load_weights(model, source, head="new")
    assert set(report.fit.filled) == of_classifier.keys() - set(report.fit.unused)
    stem = next(layer for layer in model.layers if layer.name == "stem_conv").weights[0]
    np.testing.assert_array_equal(stem.array, of_classifier["stem_conv.kernel"])
