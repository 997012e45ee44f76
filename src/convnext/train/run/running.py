"""One run from data to result, whatever is trained: shared by `train` and `pretrain`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import keras

from convnext.data.examples import Examples
from convnext.train.input.loader import Loader
from convnext.train.input.taught import TaughtLoader
from convnext.train.optim.schedule import Schedule
from convnext.train.recipe import AnyRun
from convnext.train.run.learner import initialise
from convnext.train.run.loop import Loop, RunResult, Say, stopping
from convnext.train.run.metrics import Journal
from convnext.train.run.objective import Objective
from convnext.train.run.provenance import RunRecord, share_record
from convnext.train.team.base import ALONE, Team
from convnext.train.team.forming import form_team

__all__ = ["RunOptions", "run_objective"]

AnyExamples = TypeVar("AnyExamples", bound=Examples)


@dataclass(frozen=True)
class RunOptions:
    """The options of a run that are not in its recipe; see `convnext.train.train`."""

    out: Path
    init: str | Path | None
    resume: bool
    workers: int | None
    devices: int | None
    hosts: str | None
    tensorboard: bool
    progress: bool
    say: Say


def run_objective(
    recipe: AnyRun,
    open_data: Callable[[], tuple[AnyExamples, AnyExamples | None]],
    objective_of: Callable[[AnyExamples, AnyExamples | None, Team], Objective[Any, Any]],
    options: RunOptions,
) -> RunResult:
    """Train an objective, or resume its training.

    Args:
        recipe: With the actual precision.
        open_data: Opens the examples and the validation data, if there is any.
        objective_of: Makes the objective of both and this host's team.
        options: Options of the run.

    Returns:
        The result of the run.
    """
    run, init, out = recipe.run, options.init, options.out
    with ExitStack() as stack:
        backend = keras.backend.backend()
        team = stack.enter_context(form_team(backend, options.devices, options.hosts))
        team.check(run.batch_size, run.accumulate)
        examples, validated = open_data()
        objective = objective_of(examples, validated, team)
        teacher = objective.teacher
        record = RunRecord(
            recipe,
            objective.classes,
            (examples.fingerprint, validated.fingerprint if validated else ""),
            backend,
            None if init is None else str(init),
            str(team),
            None if teacher is None else (teacher.name, teacher.digest),
        )
        share_record(stack, team, out, record, resume=options.resume)
        journal = Journal(out, tensorboard=options.tensorboard, writes=team.is_first)
        stack.callback(journal.close)
        say = team.voice(options.say)
        schedule = Schedule.of(run, recipe.optimizer, len(examples))
        loop = Loop(out, objective, run, schedule, journal, say, team)
        if not loop.resume() and init is not None:
            strides = recipe.model.actual_strides
            say(initialise(objective.learner, init, objective.classes, strides))
        objective.learner.check_same()
        also = f", {len(validated):,} to validate with" if validated else ""
        where = "" if team is ALONE else f", {team}"
        say(
            f"{recipe.model.variant} at {recipe.model.resolution} pixels on {backend}, "
            f"{run.precision}{where}; {len(examples):,} pictures{also}, {objective.about}; "
            f"{schedule.total:,} steps of {run.batch_size}, learning rate "
            f"{schedule.learning_rate.peak:.3g}."
        )
        if teacher is not None:
            say(f"The teacher is {teacher.name} ({teacher.about}).")
        loader = Loader(
            examples,
            objective.transform,
            objective.mixer,
            objective.order,
            batch_size=run.batch_size,
            seed=run.seed,
            workers=team.workers if options.workers is None else options.workers,
            host=(team.rank, team.count),
        )
        stack.enter_context(loader)
        batches: Loader | TaughtLoader = loader
        if teacher is not None:
            batches = stack.enter_context(TaughtLoader(loader, teacher))
        stop = stack.enter_context(stopping())
        return loop.train(batches, stop, progress=options.progress)
