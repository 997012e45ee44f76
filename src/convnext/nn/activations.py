"""Activations by the names that an architecture has for them, as Keras functions.

Those that Keras lacks are registered, so that saved models load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from convnext.architecture import ACTIVATIONS, ActivationKind
from convnext.errors import ArgumentError

__all__ = ["FUNCTIONS", "gelu_tanh", "kind_of", "leaky_relu", "quick_gelu"]


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def gelu_tanh(x: Any) -> Any:
    """GELU by the hyperbolic tangent, transformers' `gelu_new`."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def quick_gelu(x: Any) -> Any:
    """GELU by the logistic function, as CLIP has it."""
    return x * keras.ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable(package="convnext")  # type: ignore[untyped-decorator]
def leaky_relu(x: Any) -> Any:
    """With PyTorch's slope, which is not that of Keras."""
    return keras.ops.leaky_relu(x, 0.01)


FUNCTIONS: Mapping[ActivationKind, Any] = {
    "gelu": keras.activations.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": keras.activations.silu,
    "relu": keras.activations.relu,
}


def kind_of(function: Any) -> ActivationKind:
    """What an architecture calls this function.

    Raises:
        ArgumentError: It has no name for it.
    """
    for kind, known in FUNCTIONS.items():
        if function is known:
            return kind
    raise ArgumentError(
        f"The activation {getattr(function, '__name__', function)!r} is none of "
        f"{', '.join(ACTIVATIONS)}: such a network runs in Keras only."
    )
