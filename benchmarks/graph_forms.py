"""Times the forms in which an OpenVINO graph can be written: the same answers, other operators.

    python benchmarks/graph_forms.py convnext_tiny
    python benchmarks/graph_forms.py convnextv2_atto --precision float32 --batch 4

Each form replaces one function of `convnext.graphs.openvino`. The graphs take turns in one process;
what counts is the ratio in a round, its median and 95 % interval. Weights are random.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from turns import add_limits, limits, ratio_of, take_turns

from convnext.architecture import VARIANTS
from convnext.graphs import openvino as graphs
from convnext.graphs.network import Network
from convnext.graphs.untracked_openvino import op, ov
from convnext.processors import available_processors
from convnext.steps import GRN, Linear, Norm
from convnext.weights.canonical import parameter_shapes
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights

TYPES = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16, "float16": ov.Type.f16}
GELU = op.gelu
AS_BUILT = dict(graphs.EMITTERS)
Node = Any


def random_network(name: str) -> Network:
    shapes = parameter_shapes(VARIANTS[name])
    rng = np.random.default_rng(0)
    tensors = {}
    for parameter, shape in shapes.items():
        scale = 1 / math.sqrt(math.prod(shape[:-1])) if len(shape) > 1 else 0.5
        values = rng.standard_normal(shape, np.float32) * np.float32(scale)
        tensors[parameter] = LazyTensor.from_array(values)
    return Network.of_weights(
        CanonicalWeights(tensors, recognise(shapes, "convnext"), WeightsInfo(), name)
    )


def ints(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))


def number(value: float) -> Node:
    return op.constant(np.float32(value))


def norm_by_reductions(x: Node, channels: int) -> Node:
    centred = op.subtract(x, op.reduce_mean(x, ints(1), keep_dims=True))
    variance = op.reduce_mean(op.multiply(centred, centred), ints(1), keep_dims=True)
    deviation = op.power(op.add(variance, number(1e-6)), number(-0.5))
    return op.multiply(op.multiply(centred, deviation), number(channels**-0.5))


def norm_by_mvn(x: Node, channels: int) -> Node:
    y = op.mvn(op.transpose(x, ints(0, 2, 3, 1)), ints(-1), True, 1e-6, "inside_sqrt")
    return op.multiply(op.transpose(y, ints(0, 3, 1, 2)), number(channels**-0.5))


def product_by_matmul(x: Node, linear: Any) -> Node:
    y = op.matmul(op.transpose(x, ints(0, 2, 3, 1)), op.constant(linear.kernel), False, False)
    return op.transpose(op.add(y, op.constant(linear.bias)), ints(0, 3, 1, 2))


def product_of_matrices(x: Node, linear: Any) -> Node:
    """For fixed sides only."""
    sides = [x.output(0).get_partial_shape()[axis].get_length() for axis in (2, 3)]
    matrix = op.reshape(op.transpose(x, ints(0, 2, 3, 1)), ints(-1, len(linear.kernel)), False)
    y = op.add(
        op.matmul(matrix, op.constant(linear.kernel), False, False), op.constant(linear.bias)
    )
    y = op.reshape(y, ints(-1, *sides, len(linear.bias)), False)
    return op.transpose(y, ints(0, 3, 1, 2))


def gelu_by_erf(x: Node, _mode: str) -> Node:
    half = op.multiply(x, number(0.5))
    return op.multiply(half, op.add(op.erf(op.multiply(x, number(0.5**0.5))), number(1)))


def grn_of(length: Callable[[Node], Node]) -> Callable[[Node, Any], Node]:
    def grn(x: Node, gamma: Any) -> Node:
        found = length(x)
        mean = op.add(op.reduce_mean(found, ints(1), keep_dims=True), number(1e-6))
        factor = op.multiply(op.divide(found, mean), op.constant(gamma.reshape(1, -1, 1, 1)))
        return op.multiply(x, op.add(factor, number(1)))

    return grn


def length_by_sum(x: Node) -> Node:
    return op.sqrt(op.reduce_sum(op.multiply(x, x), ints(2, 3), keep_dims=True))


def length_by_pooling(x: Node) -> Node:
    """For fixed sides only."""
    sides = [x.output(0).get_partial_shape()[axis].get_length() for axis in (2, 3)]
    pooled = op.avg_pool(op.multiply(x, x), [1, 1], [0, 0], [0, 0], sides, False)
    return op.multiply(op.sqrt(pooled), number(math.sqrt(math.prod(sides))))


def emitting_norm(form: Callable[[Node, int], Node]) -> Callable[[Any, Node, Any], Node]:
    """A function for norms of maps, whose form gives them divided by the root of the channels."""

    def norm(emitter: Any, x: Node, node: Any) -> Node:
        if emitter.pooled:
            return AS_BUILT[Norm](emitter, x, node)
        emitter.factors[node.step.name] = math.sqrt(node.step.width)
        return emitter._scaled(form(x, node.step.width), node.affine, node.step)

    return norm


def emitting_linear(form: Callable[[Node, Any], Node]) -> Callable[[Any, Node, Any], Node]:
    def linear(emitter: Any, x: Node, node: Any) -> Node:
        if emitter.pooled:
            return AS_BUILT[Linear](emitter, x, node)
        return form(x, emitter._rescaled(node))

    return linear


def emitting_grn(form: Callable[[Node, Any], Node]) -> Callable[[Any, Node, Any], Node]:
    return lambda _emitter, x, node: form(x, node.gamma)


# form: (what of graphs.openvino is replaced, with what, whether the answers stay the same)
FORMS: dict[str, tuple[Any, Any, bool]] = {
    "as built": ("_ints", ints, True),
    "any number of pictures": ("_ints", ints, True),
    "stem: kernel of 4 x 4, three channels": ("_in_patches", lambda *_: False, True),
    "norm: NormalizeL2": ("_Emitter._takes_matrix", False, True),
    "norm: plain reductions": (Norm, emitting_norm(norm_by_reductions), True),
    "norm: MVN between transposes": (Norm, emitting_norm(norm_by_mvn), True),
    "linear: MatMul, channels last": (Linear, emitting_linear(product_by_matmul), True),
    "linear: MatMul of matrices": (Linear, emitting_linear(product_of_matrices), True),
    "GELU: erf in operators": ("op.gelu", gelu_by_erf, True),
    "GELU: tanh": ("op.gelu", lambda x, _: GELU(x, "tanh"), False),
    "GELU: ReLU in its place": ("op.gelu", lambda x, _: op.relu(x), False),
    "GRN: squares, sum, root": (GRN, emitting_grn(grn_of(length_by_sum)), True),
    "GRN: squares, pooling, root": (GRN, emitting_grn(grn_of(length_by_pooling)), True),
    "GRN: left out": (GRN, emitting_grn(lambda x, _: x), False),
    "setting: threads not pinned": ("settings", {"ENABLE_CPU_PINNING": False}, True),
    "setting: static parts of work": ("settings", {"TBB_PARTITIONER": "STATIC"}, True),
    "setting: throughput, one stream": (
        "settings",
        {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "1"},
        True,
    ),
}


@contextmanager
def written_as(form: str) -> Iterator[None]:
    """The builder with one function replaced."""
    target, replacement, _ = FORMS[form]
    if target == "settings":
        yield
        return
    if isinstance(target, str):
        replaced = patch(f"{graphs.__name__}.{target}", replacement)
    else:
        replaced = patch.dict(graphs.EMITTERS, {target: replacement})
    with replaced:
        yield


def compiled(form: str, network: Network, precision: str, batch: int) -> Any:
    with written_as(form):
        sizes = {} if form == "any number of pictures" else {"batch": batch}
        model = graphs.build(network, **sizes)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": TYPES[precision],
        "INFERENCE_NUM_THREADS": available_processors(),
        **(FORMS[form][1] if FORMS[form][0] == "settings" else {}),
    }
    return ov.Core().compile_model(model, "CPU", settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("variant", choices=VARIANTS, metavar="variant")
    parser.add_argument("--precision", choices=TYPES, default="float32")
    parser.add_argument("--batch", type=int, default=1)
    add_limits(parser)
    args = parser.parse_args()
    network = random_network(args.variant)
    grn = VARIANTS[args.variant].has_grn
    forms = [form for form in FORMS if grn or not form.startswith("GRN")]
    requests = {
        form: compiled(form, network, args.precision, args.batch).create_infer_request()
        for form in forms
    }
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (args.batch, 224, 224, 3), np.uint8)
    expected = requests["as built"].infer([pictures])[0].copy()

    def turn(form: str, _number: int) -> float:
        requests[form].infer([pictures])  # its own weights into the cache
        start = time.perf_counter()
        answers = requests[form].infer([pictures])[0]
        seconds = time.perf_counter() - start
        if FORMS[form][2] and args.precision == "float32":
            np.testing.assert_allclose(answers, expected, atol=1e-4 * np.abs(expected).max())
        return seconds

    times = take_turns([partial(turn, form) for form in forms], limits(args))
    print(f"| {args.variant}, {args.precision}, batch {args.batch} | median ms | to as built |")
    print("| --- | --- | --- |")
    for form, taken in zip(forms, times, strict=True):
        print(f"| {form} | {1e3 * statistics.median(taken):.2f} | {ratio_of(taken, times[0])} |")


if __name__ == "__main__":
    main()
