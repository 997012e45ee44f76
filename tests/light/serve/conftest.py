"""Servers on loopback, each in a thread of its own; skipped if a dependency is missing."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec

import httpx
import pytest

NEEDED = ("httptools", "python_multipart", "starlette", "uvicorn")
collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ["test_*.py"]

if not collect_ignore_glob:
    from convnext.engines.base import Engine
    from convnext.serve.loading import load
    from convnext.serve.server import Server, listen
    from convnext.serve.settings import ModelSpec, Settings

SECONDS = 30  # that anything here may take


class Slow(Engine):
    """An engine that sleeps before it computes, and blocks while `gate` is clear."""

    def __init__(self, engine, seconds=0.0):
        self.input, self.outputs = engine.input, engine.outputs
        self.name, self.precision = engine.name, engine.precision
        self.seconds = seconds
        self.sizes = []
        self.gate = threading.Event()
        self.gate.set()
        self._engine = engine

    def run(self, batch):
        self.sizes.append(len(batch))
        assert self.gate.wait(SECONDS)
        time.sleep(self.seconds * len(batch))
        return self._engine.run(batch)


class Running:
    """A running server and a client."""

    def __init__(self, server, listener):
        self.server = server
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=SECONDS, trust_env=False)
        self.thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        self.engines = []

    def _run(self, listener):
        asyncio.run(self.server.serve([listener]))

    def wait(self):
        ends = time.monotonic() + SECONDS
        while self.client.get("/readyz").status_code != 200:
            assert time.monotonic() < ends
            time.sleep(0.01)
        return self

    def stop(self):
        self.server.should_exit = True
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith((f"{name} ", name + "{")):
                sample, value = line.rsplit(" ", 1)
                if all(f'{key}="{text}"' in sample for key, text in labels.items()):
                    total += float(value)
        return total

    def eventually(self, condition):
        ends = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < ends
            time.sleep(0.01)


@contextmanager
def _running(models, *, seconds=0.0, loader=None, fetcher=None, wait=True, **options):
    """Run a server with these models, a mapping of names to files."""
    if not isinstance(models, dict):
        models = {"shades": models}
    specs = tuple(ModelSpec(name, str(path)) for name, path in models.items())
    settings = Settings(specs, **{"port": 0, "access_log": False, **options})
    engines = []

    def slow(spec, settings, threads):
        loaded = load(spec, settings, threads)
        outputs, engine = next(iter(loaded.engines.items()))
        engines.append(Slow(engine, seconds))
        loaded.engines[outputs] = engines[-1]
        return loaded

    listener = listen(settings)
    server = Server(settings, loader=loader or slow, fetcher=fetcher)
    run = Running(server, listener)
    run.engines = engines
    run.thread.start()
    try:
        yield run.wait() if wait else run
    finally:
        for engine in engines:
            engine.gate.set()
        run.stop()
        run.client.close()


@pytest.fixture(scope="session")
def running():
    """A function that runs a server with given models."""
    return _running


@pytest.fixture
def served(running, named_weights, mock_engine):  # noqa: ARG001
    """A server whose model classifies pictures by their mean colour."""
    with running(named_weights) as run:
        yield run
