"""Small networks that other libraries computed: each a trait of an architecture, drawn from a seed.

`make.py` asks the libraries and writes `outputs.npz`; tests compare with that file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import Architecture
from convnext.weights.files import LazyTensor
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import recognise
from convnext.weights.load import CanonicalWeights
from convnext.weights.random_weights import random_weights

Array = NDArray[np.float32]

FOLDER = Path(__file__).parent
SIDE = 128  # the smallest at which strides are the published ones
CLASSES = 7
SMALL = {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 40)}
USUAL = Architecture("convnext_custom", "custom", SMALL["depths"], SMALL["dims"])
V2 = {"grn": True, "layer_scale": False}

TRAITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # as we spell it, and as timm does
    "usual": ({}, {}),
    "grn": (V2, {"use_grn": True, "ls_init_value": None}),
    "no layer scale": ({"layer_scale": False}, {"ls_init_value": None}),
    "epsilon": ({"epsilon": 1e-2}, {"norm_eps": 1e-2}),
    "tanh": ({"activation": "gelu_tanh"}, {"act_layer": "gelu_tanh"}),
    "silu, kernels": (
        {"activation": "silu", "kernels": (7, 5, 5, 3)},
        {"act_layer": "silu", "kernel_sizes": (7, 5, 5, 3)},
    ),
    "overlap": ({"stem": "overlap"}, {"stem_type": "overlap"}),
    "overlap_tiered": ({"stem": "overlap_tiered"}, {"stem_type": "overlap_tiered"}),
    "overlap_act": ({"stem": "overlap_act"}, {"stem_type": "overlap_act"}),
    "rms": ({"norm": "rms"}, {"norm_layer": "rmsnorm", "conv_mlp": True}),
    "simple": ({"norm": "simple"}, {"norm_layer": "simplenorm", "conv_mlp": True}),
    "norm_pool": ({"head": "norm_pool"}, {"head_norm_first": True}),
    "hidden": ({"head_hidden": 20}, {"head_hidden_size": 20}),
}
STRIDES = {"output stride 8": 8, "output stride 16": 16}  # of the usual network

FILES = {  # written by the library itself, and the layout that its names are of
    "timm": "timm",
    "transformers": "huggingface",
    "torchvision.pth": "torchvision",
    "keras_applications.weights.h5": "keras_applications",
}


def architecture(trait: str) -> Architecture:
    """The network with a trait."""
    return replace(USUAL, **TRAITS[trait][0])


def weights(trait: str) -> dict[str, Array]:
    """A value for every parameter, by canonical name."""
    return random_weights(architecture(trait), CLASSES)


def as_read(trait: str) -> CanonicalWeights:
    """The same as a file would give them."""
    arrays = weights(trait)
    found = recognise({n: a.shape for n, a in arrays.items()}, "convnext", architecture(trait))
    tensors = {name: LazyTensor.from_array(array) for name, array in arrays.items()}
    return CanonicalWeights(tensors, found, WeightsInfo(), f"the golden network {trait!r}")


def pictures() -> Array:
    """Two normalised pictures."""
    return np.random.default_rng(1).standard_normal((2, SIDE, SIDE, 3), np.float32)


def expected_outputs(name: str) -> dict[str, Array]:
    """What a library answered: by the name of an output."""
    with np.load(FOLDER / "outputs.npz") as file:
        return {key.rpartition("/")[2]: file[key] for key in file if key.rpartition("/")[0] == name}
