from __future__ import annotations

import sys

import numpy as np
import pytest

from convnext.errors import ArgumentError
from convnext.search import files, near_duplicates, nearest, open_vectors

MODULE = sys.modules["convnext.search.nearest"]  # whose name is also that of a function


def by_hand(vectors, query, top):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    order = np.argsort(-scores, kind="stable")[:top]
    return [(f"é{i}.jpg", int(i)) for i in order], scores[order]


@pytest.mark.parametrize("piece", [16_384, 100, 7])
def test_the_nearest_are_those_of_all_vectors(stored, random_vectors, monkeypatch, piece):
    monkeypatch.setattr(files, "PIECE", piece)
    vectors = random_vectors()
    queries = random_vectors(3)
    found = nearest(open_vectors(stored(vectors)), queries * 5, top=20)
    for hits, query in zip(found, queries, strict=True):
        names, scores = by_hand(vectors, query, 20)
        assert [(hit.name, hit.index) for hit in hits] == names
        assert np.allclose([hit.score for hit in hits], scores, atol=1e-6)


def test_equal_vectors_are_in_the_order_of_the_file(stored, random_vectors, monkeypatch):
    monkeypatch.setattr(files, "PIECE", 4)
    vectors = np.repeat(random_vectors(1), 11, axis=0)
    [hits] = nearest(open_vectors(stored(vectors)), vectors[0], top=6)
    assert [hit.index for hit in hits] == [0, 1, 2, 3, 4, 5]
    [hits] = nearest(open_vectors(stored(vectors)), vectors[0], top=60)
    assert len(hits) == 11


def test_pairs_of_near_duplicates(stored, random_vectors, monkeypatch):
    monkeypatch.setattr(MODULE, "SIDE", 8)
    vectors = random_vectors(30)
    vectors[17] = 3 * vectors[4]
    vectors[29] = vectors[4] + vectors[5] / 50
    pairs = list(near_duplicates(open_vectors(stored(vectors)), 0.99))
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("é4.jpg", "é17.jpg"),
        ("é4.jpg", "é29.jpg"),
        ("é17.jpg", "é29.jpg"),
    ]
    assert pairs[0].score == pytest.approx(1, abs=1e-6)


def test_bad_arguments(stored, random_vectors, monkeypatch):
    vectors = open_vectors(stored(random_vectors()))
    with pytest.raises(ArgumentError, match="24 numbers, and the query has 5"):
        nearest(vectors, np.ones(5))
    with pytest.raises(ArgumentError, match="top must be"):
        nearest(vectors, np.ones(24), top=0)
    for query in (np.zeros(24), np.full(24, np.nan)):
        with pytest.raises(ArgumentError, match="not finite, or zero"):
            nearest(vectors, query)
    with pytest.raises(ArgumentError, match="threshold"):
        near_duplicates(vectors, 1.5)
    monkeypatch.setattr(MODULE, "MOST_COMPARED", 499)
    with pytest.raises(ArgumentError, match="500 vectors; at most 499"):
        near_duplicates(vectors)
