"""Times an exact search in a file of vectors, as `convnext search` does it, from the page cache.

python benchmarks/search.py --vectors 1000000 --width 640
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from convnext.cli.vectors import npz_file
from convnext.processors import available_processors
from convnext.search import nearest, open_vectors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    some = rng.standard_normal((1000, args.width), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.npz"
        with npz_file(path, args.width, {}) as file:
            for number in range(args.vectors):
                file.add(f"photos/{number:07d}.jpg", some[number % 1000])
        times = []
        for _ in range(args.rounds + 1):
            begun = time.perf_counter()
            [hits] = nearest(open_vectors(path), some[7], top=10)
            times.append(time.perf_counter() - begun)
        assert len(hits) == 10
        assert hits[0].index == 7
    print(
        f"{args.vectors:,} vectors of {args.width}, {available_processors()} processors: median "
        f"{np.median(times[1:]):.2f} s, fastest {min(times[1:]):.2f} s"
    )


if __name__ == "__main__":
    main()
