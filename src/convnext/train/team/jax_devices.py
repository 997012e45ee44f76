"""A team on JAX: one process for each host, `keras.distribution.DataParallel` over all devices.

XLA divides the step: each device computes its rows of the batch, and loss and gradients are those
of the whole batch. Random numbers are drawn for the whole batch, so with one host the number of
devices changes only rounding. Hosts exchange bytes through JAX, as its numbers have 32 bits.

If a host dies, the next exchange of the others fails. If a host is silent for a minute, or the
first one ends, JAX ends the process from a thread of its own; a second process, which waits for
that, then prints what to do.
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
from convnext.train.team.base import JOINING, Hosts, Team, lost

__all__ = ["JaxTeam"]

HEARTBEAT = 60  # seconds of silence until a host counts as lost
LEAVING = 60  # seconds between the end of the first host and the last

ROWS = "rows"

FAILED = 2  # exit code of the command line for an error

_joined: Hosts | None = None
_watch: subprocess.Popen[bytes] | None = None


class JaxTeam(Team):
    """Several hosts, or one host with several devices, on JAX.

    Args:
        hosts: Rank and count; None for a single host.
        devices: Number of this host's devices to use; None for all.
    """

    shares_models = True

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
            self._distribute()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _distribute(self) -> None:
        """Choose the devices, and make Keras use them."""
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
                f"All hosts use equally many devices; got {', '.join(f'{n:g}' for n in most)}. "
                f"Give --devices {int(most.min())} to all."
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
        """Gather the bytes of every host."""
        if self.count == 1:
            return [data]
        with lost(self):
            found = multihost_utils.process_allgather(np.frombuffer(data, np.uint8))
        return [row.tobytes() for row in np.asarray(found).reshape(self.count, -1)]

    def equip(self, model: Any, optimizer: Any) -> None:
        """Do nothing: models built inside the context are distributed."""

    def differ(self, model: Any) -> None:
        """Do nothing: random numbers are drawn for the whole batch."""

    def value(self, array: Any) -> Any:
        """Copy a value to every device, without Keras' comparison between hosts."""
        value = np.asarray(array)
        if value.dtype in (np.float64, np.int64):  # a number of Python's
            value = value.astype(np.float32 if value.dtype == np.float64 else np.int32)
        return jax.make_array_from_callback(
            value.shape, self._everywhere, lambda index: value[index]
        )

    def predict(self, model: Any, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Compute the model's outputs on this host's devices alone."""
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
        """The shards of a variable on this host's devices, without a copy."""
        value = variable.value
        parts = [shard.data for shard in value.addressable_shards]
        return jax.make_array_from_single_device_arrays(value.shape, self._on_each, parts)

    def loss(self, model: Any, inputs: Sequence[NDArray[Any]]) -> float:
        """Compute the model's loss."""
        answers = self.predict(model, inputs)
        return float(model.compute_loss(x=list(inputs), y_pred=answers, training=False))


def _forward(model: Any) -> Any:
    owner = weakref.proxy(model)

    def forward(trained: list[Any], others: list[Any], inputs: list[Any]) -> Any:
        x = inputs[0] if len(inputs) == 1 else inputs
        return owner.stateless_call(trained, others, x, training=False)[0]

    return forward


def _too_few(wanted: int, there: Sequence[Any]) -> str:
    kind = there[0].platform
    advice = (
        f" For a test on a CPU, XLA_FLAGS=--xla_force_host_platform_device_count={wanted} "
        "simulates as many."
        if kind == "cpu"
        else ""
    )
    return f"--devices {wanted} is more than this host's {len(there)} devices ({kind}).{advice}"


def _check_alike(hosts: int) -> None:
    """Check that all hosts see equally many devices: JAX exchanges through all of them."""
    seen = Counter(device.process_index for device in jax.devices())
    counts = [seen[rank] for rank in range(hosts)]
    if len(set(counts)) > 1:
        raise ArgumentError(
            f"All hosts must see equally many devices; these see {', '.join(map(str, counts))}. "
            f"Hide devices, on GPUs with CUDA_VISIBLE_DEVICES, so that all see "
            f"{max(1, min(counts))}; --devices alone is not enough."
        )


def _join(hosts: Hosts) -> None:
    """Connect to the other hosts, once in a process."""
    global _joined
    if _joined == hosts:
        return
    if _joined is not None or jax.distributed.is_initialized():
        raise ArgumentError(
            "This process is connected to other hosts already, which JAX allows once. Start a new "
            "process for this run, and do not call jax.distributed.initialize in it."
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
            hosts.endpoint,
            hosts.count,
            hosts.rank,
            **{name: value for name, value in options.items() if name in known},
        )
    except (RuntimeError, ValueError) as error:
        if "before" in str(error):
            raise ArgumentError(
                "JAX has computed in this process already, and hosts must connect before. Call "
                "train before any computation, or in a new process."
            ) from error
        raise TrainingError(
            f"The {hosts.count} hosts did not connect at {hosts.endpoint}: {error} Start all of "
            "them, each with its own rank and the same count."
        ) from error
    _joined = hosts


def _find_first(hosts: Hosts) -> None:
    """Check that the first host can listen, or does; JAX would end the process instead."""
    if hosts.rank == 0:
        family = socket.AF_INET6 if ":" in hosts.address else socket.AF_INET
        try:
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("", hosts.port))
        except OSError as error:
            raise ArgumentError(
                f"Port {hosts.port} of this host, the first, cannot be used: {error.strerror}. "
                "Give all hosts another port."
            ) from error
        return
    end = time.monotonic() + JOINING
    while True:
        try:
            socket.create_connection((hosts.address, hosts.port), timeout=5).close()
        except OSError as error:
            if time.monotonic() > end:
                raise TrainingError(
                    f"The first host does not answer at {hosts.endpoint} after {JOINING} seconds: "
                    f"{error}. Start it with rank 0, and open that port to this host."
                ) from error
            time.sleep(0.5)
        else:
            return


def _say_if_killed(hosts: Hosts) -> None:
    """Start a process that prints what to do if this one is killed."""
    global _watch
    if os.name != "posix":
        return
    message = (
        f"convnext: host {hosts.rank} of {hosts.count} was killed, or JAX ended it because another "
        f"host was lost or never connected to {hosts.endpoint}. Start all hosts, each with its own "
        "rank and the same count. The last run state is intact: resume with --resume, on any "
        "number of hosts."
    )
    _watch = subprocess.Popen(
        ["/bin/sh", "-c", 'read word || printf "%s\\n" "$0" >&2', message],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal reaches the host alone
    )
    atexit.register(_dismiss)


def _dismiss() -> None:
    """End the watching process without its message."""
    if _watch is not None:
        with suppress(OSError, ValueError, subprocess.TimeoutExpired):
            _watch.communicate(b"done\n", timeout=5)


def _leave() -> None:
    """Exit without JAX's shutdown, which waits for all hosts and fails if they are lost."""
    _dismiss()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED)
