"""Paths, file objects and URLs that deliver too much, too slowly, or nothing."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from convnext.errors import ArgumentTypeError, ImageError
from convnext.images import read
from convnext.images.read import Limits, is_url, read_bytes

TEN = Limits(bytes=10, seconds=5)

# Paths


def test_a_path_up_to_the_limit_is_read(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert read_bytes(path, TEN) == read_bytes(str(path), TEN) == b"x" * 10
    path.write_bytes(b"x" * 11)
    with pytest.raises(ImageError, match=r"file has more than the allowed 10 bytes.*Limits"):
        read_bytes(path, TEN)


@pytest.mark.parametrize("name", ["absent.jpg", "nul\0l.jpg", "long" * 100])
def test_a_path_that_cannot_be_opened(name: str, tmp_path: Path):
    with pytest.raises(ImageError, match="cannot be read"):
        read_bytes(tmp_path / name)


def test_an_empty_file(tmp_path: Path):
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(ImageError, match=r"empty\.jpg is empty"):
        read_bytes(path)


def test_a_folder(tmp_path: Path):
    with pytest.raises(ImageError, match="is a folder"):
        read_bytes(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    with pytest.raises(ImageError, match="not a regular file"):
        read_bytes(path)


# Bytes and file objects


def test_bytes_over_the_limit_or_empty_are_refused():
    with pytest.raises(ImageError, match="more than the allowed 10 bytes"):
        read_bytes(b"x" * 11, TEN)
    with pytest.raises(ImageError, match="is empty"):
        read_bytes(b"")


class Endless(io.RawIOBase):
    """An endless stream that returns three bytes at a time."""

    delivered = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = min(3, len(buffer))
        buffer[:count] = b"x" * count
        self.delivered += count
        return count


def test_a_stream_is_read_up_to_the_limit_in_as_many_pieces_as_it_takes(tmp_path: Path):
    stream = Endless()
    with pytest.raises(ImageError, match="more than the allowed 10 bytes"):
        read_bytes(stream, TEN)
    assert stream.delivered == 11
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) as unbuffered:
        unbuffered.seek(4)
        assert read_bytes(unbuffered, TEN) == b"456789"


def test_streams_that_cannot_be_read():
    with pytest.raises(ArgumentTypeError, match="returns str; open it in mode 'rb'"):
        read_bytes(io.StringIO("text"))
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(ImageError, match="closed file"):
        read_bytes(closed)


def test_a_damaged_member_of_an_archive_is_a_picture_that_cannot_be_read():
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.jpg", b"content")
    data = io.BytesIO(data.getvalue().replace(b"content", b"damaged"))
    damaged = pytest.raises(ImageError, match="BadZipFile: Bad CRC")
    with zipfile.ZipFile(data).open("a.jpg") as member, damaged:
        read_bytes(member)


# URLs


@pytest.mark.parametrize("text", ["http://a/b", "HTTPS://a", "ftp://a", "file:///etc/passwd"])
def test_urls_are_recognised(text: str):
    assert is_url(text)


@pytest.mark.parametrize("text", ["a/b.jpg", "/a", "C:\\a.jpg", "C:/a.jpg", "http", "a:b.jpg"])
def test_paths_are_not_urls(text: str):
    assert not is_url(text)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = getattr(self, "answer_" + self.path.strip("/").split("/")[0])
        answer()

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_small(self) -> None:
        self.send(200, b"0123456789", Content_Length="10")

    def answer_echo(self) -> None:
        self.send(200, (self.headers["Accept-Encoding"] or "").encode())

    def answer_endless(self) -> None:
        self.send(200)
        while True:
            self.wfile.write(b"x" * 65536)

    def answer_drip(self) -> None:
        self.send(200)
        while True:
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def answer_dripping_header(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        while True:
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.05)

    def answer_short(self) -> None:
        self.send(200, b"0123", Content_Length="10")

    def answer_gzip(self) -> None:
        self.send(200, b"", Content_Encoding="gzip")

    def answer_to(self) -> None:
        self.send(302, Location=self.path.removeprefix("/to/"))

    def answer_loop(self) -> None:
        self.send(302, Location="/loop")

    def answer_missing(self) -> None:
        self.send(404, b"no such picture")

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Silence errors of clients that disconnect."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_url_is_downloaded(server: str):
    assert read_bytes(f"{server}/small", TEN) == b"0123456789"
    assert read_bytes(f"{server}/echo") == b"identity"


def test_redirects_are_followed(server: str):
    assert read_bytes(f"{server}/to/{server}/to/{server}/small", TEN) == b"0123456789"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_to_other_schemes_are_not_followed(server: str, target: str):
    with pytest.raises(ImageError, match=r"only http and https URLs are allowed"):
        read_bytes(f"{server}/to/{target}")


def test_redirects_never_drop_encryption():
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": "http://b/" + request.url.path})

    client = httpx.Client(transport=httpx.MockTransport(answer))
    with pytest.raises(ImageError, match="only https URLs are allowed, not http://b/"):
        read._download(client, "https://a/", TEN)
    with pytest.raises(ImageError, match="redirects more than 5 times"):
        read._download(client, "http://a/", TEN)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("endless", "more than the allowed 10 bytes"),
        ("short", "cannot be downloaded"),
        ("gzip", "compressed data, which is not supported"),
        ("loop", "redirects more than 5 times"),
        ("missing", "answered with status 404"),
    ],
)
def test_answers_that_are_refused(server: str, path: str, problem: str):
    with pytest.raises(ImageError, match=f"127.0.0.1.*{problem}"):
        read_bytes(f"{server}/{path}", TEN)


@pytest.mark.parametrize("path", ["drip", "dripping_header"])
def test_the_time_limit_holds_for_the_whole_download(server: str, path: str):
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"longer than the allowed 0\.3 seconds"):
        read_bytes(f"{server}/{path}", Limits(seconds=0.3))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[::1"]
)
def test_invalid_urls(url: str):
    with pytest.raises(ImageError):
        read_bytes(url)


def test_a_server_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ImageError, match="cannot be downloaded"):
        read_bytes(f"http://127.0.0.1:{port}/x")
