"""What every worker is told: the model, what to answer, and how pictures are read.

It is small, and is sent to other processes and machines, where names and paths have to mean the
same. That they do is checked: a worker says what it found, and all have to say the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from convnext.architecture import Architecture
from convnext.engines.base import Precision
from convnext.errors import ArgumentError
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.int8.calibration import Calibration
from convnext.scale.tables import TableColumns
from convnext.session import Session

__all__ = ["Job", "Task", "settings"]

Task = Literal["predict", "embed", "evaluate"]


@dataclass(frozen=True)
class Job:
    """Everything that answers depend on but for the pictures, and where they are.

    Attributes:
        task: What is answered.
        model: A published checkpoint's name, or the path of a weights file.
        preprocess: What is done to pictures.
        labels: What the classes are called.
        width: Numbers in a vector.
        root: The folder that paths are relative to.
        engine: What computes.
        precision: In what.
        device: The runtime's name of a device.
        calibration: What int8 needs.
        threads: Of the engine, and of what reads; None for as many as there are processors.
        batch_size: Pictures at once.
        top: How many classes are answered.
        vectors: Whether vectors are answered too.
        columns: Which columns of Parquet files are meant.
        competing: Among which classes an evaluated model chooses; None for all.
        digest: Of the weights that are meant; None for whatever workers find.
        architecture: What the network is; None for what the file says.
    """

    task: Task
    model: str | Path
    preprocess: Preprocess
    labels: Labels
    width: int
    root: str
    engine: str = "auto"
    precision: Precision = "auto"
    device: str = "auto"
    calibration: Calibration | None = None
    threads: int | None = None
    batch_size: int = 32
    top: int = 1
    vectors: bool = False
    columns: TableColumns = field(default_factory=TableColumns)
    competing: tuple[int, ...] | None = None
    digest: str | None = None
    architecture: Architecture | None = None

    @classmethod
    def of(
        cls,
        session: Session,
        model: str | os.PathLike[str],
        task: Task,
        *,
        top: int,
        vectors: bool,
        batch_size: int,
        columns: TableColumns | None,
    ) -> Job:
        """To answer as a session would, which is all that this opens.

        Raises:
            ArgumentError: The weights cannot do that, or are not named or calibrated so.
        """
        if task != "embed" and not session.num_classes:
            raise ArgumentError(
                f"{session.source} has no classifier and cannot say what a picture shows. Use "
                "these weights for vectors, or take fine-tuned ones."
            )
        return cls(
            task=task,
            model=Path(model).absolute() if Path(model).exists() else str(model),
            architecture=session.variant,
            preprocess=session.preprocess,
            labels=session.labels,
            width=session.vector_width,
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

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is asked of the engine."""
        if self.task == "embed":
            return ("embedding",)
        return ("logits", "embedding") if self.vectors else ("logits",)


def settings(job: Job, facts: Mapping[str, Any], shard_size: int) -> dict[str, Any]:
    """Everything that answers depend on, to be written down and compared.

    Args:
        job: What is asked.
        facts: What a worker found.
        shard_size: Pictures in a shard.
    """
    names = hashlib.sha256(repr(job.labels).encode()).hexdigest()
    return {
        "task": job.task,
        **facts,
        "device": job.device,
        "preprocess": asdict(job.preprocess),
        "labels": names,
        "calibration": None if job.calibration is None else _calibration_digest(job.calibration),
        "top": job.top,
        "vectors": job.vectors,
        "competing": job.competing,
        "columns": asdict(job.columns),
        "batch": job.batch_size,
        "shard_size": shard_size,
    }


def _calibration_digest(calibration: Calibration) -> str:
    digest = hashlib.sha256()
    for name, levels in sorted(calibration.layers.items()):
        digest.update(f"{name}\0{levels.kernel}\0".encode())
        for part in (levels.low, levels.step, levels.correction):
            digest.update(part.tobytes())
    return digest.hexdigest()
