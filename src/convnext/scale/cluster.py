"""Shards on Ray: workers that keep their engine warm, and what becomes of them.

Why Ray's actors and not the readers of Ray Data: these decode in their own way, end a run at a bad
picture, and promise no batches that are always the same, without which rows would depend on who
computed them. Answers do not pass through Ray either: a worker writes its shard itself, and tells
the driver how many pictures it had. So what is left for Ray is what it does best: to start workers
where there is room, to tell when one is gone, and to carry small messages.

A shard whose worker dies is tried again by another, behind the shards that nobody has tried yet,
and set aside if that happens `TRIES` times: one picture that makes a decoder crash must neither end
a run nor keep it from ending. Workers that were idle then are let go: they may have died with their
node, which nobody would notice before a shard is charged with it.
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

from convnext.errors import ArgumentError, ConvNeXtError
from convnext.processors import available_processors
from convnext.scale.arrow import ray
from convnext.scale.job import Job
from convnext.scale.plan import Plan
from convnext.scale.worker import Done, Worker

__all__ = ["TRIES", "Cluster", "Room"]

TRIES = 3
START_SECONDS = 600.0  # for the first worker: a cluster may have to grow
CONNECT_SECONDS = 10.0
PROCESSORS = 4  # of a worker, if nobody says: an engine makes the most of so many
OBJECT_STORE = 100 * 2**20  # bytes: nothing large passes through it


_log = logging.getLogger("convnext")


@dataclass(frozen=True)
class Room:
    """Where workers are and what they take.

    Attributes:
        address: Of a cluster: `host:port`, `"auto"`, or `ray://host:port`; None to start Ray here
            for as long as the run lasts.
        workers: How many; by default one for each four processors, or one for each GPU share.
        gpus: What each takes of a GPU.
        processors: Of each; by default they share evenly what is there when the run begins.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0
    processors: int | None = None


class _Failed(NamedTuple):
    """An error of ours in a worker, which is told and not raised: not every error can be sent."""

    message: str


class _Hand:
    """A worker in a process of its own."""

    def __init__(self, job: Job) -> None:
        _log.addHandler(logging.NullHandler())  # the driver says it
        self._worker = Worker(job)

    def facts(self) -> Any:
        """See `Worker.facts`."""
        return _told(self._worker.facts)

    def compute(self, plan: Plan, shard: int) -> Any:
        """See `Worker.compute`."""
        return _told(lambda: self._worker.compute(plan, shard))


def _told(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ConvNeXtError as error:
        return _Failed(str(error))


class Cluster:
    """Workers on Ray.

    Args:
        job: What is asked.
        room: Where, and how many.

    Raises:
        MissingDependencyError: Ray is not installed.
        ArgumentError: There is no such cluster, or it has no room.
    """

    def __init__(self, job: Job, room: Room) -> None:
        if min(room.workers or 1, room.processors or 1) < 1 or 0 in (room.workers, room.processors):
            raise ArgumentError(
                f"There must be 1 worker or more, of 1 processor or more each; got {room}."
            )
        if room.gpus < 0:
            raise ArgumentError(f"A worker takes 0 GPUs or a part of one or more; got {room.gpus}.")
        self._ray = ray()
        self._room = room
        self._started = False
        self._facts: dict[str, Any] = {}
        self._job = job
        self.workers = 0
        self._hands: Any = None  # what makes workers
        self._hired: list[Any] = []
        self._calls: dict[Any, Any] = {}  # the worker behind each call that is not answered yet
        self._deaths = 0  # of workers that were starting, one after the other
        self._why = ""

    def __enter__(self) -> Self:
        self._connect()
        try:
            threads = self._divide()
            self._job = replace(self._job, threads=threads)
            options = {"num_cpus": threads, "num_gpus": self._room.gpus or 0}
            self._hands = self._ray.remote(max_restarts=0, max_task_retries=0)(_Hand)
            self._hands = self._hands.options(**options)
            for _ in range(self.workers):
                self._hire()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in list(self._hired):
            self._let_go(actor)
        self._calls.clear()
        if self._started:
            self._ray.shutdown()

    def facts(self) -> dict[str, Any]:
        """What the first worker found."""
        while not self._facts:
            call = self._heard(working=False)
            actor = self._calls.pop(call)
            found = self._greeted(call, actor)
            if found is not None:
                self._facts = found
                self._calls[actor.facts.remote()] = actor  # answered once more when work begins
        return self._facts

    def run(
        self, plan: Plan, shards: Sequence[int], advance: Callable[[int], object]
    ) -> Iterator[Done]:
        """Compute shards, each on whatever worker is free."""
        shared = self._ray.put(plan)
        pending = deque(shards)
        given: dict[Any, int] = {}
        tries: Counter[int] = Counter()
        idle: list[Any] = []
        aside: list[int] = []
        left = len(pending)
        while left:
            while idle and pending:
                actor, shard = idle.pop(), pending.popleft()
                call = actor.compute.remote(shared, shard)
                self._calls[call], given[call] = actor, shard
            call = self._heard(working=bool(given))
            actor = self._calls.pop(call)
            if call not in given:
                if self._greeted(call, actor) is not None:
                    idle.append(actor)
                continue
            shard = given.pop(call)
            done = self._answer(call)
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
                aside.append(shard)
                left -= 1
            for gone in (actor, *idle):
                self._let_go(gone)
            idle.clear()
            if pending:
                self._hire()
        if aside:
            raise ConvNeXtError(_lost(aside, plan))

    def _heard(self, *, working: bool) -> Any:
        """The next call that was answered.

        Args:
            working: Whether a worker is at a shard, which may take any time.

        Raises:
            ConvNeXtError: Workers were to start, and none did.
        """
        while True:
            ready, _ = self._ray.wait(list(self._calls), timeout=START_SECONDS)
            if ready:
                return ready[0]
            if not working:
                raise ConvNeXtError(
                    f"No worker started in {START_SECONDS:g} seconds. {self._asked()} are asked "
                    f"for, and the cluster has {self._has()}. Ask for fewer, or wait for others."
                )

    def _connect(self) -> None:
        if self._ray.is_initialized():  # by the caller, who ends it as well
            return
        address = self._room.address
        options: dict[str, Any] = {"address": address}
        if address is None:
            options = {
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
                    warnings.simplefilter("ignore")  # of Ray to those who write programs for it
                    self._ray.init(**options, log_to_driver=False, logging_level=logging.FATAL)
                break
            except Exception as error:  # Ray raises plain ones too
                self._ray.shutdown()
                # It waits 30 seconds for its own parts, which a busy machine may exceed.
                if address is None and tries_left:
                    continue
                what = "started here" if address is None else f"reached at {address}"
                raise ConvNeXtError(f"Ray cannot be {what}: {error}") from error
        self._started = True

    def _divide(self) -> int:
        """How many workers, and the processors of each."""
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
            asked = self._asked(threads)
            raise ArgumentError(
                f"{asked} are asked for, and there are {self._has()}. Ask for fewer."
            )
        return threads

    def _fits(self, threads: int, processors: int, gpus: float) -> bool:
        return threads * self.workers <= processors and self._room.gpus * self.workers <= gpus

    def _asked(self, threads: int | None = None) -> str:
        each = f"{threads or self._job.threads} CPU"
        if self._room.gpus:
            each += f" and {self._room.gpus:g} GPU"
        return f"{self.workers} workers with {each} each"

    def _has(self) -> str:
        total = self._ray.cluster_resources()
        return f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU"

    def _hire(self) -> None:
        actor = self._hands.remote(self._job)
        self._hired.append(actor)
        self._calls[actor.facts.remote()] = actor

    def _let_go(self, actor: Any) -> None:
        """End a worker, dead or only out of reach: it would keep its processors."""
        self._hired.remove(actor)
        with contextlib.suppress(Exception):  # most are gone by now
            self._ray.kill(actor)

    def _greeted(self, call: Any, actor: Any) -> dict[str, Any] | None:
        """A new worker's facts; None if it died, and another takes its place.

        Raises:
            ConvNeXtError: It cannot work, or would answer otherwise than the others.
        """
        found: dict[str, Any] | None = self._answer(call)
        if found is None:
            self._deaths += 1
            if self._deaths >= TRIES:
                raise ConvNeXtError(
                    f"{self._deaths} workers died while they opened the model: "
                    f"{self._why}. Is there enough memory for {self.workers} of them?"
                )
            self._let_go(actor)
            self._hire()
            return None
        self._deaths = 0
        if self._facts and found != self._facts:
            other = [key for key in found if found[key] != self._facts.get(key)]
            differences = "; ".join(
                f"{key}: {self._facts.get(key)} on one, {found[key]} on another" for key in other
            )
            raise ConvNeXtError(
                f"The workers are not alike, so that rows would depend on who computed them "
                f"({differences}). Give the same versions and weights to every node, and name the "
                "engine and precision instead of auto."
            )
        return found

    def _answer(self, call: Any) -> Any:
        """What a worker said; None if it died."""
        errors = self._ray.exceptions
        try:
            said = self._ray.get(call)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            self._why = str(error).strip().rpartition("\n")[2].rstrip(".")  # first is who it was
            return None
        if isinstance(said, _Failed):
            raise ConvNeXtError(said.message)
        return said


def _lost(shards: Sequence[int], plan: Plan) -> str:
    listed = ", ".join(plan.part(shard) for shard in sorted(shards)[:5])
    more = f" and {len(shards) - 5} more" if len(shards) > 5 else ""
    return (
        f"{len(shards)} of {plan.shards} shards are missing: whoever computed them died {TRIES} "
        f"times ({listed}{more}). The others are complete. Is there enough memory, or does a "
        "picture crash its decoder? --resume (resume=True) tries them again."
    )


def _check_reachable(address: str) -> None:
    """Say so at once where nobody listens; Ray would try for minutes."""
    if address == "auto":
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ArgumentError(f"{address!r} is no address: {error}.") from error
    if host is None or port is None:
        raise ArgumentError(f"{address!r} is no address. Give host:port, ray://host:port or auto.")
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ArgumentError(f"Ray cannot be reached at {address}: {error}.") from error
