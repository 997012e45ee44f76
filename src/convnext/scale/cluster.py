"""Computes shards on Ray, with actors that keep the model open.

Ray starts actors, detects their death and carries small messages. Actors read pictures and write
shards themselves: Ray Data decodes differently, stops at a bad picture, and has no reproducible
batches, on which rounding depends.

A shard whose worker dies is retried after all others, and fails after `TRIES` deaths, so that a
picture that crashes a decoder neither ends a run nor repeats for ever. Idle workers are killed then
too: they may have died with their node, which only a call would show.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from convnext.data.arrow import ray
from convnext.errors import ArgumentError, ConvNeXtError, listed
from convnext.processors import available_processors
from convnext.scale.plan import Plan
from convnext.scale.run_options import RunOptions
from convnext.scale.worker import ShardDone, Worker

__all__ = ["TRIES", "Cluster", "Room"]

TRIES = 3
START_SECONDS = 600.0  # for the first worker: a cluster may have to grow
CONNECT_SECONDS = 10.0
PROCESSORS = 4  # of a worker by default: engines scale well up to this
OBJECT_STORE = 100 * 2**20  # bytes: nothing large passes through it


_log = logging.getLogger("convnext")


@dataclass(frozen=True)
class Room:
    """The resources of a run on Ray.

    Attributes:
        address: Of a cluster: `host:port`, `"auto"`, or `ray://host:port`; None to start Ray on
            this machine for the run.
        workers: Number of workers; by default one for each four processors, or for each GPU share.
        gpus: GPUs of each worker, or a fraction of one.
        processors: Of each worker; by default an equal share of those at the start.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0
    processors: int | None = None


class _Failed(NamedTuple):
    """Message of this package's error in a worker; not every error can be pickled."""

    message: str


class _Actor:
    """A Ray actor around a worker."""

    def __init__(self, options: RunOptions) -> None:
        _log.addHandler(logging.NullHandler())  # the driver logs instead
        self._worker = Worker(options)

    def facts(self) -> Any:
        """See `Worker.facts`."""
        return _caught(self._worker.facts)

    def compute(self, plan: Plan, shard: int) -> Any:
        """See `Worker.compute`."""
        return _caught(lambda: self._worker.compute(plan, shard))


def _caught(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ConvNeXtError as error:
        return _Failed(str(error))


class Cluster:
    """Workers on Ray.

    Raises:
        MissingDependencyError: Ray is not installed.
        ArgumentError: There is no such cluster, or it is too small.
    """

    def __init__(self, options: RunOptions, room: Room) -> None:
        if min(room.workers or 1, room.processors or 1) < 1 or 0 in (room.workers, room.processors):
            raise ArgumentError(f"workers and processors are 1 or more; got {room}.")
        if room.gpus < 0:
            raise ArgumentError(f"gpus of a worker is 0 or more; got {room.gpus}.")
        self._ray = ray()
        self._room = room
        self._started = False
        self._facts: dict[str, Any] = {}
        self._options = options
        self.workers = 0
        self._actor_class: Any = None
        self._actors: list[Any] = []
        self._calls: dict[Any, Any] = {}  # the actor of each call without a result
        self._deaths = 0  # of starting workers, in succession
        self._why = ""

    def __enter__(self) -> Self:
        self._connect()
        try:
            threads = self._divide()
            self._options = replace(self._options, threads=threads)
            ray_options = {"num_cpus": threads, "num_gpus": self._room.gpus or 0}
            self._actor_class = self._ray.remote(max_restarts=0, max_task_retries=0)(_Actor)
            self._actor_class = self._actor_class.options(**ray_options)
            for _ in range(self.workers):
                self._start_actor()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in list(self._actors):
            self._kill(actor)
        self._calls.clear()
        if self._started:
            self._ray.shutdown()

    def facts(self) -> dict[str, Any]:
        """Facts of the first worker that has started."""
        while not self._facts:
            call = self._next_ready(working=False)
            actor = self._calls.pop(call)
            found = self._check_started(call, actor)
            if found is not None:
                self._facts = found
                self._calls[actor.facts.remote()] = actor  # `run` handles it as a new worker
        return self._facts

    def run(
        self, plan: Plan, shards: Sequence[int], advance: Callable[[int], object]
    ) -> Iterator[ShardDone]:
        """Compute shards, each on a free worker."""
        shared = self._ray.put(plan)
        pending = deque(shards)
        running: dict[Any, int] = {}
        tries: Counter[int] = Counter()
        idle: list[Any] = []
        failed: list[int] = []
        left = len(pending)
        while left:
            while idle and pending:
                actor, shard = idle.pop(), pending.popleft()
                call = actor.compute.remote(shared, shard)
                self._calls[call], running[call] = actor, shard
            call = self._next_ready(working=bool(running))
            actor = self._calls.pop(call)
            if call not in running:
                if self._check_started(call, actor) is not None:
                    idle.append(actor)
                continue
            shard = running.pop(call)
            done = self._result(call)
            if done is not None:
                left -= 1
                idle.append(actor)
                advance(done.pictures)
                yield done
                continue
            tries[shard] += 1
            _log.warning("A worker died at %s: %s", plan.part(shard), self._why)
            if tries[shard] < TRIES:
                pending.append(shard)
            else:
                failed.append(shard)
                left -= 1
            for gone in (actor, *idle):
                self._kill(gone)
            idle.clear()
            if pending:
                self._start_actor()
        if failed:
            raise ConvNeXtError(_lost(failed, plan))

    def _next_ready(self, *, working: bool) -> Any:
        """Wait for the next call with a result.

        Args:
            working: Whether a worker computes a shard, which may take any time.

        Raises:
            ConvNeXtError: No worker started in time.
        """
        while True:
            ready, _ = self._ray.wait(list(self._calls), timeout=START_SECONDS)
            if ready:
                return ready[0]
            if not working:
                raise ConvNeXtError(
                    f"No worker started in {START_SECONDS:g} seconds. {self._requested()} are "
                    f"requested, and the cluster has {self._available()}. Request fewer, or wait "
                    "until other runs end."
                )

    def _connect(self) -> None:
        if self._ray.is_initialized():  # by the caller, who also shuts it down
            return
        address = self._room.address
        ray_options: dict[str, Any] = {"address": address}
        if address is None:
            ray_options = {
                "address": "local",
                "num_cpus": available_processors(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE,
                "_node_ip_address": "127.0.0.1",
            }
        else:
            _check_reachable(address)
        for tries_left in (1, 0):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # meant for developers
                    self._ray.init(**ray_options, log_to_driver=False, logging_level=logging.FATAL)
                break
            except Exception as error:  # Ray raises plain exceptions too
                self._ray.shutdown()
                # Ray waits 30 seconds for its own processes, which a busy machine may exceed.
                if address is None and tries_left:
                    continue
                what = "started here" if address is None else f"reached at {address}"
                raise ConvNeXtError(f"Ray cannot be {what}: {error}") from error
        self._started = True

    def _divide(self) -> int:
        """Set the number of workers, and return the processors of each."""
        total = self._ray.cluster_resources()
        processors, gpus = int(total.get("CPU", 0)), total.get("GPU", 0.0)
        room = self._room
        by_gpu = int(gpus / room.gpus) if room.gpus else 0
        each = room.processors or PROCESSORS
        self.workers = room.workers or by_gpu or max(1, processors // each)
        nodes = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        share = min(processors // self.workers, int(max(nodes, default=1)))
        threads = room.processors or max(1, share)
        if room.address is None and not self._fits(threads, processors, gpus):
            raise ArgumentError(
                f"{self._requested(threads)} are requested, and this machine has "
                f"{self._available()}. Request fewer."
            )
        return threads

    def _fits(self, threads: int, processors: int, gpus: float) -> bool:
        return threads * self.workers <= processors and self._room.gpus * self.workers <= gpus

    def _requested(self, threads: int | None = None) -> str:
        each = f"{threads or self._options.threads} CPU"
        if self._room.gpus:
            each += f" and {self._room.gpus:g} GPU"
        return f"{self.workers} workers with {each} each"

    def _available(self) -> str:
        total = self._ray.cluster_resources()
        return f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU"

    def _start_actor(self) -> None:
        actor = self._actor_class.remote(self._options)
        self._actors.append(actor)
        self._calls[actor.facts.remote()] = actor

    def _kill(self, actor: Any) -> None:
        """Kill a worker, dead or unreachable, so that its processors are free again."""
        self._actors.remove(actor)
        with contextlib.suppress(Exception):  # most have died already
            self._ray.kill(actor)

    def _check_started(self, call: Any, actor: Any) -> dict[str, Any] | None:
        """Return a new worker's facts; None if it died and was replaced.

        Raises:
            ConvNeXtError: It cannot open the model, or its facts differ from the others'.
        """
        found: dict[str, Any] | None = self._result(call)
        if found is None:
            self._deaths += 1
            if self._deaths >= TRIES:
                raise ConvNeXtError(
                    f"{self._deaths} workers died while they opened the model: "
                    f"{self._why}. Request fewer than {self.workers} if memory is too small."
                )
            self._kill(actor)
            self._start_actor()
            return None
        self._deaths = 0
        if self._facts and found != self._facts:
            other = [key for key in found if found[key] != self._facts.get(key)]
            differences = "; ".join(
                f"{key}: {self._facts.get(key)} on one, {found[key]} on another" for key in other
            )
            raise ConvNeXtError(
                f"The workers differ, so that rows would depend on the worker ({differences}). "
                "Install the same versions and weights on every node, and name the engine and "
                "precision instead of auto."
            )
        return found

    def _result(self, call: Any) -> Any:
        """Return a call's result; None if the worker died."""
        errors = self._ray.exceptions
        try:
            result = self._ray.get(call)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            self._why = (
                str(error).strip().rpartition("\n")[2].rstrip(".")
            )  # lines before it name the actor
            return None
        if isinstance(result, _Failed):
            raise ConvNeXtError(result.message)
        return result


def _lost(shards: Sequence[int], plan: Plan) -> str:
    names = listed([plan.part(shard) for shard in sorted(shards)])
    return (
        f"{len(shards)} of {plan.shards} shards are missing: their workers died {TRIES} times "
        f"({names}). The others are complete. Memory may be too small, or a picture may "
        "crash its decoder. Retry them with --resume (resume=True)."
    )


def _check_reachable(address: str) -> None:
    """Check that an address answers; Ray itself would try for minutes."""
    if address == "auto":
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ArgumentError(f"{address!r} is no address: {error}.") from error
    if host is None or port is None:
        raise ArgumentError(f"{address!r} is no address. Use host:port, ray://host:port or auto.")
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ArgumentError(f"Ray cannot be reached at {address}: {error}.") from error
