"""The training loop: steps, metrics, validation, run states, interruptions.

    RUN/recipe.toml, run.json      how the run started
    RUN/metrics.jsonl, .csv        its metrics;  curves.png  draws them
    RUN/checkpoints/step-*         run states, to resume from
    RUN/model/                     the result: the last weights, averaged if the recipe says so
    RUN/best/                      the same, of the best validation

Several hosts run the loop in lockstep (see `team`): after each step they exchange its numbers and
whether to stop, and the first host alone writes files.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from convnext.atomic import remove_temporaries
from convnext.errors import TrainingError
from convnext.train.input.loader import Loader, TrainingBatch
from convnext.train.input.taught import TaughtLoader
from convnext.train.optim.schedule import Schedule
from convnext.train.run.metrics import Journal
from convnext.train.run.objective import Numbers, Objective
from convnext.train.run.provenance import RUN_STATES
from convnext.train.run.run_states import RunState, RunStates
from convnext.train.sections import Run
from convnext.train.team.base import ALONE, Team, lost

__all__ = ["Loop", "RunResult", "stopping"]

Say = Callable[[str], object]


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        folder: Of the run.
        steps: Updates done.
        finished: False if it was interrupted and can be resumed.
        validation: Metrics of the last validation; empty if there was none.
        best: The best score of all validations; a classifier's is its accuracy.
        bad: Pictures that could not be read, each with the reason.
    """

    folder: Path
    steps: int
    finished: bool
    validation: Numbers
    best: float | None
    bad: Mapping[str, str]

    @property
    def model(self) -> Path:
        """The model directory with the result."""
        return self.folder / "model"

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the last validation, of averaged weights if there are any."""
        return self.validation.get("average_accuracy", self.validation.get("accuracy"))


@dataclass
class _Window:
    """Sums of the numbers of steps since the last line of the metrics."""

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, numbers: Numbers) -> None:
        self.steps += 1
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: round(value / self.steps, 6) for name, value in self.sums.items()}


class _Clock:
    def __init__(self, loader: Loader | TaughtLoader) -> None:
        self.loader = loader
        self.restart()

    def restart(self) -> None:
        self.began, self.pictures, self.spent = time.monotonic(), 0, self.loader.seconds

    def rates(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self.began, 1e-9)
        rates = {
            "pictures_per_second": round(self.pictures / seconds, 1),
            **{
                name: round((spent - self.spent[name]) / seconds, 4)
                for name, spent in self.loader.seconds.items()
            },
        }
        self.restart()
        return rates


class Loop:
    """A run, from its run state to its end.

    Args:
        folder: Of the run.
        objective: The model in training.
        run: The recipe's section on the run.
        schedule: Length of the run and its learning rate.
        journal: Writes the metrics.
        say: Called with each message.
        team: The hosts and devices of the run.
    """

    def __init__(
        self,
        folder: Path,
        objective: Objective[Any, Any],
        run: Run,
        schedule: Schedule,
        journal: Journal,
        say: Say,
        team: Team = ALONE,
    ) -> None:
        self.folder = folder
        self.objective = objective
        self.run = run
        self.schedule = schedule
        self.journal = journal
        self.say = say
        self.team = team
        self.states = RunStates(folder / RUN_STATES, run.keep)
        self.done = 0
        self.window = _Window()
        self.validation: dict[str, float] = {}
        self.best: float | None = None
        self.bad: dict[str, str] = {}
        self.state_written = 0.0  # time of the last run state

    @property
    def epoch(self) -> float:
        """Epochs done."""
        return round(self.done / self.schedule.epoch_steps, 4)

    def resume(self) -> bool:
        """Restore the latest run state; False if there is none.

        Raises:
            TrainingError: The hosts see different ones.
        """
        last = self.states.latest()
        self.team.same(
            str(last and last.step),
            f"they see different run states in {self.states.folder}. Use a folder that all hosts "
            "share.",
        )
        if last is not None:
            self.objective.restore(last.arrays)
            self._restore(last)
            self.say(f"Resuming after step {self.done:,} of {self.schedule.total:,}.")
        self.journal.forget_after(self.done)
        return last is not None

    def _restore(self, state: RunState) -> None:
        facts = state.facts
        try:
            self.window = _Window(**facts["window"])
            self.validation, self.best = facts["validation"], facts["best"]
            self.bad = facts["bad"]
        except (KeyError, TypeError) as error:
            raise TrainingError(
                f"The run state in {self.states.folder} was written by another version of "
                "convnext. Resume with the version in run.json, or start a new run."
            ) from error
        self.done = state.step

    def train(
        self, loader: Loader | TaughtLoader, stop: threading.Event, *, progress: bool
    ) -> RunResult:
        """Do all remaining steps.

        Args:
            loader: The batches.
            stop: If set, the run stops after the present step.
            progress: Whether to show a bar if there is a terminal.

        Raises:
            TrainingError: The run cannot continue.
        """
        loader.bad.update(self.bad)
        bar = tqdm(
            total=self.schedule.total,
            initial=self.done,
            unit="step",
            dynamic_ncols=True,
            disable=None if progress and self.team.is_first else True,
        )
        with bar, lost(self.team):
            self._steps(loader, stop, bar)
        finished = self.done == self.schedule.total
        if finished:
            self._write("model")
            self.journal.summarise(str(self.folder))
        if self.bad:
            name, reason = next(iter(self.bad.items()))
            self.say(
                f"{len(self.bad):,} pictures could not be read and were replaced, the first of "
                f"them {name}: {reason}"
            )
        if finished:
            self.say(f"The model is in {self.folder / 'model'}.")
        else:
            self.say(f"Interrupted after step {self.done:,}; resume with --resume.")
        self.team.barrier()  # hosts exit once all files are written
        return RunResult(self.folder, self.done, finished, self.validation, self.best, self.bad)

    def _steps(self, loader: Loader | TaughtLoader, stop: threading.Event, bar: Any) -> None:
        run, total = self.run, self.schedule.total
        validate_every = max(1, round(run.validate_every * self.schedule.epoch_steps))
        self.state_written, clock = time.monotonic(), _Clock(loader)

        def flags() -> list[bool]:
            minutes = (time.monotonic() - self.state_written) / 60
            return [minutes > run.checkpoint_minutes, stop.is_set()]

        for batch in loader.batches(self.done, total):
            due, stopped = self._step(batch, flags)
            clock.pictures += len(batch.pictures) * self.team.count
            bar.update()
            last = self.done == total
            validates = last or self.done % validate_every == 0
            if last or self.done % run.log_every == 0:
                bar.set_postfix_str(self._log(clock.rates()))
            if validates:
                bar.clear()
                self._validate()
                clock.restart()
                due, stopped = self.team.agree({}, flags())[1]
            if due or validates or stopped:
                self._write_state()
                self.state_written = time.monotonic()
            if stopped:
                return

    def _step(self, batch: TrainingBatch, flags: Callable[[], list[bool]]) -> list[bool]:
        """Update once; returns the flags, each true if it is true on any host."""
        own = self.objective.step(batch, self.schedule.learning_rate(self.done))
        numbers, agreed = self.team.agree(own, flags())
        if not math.isfinite(numbers["loss"]):
            raise TrainingError(
                f"The loss became {numbers['loss']} at step {self.done:,}. Start a new run with a "
                "smaller optimizer.learning_rate, a longer optimizer.warmup_epochs or "
                "optimizer.clip_norm = 1.0. The last run state before this is in "
                f"{self.folder / RUN_STATES}."
            )
        self.done += 1
        self.window.add(numbers)
        self.bad.update(batch.bad)
        return agreed

    def _log(self, rates: Numbers) -> str:
        """Write the means since the last line of the metrics; returns the bar's text."""
        means = self.window.means()
        self.window = _Window()
        rate = self.schedule.learning_rate(self.done - 1)
        self.journal.write(
            {
                "kind": "train",
                "step": self.done,
                "epoch": self.epoch,
                **means,
                "learning_rate": rate,
                **rates,
            }
        )
        shown = [f"{name} {value:.3f}" for name, value in means.items()]
        shown += [f"rate {rate:.1e}", f"{rates['pictures_per_second']:,.0f} pic/s"]
        shown += [f"teacher {share:.0%}" for name, share in rates.items() if name == "teacher"]
        return ", ".join(shown)

    def _validate(self) -> None:
        found = self.objective.validate()
        if found is None:
            return
        self.validation = dict(found.numbers)
        if self.best is None or found.score > self.best:
            self.best = found.score
            self._write("best")
        record = {"kind": "validation", "step": self.done, "epoch": self.epoch}
        self.journal.write({**record, **found.numbers})
        self.journal.summarise(str(self.folder))
        self.say(f"epoch {self.epoch:g}: {found.message}")

    def _write(self, name: str) -> None:
        if self.team.is_first:
            remove_temporaries(self.folder)
            self.objective.write(self.folder / name)

    def _write_state(self) -> None:
        if self.team.count > 1:
            for text in self.team.texts(json.dumps(self.bad)):
                self.bad.update(json.loads(text))
        if not self.team.is_first:
            return
        facts = {
            "window": vars(self.window),
            "validation": self.validation,
            "best": self.best,
            "bad": self.bad,
        }
        self.states.write(RunState(self.done, self.objective.state(), facts))


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets; the second one ends the process."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, handle)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
