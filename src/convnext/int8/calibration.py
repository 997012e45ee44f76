"""The int8 calibration of a network's weights, and its file.

It has two numbers for each input channel of a linear layer and one for each output channel; the
rounded kernels follow from these and the weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from convnext.errors import ArgumentError, WeightsFileError
from convnext.graphs.agreement import Agreement
from convnext.graphs.fold import Linear
from convnext.int8.levels import Levels
from convnext.weights.files import LazyTensor, WeightsFile, open_weights, write_weights

__all__ = ["Calibration", "check_name", "names_calibration"]

FORMAT = "convnext calibration, version 2"
SUFFIX = ".safetensors"
DAMAGES = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""Exceptions of reading a damaged calibration."""


def names_calibration(given: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a `calibration` argument is the path of a calibration file, not pictures."""
    return isinstance(given, str | os.PathLike) and str(given).lower().endswith(SUFFIX)


def check_name(path: str | Path) -> None:
    """Refuse a path that is not the path of a calibration file.

    Raises:
        ArgumentError: It does not end in `SUFFIX`.
    """
    if not names_calibration(path):
        raise ArgumentError(f"A calibration file must end in {SUFFIX}, not be called {path}.")


@dataclass(frozen=True, eq=False)
class Calibration:
    """The rounding of every linear layer of one set of weights.

    Attributes:
        layers: By the layer's name, such as `stage_0_block_1.pwconv1`.
        pictures: Number of pictures it was computed from.
        agreement: Of the rounded network's outputs with those in float32, on these pictures.
    """

    layers: Mapping[str, Levels]
    pictures: int
    agreement: Agreement | None = None

    def levels(self, name: str, linear: Linear) -> Levels:
        """The rounding of a layer.

        Raises:
            ArgumentError: The calibration is of other weights.
        """
        levels = self.layers.get(name)
        if levels is None or not levels.fit(linear):
            raise ArgumentError(
                f"The calibration is of other weights: {name} differs. Calibrate with these "
                "weights: convnext quantize."
            )
        return levels

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file.

        Raises:
            ArgumentError: The name does not end in `SUFFIX`.
            WeightsError: The file cannot be written.
        """
        check_name(path)
        tensors, layers = {}, {}
        for name, levels in self.layers.items():
            for part in ("low", "step", "correction"):
                tensors[f"{name}.{part}"] = LazyTensor.from_array(getattr(levels, part))
            layers[name] = {"kernel": levels.kernel, "decibels": levels.decibels}
        facts = {
            "layers": layers,
            "pictures": self.pictures,
            "agreement": asdict(self.agreement) if self.agreement else None,
        }
        about = {"format": FORMAT, "calibration": json.dumps(facts)}
        write_weights(path, tensors, about, format="safetensors")

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that `save` wrote.

        Raises:
            WeightsError: The file is missing, damaged or not a calibration.
        """
        with open_weights(path) as file:
            if file.metadata.get("format") != FORMAT:
                raise WeightsFileError(
                    f"{path} is not a calibration. Create one from a model and pictures with "
                    "`convnext quantize`."
                )
            try:
                facts = json.loads(file.metadata["calibration"])
                layers = {
                    name: _levels(file, name, layer) for name, layer in facts["layers"].items()
                }
                agreed = Agreement(**facts["agreement"]) if facts["agreement"] else None
                return cls(layers, int(facts["pictures"]), agreed)
            except DAMAGES as error:
                raise WeightsFileError(f"{path}: the calibration is damaged ({error}).") from error


def _levels(file: WeightsFile, name: str, facts: Mapping[str, Any]) -> Levels:
    low, step, correction = (
        file.tensors[f"{name}.{part}"].read().copy() for part in ("low", "step", "correction")
    )
    for array in (low, step, correction):
        if array.ndim != 1 or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ValueError(f"{name} must have vectors of finite float32")
    if low.shape != step.shape or (step <= 0).any():
        raise ValueError(f"{name} must have one positive step for each input")
    return Levels(low, step, correction, int(facts["kernel"]), float(facts["decibels"]))
