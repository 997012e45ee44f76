"""Fixtures: pictures in every form, and readers of the output."""

from __future__ import annotations

from pathlib import Path

import pytest

STEP = 25  # as in tests/light: a grey picture of shade `STEP * k` is of class k
CLASSES = 10


@pytest.fixture
def shades(make):
    """Thirty pictures: number n is of class n % 10."""
    return [(f"p/{n:02}.png", make.encoded(STEP * (n % CLASSES))) for n in range(30)]


@pytest.fixture
def folder(here, shades):
    """The same as files, with one file that is no picture."""
    (here / "p").mkdir()
    for name, data in shades:
        (here / name).write_bytes(data)
    (here / "p/17.png").write_bytes(b"no picture")
    return here / "p"


@pytest.fixture(scope="session")
def rows():
    """Every row of an output folder."""
    pytest.importorskip("pyarrow")
    from pyarrow.parquet import read_table

    return lambda folder: read_table(folder).to_pylist()


@pytest.fixture(scope="session")
def files():
    """The files of an output folder, with their contents."""
    return lambda folder: {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
