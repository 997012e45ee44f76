"""Others run the same weights to the answers of our engine: a race compares like with like."""

from __future__ import annotations

import os
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("openvino")

from contracts import contender_answers
from convnext.bench.material import write_calibration, write_material, write_weights
from convnext.bench.peers import ADAPTERS
from convnext.bench.runners import open_ours
from convnext.graphs.agreement import agreement
from convnext.images.generated import generated_pictures

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
BACKEND = keras.backend.backend()
ON_TORCH = (
    "timm",
    "transformers",
    "openvino-export:latency",
    "openvino-export:throughput",
    "onnxruntime-export",
)
SIDE = 128  # the least at which strides are as published
PICTURES = generated_pictures(4, SIDE)


@pytest.fixture(autouse=True)
def _own_threads():
    """Peers take a process for themselves: threads and processors are given back here.

    PyTorch adds in another order with other threads, and tests that come later compare bits.
    """
    torch = sys.modules.get("torch")
    threads = torch and torch.get_num_threads()
    bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    yield
    if bound:
        os.sched_setaffinity(0, bound)
    if threads:
        torch.set_num_threads(threads)


def material_of(variant, folder):
    model = write_weights(variant, folder, random=True, size=SIDE)
    layouts = ("timm", "huggingface", "keras_applications")
    return write_material(folder, model, PICTURES, layouts)


@pytest.mark.skipif(BACKEND != "torch", reason="peers on PyTorch do not depend on Keras's backend")
@pytest.mark.parametrize("variant", [pytest.param("test_v1", marks=pytest.mark.slow), "test_v2"])
@pytest.mark.parametrize("peer", ON_TORCH)
def test_peers_on_pytorch(peer, variant, tmp_path):
    if peer == "onnxruntime-export":
        pytest.importorskip("onnxruntime")
    material = material_of(variant, tmp_path)
    ours = contender_answers(open_ours, material, "openvino")
    theirs = contender_answers(ADAPTERS[peer], material, peer)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(ours).max()


@pytest.mark.skipif(BACKEND != "torch", reason="peers on PyTorch do not depend on Keras's backend")
def test_openvinos_own_int8(tmp_path):
    pytest.importorskip("nncf")
    material = material_of("test_v1", tmp_path)
    write_calibration(material, generated_pictures(6, SIDE, seed=1))
    exact = contender_answers(open_ours, material, "openvino")
    for opener, name in (
        (open_ours, "openvino"),
        (ADAPTERS["openvino-export:latency"], "openvino-export:latency"),
    ):
        assert agreement(contender_answers(opener, material, name, "int8"), exact).decibels > 5


@pytest.mark.torch_first
def test_keras_applications_on_this_backend(tmp_path):
    material = material_of("convnext_tiny", tmp_path)
    name = f"keras.applications:{BACKEND}"
    ours = contender_answers(open_ours, material, "openvino")
    theirs = contender_answers(ADAPTERS[name], material, name)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(ours).max()
