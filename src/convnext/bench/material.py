"""What every contender of a race is given: the same weights and the same pictures.

The weights are there in each layout that a contender reads. It all lies in one folder, because
contenders are processes of their own.
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
"""The file of each layout that a peer reads."""


@dataclass(frozen=True)
class Model:
    """What is raced.

    Attributes:
        name: What results call it.
        variant: The architecture.
        num_classes: Width of the classifier.
        preprocess: What is done to pictures.
        strides: Those that were chosen for it; None where they follow from the size of pictures.
    """

    name: str
    variant: Variant
    num_classes: int
    preprocess: Preprocess
    strides: Strides | None = None

    @classmethod
    def read(cls, path: Path) -> Model:
        """The model of the weights that `write_weights` wrote."""
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
    """A folder that a contender finds everything in.

    Attributes:
        folder: The folder.
        model: What is raced.
    """

    folder: Path
    model: Model

    @classmethod
    def read(cls, folder: Path) -> Material:
        """The material in a folder that `write_material` filled."""
        return cls(folder, Model.read(folder / OURS))

    @property
    def side(self) -> int:
        """Height and width of the pictures."""
        return self.model.preprocess.size

    @property
    def weights(self) -> Path:
        """The weights as we write them, with the recipe."""
        return self.folder / OURS

    @property
    def calibration(self) -> Path | None:
        """How our engine rounds to int8; None if nobody is to."""
        path = self.folder / CALIBRATION
        return path if path.exists() else None

    @property
    def calibration_pictures(self) -> NDArray[np.uint8]:
        """Pictures for whoever rounds to int8, and not among those that answers are compared on."""
        array: NDArray[np.uint8] = np.load(self.folder / "calibration.npy")
        return array

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """The pictures, `[n, side, side, 3]`: pixels as the model's recipe makes them."""
        array: NDArray[np.uint8] = np.load(self.folder / "pictures.npy")
        return array

    def normalised(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What a model sees that does not normalise pictures itself."""
        return normalise(pictures, self.model.preprocess)

    def peer_weights(self, layout: str) -> Path:
        """The weights in a layout.

        Raises:
            ArgumentError: It has no place for this model, or the peer could not run it.
        """
        strides = self.model.strides or adapted_strides(self.side, self.side)
        if strides != PUBLISHED_STRIDES:
            raise ArgumentError(
                "It has the published strides only, and on pictures of "
                f"{self.side} pixels this model has {'-'.join(map(str, strides))}."
            )
        problem = self.folder / f"{layout}.error"
        if problem.exists():
            raise ArgumentError(problem.read_text())
        return self.folder / LAYOUT_FILES[layout]


def write_weights(
    source: str, folder: Path, *, random: bool = False, size: int | None = None
) -> Model:
    """Put a model's weights into a folder.

    Args:
        source: A published checkpoint, a weights file, or with `random` the name of a variant.
        folder: Where to.
        random: Whether to draw weights instead of reading them.
        size: Side of the pictures; by default what the weights say.

    Raises:
        ArgumentError: The weights have no classifier, or take no RGB pictures.
    """
    target = folder / OURS
    if random:
        recipe = Preprocess() if size is None else Preprocess(size=size)
        info = WeightsInfo(name=f"{source} (random weights)", preprocess=recipe)
        save_weights(random_weights(VARIANTS[source]), target, info=info)
        return Model.read(target)
    with Session.open(source, size=size) as session:
        network = session.network
        if not network.num_classes or network.channels != 3:
            raise ArgumentError(
                f"{source} cannot be raced: it has {network.num_classes or 'no'} classes and takes "
                f"{network.channels} channels. Take a classifier of RGB pictures."
            )
        name = session.info.name or Path(source).name
        info = replace(session.info, name=name, preprocess=session.preprocess, licence=None)
        save_weights(network.weights.tensors, target, dtype="float32", info=info)
    return Model.read(target)


def write_material(
    folder: Path, model: Model, pictures: NDArray[np.uint8], layouts: Iterable[str] = ()
) -> Material:
    """Complete a folder that holds a model's weights.

    Args:
        folder: It holds what `write_weights` has written.
        model: What that returned.
        pictures: `[n, side, side, 3]`.
        layouts: Layouts to write the weights in, too. One that has no place for them is passed
            over: `Material.peer_weights` says so to whoever needs it.
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
    """Add what contenders in int8 need: pictures to calibrate with, and our own calibration.

    Raises:
        MissingDependencyError: OpenVINO, which ours needs, is not installed.
    """
    np.save(material.folder / "calibration.npy", pictures)
    quantize(material.weights, pictures).save(material.folder / CALIBRATION)


def _write_config(path: Path, model: Model) -> None:
    """What transformers wants to find beside the weights."""
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
