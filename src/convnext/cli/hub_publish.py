"""`convnext hub-publish`: the TF-Hub collection, and new modules like it, as archives and pages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.export import hear_notices, steps

if TYPE_CHECKING:
    from convnext.hub.publishing import Published

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext hub-publish collection/
  convnext hub-publish collection/ --only convnext_tiny_1k_224 convnext_tiny_1k_224_fe
  convnext hub-publish collection/ --publisher me --asset-url https://example.org/convnext

Writes for each module a SavedModel as .tar.gz, after comparing it with the model, and a page in
TF-Hub's Markdown; and the collection's page with its table. Modules whose checkpoint is not in the
cache are left out, unless --fetch is given. Existing archives are kept, unless --overwrite is
given. V2's weights may not be used commercially, as their pages state. Needs TensorFlow. Exit code
1: some modules were left out.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "hub-publish",
        help="write the TF-Hub collection: archives and pages",
        description="Write the TF-Hub collection, and new modules like it: archives and pages.",
        epilog=EXAMPLES,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder to write")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="modules to write")
    parser.add_argument(
        "--publisher", default="convnext", help="publisher named in the pages (default: convnext)"
    )
    parser.add_argument(
        "--asset-url", default="", metavar="URL", help="URL of the archives' folder in the pages"
    )
    parser.add_argument("--fetch", action="store_true", help="download missing checkpoints")
    parser.add_argument("--overwrite", action="store_true", help="overwrite existing archives")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Publish; 0 if every module has an archive, else 1."""
    from convnext.hub.publishing import publish

    hear_notices()
    with steps() as on_progress:
        results = publish(
            args.folder,
            args.only,
            publisher=args.publisher,
            asset_url=args.asset_url,
            fetch=args.fetch,
            overwrite=args.overwrite,
            on_progress=on_progress,
            on_published=_print_result,
        )
    there = [result for result in results if result.path is not None]
    print(f"{len(there)} of {len(results)} modules are in {args.folder}.")
    return 0 if len(there) == len(results) else 1


def _print_result(result: Published) -> None:
    if result.path is None:
        print(f"{result.module.name}: left out. {result.problem}", file=sys.stderr)
    elif result.report is None:
        print(f"{result.path}: exists already.")
    else:
        print(result.report)
