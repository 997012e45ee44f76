"""The learning rate as a function of the update: a straight rise, then a cosine.

Why it exists: a run that is resumed needs no memory of its schedule if it is a pure function.
It knows no optimizer.

Reference: timm's `CosineLRScheduler` with `t_in_epochs=False` and `warmup_prefix=True`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Warm-up and cosine.

    Attributes:
        peak: The highest learning rate.
        final: Where the cosine ends.
        warmup: Updates of the rise, which starts at 0.
        total: Updates of the whole run.

    Example:
        >>> schedule = Schedule(peak=1.0, final=0.0, warmup=2, total=4)
        >>> [round(schedule(update), 3) for update in range(5)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    peak: float
    final: float
    warmup: int
    total: int

    def __call__(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        if update < self.warmup:
            return self.peak * update / self.warmup
        length = self.total - self.warmup
        if update >= self.total or not length:
            return self.final
        share = (1 + math.cos(math.pi * (update - self.warmup) / length)) / 2
        return self.final + (self.peak - self.final) * share
