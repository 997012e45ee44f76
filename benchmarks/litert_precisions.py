"""LiteRT files of a model in each precision: size, agreement with float32, time for a picture.

    python benchmarks/litert_precisions.py convnextv2_atto --pictures FOLDER

Weights are random, of a trained model's scale. Every other picture calibrates and the rest are
compared on. The files take turns; ratios are medians of the rounds', with 95 % intervals.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ai_edge_litert.interpreter import Interpreter
from turns import add_limits, limits, ratio_of, timed, times_of

import convnext
from convnext.processors import available_processors

PRECISIONS = ("float32", "float16", "int8")
RUNS = 10  # of a turn


def opened(path: Path) -> Interpreter:
    interpreter = Interpreter(model_path=str(path), num_threads=available_processors())
    interpreter.allocate_tensors()
    return interpreter


def turn(interpreter: Interpreter) -> float:
    return statistics.median(timed(interpreter.invoke) for _ in range(RUNS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--resolution", type=int, default=224)
    add_limits(parser, 60)
    args = parser.parse_args()
    pictures = sorted(path for path in args.pictures.iterdir() if path.suffix != ".csv")
    with TemporaryDirectory() as folder:
        turns = {}
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
            turns[precision] = partial(turn, opened(path))
        times = times_of(turns, limits(args))
    for precision, own in times.items():
        ratio = ratio_of(own, times["float32"])
        print(f"{precision}: {1e3 * statistics.median(own):.1f} ms; over float32's: {ratio}")


if __name__ == "__main__":
    main()
