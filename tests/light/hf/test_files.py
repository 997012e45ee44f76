"""Parameters in files: shards, their order, what is refused, what is left behind."""

import errno
import json

import numpy as np
import pytest

from convnext.errors import ArgumentError, ArgumentTypeError, WeightsMismatchError
from convnext.hf.files import compare, open_tensors, weights_path, write_shards
from convnext.hf.hub import Hub, staged
from convnext.weights.files import LazyTensor

TENSORS = {
    "convnext.embeddings.patch_embeddings.weight": np.ones((4, 3, 2, 2), np.float32),
    "convnext.encoder.a": np.arange(6, dtype=np.float32),
    "classifier.weight": np.zeros((2, 5), np.float32),
}
LAZY = {name: LazyTensor.from_array(value) for name, value in TENSORS.items()}
SHAPES = {name: value.shape for name, value in TENSORS.items()}
BARE = {name.removeprefix("convnext."): shape for name, shape in SHAPES.items()}


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize(("limit", "files"), [("5GB", 1), (200, 2), (1, 3)])
def test_shards_come_back(tmp_path, safe, limit, files):
    write_shards(tmp_path, LAZY, limit, safe)
    suffix = "safetensors" if safe else "bin"
    assert len(list(tmp_path.glob(f"*.{suffix}"))) == files
    assert len(list(tmp_path.glob("*.index.json"))) == (files > 1)
    with open_tensors(weights_path(tmp_path, Hub())) as found:
        assert found.keys() == BARE.keys()
        for name, value in TENSORS.items():
            np.testing.assert_array_equal(found[name.removeprefix("convnext.")].read(), value)


def test_an_index_counts_its_bytes(tmp_path):
    write_shards(tmp_path, LAZY, "0.2KB", True)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in TENSORS.values())


@pytest.mark.parametrize(("size", "error"), [("much", ArgumentError), (0, ArgumentTypeError)])
def test_sizes_that_are_none(tmp_path, size, error):
    with pytest.raises(error):
        write_shards(tmp_path, LAZY, size, True)


def test_comparison_reports_missing_unexpected_and_mismatched_names():
    report = compare(SHAPES, {**BARE, "decoder.x": (1,)}, "file", False)
    assert set(report.loaded) == set(SHAPES)
    assert report.unexpected == ("decoder.x",)
    assert "Left in the file: decoder.x" in str(report)
    headless = {name: shape for name, shape in BARE.items() if "classifier" not in name}
    assert compare(SHAPES, headless, "file", False).fresh == ("classifier.weight",)
    other = {**BARE, "classifier.weight": (7, 5)}
    with pytest.raises(WeightsMismatchError, match="ignore_mismatched_sizes=True"):
        compare(SHAPES, other, "file", False)
    assert "OF ANOTHER SHAPE" in str(compare(SHAPES, other, "file", True))
    with pytest.raises(WeightsMismatchError, match="of another model"):
        compare(SHAPES, {"layers.0": (1,)}, "file", False)


def test_an_interrupted_save_leaves_no_files(tmp_path, monkeypatch):
    target = tmp_path / "model"

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupted():
        with staged(target) as temporary:
            (temporary / "config.json").write_text("{}")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert not target.exists()
    with staged(target, replaces=("*.bin",)) as temporary:
        (temporary / "a.bin").write_text("new")
    (target / "old.bin").write_text("old")
    with staged(target, replaces=("*.bin",)) as temporary:
        (temporary / "b.bin").write_text("new")
    assert [path.name for path in target.iterdir()] == ["b.bin"]
    with staged(target, replaces=("*.bin",)) as temporary:
        (temporary / "b.bin").write_text("newer")
    assert (target / "b.bin").read_text() == "newer"
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"), staged(target, replaces=("*.bin",)) as temporary:
        (temporary / "c.bin").write_text("newest")
    assert [path.name for path in target.iterdir()] == ["b.bin"]
    with pytest.raises(ArgumentError, match="is a file"), staged(target / "b.bin"):
        pass
