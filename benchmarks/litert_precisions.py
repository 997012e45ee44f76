"""LiteRT files of a model in each precision: size, agreement with float32, time for a picture.

    python benchmarks/litert_precisions.py convnextv2_atto --pictures FOLDER

Weights are random, of a trained model's scale. Every other picture calibrates and the rest are
compared on. The files take turns, so that whatever else the machine does hits all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ai_edge_litert.interpreter import Interpreter

import convnext
from convnext.processors import available_processors

PRECISIONS = ("float32", "float16", "int8")
ROUNDS, RUNS = 8, 10


def opened(path: Path) -> Interpreter:
    interpreter = Interpreter(model_path=str(path), num_threads=available_processors())
    interpreter.allocate_tensors()
    return interpreter


def milliseconds(interpreters: dict[str, Interpreter]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in interpreters}
    for _ in range(ROUNDS):
        for name, interpreter in interpreters.items():
            for _ in range(RUNS):
                started = time.perf_counter()
                interpreter.invoke()
                times[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--resolution", type=int, default=224)
    args = parser.parse_args()
    pictures = sorted(path for path in args.pictures.iterdir() if path.suffix != ".csv")
    with TemporaryDirectory() as folder:
        interpreters = {}
        for precision in PRECISIONS:
            path = Path(folder) / f"{precision}.tflite"
            report = convnext.export(
                args.variant,
                path,
                random=True,
                batch=1,
                resolution=args.resolution,
                precision=precision,
                calibration=pictures[::2] if precision == "int8" else None,
                pictures=pictures[1::2],
            )
            print(report)
            interpreters[precision] = opened(path)
        for precision, time_of_one in milliseconds(interpreters).items():
            print(f"{precision}: {time_of_one:.1f} ms for a picture")


if __name__ == "__main__":
    main()
