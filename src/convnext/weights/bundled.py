"""The weights that come with the package, for trying it without a network.

A ConvNeXt V2 Atto for the ten classes of CIFAR-10, trained with the recipe `cifar10`; see
docs/bundled.md for its training and accuracy.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["BUNDLED", "bundled_path"]

BUNDLED = "bundled"


def bundled_path() -> Path:
    """Path of the file."""
    return Path(__file__).with_name("bundled.safetensors")
