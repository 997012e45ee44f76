"""The weights that come with the package: something to try everything on, without a network.

A ConvNeXt V2 Atto for the ten classes of CIFAR-10, trained with our own recipe `cifar10`; how, and
how good it is, stands in docs/bundled.md.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["BUNDLED", "bundled_path"]

BUNDLED = "bundled"


def bundled_path() -> Path:
    """Where the file lies."""
    return Path(__file__).with_name("bundled.safetensors")
