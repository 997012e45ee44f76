"""A worker: opens the model once, and computes shards.

The same class runs in this process and on every node of a cluster, with the same batches, so that
rows do not depend on the worker.
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
from convnext.data.archives import LabelledSource
from convnext.data.arrow import pyarrow
from convnext.engines import Engine, opening
from convnext.engines.pieces import PIECE
from convnext.errors import ImageError, WeightsMismatchError
from convnext.evaluate.run import READ
from convnext.images.batches import DecodedBatch, batches
from convnext.images.decode import decode
from convnext.images.sources import Named
from convnext.processors import available_processors
from convnext.scale.columns import PictureRow, rows_of, schema_of, table_of
from convnext.scale.inputs import read_items
from convnext.scale.plan import Plan
from convnext.scale.reading import Archives, elsewhere, pictures
from convnext.scale.run_options import RunOptions
from convnext.session import Session

__all__ = ["LISTED", "ShardDone", "Worker"]

LISTED = 20  # unreadable pictures of a shard that are listed
_TEXT = ["path", "truth", "label", "top_labels.list.element", "error"]  # with a dictionary
_ROWS = 2048  # in memory before they are written
_WHOLE = 4 * PIECE  # see `_answers`
_WAITING_THREADS = 16  # for pictures on other machines, where most of the time is waiting


@dataclass(frozen=True)
class ShardDone:
    """The result of computing a shard.

    Attributes:
        shard: Its number.
        pictures: Number of pictures.
        bad: Number of pictures with an error.
        listed: Path and error of the first of these.
        seconds: Duration.
    """

    shard: int
    pictures: int
    bad: int
    listed: tuple[tuple[str, str], ...]
    seconds: float


class Worker:
    """Computes shards; opens the model on first use."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._threads = options.threads or available_processors()

    def facts(self) -> dict[str, Any]:
        """Digest of the weights, engine, precision and versions of this worker, as plain JSON.

        Raises:
            ConvNeXtError: The model cannot be opened, or its weights differ from the expected ones.
        """
        digest = self._session.digest
        if self._options.digest not in (None, digest):
            raise WeightsMismatchError(
                f"The weights at {self._options.model} differ on a worker (sha256 {digest}, not "
                f"{self._options.digest}). Copy the same file to every node."
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
    ) -> ShardDone:
        """Compute a shard and write its file.

        Args:
            plan: Of the run.
            shard: Number of the shard.
            advance: Called with the number of pictures in each computed batch.

        Raises:
            ConvNeXtError: The file cannot be written.
        """
        began = time.perf_counter()
        count, bad = 0, 0
        listed: list[tuple[str, str]] = []
        metadata = {"convnext": json.dumps({"settings": dict(plan.settings), "shard": shard})}
        if "embedding" in self._options.outputs:
            metadata |= self._session.facts
        schema = schema_of(self._options, metadata)

        def write(stream: IO[bytes]) -> None:
            nonlocal count, bad
            with pyarrow().parquet.ParquetWriter(
                stream, schema, use_dictionary=_TEXT, write_page_checksum=True
            ) as writer:
                waiting: list[PictureRow] = []
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
        return ShardDone(shard, count, bad, tuple(listed), time.perf_counter() - began)

    @functools.cached_property
    def _session(self) -> Session:
        options = self._options
        return Session.open(
            options.model,
            engine=options.engine,
            precision=options.precision,
            calibration=options.calibration,
            device=options.device,
            threads=_engine_threads(options),
            preprocess=options.preprocess,
            architecture=options.architecture,
        )

    @property
    def _engine(self) -> Engine:
        return self._session.engine(*self._options.outputs)

    def _runtime(self) -> dict[str, str]:
        names = self._engine.name.split("-")
        found = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
        return {name: str(version) for name, version in found.items() if version is not None}

    def _rows(self, plan: Plan, shard: int) -> Iterator[list[PictureRow]]:
        options = self._options
        items = read_items(plan.folder, shard)
        ahead: deque[LabelledSource] = deque()
        read = READ if options.task == "evaluate" else decode
        workers = max(self._threads, _WAITING_THREADS) if elsewhere(items) else self._threads
        with Archives() as archives:

            def sources() -> Iterator[Named]:
                for picture in pictures(items, options.columns, options.root, archives):
                    ahead.append(picture._replace(source=b""))
                    yield Named(picture.name, picture.source)

            for batch in batches(
                sources(), options.preprocess, options.batch_size, read=read, workers=workers
            ):
                waiting = [ahead.popleft() for _ in batch.ids]
                yield rows_of(
                    options, _outcomes(batch, waiting, options.root), self._answers(batch.pixels)
                )

    def _answers(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Compute the engine's outputs for a batch, padded to a multiple of `_WHOLE`.

        Engines divide a batch by their number of threads, and some runtimes round differently for
        different sizes. The padded batch is divided into equal pieces on any worker.
        """
        if not len(pixels):
            return {}
        lacking = -len(pixels) % _WHOLE
        padding = np.zeros((lacking, *pixels.shape[1:]), np.uint8)
        whole = np.concatenate([pixels, padding]) if lacking else pixels
        outputs = self._engine.predict_all(whole)
        return {name: values[: len(pixels)] for name, values in outputs.items()}


def _engine_threads(options: RunOptions) -> int | None:
    """Threads to set for the engine; None off the CPU, and for JAX, which takes all."""
    if options.device != "auto" and not options.device.lower().startswith("cpu"):
        return None
    engine = options.engine
    if engine == "auto":
        found = (name for name, runtime in opening.ENGINES.items() if runtime.installed())
        engine = next(found, engine)
    return None if engine == "keras" and _keras_backend() == "jax" else options.threads


def _keras_backend() -> str:
    from convnext.engines.keras import choose_backend

    choose_backend()
    return str(
        importlib.import_module("keras").backend.backend()
    )  # lazy import, for this engine only


def _outcomes(
    batch: DecodedBatch, waiting: list[LabelledSource], root: str
) -> list[tuple[str, str | None, ImageError | None]]:
    """Path, label and error of each picture; errors name files relative to the root."""
    outcomes = []
    for index, picture in enumerate(waiting):
        error = batch.errors.get(index)
        if error is not None and root != "/" and not picture.name.startswith("/"):
            error = ImageError(str(error).replace(f"{root}/", ""))
        outcomes.append((picture.name, picture.label, error))
    return outcomes
