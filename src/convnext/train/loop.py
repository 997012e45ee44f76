"""The loop of a run, whatever is learnt: steps, numbers, checkpoints, interruptions.

What is learnt is a `Task`: a classifier (`training`) or a masked autoencoder (`pretraining`).

    RUN/recipe.toml, run.json      how it began
    RUN/metrics.jsonl, .csv        its numbers;  curves.png  drawn
    RUN/checkpoints/step-*         to go on from
    RUN/model/                     the result: the last weights, averaged where the recipe says so
    RUN/best/                      the same, where validation was best

Several hosts go through the loop in step (see `team`): after each they agree on its numbers and on
whether to go on, and the first one alone writes.
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
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

from convnext.atomic import remove_temporaries
from convnext.errors import TrainingError
from convnext.train.checkpoints import Checkpoint, Checkpoints
from convnext.train.journal import Journal
from convnext.train.loader import Batch, Loader
from convnext.train.recipe import Run
from convnext.train.schedule import Plan
from convnext.train.session import CHECKPOINTS
from convnext.train.team import ALONE, Team, lost

__all__ = ["Loop", "Outcome", "Task", "Validation", "stopping"]

Say = Callable[[str], object]
Numbers = Mapping[str, float]


class Validation(NamedTuple):
    """What a validation found.

    Attributes:
        numbers: By name, for the metrics.
        score: What is best when it is highest.
        said: The same in words.
    """

    numbers: Numbers
    score: float
    said: str


class Task(Protocol):
    """What is learnt."""

    def step(self, batch: Batch, learning_rate: float) -> Numbers:
        """One update; the `loss` is among what it says."""

    def validate(self) -> Validation | None:
        """How good it is by now; None if there is nothing to validate with."""

    def state(self) -> Mapping[str, Any]:
        """Everything that the next step depends on, as arrays."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state` gave."""

    def write(self, folder: Path) -> None:
        """Write what was learnt as a model directory; of several hosts, one does."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: Of the run.
        steps: Updates that were done.
        finished: False if it was interrupted; it can be resumed.
        validation: The numbers of the last validation; empty if there was none.
        best: The best score of all validations: for a classifier the accuracy.
        bad: Pictures that could not be read, with the reason.
    """

    folder: Path
    steps: int
    finished: bool
    validation: Numbers
    best: float | None
    bad: Mapping[str, str]

    @property
    def model(self) -> Path:
        """The directory of the result."""
        return self.folder / "model"

    @property
    def accuracy(self) -> float | None:
        """Of the last validation; of the averaged weights where there are some."""
        return self.validation.get("average_accuracy", self.validation.get("accuracy"))


@dataclass
class _Window:
    """What has been seen since the last line in the metrics."""

    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, numbers: Numbers) -> None:
        self.steps += 1
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: round(value / self.steps, 6) for name, value in self.sums.items()}


class _Clock:
    """How fast it goes, since it was last asked."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.restart()

    def restart(self) -> None:
        self.began, self.pictures, self.waited = time.monotonic(), 0, self.loader.waited

    def rates(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self.began, 1e-9)
        rates = {
            "pictures_per_second": round(self.pictures / seconds, 1),
            "waiting": round((self.loader.waited - self.waited) / seconds, 4),
        }
        self.restart()
        return rates


class Loop:
    """One run, from where it stands to its end.

    Args:
        folder: Of the run.
        task: What is learnt.
        run: How often what is done.
        plan: How long.
        journal: Where numbers go.
        say: Called with each line of what happens.
        team: Who takes part.
    """

    def __init__(
        self,
        folder: Path,
        task: Task,
        run: Run,
        plan: Plan,
        journal: Journal,
        say: Say,
        team: Team = ALONE,
    ) -> None:
        self.folder = folder
        self.task = task
        self.run = run
        self.plan = plan
        self.journal = journal
        self.say = say
        self.team = team
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, run.keep)
        self.done = 0
        self.window = _Window()
        self.validation: dict[str, float] = {}
        self.best: float | None = None
        self.bad: dict[str, str] = {}
        self.kept = 0.0  # when the last checkpoint was written

    @property
    def epoch(self) -> float:
        """Epochs that are done."""
        return round(self.done / self.plan.epoch, 4)

    def resume(self) -> bool:
        """Go to the last checkpoint; False if there is none.

        Raises:
            TrainingError: It is another one for some host.
        """
        last = self.checkpoints.latest()
        self.team.same(
            str(last and last.step),
            f"they see other checkpoints in {self.checkpoints.folder}. The folder of a run is one "
            "that all hosts share.",
        )
        if last is not None:
            self.task.restore(last.arrays)
            self._recall(last)
            self.say(f"Going on after step {self.done:,} of {self.plan.total:,}.")
        self.journal.forget_after(self.done)
        return last is not None

    def _recall(self, checkpoint: Checkpoint) -> None:
        facts = checkpoint.facts
        try:
            self.window = _Window(**facts["window"])
            self.validation, self.best = facts["validation"], facts["best"]
            self.bad = facts["bad"]
        except (KeyError, TypeError) as error:
            raise TrainingError(
                f"The checkpoint in {self.checkpoints.folder} was written by another version of "
                "convnext. Go on with the version that run.json names, or begin anew."
            ) from error
        self.done = checkpoint.step

    def go(self, loader: Loader, stop: threading.Event, *, progress: bool) -> Outcome:
        """All steps that are left.

        Args:
            loader: The batches.
            stop: Set to end after the step.
            progress: Whether to show a bar where there is a terminal.

        Raises:
            TrainingError: The run cannot go on.
        """
        loader.bad.update(self.bad)
        bar = tqdm(
            total=self.plan.total,
            initial=self.done,
            unit="step",
            dynamic_ncols=True,
            disable=None if progress and self.team.is_first else True,
        )
        with bar, lost(self.team):
            self._steps(loader, stop, bar)
        finished = self.done == self.plan.total
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
            self.say(f"Interrupted after step {self.done:,}; go on with --resume.")
        self.team.barrier()  # nobody leaves before everything is written
        return Outcome(self.folder, self.done, finished, self.validation, self.best, self.bad)

    def _steps(self, loader: Loader, stop: threading.Event, bar: Any) -> None:
        run, total = self.run, self.plan.total
        validate_every = max(1, round(run.validate_every * self.plan.epoch))
        self.kept, clock = time.monotonic(), _Clock(loader)

        def wishes() -> list[bool]:
            return [time.monotonic() - self.kept > 60 * run.checkpoint_minutes, stop.is_set()]

        for batch in loader.batches(self.done, total):
            due, stopped = self._step(batch, wishes)
            clock.pictures += len(batch.pictures) * self.team.count
            bar.update()
            last = self.done == total
            ends_stretch = last or self.done % validate_every == 0
            if last or self.done % run.log_every == 0:
                bar.set_postfix_str(self._log(clock.rates()))
            if ends_stretch:
                bar.clear()
                self._validate()
                clock.restart()
                due, stopped = self.team.agree({}, wishes())[1]
            if due or ends_stretch or stopped:
                self._keep()
                self.kept = time.monotonic()
            if stopped:
                return

    def _step(self, batch: Batch, wishes: Callable[[], list[bool]]) -> list[bool]:
        """One update; what any host wishes after it holds for all."""
        own = self.task.step(batch, self.plan.schedule(self.done))
        numbers, agreed = self.team.agree(own, wishes())
        if not math.isfinite(numbers["loss"]):
            raise TrainingError(
                f"The loss became {numbers['loss']} at step {self.done:,}. The last checkpoint in "
                f"{self.folder / CHECKPOINTS} is from before. Begin anew with a smaller "
                "optimizer.learning_rate, a longer optimizer.warmup_epochs or "
                "optimizer.clip_norm = 1.0."
            )
        self.done += 1
        self.window.add(numbers)
        self.bad.update(batch.bad)
        return agreed

    def _log(self, rates: Numbers) -> str:
        """Write the means since the last line; the line for the bar."""
        means = self.window.means()
        self.window = _Window()
        rate = self.plan.schedule(self.done - 1)
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
        return ", ".join([*shown, f"rate {rate:.1e}", f"{rates['pictures_per_second']:,.0f} pic/s"])

    def _validate(self) -> None:
        found = self.task.validate()
        if found is None:
            return
        self.validation = dict(found.numbers)
        if self.best is None or found.score > self.best:
            self.best = found.score
            self._write("best")
        record = {"kind": "validation", "step": self.done, "epoch": self.epoch}
        self.journal.write({**record, **found.numbers})
        self.journal.summarise(str(self.folder))
        self.say(f"epoch {self.epoch:g}: {found.said}")

    def _write(self, name: str) -> None:
        if self.team.is_first:
            remove_temporaries(self.folder)
            self.task.write(self.folder / name)

    def _keep(self) -> None:
        if self.team.count > 1:
            for said in self.team.texts(json.dumps(self.bad)):
                self.bad.update(json.loads(said))
        if not self.team.is_first:
            return
        facts = {
            "window": vars(self.window),
            "validation": self.validation,
            "best": self.best,
            "bad": self.bad,
        }
        self.checkpoints.write(Checkpoint(self.done, self.task.state(), facts))


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """The first Ctrl-C or SIGTERM asks for a stop after the step; the second one ends at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, ask)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
