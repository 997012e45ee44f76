"""Who computes the shards: what a runner is, and the one that does it here, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from convnext.scale.job import Job
from convnext.scale.plan import Plan
from convnext.scale.worker import Done, Worker

__all__ = ["Local", "Runner"]

Advance = Callable[[int], object]


class Runner(Protocol):
    """Computes shards, inside a `with` block."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def facts(self) -> dict[str, Any]:
        """What only a worker can tell, see `Worker.facts`."""

    def run(self, plan: Plan, shards: Sequence[int], advance: Advance) -> Iterator[Done]:
        """Compute shards in any order.

        Args:
            plan: What is to be done.
            shards: Which of it.
            advance: Called with numbers of pictures, as they are answered.

        Raises:
            ConvNeXtError: A shard cannot be computed. Those that are done stay.
        """


class Local:
    """One worker with all processors, in this process.

    Args:
        job: What is asked.
    """

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        """What the worker found."""
        return self._worker.facts()

    def run(self, plan: Plan, shards: Sequence[int], advance: Advance) -> Iterator[Done]:
        """Compute shards in order."""
        return (self._worker.compute(plan, shard, advance) for shard in shards)
