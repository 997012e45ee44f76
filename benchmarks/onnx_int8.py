"""ONNX files in int8 and float32: size, agreement, and times in ONNX Runtime, in turns.

    python benchmarks/onnx_int8.py --seconds 30
    python benchmarks/onnx_int8.py --variants convnext_tiny --threads 1 --pictures FOLDER

Weights are random. Every other picture calibrates, and the rest are compared on. Each file is run
in a process of its own; what counts is float32's time over int8's in a round, its median and 95 %
interval. The last line of a model counts operators of the graph that ONNX Runtime makes of the int8
file: all quantised products are `QGemm`, and no `DequantizeLinear` is left.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from turns import Contender, Report, add_limits, alternate, limits, ratio_of, serve

from convnext.architecture import VARIANTS
from convnext.processors import available_processors

PRECISIONS = ("float32", "int8")
SHOWN = (
    "QGemm",
    "QuantizeLinear",
    "DequantizeLinear",
    "Transpose",
    "ReorderInput",
    "ReorderOutput",
)


def prepare(path: str, batch: int, threads: int) -> tuple[Report, Any]:
    """Open a file, and time one run of it in each turn."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    sides = session.get_inputs()[0].shape[1:]
    pictures = np.random.default_rng(0).standard_normal((batch, *sides), np.float32)

    def turn(_: str) -> Report:
        session.run(None, {"pictures": pictures})  # its own weights into the cache
        started = time.perf_counter()
        session.run(None, {"pictures": pictures})
        return {"seconds": time.perf_counter() - started}

    return {}, turn


def operators(path: Path) -> Counter[str]:
    """The operators of the graph that ONNX Runtime runs."""
    import onnx
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(path.with_suffix(".run.onnx"))
    ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    graph = onnx.load(settings.optimized_model_filepath).graph
    return Counter(node.op_type for node in graph.node)


def export_all(variant: str, folder: Path, pictures: Sequence[Any] | None) -> list[Path]:
    import convnext
    from convnext.images.generated import generated_pictures

    seen = generated_pictures(16, 224) if pictures is None else pictures
    paths = []
    for precision in PRECISIONS:
        paths.append(folder / f"{variant}-{precision}.onnx")
        calibration = seen[::2] if precision == "int8" else None
        report = convnext.export(
            variant,
            paths[-1],
            random=True,
            precision=precision,
            calibration=calibration,
            pictures=seen[1::2],
        )
        print(report.verdict, f"{report.nbytes / 1e6:.1f} MB", sep=", ", flush=True)
    return paths


def race(variant: str, paths: Sequence[Path], batch: int, args: argparse.Namespace) -> None:
    contenders = [
        Contender(precision, __file__, path, batch, args.threads)
        for precision, path in zip(PRECISIONS, paths, strict=True)
    ]
    try:
        alternate(contenders, limits(args), f"{variant}, {batch}")
        full, eight = (contender.seconds for contender in contenders)
    finally:
        for contender in contenders:
            contender.close()
    medians = " and ".join(f"{1e3 * statistics.median(each):.1f}" for each in (full, eight))
    ratio = ratio_of(full, eight)
    print(f"{variant}, {batch} pictures: {medians} ms, float32 over int8 {ratio}", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        path, batch, threads = sys.argv[2:]
        sys.exit(serve(partial(prepare, path, int(batch), int(threads))))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--variants", default="convnext_tiny,convnextv2_atto")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--threads", type=int, default=available_processors())
    parser.add_argument("--pictures", type=Path, help="a folder (default: generated ones)")
    add_limits(parser)
    args = parser.parse_args()
    pictures = None
    if args.pictures:
        pictures = sorted(path for path in args.pictures.iterdir() if path.suffix != ".csv")
    for variant in args.variants.split(","):
        assert variant in VARIANTS, f"{variant} is none of {', '.join(VARIANTS)}"
        with TemporaryDirectory() as folder:
            paths = export_all(variant, Path(folder), pictures)
            for batch in args.batches.split(","):
                race(variant, paths, int(batch), args)
            found = operators(paths[1])
        print(", ".join(f"{found[name]} {name}" for name in SHOWN), flush=True)


if __name__ == "__main__":
    main()
