"""Saving and converting: exact, checked, complete or not there."""

from dataclasses import dataclass
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    UnknownNameError,
    WeightsError,
    WeightsMismatchError,
)
from convnext.images.recipe import Preprocess
from convnext.weights import save
from convnext.weights.canonical import parameter_shapes
from convnext.weights.files import open_weights
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights
from convnext.weights.save import convert, save_weights

V1 = VARIANTS["test_v1"]
INFO = WeightsInfo(licence="MIT", labels=("a", "b"), preprocess=Preprocess(size=64))
FILES = [
    ("convnext", "w.safetensors"),
    ("facebook", "w.pth"),
    ("huggingface", "model.safetensors"),
    ("timm", "w.npz"),
    ("torchvision", "w.pt"),
    ("keras_applications", "w.h5"),
    ("kecam", "w.h5"),
]


@dataclass
class Variable:
    path: str
    value: np.ndarray

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: str(self.value.dtype))

    def numpy(self):
        return self.value


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(V1, 2)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def read_back(path):
    with read_weights(path) as read:
        return {name: tensor.read().copy() for name, tensor in read.tensors.items()}


def assert_same(one, other):
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


@pytest.mark.parametrize(("layout", "file"), FILES)
def test_saved_weights_are_read_back_equal(tmp_path, weights, layout, file):
    report = save_weights(weights, tmp_path / file, layout=layout)
    assert_same(read_back(tmp_path / file), weights)
    assert (report.variant, report.layout, report.tensors) == (V1, layout, len(weights))
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(("layout", "file"), FILES)
def test_converted_weights_are_equal_after_two_conversions(tmp_path, weights, layout, file):
    first, second, third = (tmp_path / name for name in ("a.safetensors", file, "c.safetensors"))
    save_weights(weights, first)
    convert(first, second, to_layout=layout, progress=False)
    convert(second, third, from_layout=layout)
    assert_same(read_back(third), weights)


def test_a_model_is_saved_by_its_variables(tmp_path, weights):
    layers = [
        SimpleNamespace(
            name=layer,
            weights=[
                Variable("model/" + name.replace(".", "/"), array)
                for name, array in weights.items()
                if name.partition(".")[0] == layer
            ],
        )
        for layer in reversed(dict.fromkeys(name.partition(".")[0] for name in weights))
    ]
    save_weights(SimpleNamespace(layers=layers), tmp_path / "w.safetensors")
    assert_same(read_back(tmp_path / "w.safetensors"), weights)


def test_something_that_is_no_convnext_is_not_saved(tmp_path):
    with pytest.raises(WeightsMismatchError, match="no ConvNeXt layout"):
        save_weights({"dense.kernel": np.zeros((2, 2))}, tmp_path / "w.safetensors")


def test_something_that_is_no_model_is_not_saved(tmp_path):
    with pytest.raises(ArgumentTypeError, match="a Keras model of ours, not str"):
        save_weights("x", tmp_path / "w.safetensors")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_to_the_nearest(tmp_path, weights, dtype):
    save_weights(weights, tmp_path / "w.safetensors", dtype=dtype, layout="timm")
    expected = {n: a.astype(getattr(ml_dtypes, dtype, np.float16)) for n, a in weights.items()}
    assert_same(read_back(tmp_path / "w.safetensors"), expected)
    convert(tmp_path / "w.safetensors", tmp_path / "x.safetensors", dtype="float32")
    back = {name: array.astype(np.float32) for name, array in expected.items()}
    assert_same(read_back(tmp_path / "x.safetensors"), back)


def test_a_weight_too_large_for_a_type_is_an_error_and_no_file(tmp_path, weights):
    weights["head.bias"][0] = 70_000
    with pytest.raises(ArgumentError, match=r"7e\+04 is too large for float16\. Allowed: bfl"):
        save_weights(weights, tmp_path / "w.safetensors", dtype="float16")
    assert not list(tmp_path.iterdir())
    save_weights(weights, tmp_path / "w.safetensors", dtype="bfloat16")


def test_facts_ride_along_where_there_is_room(tmp_path, weights):
    report = save_weights(weights, tmp_path / "a.safetensors", info=INFO)
    assert "Licence of the weights: MIT" in str(report)
    convert(tmp_path / "a.safetensors", tmp_path / "b.h5", to_layout="kecam")
    convert(tmp_path / "b.h5", tmp_path / "c.safetensors", to_layout="huggingface")
    with read_weights(tmp_path / "c.safetensors") as read:
        assert read.info == INFO
    report = convert(tmp_path / "c.safetensors", tmp_path / "d.pth")
    assert "A .pth file has no place for what else is known" in str(report)
    with read_weights(tmp_path / "d.pth") as read:
        assert read.info == WeightsInfo()


def test_labels_are_as_many_as_classes(tmp_path, weights):
    with pytest.raises(WeightsError, match="3 labels for a head of 2 classes"):
        save_weights(weights, tmp_path / "w.safetensors", info=WeightsInfo(labels=("a", "b", "c")))
    assert not list(tmp_path.iterdir())


def test_files_are_as_their_libraries_write_them(tmp_path, weights):
    save_weights(weights, tmp_path / "a.pth", layout="facebook")
    save_weights(weights, tmp_path / "b.safetensors", layout="huggingface")
    with open_weights(tmp_path / "a.pth") as file:
        assert all(name.startswith("model.") for name in file.tensors)
    with open_weights(tmp_path / "b.safetensors") as file:
        assert file.metadata["format"] == "pt"


def test_a_file_that_comes_back_different_does_not_replace_a_good_one(
    tmp_path, weights, monkeypatch
):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"precious")

    def on_a_bad_disk(temporary, *arguments):
        content = bytearray(temporary.read_bytes())
        content[-1] ^= 1
        temporary.write_bytes(content)
        verify(temporary, *arguments)

    verify = save._verify
    monkeypatch.setattr(save, "_verify", on_a_bad_disk)
    with pytest.raises(WeightsError, match="is not in the file as it was written"):
        save_weights(weights, path)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_can_be_converted_onto_itself(tmp_path, weights):
    path = tmp_path / "w.safetensors"
    save_weights(weights, path)
    convert(path, path, to_layout="timm")
    with read_weights(path) as read:
        assert read.layout == "timm"


def test_a_folder_is_not_written_over(tmp_path, weights):
    with pytest.raises(ArgumentError, match="is a folder"):
        save_weights(weights, tmp_path)


def test_a_folder_that_is_a_file_is_said_to_be_none(tmp_path, weights):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written: Not a directory"):
        save_weights(weights, tmp_path / "file" / "w.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "keras"}, "Unknown layout: 'keras'"),
        ({"layout": "tf_hub"}, "cannot be written in the layout 'tf_hub'"),
        ({"layout": "timm", "path": "w.h5"}, r"--to keras_applications, V1\) or kecam"),
        ({"path": "w.xyz"}, r"Unknown format for w\.xyz: '\.xyz'"),
        ({"dtype": "int8"}, "Unknown float type: 'int8'.*float32, float16, bfloat16"),
    ],
)
def test_invalid_options_of_saving_are_refused(tmp_path, weights, options, message):
    path = tmp_path / options.pop("path", "w.safetensors")
    with pytest.raises((ArgumentError, UnknownNameError), match=message):
        save_weights(weights, path, **options)


@pytest.mark.upstream
def test_keras_applications_loads_what_was_written_for_it(tmp_path, weights):
    from keras.src.applications.convnext import ConvNeXt

    def build():
        return ConvNeXt(
            depths=V1.depths,
            projection_dims=V1.dims,
            weights=None,
            classes=2,
            input_shape=(64, 64, 3),
            name="test_v1",
        )

    save_weights(weights, tmp_path / "w.h5", layout="keras_applications")
    model = build()
    model.load_weights(tmp_path / "w.h5")
    for variable, (name, array) in zip(model.weights, weights.items(), strict=True):
        ours = array.swapaxes(2, 3) if name.endswith("dwconv.kernel") else array
        np.testing.assert_array_equal(variable.numpy(), ours, err_msg=name, strict=True)
    model.save_weights(tmp_path / "new.weights.h5")
    assert_same(read_back(tmp_path / "new.weights.h5"), weights)


@pytest.mark.upstream
def test_torch_and_transformers_load_what_was_written_for_them(tmp_path, weights):
    import torch
    import transformers

    config = transformers.ConvNextConfig(depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 24, 32])
    transformers.ConvNextForImageClassification(config).save_pretrained(tmp_path)
    save_weights(weights, tmp_path / "model.safetensors", layout="huggingface")
    model = transformers.ConvNextForImageClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(model.classifier.weight.detach(), weights["head.kernel"].T)
    save_weights(weights, tmp_path / "w.pth", layout="facebook")
    state = torch.load(tmp_path / "w.pth", weights_only=True)["model"]
    np.testing.assert_array_equal(state["head.weight"], weights["head.kernel"].T)
