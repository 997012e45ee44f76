"""A server process: loads models, serves the routes, and shuts down gracefully.

On SIGTERM or Ctrl-C, `/readyz` answers 503 for the drain delay; then no connection is accepted,
every received request is answered, and the process ends. SIGHUP checks the model files at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import uvicorn

from convnext.errors import ArgumentError, ConvNeXtError
from convnext.processors import available_processors
from convnext.serve.app import build_app
from convnext.serve.connections import protocol_of
from convnext.serve.fetching import Fetcher
from convnext.serve.loading import load
from convnext.serve.metrics import Metrics, SharedMetrics
from convnext.serve.models import Loader, Models
from convnext.serve.service import Service
from convnext.serve.settings import Settings

__all__ = ["Server", "listen", "log_to_standard_error", "run"]

logger = logging.getLogger("convnext.serve")

BACKLOG = 2048
PUBLISH_SECONDS = 1.0  # between two writes of the metrics for other processes
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """A server in one process.

    Args:
        settings: The options of the server.
        folder: Where the workers share their metrics; None for a single process.
        loader: Loads a model.
        fetcher: Makes the downloader of URLs; called inside the event loop.

    Attributes:
        failure: The error that stopped the server, if any.
        service: The service, while the server runs.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path | None = None,
        loader: Loader = load,
        fetcher: Callable[[], Fetcher] | None = None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._loader = loader
        self._fetcher = fetcher
        self._metrics = Metrics()
        self._check_requested = threading.Event()
        self.failure: ConvNeXtError | None = None
        self.service: Service | None = None
        config = uvicorn.Config(
            build_app(settings, self._metrics, self._running),
            http=protocol_of(settings, self._metrics),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",  # lower levels would log what clients send
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=settings.idle_seconds,  # type: ignore[arg-type]
            timeout_graceful_shutdown=settings.drain_seconds,  # type: ignore[arg-type]
        )
        super().__init__(config)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[Service]:
        settings, metrics = self._settings, self._metrics
        metrics.set("convnext_start_time_seconds", time.time())
        threads = settings.threads or max(1, available_processors() // settings.workers)
        models = Models(settings, metrics, threads, self._loader)
        shared = SharedMetrics(self._folder, metrics)
        fetcher = self._fetcher() if self._fetcher else None
        self.service = service = Service(settings, metrics, models, shared, fetcher)
        tasks = [
            asyncio.create_task(self._load(models)),
            asyncio.create_task(self._publish(shared)),
        ]
        try:
            yield service
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.drain_seconds):
                    await models.close()
            service.close()
            shared.publish()

    async def _load(self, models: Models) -> None:
        try:
            await models.start()
        except ConvNeXtError as error:
            self.failure = error
            self.should_exit = True
            return
        if models.ready:
            logger.info("ready")
        last = time.monotonic()
        pause = self._settings.reload_seconds
        while True:
            await asyncio.sleep(min(0.25, pause or 0.25))
            requested = self._check_requested.is_set()
            if requested or (pause and time.monotonic() - last >= pause):
                self._check_requested.clear()
                await self._check_files(models)
                if requested:  # a change counts only if two checks find it
                    await asyncio.sleep(0.25)
                    await self._check_files(models)
                last = time.monotonic()

    async def _check_files(self, models: Models) -> None:
        try:
            await models.look()
        except Exception as error:  # keep serving; the next check may succeed
            logger.error("checking the model files failed: %s", type(error).__name__)

    async def _publish(self, shared: SharedMetrics) -> None:
        loop = asyncio.get_running_loop()
        while self._folder is not None:
            await loop.run_in_executor(None, shared.publish)
            await asyncio.sleep(PUBLISH_SECONDS)

    def look(self) -> None:
        """Request a check of the model files; callable from any thread or signal handler."""
        self._check_requested.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the drain delay, then stop gracefully."""
        if self.service is not None:
            self.service.draining = True
        logger.info("stopping")
        if self.failure is None:
            ends = time.monotonic() + self._settings.drain_delay
            while time.monotonic() < ends and not self.force_exit:
                await asyncio.sleep(0.1)
        await super().shutdown(sockets)
        logger.info("stopped")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on signals without raising them again, so that the exit code is 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {name: signal.signal(name, self.handle_exit) for name in SIGNALS}
        hang_up = getattr(signal, "SIGHUP", None)
        if hang_up is not None:
            handlers[hang_up] = signal.signal(hang_up, lambda *_: self.look())
        try:
            yield
        finally:
            for name, handler in handlers.items():
                signal.signal(name, handler)


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket.

    Raises:
        ArgumentError: The address is in use, or not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        with contextlib.ExitStack() as stack:
            stack.callback(listener.close)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            stack.pop_all()
    except OSError as error:
        raise ArgumentError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror or error}. "
            "Give another --port or --host."
        ) from error
    return listener


def log_to_standard_error(access: bool) -> None:
    """Log to standard error, with times; `access` for a line for each request."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    )
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logging.getLogger("convnext.serve.access").setLevel(
        logging.INFO if access else logging.CRITICAL
    )
    for name in ("convnext", "uvicorn"):  # "convnext" would log these lines again
        if not logging.getLogger(name).handlers:
            logging.getLogger(name).addHandler(logging.NullHandler())


def run(
    settings: Settings,
    listener: socket.socket,
    folder: Path | None = None,
    loader: Loader = load,
) -> None:
    """Serve in this process until stopped by a signal; the arguments are those of `Server`.

    Raises:
        ConvNeXtError: No model could be loaded.
    """
    server = Server(settings, folder, loader)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(server.serve([listener]))
    if server.failure is not None:
        raise server.failure


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
