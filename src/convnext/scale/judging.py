"""Evaluates a model with several workers: `evaluate_dataset`.

Workers write a judgement of each picture to Parquet shards. They are read back in the order of the
data into the same sums as in `convnext.evaluate.evaluate`, so the numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from convnext.data.archives import picture_locations
from convnext.data.arrow import pyarrow
from convnext.data.datasets import Dataset
from convnext.data.files import Folder
from convnext.data.finding import Found
from convnext.errors import ArgumentError
from convnext.evaluate.accuracy import Judgement, Tally
from convnext.evaluate.run import BadPicture, Measured
from convnext.evaluate.subject import Subject
from convnext.images.labels import Labels
from convnext.scale.cluster import Room
from convnext.scale.inputs import Item
from convnext.scale.plan import Mode, part_name
from convnext.scale.run_options import RunOptions
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
    """Measure a model on labelled pictures with several workers.

    Args:
        subject: The model, from `convnext.evaluate.open_subject`; workers open the same engine in
            the same precision.
        model: A published checkpoint's name or a weights file, which workers open.
        data: From `convnext.evaluate.open_dataset`.
        out: A folder for the judgements.
        batch_size: Pictures in a batch.
        shard_size: Pictures in a shard; if larger than a batch, a multiple of it.
        runner: `"local"` or `"ray"`.
        room: Resources on Ray.
        mode: Handling of an earlier run's judgements, see `open_plan`.
        progress: Whether to show a bar if there is a terminal.

    Returns:
        The same as `convnext.evaluate.evaluate`; its time is that of this session.

    Raises:
        ArgumentError: The data is an archive without random access, or has changed.
        ConvNeXtError: See `predict_dataset`.
    """
    options = RunOptions(
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
        raise ArgumentError(
            f"batch_size and shard_size must be 1 or more; got {batch_size} and {shard_size}."
        )
    # The fingerprint covers names, labels and competing classes.
    found = [Found("file", f"{data.path.absolute()} {data.fingerprint}", _size(data.path))]
    items = _shards(_items(data), shard_size)
    done = work_through(
        options,
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
    path = data.path.as_posix()
    name = data.path.name.lower()
    if data.path.is_dir():
        for entry in data.entries:
            yield Item("file", f"{path}/{entry.id}", label=str(entry.label))
        return
    if not name.endswith((".zip", ".tar")):
        raise ArgumentError(
            f"Workers cannot share {path}: a compressed tar archive has no random access. Unpack "
            "it, or evaluate it without --engine-runner."
        )
    members = picture_locations(path)
    for entry in data.entries:
        found = next((member for member in members if member.name == entry.id), None)
        if found is None:
            raise ArgumentError(
                f"{entry.id!r} is no longer in {path}, or in another order. Restore the archive."
            )
        yield Item(name[-3:], path, found.name, found.start, found.stop, str(entry.label))


def _sums(data: Dataset, folder: Folder, shards: int, seconds: float) -> Measured:
    tally = Tally(len(data.competing) if data.competing else data.classes.count)
    bad: list[BadPicture] = []
    rows = _judgements(folder, shards)
    for entry, (truth, judgement, error) in zip(data.entries, rows, strict=True):
        if truth != entry.label:
            raise ArgumentError(
                f"{folder.text} belongs to other data: the label of {entry.id!r} differs. Name "
                "another folder."
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
