"""Fixture: the material of a race, a small V2 and six pictures."""

import pytest

from convnext.bench.machine import Machine
from convnext.bench.material import write_material, write_weights
from convnext.images.generated import generated_pictures


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    model = write_weights("test_v2", folder, random=True, size=64)
    return write_material(folder, model, generated_pictures(6, 64))


@pytest.fixture
def machine():
    return Machine("Abacus 9000", "beads", "python 3.99; abacus 1.0", "2026-11-21")
