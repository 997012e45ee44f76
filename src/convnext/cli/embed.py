"""`convnext embed`: compute embedding vectors of pictures."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from convnext.cli.datasets import (
    DATASETS,
    add_dataset_options,
    add_runner_options,
    is_dataset,
    target,
    write_dataset,
)
from convnext.cli.pictures import (
    Unreadable,
    add_model_options,
    check_target,
    open_classifier,
    show_progress,
    unseen,
)
from convnext.cli.rows import Rows, as_json, written_rows
from convnext.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    from convnext.classifier import Classifier

__all__ = ["add_parser", "run"]

SUFFIXES = (".npz", ".parquet", ".jsonl")

EXAMPLES = f"""\
examples:
  convnext embed photos/ --out photos.npz               arrays "ids" and "embeddings"
  convnext embed photos.zip --out photos.parquet        columns "id" and "embedding"
  convnext embed photos/ --out photos.jsonl             a line for each picture
  convnext embed photos/ --out photos.jsonl --resume    only pictures not yet in photos.jsonl
  convnext embed photos/ --out vectors/ --resume        Parquet files in a folder

A vector is the classifier's input: the normalised mean of the last feature map, as float32. One of
CLIP's image towers has length 1 and can be compared with those of texts. .npz and .parquet files
are written when all vectors are computed; for long runs that may be interrupted, use .jsonl. With
--resume, give the same options as before.
A picture that cannot be read does not stop the run: it is left out (in .jsonl, its line has the
error), listed at the end, and the exit code is 1. Parquet: pip install 'convnext[parquet]'.

{DATASETS}"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "embed",
        help="compute embedding vectors of pictures",
        epilog=EXAMPLES,
    )
    add_model_options(parser)
    parser.add_argument("--batch", type=int, default=32, help="batch size (default: 32)")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=target,
        required=True,
        help=f"ends in {', '.join(SUFFIXES)}; or a FOLDER/",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted .jsonl FILE")
    add_runner_options(parser)
    add_dataset_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Embed; 0 if every picture could be read, else 1."""
    if is_dataset(args):
        return write_dataset(args, "embed")
    kind = args.out.suffix.lower()
    if kind not in SUFFIXES:
        raise UnknownNameError("kind of file", args.out.name, SUFFIXES)
    if args.resume and kind != ".jsonl":
        raise ArgumentError(f"--resume cannot continue a {kind} file. Use a .jsonl file.")
    check_target(args.out, overwrite=args.overwrite, resume=args.resume)
    bad = Unreadable()
    try:
        if kind == ".jsonl":
            _write_lines(args, open_classifier(args), bad)
        else:
            from convnext.cli.vectors import write_vectors

            write_vectors(args, open_classifier(args), "embedding", bad)
    finally:
        code = bad.report()
    print(f"Written to {args.out}.", file=sys.stderr)
    return code


def _write_lines(args: argparse.Namespace, classifier: Classifier, bad: Unreadable) -> None:
    width = classifier.vector_width
    done = written_rows(args.out, answer="embedding", width=width) if args.resume else {}
    bad.add_all(done)
    embeddings = classifier.embed_stream(unseen(args.paths, done), args.batch)
    with Rows(args.out, append=args.resume) as rows:
        for embedding in show_progress(embeddings, args, len(done)):
            row: dict[str, Any] = {"id": embedding.id}
            if embedding.vector is None:
                row["error"] = str(embedding.error)
                bad.add(embedding.id, embedding.error)
            else:
                # Nine digits represent a float32 exactly.
                row["embedding"] = [float(f"{x:.9g}") for x in embedding.vector.tolist()]
            rows.add(f"{as_json(row)}\n")
