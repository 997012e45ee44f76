"""Length of a run, and its learning rate as a pure function of the step: warm-up, then a fall.

References: timm's `CosineLRScheduler` with `t_in_epochs=False` and `warmup_prefix=True`; for a
line, mmcv's policy "poly" of power 1, whose line begins at step 0 and is scaled in the warm-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from convnext.train.sections import Optimizer, Run

__all__ = ["LearningRate", "Schedule"]


@dataclass(frozen=True)
class LearningRate:
    """A linear warm-up from 0, and a cosine or a line.

    Attributes:
        peak: The highest learning rate.
        final: The learning rate at the end.
        warmup: Steps of the warm-up.
        total: Steps of the run.
        shape: `"cosine"`, or `"poly"` for a line.

    Example:
        >>> learning_rate = LearningRate(peak=1.0, final=0.0, warmup=2, total=4)
        >>> [round(learning_rate(step), 3) for step in range(5)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    peak: float
    final: float
    warmup: int
    total: int
    shape: Literal["cosine", "poly"] = "cosine"

    def __call__(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.shape == "poly":
            rate = self.final + (self.peak - self.final) * max(0.0, 1 - step / self.total)
            return rate * min(1.0, step / self.warmup) if self.warmup else rate
        if step < self.warmup:
            return self.peak * step / self.warmup
        length = self.total - self.warmup
        if step >= self.total or not length:
            return self.final
        share = (1 + math.cos(math.pi * (step - self.warmup) / length)) / 2
        return self.final + (self.peak - self.final) * share


@dataclass(frozen=True)
class Schedule:
    """Length of a run in steps, and its learning rate.

    Attributes:
        epoch_steps: Steps of an epoch.
        learning_rate: The learning rate of each step.
    """

    epoch_steps: int
    learning_rate: LearningRate

    @classmethod
    def of(cls, run: Run, optimizer: Optimizer, pictures: int) -> Schedule:
        """The schedule of a recipe for a number of pictures."""
        epoch = max(1, pictures // run.batch_size)
        total = max(1, round(run.epochs * epoch))
        peak = optimizer.learning_rate * run.batch_size / optimizer.reference_batch
        return cls(
            epoch,
            LearningRate(
                peak=peak,
                final=min(optimizer.final_learning_rate, peak),
                warmup=min(total, round(optimizer.warmup_epochs * epoch)),
                total=total,
                shape=optimizer.schedule,
            ),
        )

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.learning_rate.total
