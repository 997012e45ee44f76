"""The race: contenders in processes of their own, taking turns.

Frameworks in one process disturb each other, and a machine's speed changes while one measures. So
each contender has a process, and turns go round (A B C A B C ...): what changes meets all of them,
and what counts is the ratio inside one race.

A contender that fails keeps its error as its result, and the race goes on.
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
from convnext.bench.runners import Order
from convnext.errors import ConvNeXtError
from convnext.processors import available_processors

__all__ = ["Result", "logits_of", "race"]

TURN = 0.25  # seconds a contender calls its model for, at least once
PAUSE = 0.02  # seconds between turns, for threads that spin before they sleep

REFERENCE = Contender("auto", "float32")


@dataclass
class Result:
    """What became of one contender.

    Attributes:
        contender: Who.
        batch: Pictures at once.
        precision: What it computed in.
        load_s: Seconds to open the model, without starting Python.
        first_call_s: Seconds of the first call, which may compile.
        turns: The seconds of each call, turn by turn.
        peak_mib: The most memory its process had, before it answered for the comparison.
        logits: Its answers, if it was asked for them.
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
    """A contender that cannot go on."""


class _Process:
    """A contender's process."""

    def __init__(self, material: Material, order: Order) -> None:
        contender = Contender(order.name, order.precision)
        missing = contender.peer.missing if contender.peer else []
        if missing:
            raise _FailedError(f"Not installed: {', '.join(missing)}.")
        self._material = material
        self._complaints = TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "convnext.bench.serve"),
                *(str(material.folder), json.dumps(asdict(order))),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            env=_environment(contender, order),
        )

    def answer(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise _FailedError(self._end())
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise _FailedError(said["error"])
        return said

    def ask(self, command: str) -> dict[str, Any]:
        """Tell it to do something."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended is known best by `answer`
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        return self.answer()

    def logits(self) -> NDArray[np.float32]:
        """Its answers for all pictures."""
        path = self._material.folder / f"logits-{self._process.pid}.npy"
        self.ask(f"outputs {path}")
        array: NDArray[np.float32] = np.load(path)
        path.unlink()
        return array

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._complaints):
            with suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def _end(self) -> str:
        """How it ended without a word."""
        code = self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        last = f" Its last words: {lines[-1][:200]}" if lines else ""
        if code == -signal.SIGKILL:
            return "It was killed, as the system does where memory runs out."
        return f"Its process ended with code {code}.{last}"


def _environment(contender: Contender, order: Order) -> dict[str, str]:
    """The user's, with as many threads for every runtime, and a backend where one is needed."""
    threads = str(order.use_threads)
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    chosen = {**dict.fromkeys(names, threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if contender.peer and contender.peer.backend:
        chosen["KERAS_BACKEND"] = contender.peer.backend
    return {**os.environ, **chosen}


@dataclass
class _Entry:
    """A contender that is in the race, and its result so far."""

    result: Result
    process: _Process | None = None

    def attempt(self, what: Callable[[_Process, Result], None]) -> None:
        """Have it do something; if that fails, it is out."""
        if self.process is None:
            return
        try:
            what(self.process, self.result)
        except _FailedError as error:
            self.fail(error)

    def fail(self, error: _FailedError) -> None:
        """Out of the race."""
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
    """Time contenders beside each other.

    Args:
        material: The weights and pictures.
        contenders: Who takes part.
        batch: Pictures at once.
        rounds: Turns of each.
        threads: How many each may use; by default as many as there are processors.
        on_step: Called before each of `2 + rounds` steps of each contender, with what comes.

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
    order = Order(contender.name, contender.precision, batch, threads, available_processors())
    try:
        entry.process = _Process(material, order)
        report = entry.process.answer()
    except _FailedError as error:
        entry.fail(error)
        return
    entry.result.precision = report["precision"]
    entry.result.load_s = report["load_s"]
    entry.result.first_call_s = report["first_call_s"]


def _turn(process: _Process, result: Result) -> None:
    time.sleep(PAUSE)
    result.turns.append(process.ask(f"turn {TURN}")["seconds"])


def _finish(process: _Process, result: Result) -> None:
    result.peak_mib = process.ask("peak")["peak_mib"]
    result.logits = process.logits()


def logits_of(
    material: Material, contender: Contender = REFERENCE, batch: int = 4
) -> NDArray[np.float32]:
    """A contender's answers for all pictures, by default those of our engine in float32.

    Raises:
        ConvNeXtError: It failed.
    """
    entry = _Entry(Result(contender, batch))
    _start(entry, material, batch, None)
    try:
        if entry.process is None:
            raise ConvNeXtError(f"Nothing to compare with: {entry.result.error}")
        return entry.process.logits()
    except _FailedError as error:
        raise ConvNeXtError(f"Nothing to compare with: {error}") from error
    finally:
        if entry.process:
            entry.process.close()
