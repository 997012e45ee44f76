"""The ASGI application: the table of routes, health checks, metrics and the web page's files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from convnext.serve import answers, inference_protocol
from convnext.serve.answers import json_response
from convnext.serve.frame import Frame
from convnext.serve.metrics import CONTENT_TYPE, Metrics, render
from convnext.serve.openapi import openapi
from convnext.serve.problems import Problem
from convnext.serve.security import Guard, page_headers
from convnext.serve.service import Service
from convnext.serve.settings import Settings

__all__ = ["build_app"]

Handler = Callable[[Service, Request], Awaitable[Response]]
Opener = Callable[[], Any]

PAGE = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/style.css": ("style.css", "text/css"),
}


async def healthz(_service: Service, _request: Request) -> Response:
    """`GET /healthz`: 200 if the process is alive."""
    return json_response({"status": "ok"})


async def readyz(service: Service, _request: Request) -> Response:
    """`GET /readyz`: 200 if models are loaded and the server is not stopping."""
    states = {slot.spec.name: slot.state for slot in service.models.slots.values()}
    if service.ready:
        return json_response({"status": "ready", "models": states})
    why = "The server is stopping." if service.draining else "Models are being loaded."
    raise Problem(503, "not-ready", why, retry_after=1)


async def v2_live(_service: Service, _request: Request) -> Response:
    """`GET /v2/health/live`: 200 if the process is alive."""
    return Response()


async def v2_ready(service: Service, request: Request) -> Response:
    """`GET /v2/health/ready`: 200 if models are loaded and the server is not stopping."""
    await readyz(service, request)
    return Response()


async def metrics(service: Service, _request: Request) -> Response:
    """`GET /metrics`: the metrics of all processes, in Prometheus' text format."""
    text = await service.in_background(lambda: render(service.shared.total()))
    return Response(text, headers={"Cache-Control": "no-store"}, media_type=CONTENT_TYPE)


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/healthz", healthz),
    ("GET", "/readyz", readyz),
    ("GET", "/metrics", metrics),
    ("GET", "/v1/models", answers.models),
    ("POST", "/v1/classify", answers.classify),
    ("POST", "/v1/embed", answers.embed),
    ("POST", "/v1/explain", answers.explain),
    ("POST", "/v1/segment", answers.segment),
    ("GET", "/v2", inference_protocol.server_metadata),
    ("GET", "/v2/health/live", v2_live),
    ("GET", "/v2/health/ready", v2_ready),
    ("POST", "/v2/repository/index", inference_protocol.index),
    ("GET", "/v2/models/{name}", inference_protocol.model_metadata),
    ("GET", "/v2/models/{name}/versions/{version}", inference_protocol.model_metadata),
    ("GET", "/v2/models/{name}/ready", inference_protocol.model_ready),
    ("GET", "/v2/models/{name}/versions/{version}/ready", inference_protocol.model_ready),
    ("POST", "/v2/models/{name}/infer", inference_protocol.infer),
    ("POST", "/v2/models/{name}/versions/{version}/infer", inference_protocol.infer),
)

CROWDED = frozenset({"/v1/classify", "/v1/embed", "/v1/explain", "/v1/segment"})
"""Routes whose requests an overloaded server refuses before routing them."""


def build_app(
    settings: Settings,
    metrics: Metrics,
    running: Callable[[], Any],
) -> ASGIApp:
    """Build the application; `running` makes the context manager of a `Service`."""
    names: dict[Any, str] = {}
    routes = []
    holder: dict[str, Service] = {}

    def add(method: str, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        names[endpoint] = path
        routes.append(Route(path, endpoint, methods=[method]))

    for method, path, handler in ROUTES:
        add(method, path, _endpoint(handler, holder))
    crowded = {path: route.endpoint for route in routes if (path := route.path) in CROWDED}

    def refuse(scope: Scope) -> None:
        endpoint = crowded.get(scope["path"]) if scope["method"] == "POST" else None
        if endpoint is not None and "service" in holder:
            scope["endpoint"] = endpoint
            holder["service"].refuse_if_full()

    described = json_response(openapi(settings))
    add("GET", "/openapi.json", _constant(described))
    if settings.page:
        for path, (file, kind) in PAGE.items():
            add("GET", path, _file(file, kind))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with running() as service:
            holder["service"] = service
            yield

    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False
    # The router alone, without Starlette's error middleware, which `Frame` replaces.
    return Frame(_Bare(app), Guard(settings), metrics, refuse, names, settings.access_log)


class _Bare:
    """The router of an application, without its middleware."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["app"] = self._app
        await self._app.router(scope, receive, send)


def _endpoint(
    handler: Handler, holder: dict[str, Service]
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(holder["service"], request)

    return endpoint


def _constant(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_request: Request) -> Response:
        return response

    return endpoint


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    @functools.cache
    def content() -> tuple[bytes, str]:
        data = resources.files("convnext.serve").joinpath("page", name).read_bytes()
        return data, f'"{hashlib.sha256(data).hexdigest()[:16]}"'

    async def endpoint(request: Request) -> Response:
        data, tag = content()
        headers = {**page_headers(), "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=kind)

    return endpoint
