"""What every test shares: the real data, and peers that cannot import without help here."""

from __future__ import annotations

import importlib
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, and no clock: a busy machine is no failure.
settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

# A shell that starts a command in the background lets it ignore Ctrl-C, and so would every process
# that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# It reads HF_HUB_OFFLINE at its first import, for good, which some tests set for themselves.
with suppress(ImportError):
    importlib.import_module("huggingface_hub.constants")

TESTS = Path(__file__).parent
PHOTOS = TESTS.parent / "examples" / "photos"
SHARED_DATA = TESTS.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures and weights, outside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data folder is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def class_folders() -> Path:
    """Real pictures of four classes, in folders `train` and `val`: the files of this project."""
    return TESTS / "class_folders"


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Real pictures of many sizes, and where they lie about those of ImageNet."""
    own = [*PHOTOS.rglob("*.*g"), *(TESTS / "class_folders").rglob("*.jpg")]
    return sorted(own) + sorted((SHARED_DATA / "photos").rglob("*.*[gG]"))


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory) -> Path:
    """Random weights of a small V2 of 10 classes in a file that says nothing more."""
    import numpy as np

    from convnext.architecture import ARCHITECTURES
    from convnext.weights.canonical import parameter_shapes
    from convnext.weights.save import save_weights

    rng = np.random.default_rng(0)
    shapes = parameter_shapes(ARCHITECTURES["test_v2"], num_classes=10)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("weights") / "test.safetensors"
    save_weights(weights, path)
    return path


@pytest.fixture(autouse=True)
def _peers(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("upstream"):
        request.getfixturevalue("importable_torchvision")


@pytest.fixture(scope="session")
def importable_torchvision():
    """Let torchvision import next to a PyTorch build that its compiled operators do not match."""
    pytest.importorskip("torch")
    return importlib.import_module("importable_torchvision")
