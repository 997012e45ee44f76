"""Options and output of `predict`, `embed` and `evaluate` for folders of Parquet files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.cli.pictures import TOP, Unreadable
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
For any number of pictures, output can go to a folder of Parquet files: --out FOLDER/ (with a
slash), its URL, or --engine-runner. Files are written atomically, and --resume continues a run that
ended early. PATHS may then also be URLs (s3://, gs://, ...), Parquet files with a column of
pictures, and WebDataset archives. `--engine-runner ray` distributes the work over processes and
machines, with the same rows as output: pip install 'convnext[ray]', and see docs/scale.md.
"""


def target(text: str) -> Path | str:
    """Parse `--out`: a path, or as a string the path or URL of a folder of Parquet files."""
    return text if is_url(text) or text.endswith(FOLDER) else Path(text)


def is_dataset(args: argparse.Namespace) -> bool:
    """Whether the output is a folder of Parquet files."""
    return args.engine_runner is not None or isinstance(args.out, str)


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of workers."""
    group = parser.add_argument_group("many workers")
    group.add_argument(
        "--engine-runner",
        choices=("local", "ray"),
        help="run in this process, or on Ray; both write Parquet files, shard by shard",
    )
    group.add_argument(
        "--address", help="Ray cluster: host:port or auto (default: start Ray on this machine)"
    )
    group.add_argument(
        "--num-workers", metavar="N", type=int, help="default: one for every 4 processors"
    )
    group.add_argument(
        "--cpus-per-worker", metavar="N", type=int, help="default: all, divided by the workers"
    )
    group.add_argument(
        "--gpus-per-worker", metavar="N", type=float, help="may be a fraction (default: 0)"
    )
    group.add_argument(
        "--shard-size",
        metavar="N",
        type=int,
        default=1024,
        help="pictures in a file (default: 1024)",
    )


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """Add the columns of Parquet input, and the engine's device."""
    group = parser.add_argument_group("Parquet input and output")
    group.add_argument("--device", default="auto", help="the runtime's device, such as cuda")
    group.add_argument(
        "--image-column", metavar="NAME", help="column of the pictures, of Parquet files in PATHS"
    )
    group.add_argument("--path-column", metavar="NAME", help="column of the pictures' names")
    group.add_argument(
        "--label-column", metavar="NAME", help="column of the labels; copied to `truth`"
    )


def room_of(args: argparse.Namespace) -> Room | None:
    """The cluster and the resources of workers; None without Ray.

    Raises:
        ArgumentError: An option needs `--engine-runner ray`.
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
                raise ArgumentError(f"{name} needs --engine-runner ray. Give both or neither.")
        return None
    from convnext.scale.cluster import Room

    gpus = args.gpus_per_worker or 0.0
    return Room(args.address, args.num_workers, gpus, args.cpus_per_worker)


def write_dataset(
    args: argparse.Namespace,
    task: str,
    *,
    top: int | None = None,
    vectors: bool = False,
    thresholds: Any = None,
) -> int:
    """Write a folder of Parquet files; 0 if every picture could be read, else 1."""
    if args.out is None:
        raise ArgumentError("--engine-runner writes a folder of Parquet files: give its --out.")
    from convnext.data.parquet import TableColumns
    from convnext.scale.running import predict_dataset
    from convnext.session import Session

    room = room_of(args)
    stated = {"preprocess": args.mean_std, "architecture": args.arch}
    with Session.open(args.model, **stated) as session:
        notice = session.info.notice
        if top is None and task == "predict" and session.info.thresholds is None:
            top = TOP
    if notice:
        print(notice, file=sys.stderr)
    if room is not None and sys.stderr.isatty():
        print("Starting workers.", file=sys.stderr)
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
            thresholds=thresholds,
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
        print(f"\nconvnext: to continue {args.out}, give --resume", file=sys.stderr)
        raise
    rate = done.computed / max(done.seconds, 1e-9)
    speed = f", {rate:,.1f} pictures/s" if done.computed else ""
    print(f"{done.pictures:,} rows in {done.shards:,} files in {done.folder}{speed}")
    bad = Unreadable()
    for name, error in done.listed:
        bad.add(name, error)
    bad.count = done.bad
    return bad.report()
