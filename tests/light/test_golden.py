"""Engines answer as timm, transformers, torchvision and Keras did, none of which is needed here."""

from __future__ import annotations

import pytest

from contracts import assert_close
from convnext.engines import open_engine
from convnext.engines.opening import ENGINES
from convnext.weights.load import read_weights
from golden.networks import (
    FILES,
    FOLDER,
    SIDE,
    STRIDES,
    TRAITS,
    as_read,
    expected_outputs,
    pictures,
)

OPTIONS = {"precision": "float32", "input": "float32", "size": SIDE}


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request):
    if not ENGINES[request.param].installed():
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.mark.parametrize("trait", TRAITS)
def test_a_network_with_a_trait(engine, trait):
    expected = expected_outputs(trait)
    opened = open_engine(as_read(trait), engine, outputs=tuple(expected), **OPTIONS)
    for output, values in opened.predict_all(pictures()).items():
        assert_close(values, expected[output])


@pytest.mark.parametrize("name", STRIDES)
def test_a_network_with_dilated_convolutions(engine, name):
    opened = open_engine(as_read("usual"), engine, output_stride=STRIDES[name], **OPTIONS)
    assert_close(opened.predict(pictures()), expected_outputs(name)["logits"])


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_library(engine, name):
    with read_weights(FOLDER / name) as weights:
        assert weights.layout == FILES[name]
        opened = open_engine(weights, engine, **OPTIONS)
    assert_close(opened.predict(pictures()), expected_outputs(name)["logits"])
