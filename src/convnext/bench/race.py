"""Runs a race: times contenders in processes of their own, in turns.

Frameworks in one process disturb each other, and a machine's speed varies over time. So each
contender has a process, and turns alternate (A B C A B C ...): all are affected alike, and ratios
within a race are comparable. If a contender fails, its result is the error, and the race continues.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.bench.contenders import Contender
from convnext.bench.material import Material
from convnext.bench.runners import RunnerOptions
from convnext.errors import ConvNeXtError
from convnext.processors import available_processors

__all__ = ["Result", "logits_of", "race"]

TURN = 0.25  # seconds of calls in a turn, one call at least
PAUSE = 0.02  # seconds between turns, until spinning threads sleep

REFERENCE = Contender("auto", "float32")


@dataclass
class Result:
    """The result of a contender.

    Attributes:
        contender: The contender.
        batch: Pictures in a batch.
        precision: The precision it used.
        load_s: Seconds to open the model, without starting Python.
        first_call_s: Seconds of the first call, which may compile.
        turns: The seconds of each call, turn by turn.
        peak_mib: Peak memory of its process during the turns.
        logits: Its logits, for the comparison.
        error: Why it failed.
    """

    contender: Contender
    batch: int
    precision: str = ""
    load_s: float = 0.0
    first_call_s: float = 0.0
    turns: list[list[float]] = field(default_factory=list)
    peak_mib: float = 0.0
    logits: NDArray[np.float32] | None = None
    error: str | None = None


class _FailedError(Exception):
    """Failure of a contender."""


class _Process:
    def __init__(self, material: Material, options: RunnerOptions) -> None:
        contender = Contender(options.name, options.precision)
        missing = contender.peer.missing if contender.peer else []
        if missing:
            raise _FailedError(f"Not installed: {', '.join(missing)}.")
        self._material = material
        self._complaints = TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "convnext.bench.serve"),
                *(str(material.folder), json.dumps(asdict(options))),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=_environment(contender, options),
        )

    def reply(self) -> dict[str, Any]:
        """Read the next reply of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise _FailedError(self._end())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise _FailedError(reply["error"])
        return reply

    def call(self, command: str) -> dict[str, Any]:
        """Send a command, and read the reply."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `reply` raises the reason
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        return self.reply()

    def logits(self) -> NDArray[np.float32]:
        """Compute the logits of all pictures."""
        path = self._material.folder / f"logits-{self._process.pid}.npy"
        self.call(f"outputs {path}")
        array: NDArray[np.float32] = np.load(path)
        path.unlink()
        return array

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            with suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def _end(self) -> str:
        """Error message for a process that ended unexpectedly."""
        code = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        last = f" Its last message: {lines[-1][:200]}" if lines else ""
        if code == -signal.SIGKILL:
            return "It was killed, as the system does when memory runs out."
        return f"Its process ended with code {code}.{last}"


def _environment(contender: Contender, options: RunnerOptions) -> dict[str, str]:
    """Environment of a contender: every runtime's number of threads, and Keras's backend."""
    threads = str(options.use_threads)
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    chosen = {**dict.fromkeys(names, threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if contender.peer and contender.peer.backend:
        chosen["KERAS_BACKEND"] = contender.peer.backend
    return {**os.environ, **chosen}


@dataclass
class _Entry:
    """A contender with its process, while it runs, and its result so far."""

    result: Result
    process: _Process | None = None

    def attempt(self, action: Callable[[_Process, Result], None]) -> None:
        """Run an action; if it fails, the contender ends with the error."""
        if self.process is None:
            return
        try:
            action(self.process, self.result)
        except _FailedError as error:
            self.fail(error)

    def fail(self, error: _FailedError) -> None:
        """Store the error, and end the process."""
        self.result.error = str(error)
        if self.process:
            self.process.close()
            self.process = None


def race(
    material: Material,
    contenders: Sequence[Contender],
    batch: int,
    rounds: int = 7,
    *,
    threads: int | None = None,
    on_step: Callable[[str], object] = lambda _: None,
) -> list[Result]:
    """Time contenders in turns.

    Args:
        material: The weights and pictures.
        contenders: The contenders.
        batch: Pictures in a batch.
        rounds: Turns of each contender.
        threads: Threads of each; by default one for each processor.
        on_step: Called with a message before each of `2 + rounds` steps of each contender.

    Returns:
        A result for each contender, in order.
    """
    entries = [_Entry(Result(contender, batch)) for contender in contenders]
    try:
        for entry in entries:
            on_step(f"{entry.result.contender} loads")
            _start(entry, material, batch, threads)
        for number in range(rounds):
            for entry in entries:
                on_step(f"round {number + 1} of {rounds}: {entry.result.contender}")
                entry.attempt(_turn)
        for entry in entries:
            on_step(f"{entry.result.contender} answers")
            entry.attempt(_finish)
    finally:
        for entry in entries:
            if entry.process:
                entry.process.close()
    return [entry.result for entry in entries]


def _start(entry: _Entry, material: Material, batch: int, threads: int | None) -> None:
    contender = entry.result.contender
    options = RunnerOptions(
        contender.name, contender.precision, batch, threads, available_processors()
    )
    try:
        entry.process = _Process(material, options)
        report = entry.process.reply()
    except _FailedError as error:
        entry.fail(error)
        return
    entry.result.precision = report["precision"]
    entry.result.load_s = report["load_s"]
    entry.result.first_call_s = report["first_call_s"]


def _turn(process: _Process, result: Result) -> None:
    time.sleep(PAUSE)
    result.turns.append(process.call(f"turn {TURN}")["seconds"])


def _finish(process: _Process, result: Result) -> None:
    result.peak_mib = process.call("peak")["peak_mib"]
    result.logits = process.logits()


def logits_of(
    material: Material, contender: Contender = REFERENCE, batch: int = 4
) -> NDArray[np.float32]:
    """Compute a contender's logits of all pictures, by default the reference's.

    Raises:
        ConvNeXtError: The contender failed.
    """
    entry = _Entry(Result(contender, batch))
    _start(entry, material, batch, None)
    try:
        if entry.process is None:
            raise ConvNeXtError(f"The reference failed: {entry.result.error}")
        return entry.process.logits()
    except _FailedError as error:
        raise ConvNeXtError(f"The reference failed: {error}") from error
    finally:
        if entry.process:
            entry.process.close()
