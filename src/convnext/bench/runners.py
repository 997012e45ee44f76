"""A loaded contender, ready to be timed, and the package's engines as contenders.

`peers` loads other libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.bench.material import Material
from convnext.session import Session

__all__ = ["Runner", "RunnerOptions", "open_ours"]


@dataclass(frozen=True)
class RunnerOptions:
    """Options of a contender.

    Attributes:
        name: Name of the contender.
        precision: The requested precision.
        batch: Pictures in a batch.
        threads: Number of threads; None for the engine's default.
        processors: Available processors, for runtimes without a default.
    """

    name: str
    precision: str
    batch: int
    threads: int | None
    processors: int

    @property
    def use_threads(self) -> int:
        """Number of threads, for runtimes without a default."""
        return self.threads or self.processors


@dataclass(frozen=True)
class Runner:
    """A loaded model.

    Attributes:
        ready: Converts pixels, `[batch, side, side, 3]`, to the input of `run`. Not timed.
        run: Computes the logits. Timed.
        precision: The precision it uses.
    """

    ready: Callable[[NDArray[np.uint8]], Any]
    run: Callable[[Any], NDArray[np.float32]]
    precision: str


def open_ours(material: Material, options: RunnerOptions) -> Runner:
    """Load an engine of the package, which normalises pixels inside the timed call."""
    precision: Any = options.precision
    session = Session.open(
        material.weights,
        engine=options.name,
        precision=precision,
        threads=options.threads,
        calibration=material.calibration if precision == "int8" else None,
    )
    engine = session.engine("logits")
    return Runner(lambda pixels: pixels, engine.predict, f"{engine.precision}")
