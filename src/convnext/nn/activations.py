"""The Keras function of each activation of `convnext.architecture`.

Functions that Keras lacks are registered, so that saved models load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from convnext.errors import ArgumentError
from convnext.steps import ACTIVATIONS, ActivationKind

__all__ = ["FUNCTIONS", "gelu_tanh", "kind_of", "leaky_relu", "quick_gelu"]


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def gelu_tanh(x: Any) -> Any:
    """GELU approximated by the hyperbolic tangent: transformers' `gelu_new`."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def quick_gelu(x: Any) -> Any:
    """GELU approximated by the logistic function, as in CLIP."""
    return x * keras.ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def leaky_relu(x: Any) -> Any:
    """Leaky ReLU with PyTorch's default slope, 0.01."""
    return keras.ops.leaky_relu(x, 0.01)


FUNCTIONS: Mapping[ActivationKind, Any] = {
    "gelu": keras.activations.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": keras.activations.silu,
    "relu": keras.activations.relu,
}


def kind_of(function: Any) -> ActivationKind:
    """Find the name of a function in `FUNCTIONS`.

    Raises:
        ArgumentError: The function is not in it.
    """
    for kind, known in FUNCTIONS.items():
        if function is known:
            return kind
    raise ArgumentError(
        f"Only Keras can compute the activation {getattr(function, '__name__', function)!r}. "
        f"Engines and exports allow: {', '.join(ACTIVATIONS)}."
    )
