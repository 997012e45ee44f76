"""The graph answers as the architecture is written, whatever its form."""

import numpy as np
import pytest

untracked = pytest.importorskip("convnext.graphs.untracked_openvino")

from contracts import GraphContract  # noqa: E402
from convnext.architecture import Geometry  # noqa: E402
from convnext.graphs.openvino import build, product  # noqa: E402


def answers(model, pictures):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = untracked.core().compile_model(model, "CPU", settings)
    results = compiled(pictures)
    return {port.get_any_name(): np.array(results[port]) for port in compiled.outputs}


class TestContract(GraphContract):
    def build(self, network, *outputs, **options):
        return build(network, outputs or ("logits",), **options)

    def answers(self, graph, pictures):
        return answers(graph, pictures)


@pytest.mark.parametrize("dilations", [(1, 1, 1, 2), (1, 1, 2, 4), (2, 1, 3, 1)])
def test_dilated_convolutions(oracle, dilations):
    strides = (4, *(2 if dilation == 1 else 1 for dilation in dilations[1:]))
    network = oracle.network("test_v2", 48, geometry=Geometry(strides, dilations))
    TestContract().check(oracle, network, oracle.pictures(network), *network.outputs)


def test_a_fixed_number_of_pictures(oracle):
    model = build(oracle.network(), batch=3)
    assert model.input(0).shape == untracked.ov.Shape([3, 32, 32, 3])
    assert model.input(0).get_any_name() == "pictures"


@pytest.mark.parametrize(("side", "kernel"), [(48, [8, 12, 4, 1]), (50, [8, 3, 4, 4])])
def test_the_stem_reads_columns_as_channels_where_patches_are_whole(oracle, side, kernel):
    network = oracle.network("test_v2", side, geometry=Geometry((4, 2, 2, 1), (1, 1, 1, 1)))
    [stem] = [op for op in build(network).get_ops() if op.get_friendly_name() == "stem_conv"]
    assert list(stem.input(1).get_shape()) == kernel
    TestContract().check(oracle, network, oracle.pictures(network))


def test_norms_have_another_form_with_another_product(oracle):
    network = oracle.network("test_v2", 48)

    def other(x, linear, name):
        return product(x, linear, name)

    def kinds(model):
        return [op.get_type_name() for op in model.get_ops()]

    blocks = 5
    assert kinds(build(network)).count("MVN") == blocks + 1  # of the head
    assert kinds(build(network, product=other)).count("MVN") == 1
    TestContract().check(oracle, network, oracle.pictures(network), product=other)


def test_linear_layers_pass_through_one_function(oracle):
    seen = []

    def watched(x, linear, name):
        seen.append((name, linear.kernel.shape))
        return product(x, linear, name)

    build(oracle.network("test_v2"), product=watched)
    assert seen[:2] == [
        ("stage_0_block_0.pwconv1", (8, 32)),
        ("stage_0_block_0.pwconv2", (32, 8)),
    ]
    assert len(seen) == 2 * 5
