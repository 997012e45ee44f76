"""Resolves `run.precision = "auto"`: bfloat16 if the device computes it faster, else float32.

A processor without instructions for bfloat16 is many times slower in it than in float32.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TypeVar

import keras

from convnext.processors import processor_flags
from convnext.train.recipe import AnyRun
from convnext.train.sections import Precision

__all__ = ["actual_precision", "on_processor", "with_actual_precision"]

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
AMPERE = 8.0  # NVIDIA's first compute capability with bfloat16

AnyRecipe = TypeVar("AnyRecipe", bound=AnyRun)


def with_actual_precision(recipe: AnyRecipe) -> AnyRecipe:
    """Replace `"auto"` in a recipe by the precision of this backend and device."""
    return replace(
        recipe, run=replace(recipe.run, precision=actual_precision(recipe.run.precision))
    )


def actual_precision(precision: Precision) -> Precision:
    """Precision of products on the present backend and device.

    Args:
        precision: `"auto"`, or the precision to use; a slow one causes a warning.
    """
    if precision == "float32":
        return precision
    is_processor, has_bfloat16 = _device()
    if precision == "auto":
        return "bfloat16" if has_bfloat16 else "float32"
    if is_processor and not has_bfloat16 and keras.backend.backend() != "jax":  # not measured
        warnings.warn(
            "This processor has no instructions for bfloat16, so that training in it takes many "
            'times as long as in float32. Set run.precision to "auto" or "float32".',
            stacklevel=2,
        )
    return precision


def on_processor() -> bool:
    """Whether the present backend computes on a CPU."""
    return _device()[0]


def _device() -> tuple[bool, bool]:
    """Whether the device is a CPU, and whether bfloat16 is faster than float32 on it."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return False, bool(torch.cuda.is_bf16_supported(including_emulation=False))
        if torch.accelerator.is_available():
            return False, False
    elif backend == "tensorflow":
        import tensorflow as tf

        if gpus := tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(gpus[0])
            return False, details.get("compute_capability", (0, 0))[0] >= AMPERE
    else:
        import jax

        device = jax.devices()[0]
        if device.platform == "cpu":
            return True, False
        return False, float(getattr(device, "compute_capability", AMPERE)) >= AMPERE
    return True, not BFLOAT16_FLAGS.isdisjoint(processor_flags())
