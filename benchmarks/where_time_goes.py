"""Where a graph's time goes, and how far it is from what the machine could do.

The peak is a matrix product of 2048 x 2048 in the same precision, run by OpenVINO in the same
rounds: what this machine multiplies at best. A model's share of it is its multiplications, over its
time, over the peak: the median of the rounds' shares, with its 95 % interval.

    python benchmarks/where_time_goes.py convnext_tiny --precision bfloat16
    python benchmarks/where_time_goes.py convnext_tiny convnextv2_atto --precision int8 --batch 4

Operators are grouped by what they are; profiling slows the graph a little, so only their shares
are shown. Weights are random.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from turns import Until, add_limits, limits, ratio_of, timed, times_of

from convnext.architecture import VARIANTS
from convnext.bench.material import write_weights
from convnext.graphs.network import Network
from convnext.graphs.openvino import build, product
from convnext.graphs.untracked_openvino import core, op, ov
from convnext.images.generated import generated_pictures
from convnext.int8.openvino import calibrate, rounded
from convnext.processors import available_processors
from convnext.weights.load import read_weights

SIDE = 2048  # of the matrices
HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "bf16"}
GROUPS = {  # of operators, by what their name has in it
    "linear layers": (".pwconv",),
    "depthwise convolutions": (".dwconv",),
    "stem, downsamplings, head": ("stem", "downsample", "head"),
}
REST = "norms, GRN, sums, moves"


def compiled(model: ov.Model, precision: str, **settings: object) -> Any:
    chosen = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": available_processors(),
        "PERFORMANCE_HINT": "LATENCY",
        **settings,
    }
    return core().compile_model(model, "CPU", chosen)


def matrix_product(precision: str) -> Callable[[], object]:
    """A product of the machine's best size; its inputs are rounded once, outside of what counts."""
    rng = np.random.default_rng(0)
    left = op.parameter([SIDE, SIDE], np.uint8 if precision == "int8" else np.float32)
    kernel = rng.standard_normal((SIDE, SIDE), np.float32)
    if precision == "int8":
        x = op.convert(left, np.float32)
        x = op.fake_quantize(x, *(op.constant(np.float32(v)) for v in (0, 255, 0, 255)), 256)
        whole = op.constant(np.rint(kernel * 40).clip(-127, 127).astype(np.int8))
        weights = op.multiply(op.convert(whole, np.float32), op.constant(np.float32(0.025)))
    else:
        x, weights = left, op.constant(kernel)
    model = ov.Model([op.matmul(x, weights, False, True)], [left], "peak")
    request = compiled(model, precision).create_infer_request()
    array = rng.integers(0, 255, (SIDE, SIDE)).astype(model.inputs[0].get_element_type().to_dtype())
    return lambda: request.infer([array], share_inputs=True)


def network_run(model: ov.Model, precision: str, pixels: np.ndarray) -> Callable[[], object]:
    request = compiled(model, precision).create_infer_request()
    return lambda: request.infer([pixels], share_inputs=True)


def shares(model: ov.Model, precision: str, pixels: np.ndarray, calls: int) -> dict[str, float]:
    """Of the time in operators, by group."""
    request = compiled(model, precision, PERF_COUNT=True).create_infer_request()
    spent: dict[str, float] = defaultdict(float)
    for _ in range(calls):
        request.infer([pixels], share_inputs=True)
        for part in request.get_profiling_info():
            found = [g for g, has in GROUPS.items() if any(x in part.node_name for x in has)]
            spent[found[0] if found else REST] += part.real_time.total_seconds()
    total = sum(spent.values())
    return {group: seconds / total for group, seconds in spent.items()}


def measure(name: str, precision: str, batch: int, until: Until) -> None:
    pixels = generated_pictures(batch, 224)
    with TemporaryDirectory() as folder:
        write_weights(name, Path(folder), random=True)
        with read_weights(Path(folder) / "convnext.safetensors") as weights:
            network = Network.of_weights(weights)
            linear = product
            if precision == "int8":
                linear = rounded(calibrate(network, generated_pictures(16, 224, seed=1)))
            model = build(network, batch=batch, product=linear)
            runs = [matrix_product(precision), network_run(model, precision, pixels)]
            for run in runs * 2:
                run()
            turns = {"peak": partial(timed, runs[0]), name: partial(timed, runs[1])}
            peak, own = times_of(turns, until, name).values()
            parts = shares(model, precision, pixels, len(own))
    macs = VARIANTS[name].macs() * batch
    share = ratio_of([macs / SIDE**3 * seconds for seconds in peak], own)
    milliseconds, best = 1e3 * statistics.median(own), 2e-9 * SIDE**3 / statistics.median(peak)
    print(f"{name}, {precision}, batch {batch}: {milliseconds:.1f} ms")
    print(f"  of the machine's matrix product, {best:.0f} GFLOP/s: {share.interval}, "
          f"{share.rounds} rounds")  # fmt: skip
    for group, share in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"  {share:5.1%}  {group}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["convnext_tiny"], help="variants")
    parser.add_argument("--precision", choices=HINTS, default="float32")
    parser.add_argument("--batch", type=int, default=1)
    add_limits(parser, 20)
    args = parser.parse_args()
    for name in args.models:
        measure(name, args.precision, args.batch, limits(args))


if __name__ == "__main__":
    main()
