"""From what a user asks to what every worker is told, with all that can be refused refused here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.scale.job import Job, Task
from convnext.scale.tables import TableColumns
from convnext.session import Session

__all__ = ["check_asked", "job_of"]

TASKS = ("predict", "embed")


def check_asked(model: object, task: str, numbers: Mapping[str, int | None]) -> None:
    """Refuse what makes no sense for any model.

    Args:
        model: What `predict_dataset` takes.
        task: What is to be answered.
        numbers: Those that must be 1 or more, by their names.

    Raises:
        ArgumentError: There is no such task or number.
        ArgumentTypeError: The model is an object that cannot be sent to workers.
    """
    if not isinstance(model, str | os.PathLike):
        raise ArgumentTypeError(
            "Workers in other processes open the model for themselves: give a published "
            f"checkpoint's name or a weights file (see save_weights), not {type(model).__name__}."
        )
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ArgumentError(f"{name} must be 1 or more; got {number!r}.")


def job_of(
    session: Session,
    model: str | os.PathLike[str],
    task: Task,
    *,
    top: int,
    vectors: bool,
    batch_size: int,
    columns: TableColumns | None,
) -> Job:
    """What workers are told: to open the model as it is opened here.

    Args:
        session: The model, opened; its file is read, and no engine is started.
        model: Where workers get it.
        task: What is answered.
        top: How many classes.
        vectors: Whether vectors are answered too.
        batch_size: Pictures at once.
        columns: Which columns of Parquet files are meant.

    Raises:
        ArgumentError: The weights cannot do what is asked, or are not named or calibrated so.
    """
    if task != "embed" and not session.num_classes:
        raise ArgumentError(
            f"{session.source} has no classifier and cannot say what a picture shows. Use these "
            "weights for vectors, or take fine-tuned ones."
        )
    return Job(
        task=task,
        model=Path(model).absolute() if Path(model).exists() else str(model),
        preprocess=session.preprocess,
        labels=session.labels,
        width=session.variant.dims[-1],
        root=str(Path.cwd()),
        engine=session.engine_name,
        precision=session.options.precision,
        device=session.options.device,
        calibration=session.calibration,
        batch_size=batch_size,
        top=min(top, session.num_classes or 1),
        vectors=vectors,
        columns=columns or TableColumns(),
    )
