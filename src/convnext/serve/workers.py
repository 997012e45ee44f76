"""A server of one process or several: who starts them, ends them, and starts those anew that died.

Each has models of its own and takes connections from one socket that all share. On a CPU one
process already computes with every processor; more of them help where much decoding leaves Python's
lock contended, or where one must be able to die without a gap. Each then gets its share of the
processors.
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
STABLE_SECONDS = 10.0  # a worker that lived so long is started anew at once
LONGEST_PAUSE = 30.0
GRACE_SECONDS = 5.0  # for ending, beyond what requests may take


def serve(settings: Settings) -> None:
    """Serve until told to stop: SIGTERM or Ctrl-C, after which what was accepted is answered.

    Raises:
        ConvNeXtError: The address is taken, or no model could be loaded.

    Example:
        serve(Settings((parse_model("convnext_tiny"),), port=8000))
    """
    log_to_standard_error(settings.access_log)
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info("listening on http://%s:%d", shown, port)
    if not settings.loopback and not settings.tokens:
        logger.warning("everybody who can reach this address may ask: give --token-file")
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


class _Supervisor:
    """Keeps the workers at work."""

    def __init__(self, settings: Settings, listener: socket.socket, folder: Path) -> None:
        self._settings = settings
        self._listener = listener
        self._folder = folder
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[BaseProcess, float]] = []
        self._stopping = False

    def run(self) -> None:
        handled: dict[signal.Signals, Any] = dict.fromkeys(
            (signal.SIGTERM, signal.SIGINT), self._stop
        )
        if hasattr(signal, "SIGHUP"):
            handled[signal.SIGHUP] = self._pass_on
        before = {name: signal.signal(name, handler) for name, handler in handled.items()}
        try:
            self._workers = [self._start() for _ in range(self._settings.workers)]
            self._keep()
        finally:
            self._end()
            for name, handler in before.items():
                signal.signal(name, handler)

    def _start(self) -> tuple[BaseProcess, float]:
        # Until it has its own, a worker dies of signals; those that come to us reach it through us.
        process = self._context.Process(
            target=_work, args=(self._settings, self._listener, self._folder)
        )
        process.start()
        return process, time.monotonic()

    def _keep(self) -> None:
        pause = 0.5
        while not self._stopping:
            time.sleep(0.2)
            for place, (process, since) in enumerate(self._workers):
                if process.is_alive() or self._stopping:
                    continue
                if process.exitcode == FAILED:  # so would every other, and another start of it
                    raise ConvNeXtError("No worker could load a model; the log above says why.")
                logger.error("a worker ended with code %s; another is started", process.exitcode)
                pause = 0.5 if time.monotonic() - since > STABLE_SECONDS else pause * 2
                time.sleep(min(pause, LONGEST_PAUSE))
                if not self._stopping:
                    self._workers[place] = self._start()

    def _stop(self, _name: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _pass_on(self, name: int, _frame: FrameType | None) -> None:
        for process, _ in self._workers:
            _signal(process, name)

    def _end(self) -> None:
        """Let them finish, and end those that do not."""
        for process, _ in self._workers:
            _signal(process, signal.SIGTERM)
        self._listener.close()
        settings = self._settings
        ends = time.monotonic() + 2 * settings.drain_seconds + settings.drain_delay + GRACE_SECONDS
        for process, _ in self._workers:
            process.join(max(0.0, ends - time.monotonic()))
            if process.is_alive():
                logger.error("a worker did not end in time and is killed")
                process.kill()
                process.join()


def _signal(process: BaseProcess, name: int) -> None:
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, name)
