"""Pictures of one colour each, and an engine with known logits for each colour."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from convnext.data.datasets import Dataset, LabelledPicture
from convnext.engines.mock import MockEngine
from convnext.evaluate.subject import Subject
from convnext.images.recipe import Preprocess
from convnext.weights.catalog import CHECKPOINTS

CLASSES = 7  # of the fixture `classes`
LOGITS = np.random.default_rng(5).normal(0, 3, (256, CLASSES)).astype(np.float32)


@pytest.fixture(scope="session")
def logits():
    """The engine's logits for each grey."""
    return LOGITS


@pytest.fixture
def recipe():
    return Preprocess(size=8, crop_fraction=1.0)


@pytest.fixture
def engine():
    """An engine whose logits depend on the position in the batch and on its size."""

    def answer(batch):
        rows = LOGITS[batch[:, 4, 4, 0]]
        places = np.arange(len(batch), dtype=np.float32)[:, None]
        return (rows + 1e-5 * (places + len(batch)),)

    return MockEngine(answer, size=8)


@pytest.fixture
def subject(engine, recipe, classes):
    facts = {
        "name": "a model",
        "checkpoint": "convnext_tiny.fb_in1k",
        "architecture": "convnext_tiny",
        "weights": {"file": "w.pth", "layout": "facebook", "sha256": "0" * 64},
        "origin": "somebody",
        "licence": "MIT",
        "classes": classes.count,
        "class_names": classes.origin,
    }
    checkpoint = CHECKPOINTS["convnext_tiny.fb_in1k"]
    return Subject(engine, recipe, classes, checkpoint, facts, ("a note",))


@pytest.fixture
def full_disk():
    """A context that limits files to a kilobyte."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full


@pytest.fixture
def no_pictures(classes):
    """A data set of two classes without files."""
    entries = (
        LabelledPicture("x/1.png", 0),
        LabelledPicture("y/2.png", 2),
        LabelledPicture("y/3.png", 2),
    )
    return Dataset(Path("there"), "class folders, by name", classes, entries)
