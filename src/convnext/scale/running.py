"""`predict_dataset`: computes classes or vectors of a large data set, as Parquet files.

It writes the plan, has a runner compute the shards, and shows progress.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from convnext.data.arrow import pyarrow
from convnext.data.files import Folder
from convnext.data.finding import Found, Sources, find
from convnext.data.parquet import TableColumns
from convnext.engines.base import Precision
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConvNeXtError,
    UnknownNameError,
)
from convnext.images.labels import Names
from convnext.images.recipe import Preprocess
from convnext.images.sources import Sources as Pictures
from convnext.images.thresholds import Thresholds
from convnext.int8.calibration import Calibration
from convnext.scale.cluster import Cluster, Room
from convnext.scale.inputs import Item
from convnext.scale.plan import Mode, Plan, open_plan
from convnext.scale.run_options import RunOptions, settings
from convnext.scale.runners import Local, Runner
from convnext.scale.worker import LISTED, ShardDone
from convnext.session import Session

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["RunnerName", "Summary", "predict_dataset", "work_through"]

RunnerName = Literal["local", "ray"]

TASKS = ("predict", "embed")
RUNNERS = ("local", "ray")
_LOCK = ".convnext.lock"
_READERS = 16  # files at once


@dataclass(frozen=True)
class Summary:
    """Summary of a run.

    Attributes:
        folder: Of the output.
        shards: Number of files.
        pictures: Number of rows.
        bad: Number of rows with an error.
        listed: Path and error of some of these.
        computed: Pictures computed in this run, without those of earlier ones.
        seconds: Duration, from the start of the first worker.
    """

    folder: str
    shards: int
    pictures: int
    bad: int
    listed: tuple[tuple[str, str], ...]
    computed: int
    seconds: float


def predict_dataset(  # noqa: PLR0913
    sources: Sources,
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: Literal["predict", "embed"] = "predict",
    top: int | None = None,
    vectors: bool = False,
    engine: str = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    calibration: Calibration | Pictures | None = None,
    labels: Names | None = None,
    size: int | None = None,
    preprocess: Preprocess | str | None = None,
    architecture: object = None,
    thresholds: Thresholds | None = None,
    batch_size: int = 32,
    shard_size: int = 1024,
    columns: TableColumns | None = None,
    runner: RunnerName = "local",
    room: Room | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Summary:
    """Compute classes or vectors of any number of pictures, as Parquet files in a folder.

    Each file is a shard and is written atomically, so a killed run loses only unfinished shards.
    Rows do not depend on the worker.

    Args:
        sources: Paths or URLs of pictures, folders, patterns, archives and Parquet files, see
            `convnext.data.finding.find`.
        model: A published checkpoint's name, or a weights file that every worker can read.
        out: Path or URL of a folder, which is created if it does not exist.
        task: `"predict"` computes classes, `"embed"` vectors.
        top: Number of classes, by default 1; if more than one, all are also in columns of lists.
            Of a multi-label model, the largest number of labels, by default all that reach their
            thresholds, which are in columns of lists alone.
        vectors: Whether `"predict"` computes vectors too.
        engine: Name of the engine, see `convnext.engines.open_engine`.
        precision: Of the engine.
        device: The runtime's name of a device.
        calibration: For `"int8"`, see `open_engine`.
        labels: Class names, as for `Classifier`.
        size: Side of the pictures, if not that of the weights.
        preprocess: Preprocessing, as for `Classifier`.
        architecture: The network, if the file does not describe it, as for `Classifier`.
        thresholds: Of a multi-label model, as for `Classifier`.
        batch_size: Pictures in a batch.
        shard_size: Pictures in a shard, which should take some seconds at least, better minutes.
        columns: Columns of Parquet inputs, if they are ambiguous.
        runner: `"local"` for this process, `"ray"` for a cluster.
        room: Resources on Ray.
        resume: Whether to resume an earlier run, if there is one, of the same options and pictures.
        overwrite: Whether to discard an earlier run.
        progress: Whether to show a bar if there is a terminal.

    Returns:
        A summary of the run.

    Raises:
        ArgumentError: An option is not allowed, a source does not exist, or the folder holds other
            files.
        MissingDependencyError: pyarrow or Ray is not installed.
        ConvNeXtError: A shard could not be computed or written. The others are kept.

    Example:
        done = predict_dataset("photos/", "convnext_tiny.fb_in1k", "answers", top=5)
        print(done.pictures, done.bad)
    """
    numbers = {"batch_size": batch_size, "shard_size": shard_size, "top": top, "size": size}
    _check(model, task, numbers)
    if resume and overwrite:
        raise ArgumentError("resume keeps an earlier run, overwrite discards it. Choose one.")
    with Session.open(
        model,
        engine=engine,
        precision=precision,
        calibration=calibration,
        device=device,
        size=size,
        preprocess=preprocess,
        architecture=architecture,
        labels=labels,
        thresholds=thresholds,
    ) as session:
        options = RunOptions.of(
            session,
            model,
            task,
            top=top,
            vectors=vectors,
            batch_size=batch_size,
            columns=columns,
        )
    return work_through(
        options,
        os.fspath(out),
        find(sources),
        shard_size=shard_size,
        runner=runner,
        room=room,
        mode="resume" if resume else "overwrite" if overwrite else "new",
        progress=progress,
    )


def _check(model: object, task: str, numbers: Mapping[str, int | None]) -> None:
    """Check the options that do not depend on the model, before it is opened."""
    if not isinstance(model, str | os.PathLike):
        raise ArgumentTypeError(
            "Workers in other processes open the model themselves. Pass a published checkpoint's "
            f"name or a weights file (see save_weights), not {type(model).__name__}."
        )
    if task not in TASKS:
        raise UnknownNameError("task", task, TASKS)
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ArgumentError(f"{name} must be 1 or more; got {number!r}.")


def work_through(  # noqa: PLR0913
    options: RunOptions,
    out: str,
    found: Iterable[Found],
    items: Iterable[list[Item]] | None = None,
    *,
    shard_size: int = 1024,
    runner: RunnerName = "local",
    room: Room | None = None,
    mode: Mode = "new",
    progress: bool = False,
) -> Summary:
    """Plan and compute a run.

    Args:
        options: Of the run.
        out: Path or URL of the output folder.
        found: Every input file.
        items: The inputs of each shard, if they are not made from `found`.
        shard_size: Pictures in a shard.
        runner: `"local"` or `"ray"`.
        room: Resources on Ray.
        mode: Handling of an earlier run, see `open_plan`.
        progress: Whether to show a bar if there is a terminal.

    Raises:
        ConvNeXtError: See `predict_dataset`.
    """
    pyarrow()
    folder = Folder(_absolute(out))
    with _alone(folder) as end, _runner(options, runner, room) as crew:
        plan = open_plan(folder, found, items, settings(options, crew.facts(), shard_size), mode)
        folder.sweep()
        end.callback(folder.sweep)  # again after all workers have ended
        existing = plan.done()
        counts = _existing(plan, existing)
        pictures, bad = counts.pictures, counts.bad
        listed = list(counts.listed)
        missing = sorted(set(range(plan.shards)) - set(existing))
        began = time.perf_counter()
        with _Bar(plan, pictures, len(existing), progress) as bar:
            for done in crew.run(plan, missing, bar.advance):
                pictures, bad = pictures + done.pictures, bad + done.bad
                listed += done.listed[: LISTED - len(listed)]
                bar.finish(pictures, bad)
        seconds = time.perf_counter() - began
    computed = pictures - counts.pictures
    return Summary(folder.text, plan.shards, pictures, bad, tuple(listed), computed, seconds)


def _absolute(out: str) -> str:
    path = Folder(out).path
    return out if path is None else str(path.absolute())


def _runner(options: RunOptions, name: str, room: Room | None) -> Runner:
    if name not in RUNNERS:
        raise UnknownNameError("runner", name, RUNNERS)
    if name == "ray":
        return Cluster(options, room or Room())
    if room is not None:
        raise ArgumentError(
            "room applies to runner='ray' only. Leave it out, or choose that runner."
        )
    return Local(options)


@contextmanager
def _alone(folder: Folder) -> Iterator[ExitStack]:
    """Create and lock a folder, and remove it at the end if it is new and empty.

    Callbacks on the yielded stack run before the lock is released.
    """
    existed = folder.path is None or folder.path.exists()
    folder.make()
    with ExitStack() as end:
        if folder.path is not None:  # object stores have no locks
            if not existed:
                end.callback(_remove_if_empty, folder.path)
            end.enter_context(_locked(folder, folder.path / _LOCK))
        yield end


@contextmanager
def _locked(folder: Folder, path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArgumentError(
            f"Another process is writing to {folder.text}. Wait for it, or name another folder."
        ) from error
    except OSError as error:
        raise ConvNeXtError(f"{folder.text} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        if os.name == "posix":  # other systems cannot remove an open file
            path.unlink(missing_ok=True)  # before release: afterwards another process may lock it
        lock.release()
        if os.name != "posix":
            with contextlib.suppress(OSError):  # another process has it open
                path.unlink(missing_ok=True)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty
        path.rmdir()


def _existing(plan: Plan, shards: Sequence[int]) -> ShardDone:
    """Sum the metadata of existing shards."""
    if not shards:
        return ShardDone(-1, 0, 0, (), 0.0)
    with ThreadPoolExecutor(min(_READERS, len(shards))) as pool:
        sizes = list(pool.map(lambda shard: _counts(plan, shard), shards))
    pictures, bad = (sum(column) for column in zip(*sizes, strict=True))
    listed: list[tuple[str, str]] = []
    for shard, (_, errors) in zip(shards, sizes, strict=True):
        if errors and len(listed) < LISTED:
            listed += _errors(plan, shard)[: LISTED - len(listed)]
    return ShardDone(-1, pictures, bad, tuple(listed), 0.0)


def _counts(plan: Plan, shard: int) -> tuple[int, int]:
    arrow = pyarrow()
    with plan.folder.open(plan.part(shard)) as stream:
        try:
            facts: dict[bytes, Any] = arrow.parquet.ParquetFile(stream).metadata.metadata or {}
            return int(facts[b"convnext.pictures"]), int(facts[b"convnext.bad"])
        except (arrow.ArrowException, OSError, KeyError, ValueError) as error:
            raise ArgumentError(
                f"{plan.folder.text}/{plan.part(shard)} was changed or damaged: {error!r}. "
                "Remove it, and it will be computed again."
            ) from error


def _errors(plan: Plan, shard: int) -> list[tuple[str, str]]:
    with plan.folder.open(plan.part(shard)) as stream:
        table = pyarrow().parquet.read_table(stream, columns=["path", "error"])
    rows = zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True)
    return [(path, error) for path, error in rows if error is not None]


class _Bar:
    """Progress bar of a run."""

    def __init__(self, plan: Plan, pictures: int, shards: int, shown: bool) -> None:
        from tqdm import tqdm

        self._plan = plan
        self._shards = shards
        self._bar: tqdm[Any] = tqdm(
            initial=pictures,
            total=plan.pictures,
            unit=" pictures",
            disable=None if shown else True,  # None: shown on a terminal only
            smoothing=0.05,
        )
        self._label(0)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def advance(self, pictures: int) -> None:
        """Add pictures of a computed batch."""
        self._bar.update(pictures)

    def finish(self, pictures: int, bad: int) -> None:
        """Count a finished shard."""
        self._shards += 1
        if self._plan.pictures is None:  # estimated from the finished shards
            self._bar.total = max(pictures, pictures * self._plan.shards // self._shards)
        self._label(bad)

    def _label(self, bad: int) -> None:
        text = f"shard {self._shards} of {self._plan.shards}"
        self._bar.set_postfix_str(f"{text}, {bad} bad" if bad else text)
