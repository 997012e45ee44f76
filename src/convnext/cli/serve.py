"""`convnext serve`: a model behind HTTP, and a page to try it on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from convnext.cli.pictures import DEFAULT_MODEL
from convnext.errors import ArgumentError, MissingDependencyError

if TYPE_CHECKING:
    from convnext.serve.settings import Settings

__all__ = ["add_parser", "run"]

EXAMPLES = """\
examples:
  convnext serve                                   a page on http://127.0.0.1:8000
  convnext serve --model convnext_tiny --model mine.safetensors
  convnext serve --model cats=weights/best.pth --labels cats.txt
  convnext serve --model models/                   every weights file in a folder
  convnext serve --host 0.0.0.0 --token-file tokens
  curl -F picture=@cat.jpg http://127.0.0.1:8000/v1/classify?top=3
  curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/embed

Programs find what there is at /openapi.json; those that speak the Open Inference Protocol (KServe,
Triton) at /v2. /healthz says that it lives, /readyz that models are loaded, /metrics what it did.

It listens to this machine alone unless --host says otherwise, and fetches no URLs unless
--allow-url names their host. Every limit below is there to be lowered or raised; what is over one
gets an error that names it. When more comes than can be computed, the rest gets 503 with
Retry-After at once. A model whose files change is loaded anew while the old one answers; SIGHUP
has it look at once. SIGTERM and Ctrl-C end it when everything accepted is answered.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "serve",
        help="answer over HTTP what pictures show",
        description="Answer over HTTP what pictures show, for programs and on a page for people.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_models(parser)
    _add_network(parser)
    _add_batching(parser)
    _add_limits(parser)
    parser.set_defaults(run=run)


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument(
        "--model",
        action="append",
        metavar="NAME|PATH",
        help="a published checkpoint, a weights file, or a folder of them; NAME=PATH to name it; "
        f"may be given again, and the first is the default (default: {DEFAULT_MODEL})",
    )
    group.add_argument(
        "--labels", metavar="FILE", help="names of the classes, or a set such as imagenet-1k"
    )
    group.add_argument(
        "--answers",
        metavar="A,B",
        type=lambda text: tuple(part.strip() for part in text.split(",")),
        help="what can be asked for, each with the weights in memory once more "
        "(default: classify,embed,explain)",
    )
    group.add_argument("--engine", default="auto", help="what computes (default: what is there)")
    group.add_argument("--precision", default="auto", help="what to compute in (default: auto)")
    group.add_argument("--threads", type=int, help="of each engine (default: all processors)")
    group.add_argument(
        "--reload-seconds",
        type=float,
        metavar="S",
        help="how often the models' files are looked at; 0 for on SIGHUP only (default: 5)",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may ask, and how")
    group.add_argument("--host", metavar="ADDRESS", help="default: 127.0.0.1, this machine alone")
    group.add_argument("--port", type=int, help="default: 8000; 0 for any that is free")
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: 1)")
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="one token a line; others are not answered"
    )
    group.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="a name of this server besides localhost, when behind a proxy; * for any",
    )
    group.add_argument(
        "--allow-url",
        action="append",
        metavar="HOST[:PORT]",
        help="fetch pictures by URL from this public host (default: from none)",
    )
    group.add_argument("--no-page", action="store_true", help="no page at /")
    group.add_argument("--no-access-log", action="store_true", help="no line for each request")


def _add_batching(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("batches and waiting")
    group.add_argument("--max-batch", type=int, metavar="N", help="computed at once (default: 8)")
    group.add_argument(
        "--max-wait-ms",
        type=float,
        metavar="MS",
        help="how long a batch waits to be full (default: 0, it takes what is there)",
    )
    group.add_argument(
        "--max-queue",
        type=int,
        metavar="N",
        help="pictures of a model accepted and not answered (default: 64)",
    )
    group.add_argument(
        "--deadline", type=float, metavar="S", help="for a request's answer (default: 10)"
    )
    group.add_argument(
        "--drain-seconds",
        type=float,
        metavar="S",
        help="for what is accepted when told to stop (default: 30)",
    )
    group.add_argument(
        "--drain-delay",
        type=float,
        metavar="S",
        help="go on so long before, while /readyz says no (default: 0)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    whole = (
        ("max-body-bytes", "of a request (default: 32 MiB)"),
        ("max-json-bytes", "of a request in JSON (default: 8 MiB)"),
        ("max-pictures", "of a request (default: 32)"),
        ("max-picture-bytes", "of a picture (default: 16 MiB)"),
        ("max-pixels", "of a picture (default: 50,331,648)"),
        ("max-connections", "of a worker (default: 1024)"),
        ("max-bytes-in-flight", "of all requests in a worker (default: 256 MiB)"),
    )
    for name, about in whole:
        group.add_argument(f"--{name}", type=int, metavar="N", help=about)
    seconds = (
        ("header-seconds", "for a request's headers (default: 10)"),
        ("body-seconds", "for a request's body (default: 60)"),
        ("stall-seconds", "without a byte of it (default: 10)"),
        ("idle-seconds", "between two requests on a connection (default: 15)"),
    )
    for name, about in seconds:
        group.add_argument(f"--{name}", type=float, metavar="S", help=about)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    try:
        from convnext.serve.workers import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("convnext", "numpy"):
            raise
        raise MissingDependencyError("What `convnext serve` needs", "serve") from error
    serve(settings_of(args))
    return 0


def settings_of(args: argparse.Namespace) -> Settings:
    """What the options ask for; those that were not given keep their defaults."""
    from dataclasses import fields

    from convnext.serve.security import read_tokens
    from convnext.serve.settings import Settings, parse_model

    names = {field.name for field in fields(Settings)}
    given = {
        name: value for name, value in vars(args).items() if name in names and value is not None
    }
    if args.threads is not None and args.threads < 1:
        raise ArgumentError(f"--threads must be 1 or more; got {args.threads}.")
    return Settings(
        **given,
        models=tuple(parse_model(text) for text in args.model or [DEFAULT_MODEL]),
        tokens=read_tokens(args.token_file) if args.token_file else (),
        allowed_hosts=tuple(args.allow_host or ()),
        allowed_urls=tuple(args.allow_url or ()),
        page=not args.no_page,
        access_log=not args.no_access_log,
    )
