"""Models of the Hugging Face door and of transformers, every parameter random."""

from __future__ import annotations

import keras
import numpy as np

from convnext import hf
from peers import as_numpy, randomise, relative_error

BACKEND = keras.backend.backend()
TOLERANCE = 1e-5 if BACKEND == "torch" else 1e-4
SIZES = {"depths": [1, 2, 1, 1], "hidden_sizes": [8, 12, 16, 24]}
FAMILIES = ["ConvNext", "ConvNextV2"]
# JAX compiles every operation for every shape, and these tests' shapes are their own.
FEWER_FAMILIES = FAMILIES[1:] if BACKEND == "jax" else FAMILIES
KINDS = ["Model", "ForImageClassification", "Backbone"]


def tensor(array):
    """An array as the running backend has it."""
    return keras.ops.convert_to_tensor(array)


def config_of(family, **values):
    return getattr(hf, f"{family}Config")(**{**SIZES, **values})


def model_of(family, kind, **values):
    """A model of ours, ready to answer, every parameter random."""
    model = getattr(hf, f"{family}{kind}")(config_of(family, **values))
    rng = np.random.default_rng(5)
    for name, shape in model.parameter_shapes().items():
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 and "grn" not in name else 4
        value = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(fan_in))
        shift = 1 if "norm" in name and name.endswith("weight") else 0
        model.assign_parameter(name, value + np.float32(shift))
    if BACKEND == "torch":
        model.eval()
    return model


def upstream_of(family, kind, **values):
    import transformers

    config = getattr(transformers, f"{family}Config")(**{**SIZES, **values})
    return randomise(getattr(transformers, f"{family}{kind}")(config)).eval()


def answers_of_upstream(model, images, **arguments):
    import torch

    with torch.no_grad():
        out = model(torch.from_numpy(images), **arguments)
    return flat(out)


def flat(out):
    """Everything in an answer, by name."""
    found = {}
    for name, value in out.items():
        for number, one in enumerate(value if isinstance(value, tuple | list) else [value]):
            found[f"{name} {number}"] = as_numpy(keras.ops.convert_to_tensor(as_array(one)))
    return found


def as_array(value):
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    errors = {n: relative_error(np.atleast_1d(ours[n]), np.atleast_1d(theirs[n])) for n in theirs}
    assert max(errors.values()) < TOLERANCE, errors
