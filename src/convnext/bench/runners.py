"""What a contender is once it is loaded: a call to be timed.

It knows our engines. `peers` has everyone else's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.bench.material import Material
from convnext.session import Session

__all__ = ["Order", "Runner", "open_ours"]


@dataclass(frozen=True)
class Order:
    """What a contender is to do.

    Attributes:
        name: Who it is.
        precision: What to compute in.
        batch: Pictures at once.
        threads: How many; None to choose.
        processors: How many it may use, where there is no word for threads.
    """

    name: str
    precision: str
    batch: int
    threads: int | None
    processors: int

    @property
    def use_threads(self) -> int:
        """How many threads to ask for, where one has to say."""
        return self.threads or self.processors


@dataclass(frozen=True)
class Runner:
    """A loaded model.

    Attributes:
        ready: Turns pixels, `[batch, side, side, 3]`, into what `run` takes. It is not timed.
        run: Computes the logits. It is timed.
        precision: What it computes in.
    """

    ready: Callable[[NDArray[np.uint8]], Any]
    run: Callable[[Any], NDArray[np.float32]]
    precision: str


def open_ours(material: Material, order: Order) -> Runner:
    """One of our engines. It takes pixels and normalises them itself, inside the timed call."""
    precision: Any = order.precision
    session = Session.open(
        material.weights,
        engine=order.name,
        precision=precision,
        threads=order.threads,
        calibration=material.calibration if precision == "int8" else None,
    )
    engine = session.engine("logits")
    return Runner(lambda pixels: pixels, engine.predict, f"{engine.precision}")
