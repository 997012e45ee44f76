"""Hosts of a run, and communication between them.

A host is one process. Each loads its rows of every batch, and all have the same weights. A `Team`
has one communication primitive, an exchange of bytes; sums, means, stopping and actions of the
first host alone are built on it. `ALONE` is the team of a single process. `team_hosts` chooses the
team of a run.
"""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.errors import ArgumentError, ConvNeXtError, TrainingError

__all__ = ["ALONE", "JOINING", "PATIENCE", "Alone", "Hosts", "Team", "lost"]

Array = NDArray[Any]

JOINING = 300  # seconds until all hosts must have joined: schedulers start them one by one
PATIENCE = 600  # seconds that a host waits for others: the first may be writing a large model

_PORTS = range(1, 2**16)


@dataclass(frozen=True)
class Hosts:
    """Rank of this host, number of hosts, and address of the first one.

    Attributes:
        address: Of the first host.
        port: A free port of the first host.
        rank: Of this host; 0 is the first.
        count: Number of hosts.
    """

    address: str
    port: int
    rank: int
    count: int

    def __post_init__(self) -> None:
        if not self.address or self.port not in _PORTS:
            raise ArgumentError(
                f"hosts begins with the first host's address and a port from 1 to 65535, as in "
                f"10.0.0.1:29500; got {self.address}:{self.port}."
            )
        if not (self.count >= 1 and 0 <= self.rank < self.count):
            raise ArgumentError(
                f"The ranks of {self.count} hosts are 0 to {self.count - 1}; got {self.rank}."
            )

    @classmethod
    def parse(cls, text: str) -> Hosts:
        """Read `host:port,rank,count`.

        Example:
            >>> Hosts.parse("10.0.0.1:29500,1,2")
            Hosts(address='10.0.0.1', port=29500, rank=1, count=2)
        """
        try:
            first, rank, count = text.split(",")
            address, port = first.rsplit(":", 1)
            return cls(address.strip("[]"), int(port), int(rank), int(count))
        except ArgumentError:
            raise
        except ValueError as error:
            raise ArgumentError(
                f"hosts is host:port,rank,count: address and port of the first host, rank of this "
                f"host from 0, and number of hosts, as in 10.0.0.1:29500,0,2; got {text!r}."
            ) from error

    @property
    def endpoint(self) -> str:
        """Address and port of the first host, as in a URL."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


class Team(ABC):
    """The hosts of a run, from the view of one of them.

    A context manager: entering it connects the hosts; models are built and trained inside.

    Attributes:
        rank: Of this host, from 0.
        count: Number of hosts.
        devices: Number of devices of this host.
        neighbours: Number of hosts on this machine, including this one.
        shares_models: Whether every model built inside belongs to all hosts and devices.
    """

    rank: int = 0
    count: int = 1
    devices: int = 1
    neighbours: int = 1
    shares_models: bool = False

    @abstractmethod
    def __enter__(self) -> Team:
        """Connect to the other hosts."""

    @abstractmethod
    def __exit__(self, *reason: object) -> None:
        """Disconnect; after an error, without waiting for the others."""

    @abstractmethod
    def exchange(self, data: bytes) -> list[bytes]:
        """Gather equally many bytes from every host, in the order of ranks.

        Raises:
            TrainingError: Another host cannot be reached.
        """

    @abstractmethod
    def equip(self, model: Any, optimizer: Any) -> None:
        """Make a new model train on the batches of all hosts."""

    @abstractmethod
    def differ(self, model: Any) -> None:
        """Give this host's layers random seeds of their own, if it draws random numbers itself.

        The seeds are derived from the first host's, which are stored in run states.
        """

    @abstractmethod
    def value(self, array: Any) -> Any:
        """Place a value that is equal on all hosts, for assignment to a variable."""

    @abstractmethod
    def predict(self, model: Any, inputs: Sequence[Array]) -> Array:
        """Compute a model's outputs for inputs of this host alone."""

    @abstractmethod
    def loss(self, model: Any, inputs: Sequence[Array]) -> float:
        """Compute a model's own loss on inputs of this host alone."""

    @property
    def is_first(self) -> bool:
        """Whether this is the first host, which writes files."""
        return self.rank == 0

    @property
    def workers(self) -> int | None:
        """Default number of processes that read pictures; None for the loader's default."""
        return None if self.neighbours == 1 else self.processors

    @property
    def processors(self) -> int:
        """This host's share of the machine's processors."""
        from convnext.processors import available_processors

        return max(1, available_processors() // self.neighbours)

    def __str__(self) -> str:
        parts = []
        if self.count > 1:
            parts.append(f"{self.count} hosts")
        if self.devices > 1:
            parts.append(f"{self.devices} devices{' each' if self.count > 1 else ''}")
        return " of ".join(parts) or "one device"

    def check(self, batch_size: int, accumulate: int) -> None:
        """Check that batches divide equally over hosts and devices.

        Raises:
            ArgumentError: They do not; the message names a size that does.
        """
        pairs = 2 if self.count > 1 else 1  # mixed pairs of pictures stay on one host
        unit = self.count * math.lcm(accumulate * self.devices, pairs)
        if (self.count, self.devices) == (1, 1) or batch_size % unit == 0:
            return
        nearest = max(1, round(batch_size / unit)) * unit
        parts = f" and run.accumulate = {accumulate}" if accumulate > 1 else ""
        even = ", each with an even number of pictures" if pairs > 1 else ""
        raise ArgumentError(
            f"A batch of {batch_size} does not divide equally over {self}{parts}{even}. Set "
            f"run.batch_size to a multiple of {unit}, such as {nearest}."
        )

    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        """Gather the numbers of all hosts, a row for each."""
        own = np.asarray(numbers, np.float64)
        rows = [np.frombuffer(data, np.float64) for data in self.exchange(own.tobytes())]
        return np.stack(rows)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Sum each number over all hosts."""
        found: list[float] = self.gather(numbers).sum(axis=0).tolist()
        return found

    def texts(self, text: str) -> list[str]:
        """Gather a text from every host."""
        data = text.encode()
        lengths = self.gather([len(data)])[:, 0].astype(int)
        if not lengths.any():
            return [""] * self.count
        padded = self.exchange(data.ljust(int(lengths.max()), b" "))
        return [text[:length].decode() for text, length in zip(padded, lengths, strict=True)]

    def agree(
        self, numbers: Mapping[str, float], flags: Sequence[bool]
    ) -> tuple[dict[str, float], list[bool]]:
        """Exchange the numbers and flags of a step: means, and whether any host set a flag."""
        rows = self.gather([*numbers.values(), *flags])
        means = rows.mean(axis=0)[: len(numbers)].tolist()
        raised = [bool(column.any()) for column in rows.T[len(numbers) :]]
        return dict(zip(numbers, means, strict=True)), raised

    def barrier(self) -> None:
        """Wait until all hosts have called this."""
        self.gather([0.0])

    def same(self, text: str, otherwise: str) -> None:
        """Check that all hosts pass the same text.

        Raises:
            TrainingError: Some differ; the message names them, followed by `otherwise`.
        """
        if self.count == 1:
            return
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        number = float(int.from_bytes(digest[:6], "big"))  # 48 bits are exact
        found = self.gather([number])[:, 0]
        other = [str(rank) for rank in np.flatnonzero(found != found[0])]
        if other:
            which = "Host" if len(other) == 1 else "Hosts"
            raise TrainingError(f"{which} {', '.join(other)} and host 0 differ: {otherwise}")

    def first(self, action: Callable[[], object]) -> None:
        """Run an action on the first host while the others wait; if it fails, all fail.

        Raises:
            ConvNeXtError: On the first host, the action's error.
            TrainingError: On the others, with the message of that error.
        """
        if self.is_first:
            try:
                action()
            except ConvNeXtError as error:
                self.texts(str(error))
                raise
        message = self.texts("")[0]
        if message:
            raise TrainingError(f"The first host cannot start: {message}")

    def voice(self, say: Callable[[str], object]) -> Callable[[str], object]:
        """Return `say` on the first host, and on others a function that prints nothing."""
        return say if self.is_first else lambda _line: None

    def share(self, count: int, block: int) -> NDArray[np.int64]:
        """Indices of this host's validation pictures: blocks are dealt out in turn."""
        numbers = np.arange(count, dtype=np.int64)
        own: NDArray[np.int64] = numbers[numbers // max(block, 1) % self.count == self.rank]
        return own


class Alone(Team):
    """A single process with a single device."""

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *reason: object) -> None:
        return None

    def exchange(self, data: bytes) -> list[bytes]:
        """Return the data."""
        return [data]

    def agree(
        self, numbers: Mapping[str, float], flags: Sequence[bool]
    ) -> tuple[dict[str, float], list[bool]]:
        """Return the numbers and flags."""
        return dict(numbers), list(flags)

    def equip(self, model: Any, optimizer: Any) -> None:
        """Do nothing."""

    def differ(self, model: Any) -> None:
        """Do nothing."""

    def value(self, array: Any) -> Any:
        """Return the array."""
        return array

    def predict(self, model: Any, inputs: Sequence[Array]) -> Array:
        """Compute the model's outputs."""
        found = model.predict_on_batch(inputs[0] if len(inputs) == 1 else list(inputs))
        return np.asarray(found, np.float32)

    def loss(self, model: Any, inputs: Sequence[Array]) -> float:
        """Compute the model's loss."""
        model.reset_metrics()
        return float(model.test_on_batch(list(inputs), return_dict=True)["loss"])


ALONE = Alone()


SIGNS = (
    *("gloo", "nccl", "connection reset", "connection closed", "closed by peer", "socket closed"),
    *("broken pipe", "unavailable", "deadline_exceeded", "deadline exceeded", "timed out"),
    "heartbeat",
)


@contextmanager
def lost(team: Team) -> Iterator[None]:
    """Turn each library's error about a lost host into a `TrainingError` that says what to do."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        if team.count == 1 or isinstance(error, ConvNeXtError):
            raise
        lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()  # Keras adds colour, and lines
        telling = [line for line in lines if any(sign in line.lower() for sign in SIGNS)]
        if not telling:
            raise
        raise TrainingError(
            f"Another host ended or cannot be reached (host {team.rank} of {team.count} got: "
            f"{telling[0][:200]}). See its own error message. The last run state is intact: start "
            "all hosts again with --resume, in any number."
        ) from error
