"""A contender's process: loads a model, then runs a command from each line of standard input.

    turn SECONDS    -> {"seconds": [...]}   times of as many calls as fit, one at least
    outputs FILE    -> {"pictures": n}      writes the logits of all pictures to FILE
    peak            -> {"peak_mib": 512.0}  peak memory of the process

`process` has the conversation itself.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.bench.material import Material
from convnext.bench.process import serve
from convnext.bench.runners import Runner, RunnerOptions, open_ours

__all__ = ["main", "peak_memory"]

WARM_UP = 2  # calls after the first, which compiles
MIB = 2**20


def main(arguments: list[str]) -> int:
    """Serve until standard input ends.

    Args:
        arguments: The folder with the material, and the options as JSON.
    """

    def prepare() -> tuple[dict[str, Any], Callable[[str], dict[str, Any]]]:
        options = RunnerOptions(**json.loads(arguments[1]))
        server, report = _load(Material.read(Path(arguments[0])), options)
        return report, lambda line: server.do(*line.split(maxsplit=1))

    return serve(prepare)


def _load(material: Material, options: RunnerOptions) -> tuple[_Server, dict[str, Any]]:
    """Load the model and warm it up; returns a server, and the times."""
    opened = time.perf_counter()
    runner = _opener(options.name)(material, options)
    pictures = material.pictures
    ready = runner.ready(_batch(pictures, 0, options.batch))
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
    return _Server(runner, pictures, ready, options.batch), report


def _opener(name: str) -> Callable[[Material, RunnerOptions], Runner]:
    from convnext.bench.contenders import PEERS

    if name not in PEERS:
        return open_ours
    from convnext.bench.peers import ADAPTERS

    return ADAPTERS[name]


def _batch(pictures: NDArray[np.uint8], start: int, size: int) -> NDArray[np.uint8]:
    """Take `size` pictures from index `start` on, wrapping around at the end."""
    return np.ascontiguousarray(pictures[np.arange(start, start + size) % len(pictures)])


class _Server:
    """Runs commands on a loaded model."""

    def __init__(self, runner: Runner, pictures: NDArray[np.uint8], ready: Any, batch: int) -> None:
        self._runner = runner
        self._pictures = pictures
        self._ready = ready
        self._batch = batch
        self._usual = 0.0  # seconds of a call

    def do(self, command: str, argument: str = "") -> dict[str, Any]:
        """Run a command, and return its reply."""
        if command == "turn":
            return {"seconds": self._turn(float(argument))}
        if command == "outputs":
            return {"pictures": self._write_outputs(Path(argument.strip()))}
        return {"peak_mib": peak_memory() / MIB}

    def _turn(self, budget: float) -> list[float]:
        if self._usual < budget / 2:
            self._call()  # not timed: other contenders have evicted this model from the caches
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
    """Peak memory of this process, in bytes.

    On Linux it is read from `/proc`, as `getrusage` includes the parent's memory.

    Args:
        root: The folder of `/proc`.
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
