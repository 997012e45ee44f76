"""What a server has done, counted, and written as Prometheus reads it.

Why by hand: with several processes the counts of all of them have to be added up, those of a
process that died included. The official client does that with files that stay behind and a variable
of the environment that must be set before its import. Here each process writes what it has counted
into one small file, and whichever is asked adds them up.

It knows nothing of what is counted but the table of families.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convnext.atomic import replaced

__all__ = ["CONTENT_TYPE", "FAMILIES", "Family", "Metrics", "Shared", "merged", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PICTURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True)
class Family:
    """One metric with all its labels' values.

    Attributes:
        kind: As Prometheus calls it.
        help: What it means.
        buckets: Upper bounds of a histogram, without infinity.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    buckets: tuple[float, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "convnext_requests_total": Family("counter", "Requests that were answered, by status."),
    "convnext_request_seconds": Family(
        "histogram", "From a request's headers to the end of its answer.", SECONDS
    ),
    "convnext_pictures_total": Family("counter", "Pictures, by what became of them."),
    "convnext_rejected_total": Family("counter", "Requests not taken to protect the others."),
    "convnext_dropped_pictures_total": Family(
        "counter", "Accepted pictures that nobody waits for any more."
    ),
    "convnext_batch_pictures": Family(
        "histogram", "Pictures that were computed together.", PICTURES
    ),
    "convnext_inference_seconds": Family("histogram", "Of the engine, for each batch.", SECONDS),
    "convnext_decode_seconds": Family(
        "histogram", "From a picture's bytes to the pixels that the model sees.", SECONDS
    ),
    "convnext_queue_pictures": Family("gauge", "Pictures accepted and not answered yet."),
    "convnext_queue_limit": Family("gauge", "How many there may be."),
    "convnext_requests_in_flight": Family("gauge", "Requests that are worked on."),
    "convnext_body_bytes_in_flight": Family("gauge", "Bytes of requests that are held."),
    "convnext_connections": Family("gauge", "Open connections."),
    "convnext_model_ready": Family("gauge", "1 if the model answers."),
    "convnext_model_loads_total": Family("counter", "Times a model was loaded, by outcome."),
    "convnext_model_load_seconds": Family("gauge", "What loading and warming took."),
    "convnext_workers": Family("gauge", "Processes that are counted here."),
    "convnext_start_time_seconds": Family("gauge", "When the server was started."),
}

Key = tuple[tuple[str, str], ...]
Snapshot = dict[str, dict[Key, Any]]


class Metrics:
    """The counts of one process. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Snapshot = {name: {} for name in FAMILIES}

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter, or to a gauge."""
        key = _key(labels)
        with self._lock:
            values = self._values[name]
            values[key] = values.get(key, 0) + amount

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name][_key(labels)] = value

    def forget(self, name: str, /, **labels: str) -> None:
        """Take a gauge's value away."""
        with self._lock:
            self._values[name].pop(_key(labels), None)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add one value to a histogram."""
        key, buckets = _key(labels), FAMILIES[name].buckets
        with self._lock:
            values = self._values[name]
            if key not in values:
                values[key] = [0.0] * (len(buckets) + 2)
            values[key][bisect_left(buckets, value)] += 1  # the one after the last is infinity's
            values[key][-1] += value

    def snapshot(self) -> Snapshot:
        """A copy."""
        with self._lock:
            return {
                name: {key: list(v) if isinstance(v, list) else v for key, v in values.items()}
                for name, values in self._values.items()
            }


def _key(labels: Mapping[str, str]) -> Key:
    return tuple(sorted(labels.items()))


def merged(snapshots: Iterable[tuple[Snapshot, bool]]) -> Snapshot:
    """The counts of several processes, added up.

    Args:
        snapshots: Each with whether its process is alive: the gauges of one that is not are past.
    """
    total: Snapshot = {name: {} for name in FAMILIES}
    for snapshot, alive in snapshots:
        for name, values in snapshot.items():
            if FAMILIES[name].kind == "gauge" and not alive:
                continue
            into = total[name]
            for key, value in values.items():
                if key not in into:
                    into[key] = list(value) if isinstance(value, list) else value
                elif isinstance(value, list):
                    into[key] = [a + b for a, b in zip(into[key], value, strict=True)]
                elif name in ("convnext_start_time_seconds", "convnext_model_ready"):
                    into[key] = min(into[key], value)
                elif name == "convnext_model_load_seconds":
                    into[key] = max(into[key], value)
                else:
                    into[key] += value
    return total


def render(snapshot: Snapshot) -> str:
    """As text that Prometheus reads.

    Example:
        >>> metrics = Metrics()
        >>> metrics.set("convnext_queue_pictures", 3, model="tiny")
        >>> print(render(metrics.snapshot()).splitlines()[-1])
        convnext_queue_pictures{model="tiny"} 3
    """
    lines = []
    for name, values in snapshot.items():
        if values:
            family = FAMILIES[name]
            lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
            for key, value in sorted(values.items()):
                lines += _samples(name, family, key, value)
    return "\n".join(lines) + "\n"


def _samples(name: str, family: Family, key: Key, value: Any) -> list[str]:
    if family.kind != "histogram":
        return [f"{name}{_labels(key)} {_number(value)}"]
    lines, below = [], 0.0
    for bound, count in zip((*family.buckets, math.inf), value[:-1], strict=True):
        below += count
        labels = _labels((*key, ("le", "+Inf" if bound == math.inf else _number(bound))))
        lines.append(f"{name}_bucket{labels} {_number(below)}")
    lines.append(f"{name}_sum{_labels(key)} {_number(value[-1])}")
    lines.append(f"{name}_count{_labels(key)} {_number(below)}")
    return lines


def _labels(key: Key) -> str:
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in key) + "}" if key else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


class Shared:
    """The counts of all processes of one server, by way of a folder.

    Args:
        folder: One for this server alone; None if there is one process only.
        metrics: The counts of this process.
    """

    def __init__(self, folder: Path | None, metrics: Metrics) -> None:
        self._folder = folder
        self._metrics = metrics
        self._own = f"{os.getpid()}-{secrets.token_hex(4)}.json"

    def publish(self) -> None:
        """Write what this process has counted, whole or not at all."""
        if self._folder is None:
            return
        snapshot = self._metrics.snapshot()
        rows = {name: [[list(k), v] for k, v in each.items()] for name, each in snapshot.items()}
        with (
            contextlib.suppress(OSError),  # a full disk must not stop the server
            replaced(self._folder / self._own, durable=False) as temporary,
        ):
            temporary.write_text(json.dumps(rows))

    def total(self) -> Snapshot:
        """What all processes have counted: this one up to now, the others up to a second ago."""
        own = self._metrics.snapshot()
        own["convnext_workers"] = {(): 1}
        others = list(self._others()) if self._folder is not None else []
        return merged([(own, True), *others])

    def _others(self) -> Iterable[tuple[Snapshot, bool]]:
        assert self._folder is not None
        for path in sorted(self._folder.glob("*.json")):
            if path.name == self._own:
                continue
            with contextlib.suppress(OSError, ValueError):
                rows = json.loads(path.read_text())
                snapshot: Snapshot = {
                    name: {tuple(map(tuple, key)): value for key, value in each}
                    for name, each in rows.items()
                }
                snapshot["convnext_workers"] = {(): 1}
                yield snapshot, _is_alive(int(path.name.partition("-")[0]))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
