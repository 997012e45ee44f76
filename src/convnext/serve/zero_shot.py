"""Classes named in a request, for CLIP models that have a text tower."""

from __future__ import annotations

import logging
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ConvNeXtError
from convnext.serve.settings import ModelSpec, Settings
from convnext.session import Session
from convnext.text import TextEncoder
from convnext.text.templates import class_vectors

__all__ = ["ClassTexts", "load_texts"]

logger = logging.getLogger("convnext.serve")

KEPT = 64  # sets of labels, of 100 vectors at most


class ClassTexts:
    """Logits of pictures for classes named by a client; vectors of recent names are kept.

    `vectors` is called by one thread at a time.

    Args:
        encoder: The text tower.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._kept: OrderedDict[tuple[tuple[str, ...], str], NDArray[np.float32]] = OrderedDict()

    def vectors(self, labels: tuple[str, ...], template: str) -> NDArray[np.float32]:
        """The vectors of classes, `[labels, width]`; slow for new ones."""
        key = (labels, template)
        if key not in self._kept:
            self._kept[key] = class_vectors(self._encoder, labels, template)
        self._kept.move_to_end(key)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def logits(
        self, picture: NDArray[np.float32], vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Logits of a picture's embedding."""
        found: NDArray[np.float32] = vectors @ picture * self._encoder.scale + self._encoder.bias
        return found


def load_texts(
    spec: ModelSpec, settings: Settings, session: Session, threads: int | None
) -> ClassTexts | None:
    """Load the text tower of a CLIP model; None for other models, or if it cannot be loaded."""
    if session.info.task != "clip" or session.num_classes or "classify" not in settings.answers:
        return None
    try:
        return ClassTexts(TextEncoder(spec.source, settings.engine, threads=threads))
    except ConvNeXtError as error:
        logger.warning("model %s cannot classify by labels of requests: %s", spec.name, error)
        return None
