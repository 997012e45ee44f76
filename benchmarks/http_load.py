"""Asks an HTTP server over loopback, from many connections at once, at little cost of its own.

What `serving.py` and `soak_serving.py` have in common: a server's process, and a client that writes
requests made beforehand. Client and server share the machine's processors, so the client does no
more than it must.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SECONDS_TO_START = 120


class Answer(NamedTuple):
    """One answer: its status, how long it took, and what it says."""

    status: int
    seconds: float
    headers: dict[str, str]
    body: bytes


def request(path: str, body: bytes, kind: str = "image/jpeg", **headers: str) -> bytes:
    """A request as it goes over the line."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def form(path: str, picture: bytes, field: str = "picture") -> bytes:
    """A request with one picture in a form."""
    head = (
        f'--xyz\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    return request(path, head + picture + b"\r\n--xyz--\r\n", "multipart/form-data; boundary=xyz")


class Connection:
    """One connection, which asks one thing at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, data: bytes) -> Answer:
        begun = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            pairs = (line.split(": ", 1) for line in lines[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
        except BaseException:
            self.close()
            raise
        if headers.get("connection", "").lower() == "close":
            self.close()
        seconds = time.perf_counter() - begun
        return Answer(int(lines[0].split()[1]), seconds, headers, body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def load(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> tuple[list[Answer], float]:
    """Every answer, and the time it took; each connection asks again as soon as it is answered."""
    ends = time.perf_counter() + seconds
    answers: list[Answer] = []

    async def one(number: int) -> None:
        connection = Connection(port)
        while time.perf_counter() < ends:
            answers.append(await connection.ask(requests[number % len(requests)]))
            number += connections
        connection.close()

    begun = time.perf_counter()
    await asyncio.gather(*map(one, range(connections)))
    return answers, time.perf_counter() - begun


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def free_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ours(model: Path, port: int, *options: str) -> list[str]:
    """The command of our server."""
    command = [sys.executable, "-m", "convnext", "serve", "--model", f"m={model}"]
    return [*command, "--port", str(port), "--no-access-log", *options]


@contextmanager
def server(
    command: Sequence[str], port: int, ready: str, **more: str
) -> Iterator[subprocess.Popen]:
    """A server's process, from when it is ready; told to stop at the end."""
    process = subprocess.Popen(
        command, env={**os.environ, **more}, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    try:
        ends = time.monotonic() + SECONDS_TO_START
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}").close()
                break
            if process.poll() is not None or time.monotonic() > ends:
                raise SystemExit(f"the server did not start: {' '.join(command)}")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
