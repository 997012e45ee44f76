"""Fixtures: pictures in every form, and readers of the output."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

STEP = 25  # as in tests/light: a grey picture of shade `STEP * k` is of class k
CLASSES = 10


def encoded(shade, size=(16, 16), form="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, (shade,) * 3).save(stream, form)
    return stream.getvalue()


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def write_table(path, columns, **options):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


class Make:
    """Writers of pictures, archives and tables, in one fixture."""

    encoded = staticmethod(encoded)
    tar = staticmethod(write_tar)
    zip = staticmethod(write_zip)
    table = staticmethod(write_table)


@pytest.fixture(scope="session")
def make():
    return Make


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
