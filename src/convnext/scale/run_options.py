"""Options of a run, sent to every worker: the model, the task, and how pictures are read.

Names and paths must mean the same on every machine; workers report facts that are compared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from convnext.architecture import Architecture
from convnext.data.parquet import TableColumns
from convnext.engines.base import Precision
from convnext.errors import ArgumentError
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.int8.calibration import Calibration
from convnext.session import Session

__all__ = ["RunOptions", "TaskName", "settings"]

TaskName = Literal["predict", "embed", "evaluate"]


@dataclass(frozen=True)
class RunOptions:
    """All options on which the output depends.

    Attributes:
        task: `"predict"`, `"embed"` or `"evaluate"`.
        model: A published checkpoint's name, or the path of a weights file.
        preprocess: Preprocessing of pictures.
        labels: Class names, with the thresholds of a multi-label model.
        width: Length of a vector.
        root: The folder of relative paths.
        engine: Name of the engine.
        precision: Of the engine.
        device: The runtime's name of a device.
        calibration: For int8.
        threads: Of the engine and of reading; None for one for each processor.
        batch_size: Pictures in a batch.
        top: Number of classes in the output.
        vectors: Whether vectors are in the output of `"predict"`.
        columns: Columns of Parquet inputs.
        competing: Classes among which an evaluated model chooses; None for all.
        digest: Expected digest of the weights; None for any.
        architecture: The network; None to read it from the weights file.
    """

    task: TaskName
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
        task: TaskName,
        *,
        top: int | None,
        vectors: bool,
        batch_size: int,
        columns: TableColumns | None,
    ) -> RunOptions:
        """Create the options of a session's model.

        Raises:
            ArgumentError: The weights have no classifier, and the task needs one.
        """
        session.check_task(segmentation=False)
        if task != "embed" and not session.num_classes:
            raise ArgumentError(
                f"{session.source} has no classifier. Compute vectors with these weights "
                "(task embed), or use fine-tuned ones."
            )
        several = 1 if session.info.thresholds is None else session.num_classes
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
            top=min(top or several, session.num_classes or 1),
            vectors=vectors,
            columns=columns or TableColumns(),
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The engine's outputs that are needed."""
        if self.task == "embed":
            return ("embedding",)
        return ("logits", "embedding") if self.vectors else ("logits",)


def settings(options: RunOptions, facts: Mapping[str, Any], shard_size: int) -> dict[str, Any]:
    """Settings on which the output depends, to be stored in the plan and compared on resuming."""
    names = hashlib.sha256(repr(options.labels).encode()).hexdigest()
    return {
        "task": options.task,
        **facts,
        "device": options.device,
        "preprocess": asdict(options.preprocess),
        "labels": names,
        "calibration": None
        if options.calibration is None
        else _calibration_digest(options.calibration),
        "top": options.top,
        "vectors": options.vectors,
        "competing": options.competing,
        "columns": asdict(options.columns),
        "batch": options.batch_size,
        "shard_size": shard_size,
    }


def _calibration_digest(calibration: Calibration) -> str:
    digest = hashlib.sha256()
    for name, levels in sorted(calibration.layers.items()):
        digest.update(f"{name}\0{levels.kernel}\0".encode())
        for part in (levels.low, levels.step, levels.correction):
            digest.update(part.tobytes())
    return digest.hexdigest()
