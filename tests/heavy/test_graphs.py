"""Graphs answer as our Keras model and as timm's on real pictures, whatever the variant and size.

Nothing here depends on the Keras backend, so it runs on one.
"""

from __future__ import annotations

import keras
import pytest

from convnext import create_convnext_v1, create_convnext_v2
from convnext.architecture import VARIANTS
from convnext.engines import open_engine
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights
from peers import random_weights, relative_error, timm_model, timm_outputs

pytest.importorskip("convnext.graphs.untracked_openvino")
pytest.importorskip("onnxruntime")
if keras.backend.backend() != "torch":
    pytest.skip(
        "no backend makes a difference; torch is the soonest ready", allow_module_level=True
    )

SMALL = [
    pytest.param(f"{family}_{size}", marks=[] if size == "atto" else pytest.mark.slow)
    for family in ("convnext", "convnextv2")
    for size in ("atto", "femto", "pico", "nano", "tiny")
]
OUTPUTS = ("logits", "embedding", "stage_0", "stage_1", "stage_2", "stage_3")
AS_TIMM_CALLS_THEM = dict(zip(OUTPUTS, ("head", "head_norm", *OUTPUTS[2:]), strict=True))
TOLERANCE = 1e-4  # of the largest value


def as_read(weights):
    """Weights as a file would give them."""
    shapes = {name: array.shape for name, array in weights.items()}
    tensors = {name: LazyTensor.from_array(array) for name, array in weights.items()}
    return CanonicalWeights(tensors, recognise(shapes, "convnext"), WeightsInfo(), "a test")


def runtimes(weights, **options):
    return [
        open_engine(as_read(weights), name, precision="float32", threads=1, **options)
        for name in ("openvino", "onnxruntime")
    ]


def by_keras(weights, **options):
    return open_engine(as_read(weights), "keras", **options)


@pytest.mark.upstream
@pytest.mark.parametrize("name", SMALL)
def test_every_output_as_timm_gives_it(name, photos):
    """And so as our Keras model does, which is compared with timm's elsewhere."""
    weights, batch = random_weights(VARIANTS[name], 100), photos(128, 1)
    theirs = timm_model(VARIANTS[name], weights, 100)
    expected = timm_outputs(theirs, normalise(batch, Preprocess()))
    for engine in runtimes(weights, size=128, outputs=OUTPUTS):
        for output, values in engine.predict_all(batch).items():
            assert relative_error(values, expected[AS_TIMM_CALLS_THEM[output]]) < TOLERANCE


@pytest.mark.upstream
@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto"])
def test_odd_sizes_and_sizes_that_vary(name, photos):
    weights = random_weights(VARIANTS[name])
    theirs = timm_model(VARIANTS[name], weights)
    varying, fixed = runtimes(weights, any_size=True), runtimes(weights, size=129)
    for batch in (photos(129, 2), photos(97, 5)[:, :70]):
        expected = timm_outputs(theirs, normalise(batch, Preprocess()))["head"]
        for engine in varying + fixed * (batch.shape[1] == 129):
            assert relative_error(engine.predict(batch), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_every_output_as_keras_gives_it_where_strides_are_relaxed_and_where_not(name, photos):
    weights = random_weights(VARIANTS[name])
    for side in (32, 48, 64, 96, 224):
        batch = photos(side, 1)
        expected = by_keras(weights, size=side, outputs=OUTPUTS).predict_all(batch)
        for engine in runtimes(weights, size=side, outputs=OUTPUTS):
            for output, values in engine.predict_all(batch).items():
                assert relative_error(values, expected[output]) < TOLERANCE, (side, output)


def test_large_batches(photos):
    weights, batch = random_weights(VARIANTS["test_v2"]), photos(32, 33)
    expected = by_keras(weights, size=32).predict(batch)
    for engine in runtimes(weights, size=32):
        for count in (5, 16, 33):
            assert relative_error(engine.predict(batch[:count]), expected[:count]) < TOLERANCE


@pytest.mark.parametrize("create", [create_convnext_v1, create_convnext_v2])
def test_a_keras_model_and_the_graph_of_it(create, photos):
    model = create("test", 10, (48, 64, 3), classifier_activation=None)
    batch = normalise(photos(64, 2)[:, :48], Preprocess())
    expected = model.predict_on_batch(batch)
    for name in ("openvino", "onnxruntime"):
        engine = open_engine(model, name, precision="float32", input="float32")
        assert relative_error(engine.predict(batch), expected) < TOLERANCE
