"""One process that serves: models, threads and routes put together, and taken down in order.

Told to stop (SIGTERM, or Ctrl-C), it first says at `/readyz` that it is not ready, for as long as
asked; then it takes no more connections, answers every request it has, and ends. SIGHUP makes it
look at the models' files at once.
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
from convnext.serve.metrics import Metrics, Shared
from convnext.serve.models import Loader, Models
from convnext.serve.service import Service
from convnext.serve.settings import Settings

__all__ = ["Server", "listen", "log_to_standard_error", "run"]

logger = logging.getLogger("convnext.serve")

BACKLOG = 2048
PUBLISH_SECONDS = 1.0  # between two writings of the counts, where others add them up
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """A server of some settings.

    Args:
        settings: What was asked for.
        folder: Where the workers of one server share their counts.
        loader: Loads a model.
        fetcher: Gets pictures by their URL; made inside the event loop.

    Attributes:
        failure: Why it ended by itself, if it did.
        service: What answers, while it runs.
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
        self._look = threading.Event()
        self.failure: ConvNeXtError | None = None
        self.service: Service | None = None
        config = uvicorn.Config(
            build_app(settings, self._metrics, self._running),
            http=protocol_of(settings, self._metrics),
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",  # it would log what clients send
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
        shared = Shared(self._folder, metrics)
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
            asked = self._look.is_set()
            if asked or (pause and time.monotonic() - last >= pause):
                self._look.clear()
                await self._look_once(models)
                if asked:  # a change counts when it is seen twice
                    await asyncio.sleep(0.25)
                    await self._look_once(models)
                last = time.monotonic()

    async def _look_once(self, models: Models) -> None:
        try:
            await models.look()
        except Exception as error:  # the next look may go better, and answers go on meanwhile
            logger.error("looking at the models' files failed: %s", type(error).__name__)

    async def _publish(self, shared: Shared) -> None:
        loop = asyncio.get_running_loop()
        while self._folder is not None:
            await loop.run_in_executor(None, shared.publish)
            await asyncio.sleep(PUBLISH_SECONDS)

    def look(self) -> None:
        """Have it look at the models' files soon; from any thread, and from a signal's handler."""
        self._look.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in order."""
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
        """Stop on signals, and do not die of them afterwards: to be told to stop is no error."""
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
    """A socket that takes connections.

    Raises:
        ArgumentError: The address is no address of this machine, or taken.
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
    """Have the server's log lines on standard error, each with its time."""
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
    for name in ("convnext", "uvicorn"):  # the first would say again what is said here
        if not logging.getLogger(name).handlers:
            logging.getLogger(name).addHandler(logging.NullHandler())


def run(
    settings: Settings,
    listener: socket.socket,
    folder: Path | None = None,
    loader: Loader = load,
) -> None:
    """Serve until told to stop.

    Args:
        settings: What was asked for.
        listener: From `listen`.
        folder: Where the workers of one server share their counts.
        loader: Loads a model.

    Raises:
        ConvNeXtError: No model could be loaded.
    """
    server = Server(settings, folder, loader)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(server.serve([listener]))
    if server.failure is not None:
        raise server.failure


def _new_loop() -> asyncio.AbstractEventLoop:
    """The faster kind where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
