"""A worker: opens the model once, then turns shards into files, one after the other.

Why it exists: the same object works here and in every process of a cluster, on batches that are cut
the same way, so that a row does not depend on who computed it. It knows nothing of other workers.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import PIL
from numpy.typing import NDArray

from convnext import __version__
from convnext.engines import Engine, opening
from convnext.engines.pieces import PIECE
from convnext.errors import ImageError, WeightsMismatchError
from convnext.evaluate.run import READ
from convnext.images.batches import DecodedBatch, batches
from convnext.images.decode import decode
from convnext.images.sources import Named
from convnext.processors import available_processors
from convnext.scale.arrow import pyarrow
from convnext.scale.columns import Row, rows_of, schema_of, table_of
from convnext.scale.inputs import read_items
from convnext.scale.job import Job
from convnext.scale.plan import Plan
from convnext.scale.reading import Archives, Picture, elsewhere, pictures
from convnext.session import Session

__all__ = ["LISTED", "Done", "Worker"]

LISTED = 20  # bad pictures of a shard that are named
_TEXT = ["path", "truth", "label", "top_labels.list.element", "error"]  # values that come again
_ROWS = 2048  # that wait in memory to be written
_WHOLE = 4 * PIECE  # see `_answers`
_WAITING_THREADS = 16  # where pictures come from another machine, most of the time is waiting


@dataclass(frozen=True)
class Done:
    """A shard that is in its place.

    Attributes:
        shard: Its number.
        pictures: How many there were.
        bad: How many of them have an error.
        listed: The first of these: path and error.
        seconds: How long it took.
    """

    shard: int
    pictures: int
    bad: int
    listed: tuple[tuple[str, str], ...]
    seconds: float


class Worker:
    """Computes shards.

    Args:
        job: What is asked. The model is opened when it is first needed.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._threads = job.threads or available_processors()

    def facts(self) -> dict[str, Any]:
        """What answers depend on and only a worker can tell; plain JSON.

        Raises:
            ConvNeXtError: The model cannot be opened, or its weights are not those that are meant.
        """
        digest = self._session.digest
        if self._job.digest not in (None, digest):
            raise WeightsMismatchError(
                f"A worker finds other weights at {self._job.model} than there are here (sha256 "
                f"{digest}, not {self._job.digest}). Give the same file to every node."
            )
        versions = {"convnext": __version__, "numpy": np.__version__, "pillow": PIL.__version__}
        return {
            "weights": digest,
            "engine": self._engine.name,
            "precision": self._engine.precision,
            "versions": versions | self._runtime(),
        }

    def compute(
        self, plan: Plan, shard: int, advance: Callable[[int], object] = lambda _: None
    ) -> Done:
        """Put a shard in its place.

        Args:
            plan: What is to be done.
            shard: Which.
            advance: Called with the number of pictures that were answered since the last call.

        Raises:
            ConvNeXtError: The file cannot be written.
        """
        began = time.perf_counter()
        count, bad = 0, 0
        listed: list[tuple[str, str]] = []
        metadata = {"convnext": json.dumps({"settings": dict(plan.settings), "shard": shard})}
        schema = schema_of(self._job, metadata)

        def write(stream: IO[bytes]) -> None:
            nonlocal count, bad
            with pyarrow().parquet.ParquetWriter(stream, schema, use_dictionary=_TEXT) as writer:
                waiting: list[Row] = []
                for rows in self._rows(plan, shard):
                    waiting += rows
                    count += len(rows)
                    for row in rows:
                        if row.error is not None:
                            bad += 1
                            if len(listed) < LISTED:
                                listed.append((row.path, row.error))
                    if len(waiting) >= _ROWS:
                        writer.write_table(table_of(schema, waiting))
                        waiting = []
                    advance(len(rows))
                if waiting:
                    writer.write_table(table_of(schema, waiting))
                writer.add_key_value_metadata(
                    {"convnext.pictures": str(count), "convnext.bad": str(bad)}
                )

        plan.folder.put(plan.part(shard), write)
        return Done(shard, count, bad, tuple(listed), time.perf_counter() - began)

    @functools.cached_property
    def _session(self) -> Session:
        job = self._job
        return Session.open(
            job.model,
            engine=job.engine,
            precision=job.precision,
            calibration=job.calibration,
            device=job.device,
            threads=_engine_threads(job),
            preprocess=job.preprocess,
            architecture=job.architecture,
        )

    @property
    def _engine(self) -> Engine:
        return self._session.engine(*self._job.outputs)

    def _runtime(self) -> dict[str, str]:
        names = self._engine.name.split("-")
        found = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
        return {name: str(version) for name, version in found.items() if version is not None}

    def _rows(self, plan: Plan, shard: int) -> Iterator[list[Row]]:
        """The rows of each batch."""
        job = self._job
        items = read_items(plan.folder, shard)
        ahead: deque[Picture] = deque()
        read = READ if job.task == "evaluate" else decode
        workers = max(self._threads, _WAITING_THREADS) if elsewhere(items) else self._threads
        with Archives() as archives:

            def sources() -> Iterator[Named]:
                for picture in pictures(items, job.columns, job.root, archives):
                    ahead.append(picture._replace(source=b""))
                    yield Named(picture.path, picture.source)

            for batch in batches(
                sources(), job.preprocess, job.batch_size, read=read, workers=workers
            ):
                waiting = [ahead.popleft() for _ in batch.ids]
                yield rows_of(job, _outcomes(batch, waiting, job.root), self._answers(batch.pixels))

    def _answers(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """What the engine gives for a batch, filled up to a multiple of the pieces it is cut into.

        An engine cuts by how many threads it has, and some runtimes round a piece of one picture
        otherwise than a piece of four. So filled up, it is cut into the same pieces by any worker.
        """
        if not len(pixels):
            return {}
        lacking = -len(pixels) % _WHOLE
        padding = np.zeros((lacking, *pixels.shape[1:]), np.uint8)
        whole = np.concatenate([pixels, padding]) if lacking else pixels
        outputs = self._engine.predict_all(whole)
        return {name: values[: len(pixels)] for name, values in outputs.items()}


def _engine_threads(job: Job) -> int | None:
    """Those that the engine is told of: only a CPU has them, and JAX takes all there are."""
    if job.device != "auto" and not job.device.lower().startswith("cpu"):
        return None
    engine = job.engine
    if engine == "auto":
        found = (name for name, runtime in opening.ENGINES.items() if runtime.installed())
        engine = next(found, engine)
    return None if engine == "keras" and _keras_backend() == "jax" else job.threads


def _keras_backend() -> str:
    from convnext.engines.keras import choose_backend

    choose_backend()
    return str(importlib.import_module("keras").backend.backend())  # only this engine needs it


def _outcomes(
    batch: DecodedBatch, waiting: list[Picture], root: str
) -> list[tuple[str, str | None, ImageError | None]]:
    """The path, label and error of each picture; errors name files as they were named to us."""
    outcomes = []
    for place, picture in enumerate(waiting):
        error = batch.errors.get(place)
        if error is not None and root != "/" and not picture.path.startswith("/"):
            error = ImageError(str(error).replace(f"{root}/", ""))
        outcomes.append((picture.path, picture.label, error))
    return outcomes
