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
STABLE_SECONDS = 10.0  # a worker that lived so long is started anew at once
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
LOOK_SECONDS = 0.2  # between two looks at the workers
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


@dataclass
class _Place:
    """One worker, and the next that takes its place.

    Attributes:
        process: The latest.
        since: When it was started.
        first: Whether it is the one that the server began with.
        pause: Seconds before the next start; they double while workers die young.
        due: When that is, once the latest is dead.
    """

    process: BaseProcess
    since: float
    first: bool = True
    pause: float = 0.0
    due: float | None = None


class _Supervisor:
    """Keeps the workers at work."""

    def __init__(self, settings: Settings, listener: socket.socket, folder: Path) -> None:
        self._settings = settings
        self._listener = listener
        self._folder = folder
        self._context = multiprocessing.get_context("spawn")
        self._places: list[_Place] = []
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
                self._places.append(_Place(self._start(), time.monotonic()))
            self._keep()
        finally:
            self._end()
            for name, handler in before.items():
                signal.signal(name, handler)

    def _start(self) -> BaseProcess:
        # Until it has its own, a worker dies of signals; those that come to us reach it through us.
        process = self._context.Process(
            target=_work, args=(self._settings, self._listener, self._folder)
        )
        process.start()
        return process

    def _keep(self) -> None:
        while not self._stopping:
            time.sleep(LOOK_SECONDS)
            for place in self._places:
                if not self._stopping and not place.process.is_alive():
                    self._replace(place, time.monotonic())

    def _replace(self, place: _Place, now: float) -> None:
        """Start another worker in place of a dead one, when it is time for it."""
        if place.due is None:
            self._note_death(place, now)
        elif now >= place.due:
            place.process, place.since, place.due = self._start(), now, None
            place.first = False

    def _note_death(self, place: _Place, now: float) -> None:
        code = place.process.exitcode
        if code == FAILED and place.first:  # so would every other, and another start of it
            raise ConvNeXtError("No worker could load a model; the log above says why.")
        stable = now - place.since > STABLE_SECONDS
        place.pause = 0.0 if stable else min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * place.pause))
        place.due = now + place.pause
        logger.error("a worker ended with code %s; another is started in %g s", code, place.pause)

    def _stop(self, _name: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _pass_on(self, name: int, _frame: FrameType | None) -> None:
        for place in self._places:
            _signal(place.process, name)

    def _end(self) -> None:
        """Let them finish, and end those that do not."""
        processes = [place.process for place in self._places]
        for process in processes:
            _signal(process, signal.SIGTERM)
        self._listener.close()
        settings = self._settings
        ends = time.monotonic() + 2 * settings.drain_seconds + settings.drain_delay + GRACE_SECONDS
        for process in processes:
            process.join(max(0.0, ends - time.monotonic()))
            if process.is_alive():
                logger.error("a worker did not end in time and is killed")
                process.kill()
                process.join()


def _signal(process: BaseProcess, name: int) -> None:
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, name)
