"""The server's metrics, in Prometheus' text format.

Each worker process writes its metrics to one small file, and the one that answers `/metrics` adds
up all files, those of dead workers included. (Prometheus' own client needs an environment variable
set before its import for that, and leaves its files behind.)
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

__all__ = ["CONTENT_TYPE", "FAMILIES", "Family", "Metrics", "SharedMetrics", "merged", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PICTURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


@dataclass(frozen=True)
class Family:
    """The definition of a metric.

    Attributes:
        kind: Prometheus' type.
        help: Prometheus' help text.
        buckets: Upper bounds of a histogram's buckets, without infinity.
    """

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    buckets: tuple[float, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "convnext_requests_total": Family("counter", "Requests that were answered, by status."),
    "convnext_request_seconds": Family(
        "histogram", "Time from a request's headers to the end of its answer.", SECONDS
    ),
    "convnext_pictures_total": Family("counter", "Pictures, by outcome."),
    "convnext_rejected_total": Family("counter", "Requests rejected because of a limit."),
    "convnext_dropped_pictures_total": Family(
        "counter", "Pictures removed from the queue after their request ended."
    ),
    "convnext_batch_pictures": Family("histogram", "Pictures in a batch.", PICTURES),
    "convnext_inference_seconds": Family("histogram", "Time of the engine for a batch.", SECONDS),
    "convnext_decode_seconds": Family(
        "histogram", "Time to decode, resize and crop a picture.", SECONDS
    ),
    "convnext_queue_pictures": Family("gauge", "Pictures accepted and not answered yet."),
    "convnext_queue_limit": Family("gauge", "Limit of convnext_queue_pictures."),
    "convnext_requests_in_flight": Family("gauge", "Requests being processed."),
    "convnext_body_bytes_in_flight": Family("gauge", "Bytes of request bodies in memory."),
    "convnext_connections": Family("gauge", "Open connections."),
    "convnext_model_ready": Family("gauge", "1 if the model is loaded."),
    "convnext_model_loads_total": Family("counter", "Times a model was loaded, by outcome."),
    "convnext_model_load_seconds": Family("gauge", "Time to load and warm the model."),
    "convnext_workers": Family("gauge", "Worker processes."),
    "convnext_start_time_seconds": Family("gauge", "Start of the server, in Unix time."),
}

Key = tuple[tuple[str, str], ...]
Snapshot = dict[str, dict[Key, Any]]


class Metrics:
    """The metrics of one process; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Snapshot = {name: {} for name in FAMILIES}

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter or gauge."""
        key = _key(labels)
        with self._lock:
            values = self._values[name]
            values[key] = values.get(key, 0) + amount

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name][_key(labels)] = value

    def forget(self, name: str, /, **labels: str) -> None:
        """Remove a gauge's value."""
        with self._lock:
            self._values[name].pop(_key(labels), None)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add one value to a histogram."""
        key, buckets = _key(labels), FAMILIES[name].buckets
        with self._lock:
            values = self._values[name]
            if key not in values:
                values[key] = [0.0] * (len(buckets) + 2)
            values[key][bisect_left(buckets, value)] += 1  # the bucket of infinity comes last
            values[key][-1] += value

    def snapshot(self) -> Snapshot:
        """A copy of all values."""
        with self._lock:
            return {
                name: {key: list(v) if isinstance(v, list) else v for key, v in values.items()}
                for name, values in self._values.items()
            }


def _key(labels: Mapping[str, str]) -> Key:
    return tuple(sorted(labels.items()))


def merged(snapshots: Iterable[tuple[Snapshot, bool]]) -> Snapshot:
    """Add up the metrics of several processes.

    Args:
        snapshots: Each with whether its process is alive; gauges of dead processes are left out.
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
    """Write metrics in Prometheus' text format.

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


class SharedMetrics:
    """The metrics of all processes of a server, exchanged through files.

    Args:
        folder: A folder of this server's own; None if there is one process only.
        metrics: The metrics of this process.
    """

    def __init__(self, folder: Path | None, metrics: Metrics) -> None:
        self._folder = folder
        self._metrics = metrics
        self._own = f"{os.getpid()}-{secrets.token_hex(4)}.json"

    def publish(self) -> None:
        """Write the metrics of this process, atomically."""
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
        """The sums over all processes; those of other processes are up to a second old."""
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
