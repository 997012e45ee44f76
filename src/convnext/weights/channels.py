"""Adapt weights to another number of input channels, as timm does.

For one channel, the stem's kernel is summed over its channels, so that a grey picture gives the
result of its three equal channels. For other numbers the channels are repeated in turn, and
rescaled so that the sum stays in its range. Reference: timm's `adapt_input_conv`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convnext.weights.files import LazyTensor
from convnext.weights.layouts.moves import Array

__all__ = ["STEM", "for_channels"]

STEM = "stem_conv.kernel"


def for_channels(tensors: Mapping[str, LazyTensor], channels: int) -> Mapping[str, LazyTensor]:
    """The tensors, with the stem's kernel adapted to pictures of this many channels.

    Args:
        tensors: Tensors by canonical name.
        channels: Channels of the pictures.
    """
    kernel = tensors.get(STEM)
    if kernel is None or kernel.shape[2] == channels:
        return tensors

    def load() -> Array:
        values = kernel.read().astype(np.float32)
        if channels == 1:
            return np.asarray(values.sum(axis=2, keepdims=True))
        own = values.shape[2]
        return values[:, :, np.arange(channels) % own] * np.float32(own / channels)

    shape = (*kernel.shape[:2], channels, kernel.shape[3])
    return {**tensors, STEM: LazyTensor(shape, np.dtype(np.float32), load)}
