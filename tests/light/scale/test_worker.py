"""A worker's calls to its engine, and its facts."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from convnext.engines import opening
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.scale.run_options import RunOptions
from convnext.scale.worker import Worker


@pytest.fixture
def work(named_weights):
    def work(**options):
        return Worker(
            RunOptions("embed", named_weights, Preprocess(), Labels(()), 32, "/", **options)
        )

    return work


@pytest.mark.parametrize(
    ("device", "threads"), [("auto", 3), ("cpu", 3), ("CPU", 3), ("GPU", None), ("cuda", None)]
)
def test_threads_are_set_on_a_cpu_only(work, mock_engine, device, threads):
    work(device=device, threads=3).facts()
    assert mock_engine.options[-1].threads == threads


@pytest.mark.parametrize(("backend", "threads"), [("jax", None), ("torch", 3)])
@pytest.mark.parametrize("engine", ["keras", "auto"])
def test_keras_on_jax_is_not_told_of_threads(
    work, mock_engine, monkeypatch, engine, backend, threads
):
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: backend))
    monkeypatch.setitem(sys.modules, "keras", keras)
    monkeypatch.setattr(opening, "ENGINES", {"keras": opening.ENGINES["mock"]})
    work(engine=engine, threads=3).facts()
    assert mock_engine.options[-1].threads == threads
