"""What every test shares: the real data, and peers that cannot import without help here."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures and weights, outside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data folder is absent")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _declared_torchvision_operators():
    """Let torchvision import next to a PyTorch build that its compiled operators do not match.

    There is no CPU build of torchvision everywhere; timm needs its transforms only. Declaring the
    two operators that its import registers something for is enough.
    """
    try:
        import torch
    except ImportError:
        yield
        return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision  # noqa: F401
        except (ImportError, RuntimeError, OSError):
            pass
    yield
