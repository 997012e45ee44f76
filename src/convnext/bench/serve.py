"""A contender's process: loads one model, then does what each line on standard input says.

    turn SECONDS    -> {"seconds": [...]}   as many calls as fit, one at least
    outputs FILE    -> {"pictures": n}      the logits of all pictures, into FILE
    peak            -> {"peak_mib": 512.0}  the most memory that the process has had

A line of JSON answers each; `{"error": "..."}` if it failed. What libraries print goes to standard
error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from convnext.bench.material import Material
from convnext.bench.runners import Order, Runner, open_ours
from convnext.errors import ConvNeXtError

__all__ = ["main", "peak_memory"]

WARM_UP = 2  # calls after the first, which compiles
LONGEST_ERROR = 400
MIB = 2**20


def main(arguments: list[str]) -> int:
    """Serve until standard input ends.

    Args:
        arguments: The folder with the material, and the order as JSON.
    """
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        try:
            _serve(channel, Path(arguments[0]), Order(**json.loads(arguments[1])))
        except Exception as error:  # whatever a framework throws is this contender's result
            _answer(channel, {"error": _described(error)})
            return 1
    return 0


def _serve(channel: IO[str], folder: Path, order: Order) -> None:
    server, report = _load(Material.read(folder), order)
    _answer(channel, report)
    for line in sys.stdin:
        _answer(channel, server.do(*line.split(maxsplit=1)))


def _answer(channel: IO[str], content: dict[str, Any]) -> None:
    print(json.dumps(content), file=channel, flush=True)


def _described(error: Exception) -> str:
    text = " ".join(str(error).split())[:LONGEST_ERROR]
    if isinstance(error, ConvNeXtError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _load(material: Material, order: Order) -> tuple[_Server, dict[str, Any]]:
    """The model, after its first calls, and how long these took."""
    opened = time.perf_counter()
    runner = _opener(order.name)(material, order)
    pictures = material.pictures
    ready = runner.ready(_batch(pictures, 0, order.batch))
    loaded = time.perf_counter()
    runner.run(ready)
    first = time.perf_counter()
    for _ in range(WARM_UP):
        runner.run(ready)
    report = {
        "load_s": loaded - opened,
        "first_call_s": first - loaded,
        "precision": runner.precision,
    }
    return _Server(runner, pictures, ready, order.batch), report


def _opener(name: str) -> Callable[[Material, Order], Runner]:
    from convnext.bench.contenders import PEERS

    if name not in PEERS:
        return open_ours
    from convnext.bench.peers import ADAPTERS

    return ADAPTERS[name]


def _batch(pictures: NDArray[np.uint8], start: int, size: int) -> NDArray[np.uint8]:
    """So many pictures from a position on, beginning anew at the end."""
    return np.ascontiguousarray(pictures[np.arange(start, start + size) % len(pictures)])


class _Server:
    """A loaded model and what it can be told to do."""

    def __init__(self, runner: Runner, pictures: NDArray[np.uint8], ready: Any, batch: int) -> None:
        self._runner = runner
        self._pictures = pictures
        self._ready = ready
        self._batch = batch
        self._usual = 0.0  # seconds of a call

    def do(self, command: str, argument: str = "") -> dict[str, Any]:
        """What a line says."""
        if command == "turn":
            return {"seconds": self._turn(float(argument))}
        if command == "outputs":
            return {"pictures": self._write_outputs(Path(argument.strip()))}
        return {"peak_mib": peak_memory() / MIB}

    def _turn(self, budget: float) -> list[float]:
        if self._usual < budget / 2:
            self._call()  # others have been here: what this model needs is out of the caches
        seconds = [self._call()]
        while sum(seconds) + seconds[-1] < budget:
            seconds.append(self._call())
        self._usual = min(seconds)
        return seconds

    def _call(self) -> float:
        start = time.perf_counter()
        self._runner.run(self._ready)
        return time.perf_counter() - start

    def _write_outputs(self, path: Path) -> int:
        parts = []
        for start in range(0, len(self._pictures), self._batch):
            ready = self._runner.ready(_batch(self._pictures, start, self._batch))
            parts.append(self._runner.run(ready))
        logits = np.concatenate(parts)[: len(self._pictures)].astype(np.float32)
        np.save(path, logits)
        return len(logits)


def peak_memory(root: Path = Path("/")) -> float:
    """The most memory this process has had, in bytes.

    Linux's own account of that goes to a process by its start: `getrusage` would count what the
    parent had.

    Args:
        root: Where `/proc` is.
    """
    try:
        lines = (root / "proc/self/status").read_text().splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
