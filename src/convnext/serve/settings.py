"""`Settings`: the options of a server, checked before it starts."""

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

Answers = Literal["classify", "embed", "explain", "segment"]
ANSWERS: tuple[Answers, ...] = get_args(Answers)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

_PRECISIONS = tuple(name for name in PRECISIONS if name != "int8")  # int8 needs a calibration

# Smallest and largest allowed value of each number.
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
    """A model to serve.

    Attributes:
        name: Its name in requests and URLs.
        source: The name of a published checkpoint, or a path.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Settings:
    """The options of a server; `limits` has the defaults of the numbers.

    Attributes:
        models: The models to serve, the default first. A folder that is not itself a model stands
            for every weights file in it.
        answers: Kinds of answers to offer; each holds the weights in memory once more.
        engine: See `convnext.engines.open_engine`.
        precision: The engine's precision.
        threads: Of each engine; by default the processors of this process divided by `workers`.
        labels: Class names if the weights have none: a file, or the name of a set.
        host: Address to listen on.
        port: 0 for any free port.
        workers: Processes, each with its own models.
        max_batch: Most pictures in a batch.
        max_wait_ms: How long a batch waits to fill.
        max_queue: Most pictures of one model accepted and not yet answered.
        deadline: Seconds from the end of a request's body to its answer.
        tokens: Bearer tokens that requests must have one of; empty for no authentication.
        allowed_hosts: Values of a request's Host header to accept besides this machine's own names;
            `*` for any.
        allowed_urls: Hosts to download pictures from, each with its port unless it is the scheme's.
        max_body_bytes: Size of a request's body.
        max_json_bytes: Size of a JSON body.
        max_pictures: Pictures in a request.
        max_picture_bytes: Size of an encoded picture.
        max_pixels: Width times height of a picture.
        max_connections: Open connections of one worker.
        max_bytes_in_flight: Size of all received bodies in one worker.
        header_seconds: Time to send a request's headers.
        body_seconds: Time to send a request's body.
        stall_seconds: Time without receiving a byte of the body.
        idle_seconds: Time between two requests on a connection.
        drain_seconds: Time to answer accepted requests after the server is stopped.
        drain_delay: Seconds that a stopped server keeps accepting requests, while `/readyz` answers
            that it is not ready.
        reload_seconds: Time between two checks of the model files; 0 to check on SIGHUP only.
        page: Whether to serve the web page at `/`.
        access_log: Whether to log each request on standard error.
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
            raise ArgumentError("No model to serve. Name one, such as --model convnext_tiny.")
        self._check_names()
        if not self.answers or set(self.answers) - set(ANSWERS):
            raise ArgumentError(
                f"--answers must be some of {', '.join(ANSWERS)}; got {', '.join(self.answers)!r}."
            )
        if self.precision not in _PRECISIONS:
            raise UnknownNameError("precision of a server", self.precision, _PRECISIONS)
        for field in fields(self):
            if field.name in _RANGES:
                _check_range(field.name, getattr(self, field.name))
        if self.max_queue < self.max_pictures:
            raise ArgumentError(
                f"--max-queue must be at least --max-pictures; got {self.max_queue} and "
                f"{self.max_pictures}. Raise --max-queue or lower --max-pictures."
            )
        for host in self.allowed_urls:
            if not _HOST.fullmatch(host):
                raise ArgumentError(
                    f"--allow-url {host!r} is not a host name. Give one such as "
                    "pictures.example.org or pictures.example.org:8443, without scheme and path."
                )

    def _check_names(self) -> None:
        names = [model.name for model in self.models]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ArgumentError(
                    f"A model's name may have letters, digits, '.', '_' and '-' only; got "
                    f"{name!r}. Give another name, as in --model cats=PATH."
                )
            if names.count(name) > 1:
                raise ArgumentError(
                    f"Two models have the name {name!r}. Rename one, as in --model other=PATH."
                )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def _check_range(name: str, value: float) -> None:
    low, high = _RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ArgumentError(
            f"--{name.replace('_', '-')} must be from {low:g} to {high:g}; got {value!r}."
        )


def is_loopback(host: str) -> bool:
    """Whether a server that listens on this address is reachable from this machine only.

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
    """Parse a `--model` option: a checkpoint's name, a path, or `NAME=PATH`.

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
