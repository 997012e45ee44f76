"""Files of vectors, as `convnext embed` writes them."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.cli.vectors import npz_file, parquet_file

FACTS = {"model": "clip", "licence": "MIT", "fingerprint": "ab" * 32}


@pytest.fixture(params=["npz", "parquet"])
def stored(request, tmp_path):
    """Write vectors into a file of either kind; the name of each is its number."""

    def write(vectors, facts=FACTS):
        if request.param == "parquet":
            pytest.importorskip("pyarrow")
        path = tmp_path / f"vectors.{request.param}"
        opened = npz_file if request.param == "npz" else parquet_file
        with opened(path, vectors.shape[1], facts) as file:
            for number, vector in enumerate(vectors):
                file.add(f"é{number}.jpg", vector)
        return path

    return write


@pytest.fixture
def random_vectors():
    def make(count=500, width=24):
        return np.random.default_rng(0).standard_normal((count, width), np.float32)

    return make
