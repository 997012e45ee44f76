"""What `predict`, `embed` and `evaluate` share when answers go to a folder of Parquet files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.pictures import Unreadable
from convnext.errors import ArgumentError
from convnext.images.read import is_url

if TYPE_CHECKING:
    from convnext.scale.cluster import Room

__all__ = [
    "DATASETS",
    "add_dataset_options",
    "add_runner_options",
    "is_dataset",
    "room_of",
    "target",
    "write_dataset",
]

FOLDER = "/"

DATASETS = """\
To a folder of Parquet files, for any number of pictures: --out FOLDER/ (with a slash), its URL, or
--engine-runner. Files appear as they are complete, and --resume goes on after whatever ended a run.
PATHS may then be URLs (s3://, gs://, ...), Parquet files with a column of pictures, and WebDataset
archives as well. `--engine-runner ray` divides the work among processes and machines; the rows are
the same. pip install 'convnext[ray]'; docs/scale.md says more.
"""


def target(text: str) -> Path | str:
    """What `--out` names: a path, or a folder of Parquet files as the text it was given as."""
    return text if is_url(text) or text.endswith(FOLDER) else Path(text)


def is_dataset(args: argparse.Namespace) -> bool:
    """Whether answers go to a folder of Parquet files."""
    return args.engine_runner is not None or isinstance(args.out, str)


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """Add who computes, and where."""
    group = parser.add_argument_group("many workers")
    group.add_argument(
        "--engine-runner",
        choices=("local", "ray"),
        help="this process, or workers on Ray; either way to Parquet, shard by shard",
    )
    group.add_argument(
        "--address", help="of a Ray cluster: host:port or auto (default: Ray is started here)"
    )
    group.add_argument(
        "--num-workers", metavar="N", type=int, help="default: one for each 4 processors"
    )
    group.add_argument(
        "--cpus-per-worker", metavar="N", type=int, help="default: they share what is there"
    )
    group.add_argument(
        "--gpus-per-worker", metavar="N", type=float, help="what each takes of a GPU (default: 0)"
    )
    group.add_argument(
        "--shard-size", metavar="N", type=int, default=1024, help="pictures in a file (1024)"
    )


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Add what is read of Parquet files, and on what the engine runs."""
    group = parser.add_argument_group("to and from Parquet")
    group.add_argument("--device", default="auto", help="the runtime's name of it, such as cuda")
    group.add_argument("--image-column", metavar="NAME", help="of Parquet files in PATHS")
    group.add_argument("--path-column", metavar="NAME", help="what names a picture there")
    group.add_argument("--label-column", metavar="NAME", help="what it shows; kept as `truth`")


def room_of(args: argparse.Namespace) -> Room | None:
    """Where workers are and what they take; None without Ray.

    Raises:
        ArgumentError: An option is for Ray, which was not asked for.
    """
    given = {
        "--address": args.address,
        "--num-workers": args.num_workers,
        "--cpus-per-worker": args.cpus_per_worker,
        "--gpus-per-worker": args.gpus_per_worker,
    }
    if args.engine_runner != "ray":
        for name, value in given.items():
            if value is not None:
                raise ArgumentError(f"{name} is for --engine-runner ray.")
        return None
    from convnext.scale.cluster import Room

    gpus = args.gpus_per_worker or 0.0
    return Room(args.address, args.num_workers, gpus, args.cpus_per_worker)


def write_dataset(
    args: argparse.Namespace, task: str, *, top: int = 1, vectors: bool = False
) -> int:
    """Answer into a folder of Parquet files; 0 if every picture could be read, else 1."""
    if args.out is None:
        raise ArgumentError("--engine-runner writes a folder of Parquet files: name it with --out.")
    from convnext.scale.running import predict_dataset
    from convnext.scale.tables import TableColumns
    from convnext.session import Session

    room = room_of(args)
    stated = {"preprocess": args.mean_std, "architecture": args.arch}
    with Session.open(args.model, **stated) as session:
        notice = session.info.notice
    if notice:
        print(notice, file=sys.stderr)
    if room is not None and sys.stderr.isatty():
        print("Workers are starting.", file=sys.stderr)
    try:
        done = predict_dataset(
            args.paths,
            args.model,
            args.out,
            task=task,  # type: ignore[arg-type]
            top=top,
            vectors=vectors,
            engine=args.engine,
            precision=args.precision,
            device=args.device,
            calibration=args.calibration,
            labels=args.labels or None,
            **stated,
            batch_size=args.batch,
            shard_size=args.shard_size,
            columns=TableColumns(args.image_column, args.path_column, args.label_column),
            runner=args.engine_runner or "local",
            room=room,
            resume=args.resume,
            overwrite=args.overwrite,
            progress=True,
        )
    except KeyboardInterrupt:
        print(f"\nconvnext: to go on from {args.out}, give --resume", file=sys.stderr)
        raise
    rate = done.computed / max(done.seconds, 1e-9)
    speed = f", {rate:,.1f} pictures/s" if done.computed else ""
    print(f"{done.pictures:,} rows in {done.shards:,} files in {done.folder}{speed}")
    bad = Unreadable()
    for name, error in done.listed:
        bad.add(name, error)
    bad.count = done.bad
    return bad.report()
