"""Mixup, cutmix and label smoothing of a batch, each picture with its mirror in the batch.

References: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017; Yun et al., "CutMix",
2019; both drawn once for a whole batch, as in timm and the authors' training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError
from convnext.train.settings import check, setting

__all__ = ["Mixer", "Mixing", "Mixture", "cut_box"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Mixing:
    """Mixing settings of a recipe."""

    mixup: float = setting(0.0, "alpha of mixup's beta distribution; 0 for none", low=0)
    cutmix: float = setting(0.0, "alpha of cutmix's beta distribution; 0 for none", low=0)
    probability: float = setting(1.0, "of mixing a batch at all", low=0, high=1)
    switch: float = setting(0.5, "probability of cutmix if both are on", low=0, high=1)
    smoothing: float = setting(0.0, "label smoothing: target shared by all classes", low=0, high=1)

    def __post_init__(self) -> None:
        check(self)


class Mixture(NamedTuple):
    """The mixing drawn for a batch.

    Attributes:
        share: Weight of a picture; the rest is its partner's.
        box: Top, bottom, left and right of the box cut from the partner; None for mixup.
    """

    share: float
    box: tuple[int, int, int, int] | None = None


def cut_box(height: int, width: int, share: float, center: tuple[int, int]) -> Mixture:
    """Cutmix's box around a centre, clipped at the borders, and the share that remains.

    Example:
        >>> cut_box(8, 8, 0.75, (0, 4))
        Mixture(share=0.875, box=(0, 2, 2, 6))
    """
    side = math.sqrt(1 - share)
    (y, x), (h, w) = center, (int(height * side), int(width * side))
    top, bottom = max(y - h // 2, 0), min(y + (h + 1) // 2, height)
    left, right = max(x - w // 2, 0), min(x + (w + 1) // 2, width)
    return Mixture(
        1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right)
    )


class Mixer:
    """Mixes batches, and turns their classes into targets.

    Example:
        >>> mixer = Mixer(Mixing(smoothing=0.2), num_classes=2)
        >>> pictures = np.zeros((1, 4, 4, 3), np.float32)
        >>> mixer(pictures, np.array([1]), np.random.default_rng(0))[1].tolist()
        [[0.10000000149011612, 0.8999999761581421]]
    """

    def __init__(self, settings: Mixing, num_classes: int) -> None:
        if num_classes < 1:
            raise ArgumentError(f"num_classes is 1 or more; got {num_classes}.")
        self.settings = settings
        self.num_classes = num_classes

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Mixture:
        """Draw the mixing of a batch."""
        settings = self.settings
        if not (settings.mixup or settings.cutmix) or rng.random() >= settings.probability:
            return Mixture(1.0)
        cut = settings.cutmix > 0
        if cut and settings.mixup:
            cut = bool(rng.random() < settings.switch)
        alpha = settings.cutmix if cut else settings.mixup
        share = float(rng.beta(alpha, alpha))
        if not cut or share == 1:
            return Mixture(share)
        center = int(rng.integers(0, height)), int(rng.integers(0, width))
        return cut_box(height, width, share, center)

    def apply(
        self, pictures: Floats, labels: NDArray[np.integer], mixture: Mixture
    ) -> tuple[Floats, Floats]:
        """Mix a batch into new arrays.

        Args:
            pictures: `[n, height, width, 3]`.
            labels: `[n]`, the class of each; or `[n, num_classes]`, whether it has each label.
            mixture: From `draw`.

        Returns:
            Mixed pictures and `[n, num_classes]` targets.
        """
        return _mixed(pictures, mixture), self._targets(labels, mixture.share)

    def __call__(
        self, pictures: Floats, labels: NDArray[np.integer], rng: np.random.Generator
    ) -> tuple[Floats, Floats]:
        """Draw a mixing and apply it."""
        _, height, width, _ = pictures.shape
        return self.apply(pictures, labels, self.draw(height, width, rng))

    def _targets(self, labels: NDArray[np.integer], share: float) -> Floats:
        rest = self.settings.smoothing / self.num_classes
        targets = np.full((len(labels), self.num_classes), rest, np.float32)
        full = 1 - self.settings.smoothing + rest
        if labels.ndim == 2:
            targets[labels.astype(bool)] = full
        else:
            targets[np.arange(len(labels)), labels] = full
        return targets if share == 1 else targets * share + targets[::-1] * (1 - share)


def _mixed(pictures: Floats, mixture: Mixture) -> Floats:
    if mixture.share == 1:
        return pictures.copy()
    if mixture.box is None:
        # One picture at a time: the temporary arrays stay in the processor's cache.
        mixed = np.empty_like(pictures)
        for result, picture, partner in zip(mixed, pictures, pictures[::-1], strict=True):
            np.multiply(picture, mixture.share, out=result)
            result += partner * (1 - mixture.share)
        return mixed
    top, bottom, left, right = mixture.box
    mixed = pictures.copy()
    mixed[:, top:bottom, left:right] = pictures[::-1, top:bottom, left:right]
    return mixed
