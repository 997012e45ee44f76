"""The interface of runners, which compute shards, and the runner of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from convnext.scale.plan import Plan
from convnext.scale.run_options import RunOptions
from convnext.scale.worker import ShardDone, Worker

__all__ = ["Local", "Runner"]

Advance = Callable[[int], object]


class Runner(Protocol):
    """Interface of runners, used as context managers."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def facts(self) -> dict[str, Any]:
        """Facts of the workers, see `Worker.facts`."""

    def run(self, plan: Plan, shards: Sequence[int], advance: Advance) -> Iterator[ShardDone]:
        """Compute shards in any order.

        Args:
            plan: Of the run.
            shards: Numbers of the shards.
            advance: Called with the number of pictures in each computed batch.

        Raises:
            ConvNeXtError: A shard cannot be computed. Those that are done are kept.
        """


class Local:
    """A single worker with all processors, in this process."""

    def __init__(self, options: RunOptions) -> None:
        self._worker = Worker(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        """Facts of the worker."""
        return self._worker.facts()

    def run(self, plan: Plan, shards: Sequence[int], advance: Advance) -> Iterator[ShardDone]:
        """Compute shards in order."""
        return (self._worker.compute(plan, shard, advance) for shard in shards)
