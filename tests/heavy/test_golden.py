"""Our Keras model answers as the libraries did, on every backend, and they still answer so."""

from __future__ import annotations

import numpy as np
import pytest

from contracts import assert_close
from convnext.engines import open_engine
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


def first_on_torch(names, everywhere):
    return [n if n in everywhere else pytest.param(n, marks=pytest.mark.torch_first) for n in names]


@pytest.mark.parametrize("trait", first_on_torch(TRAITS, {"grn", "silu, kernels", "overlap_act"}))
def test_a_network_with_a_trait(trait):
    expected = expected_outputs(trait)
    opened = open_engine(as_read(trait), "keras", outputs=tuple(expected), **OPTIONS)
    for output, values in opened.predict_all(pictures()).items():
        assert_close(values, expected[output])


@pytest.mark.parametrize("name", first_on_torch(STRIDES, {"output stride 8"}))
def test_a_network_with_dilated_convolutions(name):
    options = OPTIONS | {"output_stride": STRIDES[name]}
    opened = open_engine(as_read("usual"), "keras", outputs=("logits", "stage_3"), **options)
    found = opened.predict_all(pictures())
    assert_close(found["logits"], expected_outputs(name)["logits"])
    assert found["stage_3"].shape[1:3] == (SIDE // STRIDES[name],) * 2


@pytest.mark.torch_alone
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_library(name):
    opened = open_engine(FOLDER / name, "keras", **OPTIONS)
    assert_close(opened.predict(pictures()), expected_outputs(name)["logits"])


@pytest.mark.upstream
@pytest.mark.torch_alone
def test_the_libraries_answer_so_today(tmp_path):
    from golden import make

    found = make.compute(tmp_path)
    with np.load(FOLDER / "outputs.npz") as file:
        assert found.keys() == set(file)
        for key, values in found.items():
            assert_close(values, file[key])
