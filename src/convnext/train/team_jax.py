"""A team on JAX: one process for each host, `keras.distribution.DataParallel` over all devices.

XLA divides the step: each device computes its rows of the batch, and the loss and the gradients
are those of the whole. Random numbers of a step belong to rows of the whole batch, so with one host
the number of devices changes nothing but rounding. What hosts tell each other goes through JAX as
well, byte by byte, because its numbers have 32 bits.

A host that dies breaks its connections, and the next exchange of the others fails; a host that is
silent for a minute, or the first one's end, makes JAX end the process from a thread of its own. A
second process, which only waits for the first one's end, says what to do then.
"""

from __future__ import annotations

import atexit
import inspect
import os
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from convnext.errors import ArgumentError, TrainingError
from convnext.train.team import JOINING, Hosts, Team, lost

__all__ = ["JaxTeam"]

HEARTBEAT = 60  # seconds until a host that says nothing counts as gone
LEAVING = 60  # seconds that the last one to end may come later than the first

ROWS = "rows"

FAILED = 2  # what the command line returns for an error

_joined: Hosts | None = None
_watch: subprocess.Popen[bytes] | None = None


class JaxTeam(Team):
    """One host of several, or one with several devices, on JAX.

    Args:
        hosts: Which one; None for the only one.
        devices: How many of its devices; None for all.
    """

    def __init__(self, hosts: Hosts | None, devices: int | None) -> None:
        self.hosts = hosts
        self.rank, self.count = (hosts.rank, hosts.count) if hosts else (0, 1)
        self._wanted = devices
        self._context = ExitStack()
        self._forward: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def __enter__(self) -> JaxTeam:
        if self.hosts is not None and self.count > 1:
            _join(self.hosts)
        try:
            self._place()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _place(self) -> None:
        """Find the devices, and have Keras use them."""
        with lost(self):
            there = jax.local_devices()
            self.devices = self._wanted or len(there)
            if self.devices > len(there):
                raise ArgumentError(_too_few(self.devices, there))
            _check_alike(self.count)
            self._local = there[: self.devices]
            most = self.gather([len(self._local)])[:, 0]
        if len(set(most.tolist())) > 1:
            raise ArgumentError(
                f"Hosts have as many devices each; got {', '.join(f'{n:g}' for n in most)}. Give "
                f"--devices {int(most.min())} to all."
            )
        chosen = [
            device
            for rank in range(self.count)
            for device in [d for d in jax.devices() if d.process_index == rank][: self.devices]
        ]
        local = Mesh(np.array(self._local), (ROWS,))
        self._by_rows = NamedSharding(local, PartitionSpec(ROWS))
        self._on_each = NamedSharding(local, PartitionSpec())
        everywhere = Mesh(np.array(chosen), (ROWS,))
        self._everywhere = NamedSharding(everywhere, PartitionSpec())
        names = [f"{device.platform}:{device.id}" for device in chosen]
        self._context.enter_context(
            keras.distribution.DataParallel(devices=names, auto_shard_dataset=False).scope()
        )

    def __exit__(self, *reason: object) -> None:
        self._context.close()
        if self.count > 1 and reason[0] is not None:
            atexit.register(_leave)

    def exchange(self, data: bytes) -> list[bytes]:
        """What every host gave."""
        if self.count == 1:
            return [data]
        with lost(self):
            found = multihost_utils.process_allgather(np.frombuffer(data, np.uint8))
        return [row.tobytes() for row in np.asarray(found).reshape(self.count, -1)]

    def equip(self, model: Any, optimizer: Any) -> None:
        """Nothing: what is built inside of the team is computed by all of it."""

    def differ(self, model: Any) -> None:
        """Nothing: numbers are drawn for the whole batch."""

    def value(self, array: Any) -> Any:
        """The value on every device; Keras would have the hosts compare theirs each time."""
        given = np.asarray(array)
        if given.dtype in (np.float64, np.int64):  # a number of Python's
            given = given.astype(np.float32 if given.dtype == np.float64 else np.int32)
        return jax.make_array_from_callback(
            given.shape, self._everywhere, lambda index: given[index]
        )

    def predict(self, model: Any, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What the model answers, computed by this host's devices alone."""
        count = len(inputs[0])
        lacking = -count % self.devices
        padded = [np.pad(x, ((0, lacking), *[(0, 0)] * (x.ndim - 1))) for x in inputs]
        placed = [jax.device_put(x, self._by_rows) for x in padded]
        if model not in self._forward:
            self._forward[model] = jax.jit(_forward(model))
        trained = [self._own(v) for v in model.trainable_variables]
        others = [self._own(v) for v in model.non_trainable_variables]
        found = self._forward[model](trained, others, placed)
        return np.asarray(found, np.float32)[:count]

    def _own(self, variable: Any) -> jax.Array:
        """A variable as this host's devices have it; nothing is copied."""
        value = variable.value
        parts = [shard.data for shard in value.addressable_shards]
        return jax.make_array_from_single_device_arrays(value.shape, self._on_each, parts)

    def loss(self, model: Any, inputs: Sequence[NDArray[Any]]) -> float:
        """The model's loss."""
        answers = self.predict(model, inputs)
        return float(model.compute_loss(x=list(inputs), y_pred=answers, training=False))


def _forward(model: Any) -> Any:
    owner = weakref.proxy(model)

    def forward(trained: list[Any], others: list[Any], inputs: list[Any]) -> Any:
        given = inputs[0] if len(inputs) == 1 else inputs
        return owner.stateless_call(trained, others, given, training=False)[0]

    return forward


def _too_few(wanted: int, there: Sequence[Any]) -> str:
    kind = there[0].platform
    advice = (
        f" For a trial on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count={wanted} makes "
        "it look like as many."
        if kind == "cpu"
        else ""
    )
    return f"This host has {len(there)} devices ({kind}), and {wanted} were asked for.{advice}"


def _check_alike(hosts: int) -> None:
    """Refuse hosts that see unequal numbers of devices: JAX exchanges through all of them."""
    seen = Counter(device.process_index for device in jax.devices())
    counts = [seen[rank] for rank in range(hosts)]
    if len(set(counts)) > 1:
        raise ArgumentError(
            f"Hosts see as many devices each; these see {', '.join(map(str, counts))}. Hide the "
            f"others, on GPUs with CUDA_VISIBLE_DEVICES, so that all see {max(1, min(counts))}; "
            "--devices alone does not."
        )


def _join(hosts: Hosts) -> None:
    """Meet the other hosts; a process does so once."""
    global _joined
    if _joined == hosts:
        return
    if _joined is not None or jax.distributed.is_initialized():
        raise ArgumentError(
            "This process has joined other hosts already, and JAX does so once. Start a process of "
            "its own for this run, and let `hosts` join it."
        )
    _find_first(hosts)
    _say_if_killed(hosts)
    options = {
        "initialization_timeout": JOINING,
        "heartbeat_timeout_seconds": HEARTBEAT,
        "shutdown_timeout_seconds": LEAVING,
    }
    known = inspect.signature(jax.distributed.initialize).parameters
    try:
        jax.distributed.initialize(
            hosts.place,
            hosts.count,
            hosts.rank,
            **{name: value for name, value in options.items() if name in known},
        )
    except (RuntimeError, ValueError) as error:
        if "before" in str(error):
            raise ArgumentError(
                "JAX computes already in this process, and hosts have to meet before. Call train "
                "before anything else that computes, or in a process of its own."
            ) from error
        raise TrainingError(
            f"The {hosts.count} hosts did not meet at {hosts.place}: {error} See that all were "
            "started, each with a rank of its own and the same count."
        ) from error
    _joined = hosts


def _find_first(hosts: Hosts) -> None:
    """See that the first host can listen, or that it does: JAX would end the process."""
    if hosts.rank == 0:
        family = socket.AF_INET6 if ":" in hosts.address else socket.AF_INET
        try:
            with socket.socket(family) as place:
                place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                place.bind(("", hosts.port))
        except OSError as error:
            raise ArgumentError(
                f"Port {hosts.port} of this host, the first, cannot be used: {error.strerror}. "
                "Give all hosts another one."
            ) from error
        return
    end = time.monotonic() + JOINING
    while True:
        try:
            socket.create_connection((hosts.address, hosts.port), timeout=5).close()
        except OSError as error:
            if time.monotonic() > end:
                raise TrainingError(
                    f"The first host does not answer at {hosts.place} after {JOINING} seconds: "
                    f"{error}. Start it with rank 0, and see that this one may reach that port."
                ) from error
            time.sleep(0.5)
        else:
            return


def _say_if_killed(hosts: Hosts) -> None:
    """Have somebody say what to do if this process ends without a word."""
    global _watch
    if os.name != "posix":
        return
    message = (
        f"convnext: host {hosts.rank} of {hosts.count} ended at once: it was killed, or JAX did so "
        f"because another host is gone or never came to {hosts.place}. See that all hosts were "
        "started, each with a rank of its own and the same count. The last checkpoint is whole: "
        "start all hosts again with --resume, as many as there are now."
    )
    _watch = subprocess.Popen(
        ["/bin/sh", "-c", 'read word || printf "%s\\n" "$0" >&2', message],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the host
    )
    atexit.register(_dismiss)


def _dismiss() -> None:
    """This process ends and has said why."""
    if _watch is not None:
        with suppress(OSError, ValueError, subprocess.TimeoutExpired):
            _watch.communicate(b"done\n", timeout=5)


def _leave() -> None:
    """End without the others: JAX waits for all of them at its end, and fails if they are gone."""
    _dismiss()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED)
