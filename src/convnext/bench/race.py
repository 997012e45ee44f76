"""Runs a race: times contenders in processes of their own, in turns.

Frameworks in one process disturb each other, and a machine's speed varies over time. So each
contender has a process, and turns alternate (A B C A B C ...): all are affected alike, and ratios
within a race are comparable. If a contender fails, its result is the error, and the race continues.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from convnext.bench.contenders import Contender
from convnext.bench.material import Material
from convnext.bench.process import FailedError, Process
from convnext.bench.rounds import Until, take_turns
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

    @property
    def seconds(self) -> list[float]:
        """The median time of a call in each turn."""
        return [statistics.median(turn) for turn in self.turns]


class _Process(Process):
    def __init__(self, material: Material, options: RunnerOptions) -> None:
        contender = Contender(options.name, options.precision)
        missing = contender.peer.missing if contender.peer else []
        if missing:
            raise FailedError(f"Not installed: {', '.join(missing)}.")
        self._folder = material.folder
        arguments = ("-m", "convnext.bench.serve", self._folder, json.dumps(asdict(options)))
        super().__init__(arguments, _environment(contender, options))

    def logits(self) -> NDArray[np.float32]:
        """Compute the logits of all pictures."""
        path = self._folder / f"logits-{id(self)}.npy"
        self.call(f"outputs {path}")
        array: NDArray[np.float32] = np.load(path)
        path.unlink()
        return array


def _environment(contender: Contender, options: RunnerOptions) -> dict[str, str]:
    """Environment of a contender: every runtime's number of threads, and Keras's backend."""
    threads = str(options.use_threads)
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    chosen = {**dict.fromkeys(names, threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
    if contender.peer and contender.peer.backend:
        chosen["KERAS_BACKEND"] = contender.peer.backend
    return chosen


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
        except FailedError as error:
            self.fail(error)

    def fail(self, error: FailedError) -> None:
        """Store the error, and end the process."""
        self.result.error = str(error)
        if self.process:
            self.process.close()
            self.process = None


def race(
    material: Material,
    contenders: Sequence[Contender],
    batch: int,
    rounds: int | Until = Until(),  # noqa: B008 (it cannot be changed)
    *,
    threads: int | None = None,
    on_step: Callable[[str], object] = lambda _: None,
) -> list[Result]:
    """Time contenders in turns.

    Args:
        material: The weights and pictures.
        contenders: The contenders.
        batch: Pictures in a batch.
        rounds: Turns of each contender, or when they end: by default, when the 95 % interval of
            every ratio is within 3 %, or after 60 seconds without those of opening models.
        threads: Threads of each; by default one for each processor.
        on_step: Called with a message before each step: a contender's loading, a turn, its answers.

    Returns:
        A result for each contender, in order.
    """
    until = rounds if isinstance(rounds, Until) else Until.first_of(rounds)
    entries = [_Entry(Result(contender, batch)) for contender in contenders]
    of_all = f" of {until.rounds}" if until.rounds else ""

    def turn(entry: _Entry, number: int) -> float | None:
        on_step(f"round {number}{of_all}: {entry.result.contender}")
        entry.attempt(_turn)
        return statistics.median(entry.result.turns[-1]) if entry.process else None

    try:
        for entry in entries:
            on_step(f"{entry.result.contender} loads")
            _start(entry, material, batch, threads)
        turns = [partial(turn, entry) for entry in entries]
        take_turns(turns, until)
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
    except FailedError as error:
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
    except FailedError as error:
        raise ConvNeXtError(f"The reference failed: {error}") from error
    finally:
        if entry.process:
            entry.process.close()
