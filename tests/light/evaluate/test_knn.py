"""Classification by nearest neighbours, with an engine whose embedding is the mean colour."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.cli.main import main
from convnext.evaluate.knn import votes


def test_votes_by_hand():
    """Of the two nearest, weighted by exp(cosine / 0.07)."""
    known = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    scores = votes(known, np.array([2, 0, 0, 1]), np.array([[1, 0], [0, 1]], np.float32), 3, 2)
    weights = np.exp((np.array([0.8, 0.6]) - 1) / 0.07)
    np.testing.assert_allclose(scores, [[weights[0], 0, 1], [1 + weights[1], 0, 0]], rtol=1e-5)


def test_votes_are_those_of_every_neighbour_alone(monkeypatch):
    monkeypatch.setattr("convnext.evaluate.knn.QUERIES", 7)
    rng = np.random.default_rng(0)
    known, queries = (rng.standard_normal((n, 8)).astype(np.float32) for n in (50, 20))
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    labels = rng.integers(0, 4, 50)
    found = votes(known, labels, queries, 4, 10)
    for query, row in zip(queries, found, strict=True):
        cosines = known @ query
        expected = np.zeros(4)
        for index in np.argsort(-cosines)[:10]:
            expected[labels[index]] += np.exp((cosines[index] - 1) / 0.07)
        np.testing.assert_allclose(row, expected, rtol=1e-4)


@pytest.fixture
def folders(tmp_path, clip_folder):
    """Two classes that any network tells apart: noise of little contrast, and of much."""
    from PIL import Image

    del clip_folder
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 3)):
        for name, spread in (("flat", 2), ("rough", 250)):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = 125 + rng.integers(-spread // 2, spread // 2 + 1, (40, 40, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "val" / "flat" / "broken.png").write_bytes(b"x")
    return tmp_path


def test_the_command(folders, clip_folder, capsys):
    pytest.importorskip("openvino")
    arguments = ["evaluate", "--model", str(clip_folder), "--data", str(folders / "val")]
    assert main([*arguments, "--knn", str(folders / "train")]) == 1  # one picture is broken
    printed = capsys.readouterr().out
    assert "2 classes, 48 neighbours" in printed
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith(("10", "20"))]
    assert rows == [["10", "6", "100.00", "-"], ["20", "6", "100.00", "-"]]
    assert "broken.png" in printed


def test_bad_options(folders, clip_folder, capsys):
    arguments = ["evaluate", "--model", str(clip_folder), "--data", str(folders / "val")]
    for more, message in (
        (["--knn", str(folders / "train"), "--labels", "imagenet-1k"], "without --labels"),
        (["--knn", str(folders / "none")], "does not exist"),
        (["--knn", str(folders / "val")], "20 neighbours"),
    ):
        assert main([*arguments, *more]) == 2
        assert message in capsys.readouterr().err
