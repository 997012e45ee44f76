"""Who trains a run together: the processes, their devices, and what they tell each other.

Why it exists: the loop should not know on how many machines it runs. A `Team` has one primitive,
every process gives some bytes and has those of all, and everything agreed in a run stands on it:
sums, means, a wish to stop, what only the first does. One process is the team `ALONE`, which
waits for nobody. `Hosts` is where a host stands among the others. It knows no pictures, and not
which team a run has (`team_hosts`).

A host is one process. Each makes its part of every batch, and all have the same weights throughout.
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

JOINING = 300  # seconds until all hosts have to be there: schedulers start them one by one
PATIENCE = 600  # seconds that a host waits for the others: the first may be writing a large model

_PORTS = range(1, 2**16)


@dataclass(frozen=True)
class Hosts:
    """Which host this is, of how many, and where the first one listens.

    Attributes:
        address: Of the first host.
        port: Any free one of the first host.
        rank: Of this host; that of the first is 0.
        count: Of hosts.
    """

    address: str
    port: int
    rank: int
    count: int

    def __post_init__(self) -> None:
        if not self.address or self.port not in _PORTS:
            raise ArgumentError(
                f"The first host is named with a port from 1 to 65535, as in 10.0.0.1:29500; got "
                f"{self.address}:{self.port}."
            )
        if not (self.count >= 1 and 0 <= self.rank < self.count):
            raise ArgumentError(
                f"Of {self.count} hosts this is number {self.rank}, and there is no such: they are "
                f"counted from 0, so the last is {self.count - 1}."
            )

    @classmethod
    def parse(cls, text: str) -> Hosts:
        """Read `host:port,rank,count`.

        Example:
            >>> Hosts.parse("10.0.0.1:29500,1,2")
            Hosts(address='10.0.0.1', port=29500, rank=1, count=2)
        """
        try:
            place, rank, count = text.split(",")
            address, port = place.rsplit(":", 1)
            return cls(address.strip("[]"), int(port), int(rank), int(count))
        except ArgumentError:
            raise
        except ValueError as error:
            raise ArgumentError(
                f"hosts is host:port,rank,count: where the first host listens, which host this is, "
                f"counted from 0, and how many there are, as in 10.0.0.1:29500,0,2; got {text!r}."
            ) from error

    @property
    def place(self) -> str:
        """The address with its port, as URLs have it."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


class Team(ABC):
    """The hosts of a run, seen from one of them.

    Used as a context, it meets the others on the way in. What is built and trained inside of it is
    the team's.

    Attributes:
        rank: Of this host, from 0.
        count: Of hosts.
        devices: Of this host.
        neighbours: Hosts that share this machine's processors, itself included.
    """

    rank: int = 0
    count: int = 1
    devices: int = 1
    neighbours: int = 1

    @abstractmethod
    def __enter__(self) -> Team:
        """Meet the others."""

    @abstractmethod
    def __exit__(self, *reason: object) -> None:
        """Part from them; after an error, without waiting for anyone."""

    @abstractmethod
    def exchange(self, data: bytes) -> list[bytes]:
        """What every host gave, in the order of their ranks: as many bytes from each.

        Raises:
            TrainingError: Another host cannot be reached any more.
        """

    @abstractmethod
    def equip(self, model: Any, optimizer: Any) -> None:
        """Have a model that was just built learn from the batches of all hosts."""

    @abstractmethod
    def differ(self, model: Any) -> None:
        """Have this host draw other random numbers than the others, if it draws any by itself.

        The model's seeds are those of the first host, whose are kept in checkpoints.
        """

    @abstractmethod
    def value(self, array: Any) -> Any:
        """The same value on every host, as a variable takes it soonest."""

    @abstractmethod
    def predict(self, model: Any, inputs: Sequence[Array]) -> Array:
        """What a model answers to pictures of this host alone."""

    @abstractmethod
    def loss(self, model: Any, inputs: Sequence[Array]) -> float:
        """A model's own loss on pictures of this host alone."""

    @property
    def is_first(self) -> bool:
        """Whether this is the host that writes."""
        return self.rank == 0

    @property
    def workers(self) -> int | None:
        """Processes that read pictures, if nobody says how many; None for the loader's choice."""
        from convnext.processors import available_processors

        if self.neighbours == 1:
            return None
        return max(1, available_processors() // self.neighbours)

    def __str__(self) -> str:
        parts = []
        if self.count > 1:
            parts.append(f"{self.count} hosts")
        if self.devices > 1:
            parts.append(f"{self.devices} devices{' each' if self.count > 1 else ''}")
        return " of ".join(parts) or "one device"

    def check(self, batch_size: int, accumulate: int) -> None:
        """Refuse batches that cannot be shared equally.

        Raises:
            ArgumentError: They cannot; what could be is named.
        """
        pairs = 2 if self.count > 1 else 1  # pictures that are mixed with each other stay together
        unit = self.count * math.lcm(accumulate * self.devices, pairs)
        if (self.count, self.devices) == (1, 1) or batch_size % unit == 0:
            return
        nearest = max(1, round(batch_size / unit)) * unit
        parts = f" and run.accumulate = {accumulate}" if accumulate > 1 else ""
        even = ", each of which takes an even number of pictures" if pairs > 1 else ""
        raise ArgumentError(
            f"A batch of {batch_size} cannot be shared equally by {self}{parts}{even}. Set "
            f"run.batch_size to a multiple of {unit}, such as {nearest}."
        )

    def gather(self, numbers: Sequence[float]) -> NDArray[np.float64]:
        """The numbers of all hosts, one row for each."""
        own = np.asarray(numbers, np.float64)
        rows = [np.frombuffer(data, np.float64) for data in self.exchange(own.tobytes())]
        return np.stack(rows)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The sums over all hosts."""
        found: list[float] = self.gather(numbers).sum(axis=0).tolist()
        return found

    def texts(self, text: str) -> list[str]:
        """What every host says."""
        data = text.encode()
        lengths = self.gather([len(data)])[:, 0].astype(int)
        if not lengths.any():
            return [""] * self.count
        said = self.exchange(data.ljust(int(lengths.max()), b" "))
        return [given[:length].decode() for given, length in zip(said, lengths, strict=True)]

    def agree(
        self, numbers: Mapping[str, float], flags: Sequence[bool]
    ) -> tuple[dict[str, float], list[bool]]:
        """One exchange after a step: the means of its numbers, and whether any host has a flag."""
        rows = self.gather([*numbers.values(), *flags])
        means = rows.mean(axis=0)[: len(numbers)].tolist()
        raised = [bool(column.any()) for column in rows.T[len(numbers) :]]
        return dict(zip(numbers, means, strict=True)), raised

    def barrier(self) -> None:
        """Wait until all hosts are here."""
        self.gather([0.0])

    def same(self, text: str, otherwise: str) -> None:
        """See that all hosts say the same.

        Raises:
            TrainingError: Some do not; the message names them before what is said `otherwise`.
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
        """The first host does something while the others wait; where it fails, all do.

        Raises:
            ConvNeXtError: On the first host, what the action raised.
            TrainingError: On the others, with what the first one says.
        """
        if self.is_first:
            try:
                action()
            except ConvNeXtError as error:
                self.texts(str(error))
                raise
        said = self.texts("")[0]
        if said:
            raise TrainingError(f"The first host does not begin: {said}")

    def voice(self, say: Callable[[str], object]) -> Callable[[str], object]:
        """What says a line: for the first host as given; the others say nothing."""
        return say if self.is_first else lambda _line: None

    def share(self, count: int, block: int) -> NDArray[np.int64]:
        """Which of so many pictures are this host's, to validate with: every so many-th block."""
        numbers = np.arange(count, dtype=np.int64)
        own: NDArray[np.int64] = numbers[numbers // max(block, 1) % self.count == self.rank]
        return own


class Alone(Team):
    """One process with one device: nobody to wait for."""

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *reason: object) -> None:
        return None

    def exchange(self, data: bytes) -> list[bytes]:
        """What was given."""
        return [data]

    def agree(
        self, numbers: Mapping[str, float], flags: Sequence[bool]
    ) -> tuple[dict[str, float], list[bool]]:
        """What was given."""
        return dict(numbers), list(flags)

    def equip(self, model: Any, optimizer: Any) -> None:
        """Nothing."""

    def differ(self, model: Any) -> None:
        """Nothing."""

    def value(self, array: Any) -> Any:
        """What was given."""
        return array

    def predict(self, model: Any, inputs: Sequence[Array]) -> Array:
        """The model's answer."""
        found = model.predict_on_batch(inputs[0] if len(inputs) == 1 else list(inputs))
        return np.asarray(found, np.float32)

    def loss(self, model: Any, inputs: Sequence[Array]) -> float:
        """The model's loss."""
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
    """Say what to do when another host is gone; every library has its own words for that.

    Raises:
        TrainingError: It is.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        if team.count == 1 or isinstance(error, ConvNeXtError):
            raise
        lines = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()  # Keras adds colour, and lines
        telling = [line for line in lines if any(sign in line.lower() for sign in SIGNS)]
        if not telling:
            raise
        said = telling[0][:200]
        raise TrainingError(
            f"Another host ended, or cannot be reached any more (host {team.rank} of {team.count} "
            f"heard: {said}). What it said itself tells why. The last checkpoint is whole: start "
            "all hosts again with --resume, as many as there are now."
        ) from error
