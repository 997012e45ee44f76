"""`convnext search`: find pictures by a text or by another picture, among stored vectors."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnext.cli.classes import say_cuts
from convnext.cli.pictures import add_statements, check_target
from convnext.cli.rows import as_json, printable
from convnext.errors import ArgumentError, ConvNeXtError, WeightsMismatchError

if TYPE_CHECKING:
    from convnext.search import Hit, Vectors

__all__ = ["add_parser", "run"]

SHEET = (".png", ".jpg", ".jpeg", ".webp")
SIDE, COLUMNS = 192, 5  # of a contact sheet
LISTED = 1_000  # most pairs of near duplicates
THRESHOLD = 0.95

EXAMPLES = """\
examples:
  convnext embed photos/ --model clip/ --out photos.npz
  convnext search photos.npz "red bicycle" --model clip/
  convnext search photos.npz holiday.jpg --model clip/ --top 20 --out sheet.jpg
  convnext search vectors/ "a dog in the snow" --model clip/ --json
  convnext search photos.npz --near-duplicates 0.97

FILE is an .npz or .parquet file or a folder of shards, from `convnext embed`. QUERY is a text, for
which MODEL is a CLIP model with a text tower, or the path of a picture, for which it is any model.
Scores are cosines, computed exactly with all vectors. MODEL must be the one that computed them: by
default it is that which FILE names. pip install 'convnext[text,openvino]'. More: docs/search.md
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "search",
        help="find pictures by a text or a picture, among vectors of `embed`",
        description="Find pictures by a text or by another picture, among stored vectors.",
        epilog=EXAMPLES,
    )
    parser.add_argument("vectors", metavar="FILE", type=Path, help="vectors, of `convnext embed`")
    parser.add_argument("query", metavar="QUERY", nargs="?", help="a text, or a picture's path")
    parser.add_argument("--model", help="the model of the vectors (default: as FILE says)")
    parser.add_argument("--top", type=int, default=10, help="number of pictures (default: 10)")
    parser.add_argument(
        "--near-duplicates",
        metavar="COSINE",
        nargs="?",
        type=float,
        const=THRESHOLD,
        help=f"list pairs of similar pictures instead (default: from {THRESHOLD} on)",
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each picture")
    parser.add_argument(
        "--out", metavar="SHEET", type=Path, help="also draw the pictures, into a .jpg or .png"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace SHEET if it exists")
    parser.add_argument("--engine", default="auto", help="default: the fastest installed one")
    parser.add_argument("--precision", default="auto", help="of a picture's vector")
    add_statements(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Search, and print the pictures; 0."""
    if (args.query is None) == (args.near_duplicates is None):
        raise ArgumentError("Give a QUERY, a text or a picture, or --near-duplicates.")
    if args.out:
        if args.out.suffix.lower() not in SHEET:
            raise ArgumentError(f"{args.out.name}: a sheet ends in {', '.join(SHEET)}.")
        check_target(args.out, overwrite=args.overwrite)
    from convnext.search import nearest, open_vectors

    vectors = open_vectors(args.vectors)
    if args.query is None:
        return _near_duplicates(args, vectors)
    [hits] = nearest(vectors, _query(args, vectors), args.top)
    for hit in hits:
        row = {"id": hit.name, "score": round(hit.score, 6), "index": hit.index}
        print(as_json(row) if args.json else f"{hit.score:7.4f}  {printable(hit.name)}")
    if args.out:
        _draw(hits, args.out)
    return 0


def _query(args: argparse.Namespace, vectors: Vectors) -> Any:
    """The vector of the query, by the model of the vectors."""
    model = args.model or vectors.facts.get("model")
    if model is None:
        raise ArgumentError(f"{args.vectors} does not say which model computed it: give --model.")
    from convnext.classifier import Classifier
    from convnext.images.read import is_url
    from convnext.text import TextEncoder

    say_cuts()
    picture = is_url(args.query) or _exists(args.query)
    # First the text tower, whose file has both and is then the one in the cache.
    texts = None if picture else TextEncoder(model, args.engine)
    pictures = Classifier(
        model,
        args.engine,
        precision=args.precision,
        architecture=args.arch,
        preprocess=args.mean_std,
    )
    facts = pictures.facts
    if "fingerprint" not in vectors.facts:
        print(
            f"convnext: {args.vectors} does not say which model computed it; {model} is assumed.",
            file=sys.stderr,
        )
    vectors.check_model(facts["fingerprint"], model)
    if texts is None:
        return pictures.embed(args.query)
    if not args.query.strip():
        raise ArgumentError("The query is empty. Give a text, or the path of a picture.")
    if texts.width != pictures.vector_width:
        raise WeightsMismatchError(
            f"{model} compares texts with vectors of {texts.width} numbers, and gives vectors of "
            f"{pictures.vector_width}: it is no CLIP model with a projection."
        )
    return texts([args.query])


def _exists(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a text that is no possible name
        return False


def _near_duplicates(args: argparse.Namespace, vectors: Vectors) -> int:
    from convnext.search import near_duplicates

    if args.out:
        raise ArgumentError("A sheet is of a QUERY's pictures: leave out --out.")
    pairs = near_duplicates(vectors, args.near_duplicates)
    for pair in islice(pairs, LISTED):
        if args.json:
            print(json.dumps({"pair": [pair.first, pair.second], "score": round(pair.score, 6)}))
        else:
            print(f"{pair.score:7.4f}  {printable(pair.first)}  {printable(pair.second)}")
    if next(pairs, None) is not None:
        print(
            f"convnext: only the first {LISTED:,} pairs are listed: raise the cosine.",
            file=sys.stderr,
        )
    return 0


def _draw(hits: list[Hit], path: Path) -> None:
    """Write a contact sheet; pictures that are not there any more are left out."""
    from PIL import Image

    from convnext.cli.output import replaced
    from convnext.images.decode import decode
    from convnext.images.sheets import captioned, contact_sheet, shown

    panels = []
    for hit in hits:
        try:
            picture = shown(decode(hit.name), SIDE)
        except ConvNeXtError as error:
            print(f"convnext: not drawn: {printable(str(error))}", file=sys.stderr)
            continue
        panels.append(captioned([picture], f"{hit.score:.4f}", hit.name))
    if not panels:
        raise ArgumentError(
            "None of the pictures is at the path that the vectors were computed from. Search from "
            "the folder in which `convnext embed` was run."
        )
    form = Image.registered_extensions()[path.suffix.lower()]
    with replaced(path) as temporary:
        contact_sheet(panels, COLUMNS).save(temporary, form)
