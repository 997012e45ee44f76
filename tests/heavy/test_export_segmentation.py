"""Files of segmentation models that Keras writes, run by their own runtimes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import convnext
from convnext.architecture import VARIANTS
from convnext.engines import open_engine
from convnext.images.generated import generated_pictures
from convnext.nn.segmenter import build_segmenter
from convnext.segmentation import SegmentationHead
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights
from peers import fill, relative_error

SIDE, CLASSES = 64, 5
HEADS = {"upernet": SegmentationHead(width=16), "mlp": SegmentationHead("mlp", width=16)}
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


@pytest.fixture(params=["upernet", pytest.param("mlp", marks=pytest.mark.slow)])
def weights(request, tmp_path):
    head, path = HEADS[request.param], tmp_path / "weights.safetensors"
    save_weights(random_weights(VARIANTS["test_v2"], CLASSES, segmentation=head), path)
    return path


def by_litert(path, batch):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_path=str(path))
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], batch)
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])


def by_tensorflow(path, batch):
    tensorflow = pytest.importorskip("tensorflow")
    signature = tensorflow.saved_model.load(str(path)).signatures["serving_default"]
    return signature(images=tensorflow.constant(batch))["segmentation"].numpy()


def by_keras(path, batch):
    return keras.saving.load_model(path).predict_on_batch(batch)


RUN = {"a.keras": by_keras} | (
    {"a.tflite": by_litert, "a.tgz": by_tensorflow} if ON_TENSORFLOW else {}
)


def unpacked(path):
    import shutil

    folder = path.with_suffix("")
    shutil.unpack_archive(path, folder, "gztar", filter="data")
    return folder


@pytest.mark.parametrize("name", RUN)
def test_the_file_gives_the_scores_of_each_pixel(name, weights, tmp_path):
    path = tmp_path / name
    report = convnext.export(weights, path, resolution=SIDE, with_preprocessing=True)
    assert report.verdict.agreement.top1 == 1
    pixels = generated_pictures(2, SIDE)
    engine = open_engine(weights, "keras", size=SIDE, outputs="segmentation", precision="float32")
    expected = engine.predict(pixels)
    found = RUN[name](
        unpacked(path) if name == "a.tgz" else path,
        pixels.astype(np.float32) if name != "a.tflite" else pixels,
    )
    assert found.shape == (2, SIDE, SIDE, CLASSES)
    assert relative_error(found, expected) < 1e-4


@pytest.mark.torch_alone
@pytest.mark.parametrize("name", ["a.onnx", "a.xml"])
def test_a_keras_model_and_its_file(name, tmp_path):
    head = SegmentationHead(width=16, auxiliary=8)
    model = build_segmenter(VARIANTS["test_v2"], head, CLASSES, input_shape=(SIDE, SIDE, 3))
    fill(model, random_weights(VARIANTS["test_v2"], CLASSES, segmentation=head))
    report = convnext.export(model, tmp_path / name)
    assert report.judge == "the Keras model"
    assert report.verdict.good
