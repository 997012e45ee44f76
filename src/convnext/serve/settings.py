"""What a server is asked to be: `Settings`, checked before anything is started."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from convnext.engines.base import PRECISIONS, Precision
from convnext.errors import ArgumentError, UnknownNameError
from convnext.serve import limits

__all__ = ["ANSWERS", "Answers", "ModelSpec", "Settings", "is_loopback", "parse_model"]

Answers = Literal["classify", "embed", "explain"]
ANSWERS: tuple[Answers, ...] = get_args(Answers)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

_PRECISIONS = tuple(name for name in PRECISIONS if name != "int8")  # which needs a calibration

# Smallest and largest of each number: beyond, it is a mistake, or bounds nothing.
_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "workers": (1, 64),
    "max_batch": (1, 256),
    "max_wait_ms": (0, 1000),
    "max_queue": (1, 100_000),
    "deadline": (0.01, 600),
    "max_body_bytes": (1024, 2**30),
    "max_json_bytes": (1024, 2**28),
    "max_pictures": (1, 1024),
    "max_picture_bytes": (1024, 2**28),
    "max_pixels": (1, 2**28),
    "max_connections": (1, 65536),
    "max_bytes_in_flight": (2**20, 2**36),
    "header_seconds": (0.1, 600),
    "body_seconds": (0.1, 3600),
    "stall_seconds": (0.1, 600),
    "idle_seconds": (0.1, 3600),
    "drain_seconds": (0, 3600),
    "drain_delay": (0, 600),
    "reload_seconds": (0, 3600),
}


@dataclass(frozen=True)
class ModelSpec:
    """One model to be served.

    Attributes:
        name: What clients call it.
        source: The name of a published checkpoint, or a path.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Settings:
    """All that a server needs to know; each number's default stands in `limits`.

    Attributes:
        models: What is served, the default first. A folder that is no model itself stands for
            every weights file in it.
        answers: What can be asked for; each holds the weights in memory once more.
        engine: What computes, see `convnext.engines.open_engine`.
        precision: What it computes in.
        threads: Of each model; by default the processors of this process, shared by the workers.
        labels: What the classes are called, if the weights do not say: a file, or a set.
        host: Address to listen on.
        port: 0 for any that is free.
        workers: Processes, each with its own models.
        max_batch: Pictures that are computed together at most.
        max_wait_ms: How long a batch waits to be full.
        max_queue: Pictures of one model between being accepted and being answered.
        deadline: Seconds from the end of a request's body to its answer.
        tokens: Who may ask; nobody is asked for one if there are none.
        allowed_hosts: What a request's Host may be besides this machine's own names; `*` for any.
        allowed_urls: Hosts, with a port where it is not the scheme's, that pictures may be fetched
            from.
        max_body_bytes: Of a request.
        max_json_bytes: Of a request in JSON.
        max_pictures: Of a request.
        max_picture_bytes: Of a picture.
        max_pixels: Of a picture.
        max_connections: Of one worker.
        max_bytes_in_flight: Of all bodies in one worker.
        header_seconds: For a request's headers.
        body_seconds: For a request's body.
        stall_seconds: Without a byte of the body.
        idle_seconds: Between two requests on a connection.
        drain_seconds: For what is accepted when the server is told to stop.
        drain_delay: Seconds that a server which is told to stop still takes new requests, while
            `/readyz` says that it is not ready.
        reload_seconds: Between two looks at the models' files; 0 to look on SIGHUP only.
        page: Whether there is a page for people at `/`.
        access_log: Whether each request leaves a line on standard error.
    """

    models: tuple[ModelSpec, ...]
    answers: tuple[Answers, ...] = ANSWERS
    engine: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    labels: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    max_batch: int = limits.MAX_BATCH
    max_wait_ms: float = limits.MAX_WAIT_MS
    max_queue: int = limits.MAX_QUEUE
    deadline: float = limits.DEADLINE_SECONDS
    tokens: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_urls: tuple[str, ...] = ()
    max_body_bytes: int = limits.MAX_BODY_BYTES
    max_json_bytes: int = limits.MAX_JSON_BYTES
    max_pictures: int = limits.MAX_PICTURES
    max_picture_bytes: int = limits.MAX_PICTURE_BYTES
    max_pixels: int = limits.MAX_PIXELS
    max_connections: int = limits.MAX_CONNECTIONS
    max_bytes_in_flight: int = limits.MAX_BYTES_IN_FLIGHT
    header_seconds: float = limits.HEADER_SECONDS
    body_seconds: float = limits.BODY_SECONDS
    stall_seconds: float = limits.STALL_SECONDS
    idle_seconds: float = limits.IDLE_SECONDS
    drain_seconds: float = limits.DRAIN_SECONDS
    drain_delay: float = 0.0
    reload_seconds: float = limits.RELOAD_SECONDS
    page: bool = True
    access_log: bool = True

    def __post_init__(self) -> None:
        if not self.models:
            raise ArgumentError("There is no model to serve. Name one, such as convnext_tiny.")
        self._check_names()
        if not self.answers or set(self.answers) - set(ANSWERS):
            raise ArgumentError(
                f"--answers takes some of {', '.join(ANSWERS)}; got {', '.join(self.answers)!r}."
            )
        if self.precision not in _PRECISIONS:
            raise UnknownNameError("precision of a server", self.precision, _PRECISIONS)
        for field in fields(self):
            if field.name in _RANGES:
                _check_range(field.name, getattr(self, field.name))
        if self.max_queue < self.max_pictures:
            raise ArgumentError(
                f"A request may bring {self.max_pictures} pictures, and the queue has places for "
                f"{self.max_queue}. Give --max-queue {self.max_pictures} or more, or fewer "
                "--max-pictures."
            )
        for host in self.allowed_urls:
            if not _HOST.fullmatch(host):
                raise ArgumentError(
                    f"{host!r} is no host. Give one as in pictures.example.org or "
                    "pictures.example.org:8443, without scheme and path."
                )

    def _check_names(self) -> None:
        names = [model.name for model in self.models]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ArgumentError(
                    f"{name!r} cannot be a model's name in URLs: letters, digits, '.', '_' and "
                    "'-' can. Give another, as in cats=PATH."
                )
            if names.count(name) > 1:
                raise ArgumentError(
                    f"Two models are called {name!r}. Give one another name, as in other=PATH."
                )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def _check_range(name: str, value: float) -> None:
    low, high = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ArgumentError(
            f"--{name.replace('_', '-')} is from {low:g} to {high:g}; got {value!r}."
        )


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_model(text: str) -> ModelSpec:
    """A model as it is given on a command line: a name, a path, or `NAME=PATH`.

    Example:
        >>> parse_model("weights/cats.safetensors")
        ModelSpec(name='cats', source='weights/cats.safetensors')
        >>> parse_model("a=b.pth").name
        'a'
    """
    name, equals, source = text.partition("=")
    if equals and _NAME.fullmatch(name) and not Path(text).exists():
        return ModelSpec(name, source)
    path = Path(text)
    if path.is_dir():
        return ModelSpec(path.resolve().name, text)
    if path.exists() or "/" in text:
        return ModelSpec(path.name.partition(".")[0] if path.suffix else path.name, text)
    return ModelSpec(text, text)
