"""The weights and pictures of a race, in a folder that the contenders' processes read.

The weights are written in each layout that a contender needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import PUBLISHED_STRIDES, VARIANTS, Strides, Variant, adapted_strides
from convnext.engines import quantize
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.session import Session
from convnext.weights.info import WeightsInfo
from convnext.weights.random_weights import random_weights
from convnext.weights.save import convert, save_weights

__all__ = [
    "LAYOUT_FILES",
    "Material",
    "Model",
    "write_calibration",
    "write_material",
    "write_weights",
]

OURS = "convnext.safetensors"
CALIBRATION = "calibration.safetensors"

LAYOUT_FILES = {
    "timm": "timm.safetensors",
    "huggingface": "huggingface/model.safetensors",
    "keras_applications": "keras_applications.h5",
}
"""File name of each layout that a peer reads."""


@dataclass(frozen=True)
class Model:
    """The model of a race.

    Attributes:
        name: Its name in results.
        variant: The architecture.
        num_classes: Number of classes.
        preprocess: Preprocessing of pictures.
        strides: Strides stored with the weights; None if the size of pictures determines them.
    """

    name: str
    variant: Variant
    num_classes: int
    preprocess: Preprocess
    strides: Strides | None = None

    @classmethod
    def read(cls, path: Path) -> Model:
        """Describe the weights that `write_weights` wrote."""
        with Session.open(path) as session:
            return cls(
                session.info.name or path.name,
                session.variant,
                session.num_classes,
                session.preprocess,
                session.info.strides,
            )


@dataclass(frozen=True)
class Material:
    """The folder with the weights and pictures of a race."""

    folder: Path
    model: Model

    @classmethod
    def read(cls, folder: Path) -> Material:
        """Open a folder that `write_material` filled."""
        return cls(folder, Model.read(folder / OURS))

    @property
    def side(self) -> int:
        """Height and width of the pictures."""
        return self.model.preprocess.size

    @property
    def weights(self) -> Path:
        """The weights in the package's own layout, with their preprocessing."""
        return self.folder / OURS

    @property
    def calibration(self) -> Path | None:
        """The calibration of the package's int8 engine; None if no contender needs it."""
        path = self.folder / CALIBRATION
        return path if path.exists() else None

    @property
    def calibration_pictures(self) -> NDArray[np.uint8]:
        """Pictures for int8 calibration, different from those of the comparison."""
        array: NDArray[np.uint8] = np.load(self.folder / "calibration.npy")
        return array

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """The pictures, `[n, side, side, 3]`, resized and cropped for the model."""
        array: NDArray[np.uint8] = np.load(self.folder / "pictures.npy")
        return array

    def normalised(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise pictures, for models that do not do so themselves."""
        return normalise(pictures, self.model.preprocess)

    def peer_weights(self, layout: str) -> Path:
        """Path of the weights in a layout.

        Raises:
            ArgumentError: The layout cannot hold this model, or peers cannot run its strides.
        """
        strides = self.model.strides or adapted_strides(self.side, self.side)
        if strides != PUBLISHED_STRIDES:
            raise ArgumentError(
                "Peers have the published strides only, and on pictures of "
                f"{self.side} pixels this model has {'-'.join(map(str, strides))}."
            )
        problem = self.folder / f"{layout}.error"
        if problem.exists():
            raise ArgumentError(problem.read_text())
        return self.folder / LAYOUT_FILES[layout]


def write_weights(
    source: str, folder: Path, *, random: bool = False, size: int | None = None
) -> Model:
    """Write a model's weights into a folder.

    Args:
        source: A published checkpoint, a weights file, or with `random` the name of a variant.
        folder: The folder.
        random: Whether to use random weights.
        size: Side of the pictures; by default that of the weights.

    Raises:
        ArgumentError: The weights have no classifier, or do not take RGB pictures.
    """
    target = folder / OURS
    if random:
        recipe = Preprocess() if size is None else Preprocess(size=size)
        info = WeightsInfo(name=f"{source} (random weights)", preprocess=recipe)
        save_weights(random_weights(VARIANTS[source]), target, info=info)
        return Model.read(target)
    with Session.open(source, size=size) as session:
        session.check_task(segmentation=False)
        network = session.network
        if not network.num_classes or network.channels != 3:
            raise ArgumentError(
                f"{source} cannot be raced: it has {network.num_classes or 'no'} classes and takes "
                f"{network.channels} channels. Use a classifier of RGB pictures."
            )
        name = session.info.name or Path(source).name
        info = replace(session.info, name=name, preprocess=session.preprocess, licence=None)
        save_weights(network.weights.tensors, target, dtype="float32", info=info)
    return Model.read(target)


def write_material(
    folder: Path, model: Model, pictures: NDArray[np.uint8], layouts: Iterable[str] = ()
) -> Material:
    """Add pictures, and the weights in other layouts, to a folder with a model's weights.

    Args:
        folder: The folder of `write_weights`.
        model: The result of `write_weights`.
        pictures: `[n, side, side, 3]`.
        layouts: Other layouts of the weights. If one cannot hold them, its error is stored, and
            `Material.peer_weights` raises it.
    """
    np.save(folder / "pictures.npy", pictures)
    for layout in dict.fromkeys(layouts):
        target = folder / LAYOUT_FILES[layout]
        target.parent.mkdir(exist_ok=True)
        try:
            convert(folder / OURS, target, to_layout=layout, progress=False)
        except ArgumentError as error:
            (folder / f"{layout}.error").write_text(str(error))
        if layout == "huggingface":
            _write_config(target.with_name("config.json"), model)
    return Material(folder, model)


def write_calibration(material: Material, pictures: NDArray[np.uint8]) -> None:
    """Add calibration pictures, and the calibration of the package's int8 engine.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    np.save(material.folder / "calibration.npy", pictures)
    quantize(material.weights, pictures).save(material.folder / CALIBRATION)


def _write_config(path: Path, model: Model) -> None:
    version = "v2" if model.variant.has_grn else ""
    config = {
        "model_type": f"convnext{version}",
        "architectures": [f"ConvNext{version.upper()}ForImageClassification"],
        "depths": model.variant.depths,
        "hidden_sizes": model.variant.dims,
        "layer_norm_eps": 1e-6,
        "id2label": {str(index): str(index) for index in range(model.num_classes)},
    }
    path.write_text(json.dumps(config))
