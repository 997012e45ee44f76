"""An evaluation by many workers: pictures are judged in shards, sums are taken at the end.

Why it exists: every number of a report is defined over single pictures, so it does not matter who
judged them. Judgements go to Parquet files, a row for each picture and none twice, and come back in
the order of the data, into the very sums of `convnext.evaluate.evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from convnext.errors import ArgumentError
from convnext.evaluate.accuracy import Judgement, Tally
from convnext.evaluate.datasets import Dataset
from convnext.evaluate.run import BadPicture, Measured
from convnext.evaluate.subject import Subject
from convnext.images.labels import Labels
from convnext.scale.archives import tar_places, zip_places
from convnext.scale.arrow import pyarrow
from convnext.scale.cluster import Room
from convnext.scale.finding import Found
from convnext.scale.inputs import Item
from convnext.scale.job import Job
from convnext.scale.places import Folder
from convnext.scale.plan import Mode, part_name
from convnext.scale.running import RunnerName, work_through

__all__ = ["JUDGEMENTS", "evaluate_dataset"]

JUDGEMENTS = "judgements"
SHARD_SIZE = 1024


def evaluate_dataset(  # noqa: PLR0913
    subject: Subject,
    model: str | Path,
    data: Dataset,
    out: Path,
    *,
    batch_size: int = 32,
    shard_size: int = SHARD_SIZE,
    runner: RunnerName = "ray",
    room: Room | None = None,
    mode: Mode = "new",
    progress: bool = False,
) -> Measured:
    """Measure a model on labelled pictures, by as many workers as there are.

    Args:
        subject: The model, from `convnext.evaluate.open_subject`; workers open the same engine in
            the same precision.
        model: Where workers get it: a published checkpoint's name, or a weights file.
        data: From `convnext.evaluate.open_dataset`.
        out: A folder for the judgements.
        batch_size: Pictures at once.
        shard_size: Pictures in a file; of more than a batch, a multiple of it.
        runner: Who computes.
        room: For Ray.
        mode: What becomes of judgements that are there.
        progress: Whether to show a bar when there is a terminal.

    Returns:
        What `convnext.evaluate.evaluate` gives; its time is that of this session.

    Raises:
        ArgumentError: The data is an archive in which one cannot go to any place, or changed.
        ConvNeXtError: See `predict_dataset`.
    """
    job = Job(
        task="evaluate",
        model=Path(model).absolute() if Path(model).exists() else model,
        preprocess=subject.preprocess,
        labels=Labels(()),
        width=0,
        root=str(Path.cwd()),
        engine=subject.engine.name.split("-")[0],
        precision=subject.engine.precision,  # type: ignore[arg-type]
        calibration=subject.calibration,
        batch_size=batch_size,
        competing=data.competing,
        digest=subject.facts["weights"]["sha256"],
    )
    if batch_size < 1 or shard_size < 1:
        raise ArgumentError(f"batch and shard must be 1 or more; got {batch_size}, {shard_size}.")
    # Names, labels and competing classes, in place of the files.
    found = [Found("file", f"{data.path.absolute()} {data.fingerprint}", _size(data.path))]
    items = _shards(_items(data), shard_size)
    done = work_through(
        job,
        str(out),
        found,
        items,
        shard_size=shard_size,
        runner=runner,
        room=room,
        mode=mode,
        progress=progress,
    )
    return _sums(data, Folder(done.folder), done.shards, done.seconds)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _shards(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while shard := list(islice(items, size)):
        yield shard


def _items(data: Dataset) -> Iterator[Item]:
    """Each picture with its label, in the order of the data."""
    path = data.path.as_posix()
    name = data.path.name.lower()
    if data.path.is_dir():
        for entry in data.entries:
            yield Item("file", f"{path}/{entry.id}", label=str(entry.label))
        return
    if name.endswith(".zip"):
        members = (Item("zip", path, member, place) for place, member in zip_places(path))
    elif name.endswith(".tar"):
        members = (
            Item("tar", path, place.name, place.start, place.stop) for place in tar_places(path)
        )
    else:
        raise ArgumentError(
            f"Workers cannot share {path}: a compressed tar archive is read from its beginning. "
            "Unpack it, or evaluate it without --engine-runner."
        )
    for entry in data.entries:
        item = next((item for item in members if item.name == entry.id), None)
        if item is None:
            raise ArgumentError(f"{entry.id!r} is no longer in {path}, or no longer at its place.")
        yield item._replace(label=str(entry.label))


def _sums(data: Dataset, folder: Folder, shards: int, seconds: float) -> Measured:
    tally = Tally(len(data.competing) if data.competing else data.classes.count)
    bad: list[BadPicture] = []
    rows = _judgements(folder, shards)
    for entry, (truth, judgement, error) in zip(data.entries, rows, strict=True):
        if truth != entry.label:
            raise ArgumentError(
                f"{folder.text} does not belong to this data: {entry.id!r} is labelled otherwise."
            )
        if error is not None:
            bad.append(BadPicture(entry.id, error))
        else:
            tally.add(entry.label, judgement)
    return Measured(tally.accuracy(), tuple(bad), seconds)


def _judgements(folder: Folder, shards: int) -> Iterator[tuple[int, Judgement, str | None]]:
    arrow = pyarrow()
    names = ["truth", *Judgement._fields, "error"]
    for shard in range(shards):
        with folder.open(part_name(shard, shards)) as stream:
            table = arrow.parquet.read_table(stream, columns=names)
        for truth, *judged, error in zip(*(table[n].to_pylist() for n in names), strict=True):
            yield truth, Judgement(*judged), error
