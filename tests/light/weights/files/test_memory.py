"""How much memory a file can take: 1.2 times its size, or 32 MB, whatever it says about itself."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from convnext.weights.files import write_weights
from crafted_files import (
    dictionary,
    lazy,
    plain,
    tensor,
    write_legacy_pth,
    write_pth,
    write_safetensors,
    write_zip,
)

MB = 1 << 20

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the system keeps no resettable peak"
)

MEASURE = """
import pathlib, resource, sys
from convnext.errors import WeightsFileError
from convnext.weights.files import open_weights


def status(field):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split(field + ":")[1].split()[0]) << 10


def read(path):
    try:
        with open_weights(path) as file:
            return sum(float(each.read().reshape(-1)[::64].sum()) for each in file.tensors.values())
    except WeightsFileError as error:
        return error


path = sys.argv[1]
before = status("VmRSS")
pathlib.Path("/proc/self/clear_refs").write_text("5")
outcome = read(path)
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
print(status("VmHWM") - before, children, repr(outcome)[:200])
"""


def peak(path: Path) -> tuple[int, str]:
    """Bytes at the peak of opening a file and reading all of it, above what was there before."""
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taken, children, outcome = done.stdout.split(" ", 2)
    assert int(children) < 224 * MB
    return int(taken), outcome


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pth", "h5"])
def test_an_honest_file_takes_its_own_size(kind, tmp_path):
    values = np.random.default_rng(0).normal(size=(8, MB)).astype(np.float32)
    path = tmp_path / f"a.{kind}"
    write_weights(path, lazy({f"a/{n}": row for n, row in enumerate(values)}))
    taken, outcome = peak(path)
    assert "Error" not in outcome
    assert taken < 1.2 * path.stat().st_size


def many_shapes(path):
    entry = {"dtype": "F32", "shape": [0] * 150_000, "data_offsets": [0, 0]}
    header = json.dumps(dict.fromkeys("abc", entry), separators=(",", ":"))
    return write_safetensors(path, header.encode())


def gzipped(path):
    with h5py.File(path, "w") as file:
        for name in "abcdefgh":
            file.create_dataset(name, data=np.zeros(2 * MB - 1, "f4"), compression="gzip")
    return path


HOSTILE = {
    "lists": lambda path: write_pth(path, b"\x80\4](" + b"]" * 240_000 + b"e."),
    "dictionaries": lambda path: write_pth(path, b"\x80\4](" + b"}K\1Ns" * 60_000 + b"e."),
    "memos": lambda path: write_pth(path, b"\x80\4](" + b"]\x94" * 120_000 + b"e."),
    "marks": lambda path: write_pth(path, b"\x80\4" + b"(" * 240_000 + b"."),
    "wide text": lambda path: write_pth(
        path, dictionary(a=plain("a" * (2 * MB - 99) + "\U0001f600"))
    ),
    "tensors": lambda path: write_pth(path, b"\x80\4](" + tensor() * 9_000 + b"e."),
    "a shared tensor": lambda path: write_pth(path, b"\x80\4](" + tensor() + b"2" * 8_000 + b"e."),
    "an old pickle": lambda path: write_legacy_pth(path, b"\x80\4](" + b"]" * 240_000 + b"e."),
    "members": lambda path: write_zip(path, [(f"{n:x}", b"") for n in range(20_000)]),
    "shapes": many_shapes,
    "names": lambda path: write_safetensors(
        path,
        {f"{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(8_000)},
        b"",
    ),
    "an index": lambda path: path.write_text('{"weight_map":[' + "[]," * 170_000 + "0]}") and path,
    "zeros in HDF5": gzipped,
    "zeros in a zip": lambda path: write_zip(
        path, [("a.npy", bytes(100 * MB))], zipfile.ZIP_DEFLATED
    ),
    "small zeros in a zip": lambda path: write_zip(
        path,
        [
            (
                "a/data.pkl",
                dictionary(a=tensor(shape=(2 * MB - 9,), strides=(1,), count=2 * MB - 9)),
            ),
            ("a/data/0", bytes(8 * MB - 36)),
        ],
        zipfile.ZIP_DEFLATED,
    ),
}


QUICK = ("lists", "shapes", "zeros in HDF5", "zeros in a zip")  # each costs a process of its own


@pytest.mark.parametrize(
    "make",
    [pytest.param(HOSTILE[n], marks=[] if n in QUICK else pytest.mark.slow, id=n) for n in HOSTILE],
)
def test_a_hostile_file_takes_little_more_than_its_size(make, tmp_path):
    path = make(tmp_path / "a")
    taken, _ = peak(path)
    assert taken < 2 * path.stat().st_size + 32 * MB
