"""`predict_dataset`: more pictures than fit one run or one machine, to a folder of Parquet files.

It joins what others do: a plan says what is to be done, a runner does it, a bar shows how far it
is. It knows nothing of pictures or models.
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
from convnext.int8.calibration import Calibration
from convnext.scale.arrow import pyarrow
from convnext.scale.cluster import Cluster, Room
from convnext.scale.finding import Found, Sources, find
from convnext.scale.inputs import Item
from convnext.scale.job import Job, settings
from convnext.scale.places import Folder
from convnext.scale.plan import Mode, Plan, open_plan
from convnext.scale.runners import Local, Runner
from convnext.scale.tables import TableColumns
from convnext.scale.worker import LISTED, Done
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
    """What was done.

    Attributes:
        folder: Where the answers are.
        shards: How many files there are.
        pictures: How many rows.
        bad: How many of them hold an error.
        listed: Some of these: path and error.
        computed: Pictures that were answered now, and not before.
        seconds: How long that took, once there was a worker.
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
    top: int = 1,
    vectors: bool = False,
    engine: str = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    calibration: Calibration | Pictures | None = None,
    labels: Names | None = None,
    size: int | None = None,
    preprocess: Preprocess | str | None = None,
    architecture: object = None,
    batch_size: int = 32,
    shard_size: int = 1024,
    columns: TableColumns | None = None,
    runner: RunnerName = "local",
    room: Room | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Summary:
    """Classes or vectors of any number of pictures, as Parquet files in a folder.

    Each file is a shard that appears when it is complete, so a run that was killed loses no more
    than the shards it was at. The rows are the same whoever computes them.

    Args:
        sources: Paths or URLs of pictures, folders, patterns, archives and Parquet files, see
            `convnext.scale.finding.find`.
        model: A published checkpoint's name, or a weights file that every worker can read.
        out: A folder, or its URL. It is made if it is not there.
        task: `"predict"` answers classes, `"embed"` vectors.
        top: How many classes; of more than one, all are in columns of lists as well.
        vectors: Whether `"predict"` answers vectors too.
        engine: What computes, see `convnext.engines.open_engine`.
        precision: In what.
        device: The runtime's name of a device.
        calibration: What `"int8"` needs, see `open_engine`.
        labels: What the classes are called, as for `Classifier`.
        size: Side of the pictures, if not that of the weights.
        preprocess: What is done to pictures, as for `Classifier`.
        architecture: What a file does not say of its network, as for `Classifier`.
        batch_size: Pictures at once.
        shard_size: Pictures in a file: work for some seconds at least, better minutes.
        columns: Which columns of Parquet files are meant, if that is not plain.
        runner: `"local"` is this process; `"ray"` is a cluster, here or elsewhere.
        room: For Ray: where the workers are and what they take.
        resume: Whether to go on with an earlier run, if there is one. It must have been asked the
            same of the same pictures.
        overwrite: Whether to discard an earlier run.
        progress: Whether to show a bar when there is a terminal.

    Returns:
        What was done.

    Raises:
        ArgumentError: An option makes no sense, a source is not there, or the folder holds
            something else.
        MissingDependencyError: pyarrow or Ray is not installed.
        ConvNeXtError: A shard could not be computed or written. The others stay.

    Example:
        done = predict_dataset("photos/", "convnext_tiny.fb_in1k", "answers", top=5)
        print(done.pictures, done.bad)
    """
    numbers = {"batch_size": batch_size, "shard_size": shard_size, "top": top, "size": size}
    _check(model, task, numbers)
    if resume and overwrite:
        raise ArgumentError("resume goes on with an earlier run, overwrite discards it: not both.")
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
    ) as session:
        job = Job.of(
            session,
            model,
            task,
            top=top,
            vectors=vectors,
            batch_size=batch_size,
            columns=columns,
        )
    return work_through(
        job,
        os.fspath(out),
        find(sources),
        shard_size=shard_size,
        runner=runner,
        room=room,
        mode="resume" if resume else "overwrite" if overwrite else "new",
        progress=progress,
    )


def _check(model: object, task: str, numbers: Mapping[str, int | None]) -> None:
    """Refuse what makes no sense for any model, before one is opened."""
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


def work_through(  # noqa: PLR0913
    job: Job,
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
    """Do a job on whatever was found.

    Args:
        job: What is asked.
        out: The folder.
        found: Every input.
        items: What each shard holds, if not simply that.
        shard_size: Pictures in a shard.
        runner: Who computes.
        room: For Ray.
        mode: What becomes of an earlier run.
        progress: Whether to show a bar when there is a terminal.

    Raises:
        ConvNeXtError: See `predict_dataset`.
    """
    pyarrow()
    folder = Folder(_absolute(out))
    with _alone(folder) as end, _runner(job, runner, room) as crew:
        plan = open_plan(folder, found, items, settings(job, crew.facts(), shard_size), mode)
        folder.sweep()
        end.callback(folder.sweep)  # once more when all workers are gone
        held = plan.done()
        counts = _held(plan, held)
        pictures, bad = counts.pictures, counts.bad
        listed = list(counts.listed)
        missing = sorted(set(range(plan.shards)) - set(held))
        began = time.perf_counter()
        with _Bar(plan, pictures, len(held), progress) as bar:
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


def _runner(job: Job, name: str, room: Room | None) -> Runner:
    if name not in RUNNERS:
        raise UnknownNameError("runner", name, RUNNERS)
    if name == "ray":
        return Cluster(job, room or Room())
    if room is not None:
        raise ArgumentError("room is for runner='ray': the local runner is this process.")
    return Local(job)


@contextmanager
def _alone(folder: Folder) -> Iterator[ExitStack]:
    """Keep other runs out of a folder, and leave none behind that nothing was put into.

    What is given to the stack that it yields is done before others may enter.
    """
    there = folder.path is None or folder.path.exists()
    folder.make()
    with ExitStack() as end:
        if folder.path is not None:  # a store has no locks
            if not there:
                end.callback(_remove_if_empty, folder.path)
            end.enter_context(_locked(folder, folder.path / _LOCK))
        yield end


@contextmanager
def _locked(folder: Folder, path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArgumentError(f"Another process is writing {folder.text}. Name another.") from error
    except OSError as error:
        raise ConvNeXtError(f"{folder.text} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        if os.name == "posix":  # elsewhere a file that is open stays
            path.unlink(missing_ok=True)  # while it is held: later it may be another's
        lock.release()
        if os.name != "posix":
            with contextlib.suppress(OSError):  # another has it open
                path.unlink(missing_ok=True)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):  # it holds something
        path.rmdir()


def _held(plan: Plan, shards: Sequence[int]) -> Done:
    """What the files that are there already say of themselves, in sum."""
    if not shards:
        return Done(-1, 0, 0, (), 0.0)
    with ThreadPoolExecutor(min(_READERS, len(shards))) as pool:
        sizes = list(pool.map(lambda shard: _counts(plan, shard), shards))
    pictures, bad = (sum(column) for column in zip(*sizes, strict=True))
    listed: list[tuple[str, str]] = []
    for shard, (_, errors) in zip(shards, sizes, strict=True):
        if errors and len(listed) < LISTED:
            listed += _errors(plan, shard)[: LISTED - len(listed)]
    return Done(-1, pictures, bad, tuple(listed), 0.0)


def _counts(plan: Plan, shard: int) -> tuple[int, int]:
    arrow = pyarrow()
    with plan.folder.open(plan.part(shard)) as stream:
        try:
            facts: dict[bytes, Any] = arrow.parquet.ParquetFile(stream).metadata.metadata or {}
            return int(facts[b"convnext.pictures"]), int(facts[b"convnext.bad"])
        except (arrow.ArrowException, OSError, KeyError, ValueError) as error:
            raise ArgumentError(
                f"{plan.folder.text}/{plan.part(shard)} is not as it was written: {error!r}. "
                "Remove it, and it will be computed again."
            ) from error


def _errors(plan: Plan, shard: int) -> list[tuple[str, str]]:
    with plan.folder.open(plan.part(shard)) as stream:
        table = pyarrow().parquet.read_table(stream, columns=["path", "error"])
    rows = zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True)
    return [(path, error) for path, error in rows if error is not None]


class _Bar:
    """How far a run is, on a terminal.

    Args:
        plan: What is to be done.
        pictures: How many had been answered before.
        shards: How many were there before.
        shown: Whether to show it.
    """

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
        """So many were answered."""
        self._bar.update(pictures)

    def finish(self, pictures: int, bad: int) -> None:
        """A shard is in its place."""
        self._shards += 1
        if self._plan.pictures is None:  # then it is about as many again in each of the rest
            self._bar.total = max(pictures, pictures * self._plan.shards // self._shards)
        self._label(bad)

    def _label(self, bad: int) -> None:
        text = f"shard {self._shards} of {self._plan.shards}"
        self._bar.set_postfix_str(f"{text}, {bad} bad" if bad else text)
