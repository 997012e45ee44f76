"""ILSVRC ids from the development kit's MATLAB file and from text, against SciPy."""

from pathlib import Path

import numpy as np
import pytest

from convnext.data.synsets import read_synsets
from convnext.errors import ArgumentError
from convnext.images.labels import labels_for

WNIDS = list(np.random.default_rng(0).permutation(labels_for("imagenet-1k").wnids))
EXPECTED = {number: str(wnid) for number, wnid in enumerate(WNIDS, 1)}


def write_meta(path: Path, wnids, **options) -> None:
    """A meta.mat as in the kit, with inner nodes of WordNet after the 1000 classes."""
    scipy = pytest.importorskip("scipy.io")
    inner = [f"n9{number:07}" for number in range(40)]
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")
    records = np.zeros((len(wnids) + 40, 1), [(field, object) for field in fields])
    for number, wnid in enumerate([*wnids, *inner], 1):
        record = (float(number), str(wnid), "some, wörds", "", number % 3, np.arange(number % 5))
        records[number - 1, 0] = record
    scipy.savemat(path, {"other": np.eye(3), "synsets": records}, **options)


@pytest.mark.parametrize("compressed", [False, True])
def test_meta_mat(tmp_path, compressed):
    write_meta(tmp_path / "meta.mat", WNIDS, do_compression=compressed)
    assert read_synsets(tmp_path / "meta.mat") == EXPECTED


@pytest.mark.parametrize("form", ["{wnid} {number} kit_fox", "{number}\t{wnid}"])
def test_text(tmp_path, form):
    lines = [form.format(number=number, wnid=wnid) for number, wnid in EXPECTED.items()]
    path = tmp_path / "map_clsloc.txt"
    path.write_text("\n".join(reversed(lines)))
    assert read_synsets(path) == EXPECTED


def test_damage_is_one_kind_of_error(tmp_path):
    path = tmp_path / "meta.mat"
    write_meta(path, WNIDS)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for length in (0, 64, 127, 130, 200, 5000, len(whole) - 9):
        path.write_bytes(whole[:length])
        with pytest.raises(ArgumentError):
            read_synsets(path)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[random.integers(128, 2000)] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            found = read_synsets(path)
        except ArgumentError:
            continue
        assert len(found) == 1000


def test_synset_files_that_lack_a_class_are_refused(tmp_path):
    write_meta(tmp_path / "meta.mat", WNIDS[:-1] + WNIDS[:1])
    with pytest.raises(ArgumentError, match="each ILSVRC id from 1 to 1000"):
        read_synsets(tmp_path / "meta.mat")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_synsets(tmp_path / "missing.mat")
