"""How long a run is, and the learning rate as a function of the update: a rise, then a cosine.

Why it exists: a run that is resumed needs no memory of its schedule if it is a pure function.
It knows no optimizer.

Reference: timm's `CosineLRScheduler` with `t_in_epochs=False` and `warmup_prefix=True`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from convnext.train.recipe import Optimizer, Run

__all__ = ["Plan", "Schedule"]


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


@dataclass(frozen=True)
class Plan:
    """How long a run is, in steps.

    Attributes:
        epoch: Steps of an epoch.
        schedule: The learning rate of each step, and how many there are.
    """

    epoch: int
    schedule: Schedule

    @classmethod
    def of(cls, run: Run, optimizer: Optimizer, pictures: int) -> Plan:
        """The plan for so many pictures."""
        epoch = max(1, pictures // run.batch_size)
        total = max(1, round(run.epochs * epoch))
        peak = optimizer.learning_rate * run.batch_size / optimizer.reference_batch
        return cls(
            epoch,
            Schedule(
                peak=peak,
                final=min(optimizer.final_learning_rate, peak),
                warmup=min(total, round(optimizer.warmup_epochs * epoch)),
                total=total,
            ),
        )

    @property
    def total(self) -> int:
        """All steps."""
        return self.schedule.total
