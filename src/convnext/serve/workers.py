"""Run a server in one process or several, and restart worker processes that die.

Workers share one listening socket and the processors; each loads the models itself. One process
already uses every processor for inference: more help where decoding contends for Python's lock, or
where the service must survive a crash.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from convnext.errors import ConvNeXtError
from convnext.serve import server
from convnext.serve.server import listen, log_to_standard_error
from convnext.serve.settings import Settings

__all__ = ["serve"]

logger = logging.getLogger("convnext.serve")

FAILED = 3  # exit code of a worker that could load no model
STABLE_SECONDS = 10.0  # a worker that lived longer is restarted at once
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
CHECK_SECONDS = 0.2  # between two checks of the workers
GRACE_SECONDS = 5.0  # for workers to end, after the drain time


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer all accepted requests and return.

    Raises:
        ConvNeXtError: The address is in use, or no model could be loaded.

    Example:
        serve(Settings((parse_model("convnext_tiny"),), port=8000))
    """
    log_to_standard_error(settings.access_log)
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info("listening on http://%s:%d", shown, port)
    if not settings.loopback and not settings.tokens:
        logger.warning("no authentication on a public address: give --token-file")
    if settings.workers == 1:
        server.run(settings, listener)
        return
    with tempfile.TemporaryDirectory(prefix="convnext-serve-") as folder:
        _Supervisor(settings, listener, Path(folder)).run()


def _work(settings: Settings, listener: socket.socket, folder: Path) -> None:
    log_to_standard_error(settings.access_log)
    try:
        server.run(settings, listener, folder)
    except ConvNeXtError as error:
        logger.error("%s", error)
        sys.exit(FAILED)


@dataclass
class _WorkerSlot:
    """A worker process and its replacement.

    Attributes:
        process: The current process.
        since: When it was started.
        first: Whether it has not been replaced yet.
        pause: Seconds before the next restart; doubles while workers die early.
        due: When to restart it, if it is dead.
    """

    process: BaseProcess
    since: float
    first: bool = True
    pause: float = 0.0
    due: float | None = None


class _Supervisor:
    def __init__(self, settings: Settings, listener: socket.socket, folder: Path) -> None:
        self._settings = settings
        self._listener = listener
        self._folder = folder
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_WorkerSlot] = []
        self._stopping = False

    def run(self) -> None:
        handled: dict[signal.Signals, Any] = dict.fromkeys(
            (signal.SIGTERM, signal.SIGINT), self._stop
        )
        if hasattr(signal, "SIGHUP"):
            handled[signal.SIGHUP] = self._pass_on
        before = {name: signal.signal(name, handler) for name, handler in handled.items()}
        try:
            for _ in range(self._settings.workers):
                self._workers.append(_WorkerSlot(self._start(), time.monotonic()))
            self._keep()
        finally:
            self._end()
            for name, handler in before.items():
                signal.signal(name, handler)

    def _start(self) -> BaseProcess:
        # Signals to the supervisor are forwarded; a worker without handlers yet dies of them.
        process = self._context.Process(
            target=_work, args=(self._settings, self._listener, self._folder)
        )
        process.start()
        return process

    def _keep(self) -> None:
        while not self._stopping:
            time.sleep(CHECK_SECONDS)
            for worker in self._workers:
                if not self._stopping and not worker.process.is_alive():
                    self._replace(worker, time.monotonic())

    def _replace(self, worker: _WorkerSlot, now: float) -> None:
        """Restart a dead worker when its pause is over."""
        if worker.due is None:
            self._note_death(worker, now)
        elif now >= worker.due:
            worker.process, worker.since, worker.due = self._start(), now, None
            worker.first = False

    def _note_death(self, worker: _WorkerSlot, now: float) -> None:
        code = worker.process.exitcode
        if code == FAILED and worker.first:  # a restart would fail as well
            raise ConvNeXtError("No worker could load a model; see the log above.")
        stable = now - worker.since > STABLE_SECONDS
        worker.pause = 0.0 if stable else min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * worker.pause))
        worker.due = now + worker.pause
        logger.error("a worker ended with code %s; restarting it in %g s", code, worker.pause)

    def _stop(self, _name: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _pass_on(self, name: int, _frame: FrameType | None) -> None:
        for worker in self._workers:
            _signal(worker.process, name)

    def _end(self) -> None:
        """Stop the workers, and kill those that do not end in time."""
        processes = [worker.process for worker in self._workers]
        for process in processes:
            _signal(process, signal.SIGTERM)
        self._listener.close()
        settings = self._settings
        ends = time.monotonic() + 2 * settings.drain_seconds + settings.drain_delay + GRACE_SECONDS
        for process in processes:
            process.join(max(0.0, ends - time.monotonic()))
            if process.is_alive():
                logger.error("killing a worker that did not end in time")
                process.kill()
                process.join()


def _signal(process: BaseProcess, name: int) -> None:
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, name)
