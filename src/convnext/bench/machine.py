"""Describes the machine, versions and date of a measurement."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from convnext.processors import processor_flags, processor_name

__all__ = ["Machine"]

PACKAGES = (
    "convnext",
    "numpy",
    "openvino",
    "onnxruntime",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "timm",
    "transformers",
)

FLAGS = (  # instructions on which the speed of multiplication depends
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)


@dataclass(frozen=True)
class Machine:
    """A processor, versions of packages, and a date.

    Attributes:
        processor: Its name.
        flags: Those of `FLAGS` that it has.
        versions: Of Python and of the packages in `PACKAGES`.
        date: As in 2026-11-21.
    """

    processor: str
    flags: str
    versions: str
    date: str

    @classmethod
    def this(cls, root: Path = Path("/")) -> Machine:
        """Describe this machine.

        Args:
            root: The folder of `/proc`.
        """
        found = processor_flags(root)
        return cls(
            processor=processor_name(root),
            flags=" ".join(flag for flag in FLAGS if flag in found),
            versions="; ".join([f"python {platform.python_version()}", *_versions(PACKAGES)]),
            date=date.today().isoformat(),
        )


def _versions(packages: Sequence[str]) -> list[str]:
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found
