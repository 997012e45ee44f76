"""Build every small variant, run one picture through it, and print what it is and costs.

KERAS_BACKEND=jax python examples/variants.py
"""

from __future__ import annotations

import statistics
import sys
import time

import keras
import numpy as np

from convnext import VARIANTS, create_convnext_v1, create_convnext_v2, feature_maps

SMALL = 30_000_000  # parameters
CREATE = {"v1": create_convnext_v1, "v2": create_convnext_v2}
LINE = "{:<16} {:>9} {:>16} {:>11} {:>6}  {:<42} {:>7} {:>9}"


def milliseconds(model: keras.Model, pictures: np.ndarray, calls: int = 5) -> float:
    """Median time of a call for one picture, after a first call that compiles."""
    model.predict_on_batch(pictures)
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        model.predict_on_batch(pictures)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def main() -> None:
    small = [v for v in VARIANTS.values() if v.parameter_count() < SMALL and v.size != "test"]
    picture = np.random.default_rng(0).standard_normal((1, 224, 224, 3), dtype=np.float32)
    print(f"Random weights, one 224x224 picture, Keras on {keras.backend.backend()}.\n")
    print(LINE.format("variant", "depths", "dims", "parameters", "GMACs", "feature maps",
                      "build s", "ms/image"))  # fmt: skip
    for number, variant in enumerate(small, 1):
        print(f"building {number} of {len(small)}: {variant.name}", end="\r", file=sys.stderr)
        start = time.perf_counter()
        model = CREATE[variant.family](variant.size)
        built = time.perf_counter() - start
        maps = " ".join("x".join(map(str, m.shape[1:])) for m in feature_maps(model).outputs)
        print(
            LINE.format(
                variant.name,
                "-".join(map(str, variant.depths)),
                "-".join(map(str, variant.dims)),
                f"{model.count_params():,}",
                f"{variant.macs() / 1e9:.2f}",
                maps,
                f"{built:.1f}",
                f"{milliseconds(model, picture):.1f}",
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
