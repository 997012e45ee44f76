"""A Hub that is a server on this machine, and caches of a test's own."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    """Answers like the Hub: files by `/{repo}/resolve/{revision}/{file}`, with ETag and commit."""

    server: Server

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.server.requests.append((self.command, self.path))
        content = self.server.files.get(self.path)
        if self.server.refusal and "/resolve/" in self.path:
            self.send_response(self.server.refusal[0])
            self.send_header("X-Error-Code", self.server.refusal[1])
            self.send_header("Content-Length", "0")
        elif self.server.troubles and "/resolve/" in self.path:
            self.server.troubles -= 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
        elif content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{abs(hash(content)):040x}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.files.get(self.path, b""))


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.troubles = 0
        self.refusal: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def asked(self) -> list[str]:
        """First parts of the files' paths, each once; the Hub client's own questions aside."""
        return list(dict.fromkeys(p.split("/")[1] for _, p in self.requests if "/api/" not in p))


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def home_of_its_own(tmp_path, monkeypatch):
    """No test sees or touches the caches of whoever runs it."""
    for name in [n for n in os.environ if n.startswith(("HF_", "CONVNEXT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
