"""`convnext serve`: serve models over HTTP, with a web page."""

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
  convnext serve                                   a web page on http://127.0.0.1:8000
  convnext serve --model convnext_tiny --model mine.safetensors
  convnext serve --model cats=weights/best.pth --labels cats.txt
  convnext serve --model models/                   every weights file in a folder
  convnext serve --host 0.0.0.0 --token-file tokens
  curl -F picture=@cat.jpg http://127.0.0.1:8000/v1/classify?top=3
  curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/embed

/openapi.json describes the API; /v2 is the Open Inference Protocol (KServe, Triton). /healthz and
/readyz are health checks, /metrics is for Prometheus.

By default the server listens on 127.0.0.1 only, and downloads no pictures by URL. A request over a
limit below gets an error that names the limit. An overloaded server answers 503 with Retry-After at
once. A model whose files change is reloaded while the old one answers; SIGHUP checks the files at
once. SIGTERM and Ctrl-C stop the server after it answered all accepted requests.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the main parser."""
    parser = subparsers.add_parser(
        "serve",
        help="serve models over HTTP",
        description="Serve models over HTTP, with a JSON API and a web page.",
        epilog=EXAMPLES,
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
        help="a published checkpoint, a weights file, or a folder of them; NAME=PATH sets its "
        f"name; repeatable, requests use the first by default (default: {DEFAULT_MODEL})",
    )
    group.add_argument(
        "--labels", metavar="FILE", help="names of the classes, or a set such as imagenet-1k"
    )
    group.add_argument(
        "--answers",
        metavar="A,B",
        type=lambda text: tuple(part.strip() for part in text.split(",")),
        help="kinds of answers; each holds the weights in memory once more "
        "(default: classify,embed,explain)",
    )
    group.add_argument("--engine", default="auto", help="default: the fastest installed one")
    group.add_argument("--precision", default="auto", help="default: auto")
    group.add_argument("--threads", type=int, help="of each engine (default: all processors)")
    group.add_argument(
        "--reload-seconds",
        type=float,
        metavar="S",
        help="interval of checks of the model files; 0 for on SIGHUP only (default: 5)",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network and authentication")
    group.add_argument("--host", metavar="ADDRESS", help="default: 127.0.0.1, this machine only")
    group.add_argument("--port", type=int, help="default: 8000; 0 for any free port")
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: 1)")
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="bearer tokens, one per line; requests need one of them",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="a host name of this server besides localhost, such as a proxy's; * for any",
    )
    group.add_argument(
        "--allow-url",
        action="append",
        metavar="HOST[:PORT]",
        help="download pictures by URL from this public host (default: none)",
    )
    group.add_argument("--no-page", action="store_true", help="no web page at /")
    group.add_argument("--no-access-log", action="store_true", help="do not log requests")


def _add_batching(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("batches and waiting")
    group.add_argument("--max-batch", type=int, metavar="N", help="batch size (default: 8)")
    group.add_argument(
        "--max-wait-ms",
        type=float,
        metavar="MS",
        help="how long a batch waits to fill (default: 0, it takes the pictures in the queue)",
    )
    group.add_argument(
        "--max-queue",
        type=int,
        metavar="N",
        help="most pictures of a model accepted and not yet answered (default: 64)",
    )
    group.add_argument(
        "--deadline", type=float, metavar="S", help="time to answer a request (default: 10)"
    )
    group.add_argument(
        "--drain-seconds",
        type=float,
        metavar="S",
        help="time to answer accepted requests after SIGTERM (default: 30)",
    )
    group.add_argument(
        "--drain-delay",
        type=float,
        metavar="S",
        help="time to keep accepting requests after SIGTERM, while /readyz is 503 (default: 0)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    whole = (
        ("max-body-bytes", "size of a request (default: 32 MiB)"),
        ("max-json-bytes", "size of a JSON request (default: 8 MiB)"),
        ("max-pictures", "pictures in a request (default: 32)"),
        ("max-picture-bytes", "size of an encoded picture (default: 16 MiB)"),
        ("max-pixels", "width times height of a picture (default: 50,331,648)"),
        ("max-connections", "connections of a worker (default: 1024)"),
        ("max-bytes-in-flight", "size of all requests in a worker (default: 256 MiB)"),
    )
    for name, about in whole:
        group.add_argument(f"--{name}", type=int, metavar="N", help=about)
    seconds = (
        ("header-seconds", "time to send a request's headers (default: 10)"),
        ("body-seconds", "time to send a request's body (default: 60)"),
        ("stall-seconds", "time without a byte of the body (default: 10)"),
        ("idle-seconds", "time between two requests on a connection (default: 15)"),
    )
    for name, about in seconds:
        group.add_argument(f"--{name}", type=float, metavar="S", help=about)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped by a signal; 0."""
    try:
        from convnext.serve.workers import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("convnext", "numpy"):
            raise
        missing = f"{error.name}, which `convnext serve` needs,"
        raise MissingDependencyError(missing, "serve") from error
    serve(settings_of(args))
    return 0


def settings_of(args: argparse.Namespace) -> Settings:
    """Convert the options to settings; missing ones keep their defaults."""
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
