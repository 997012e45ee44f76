"""`fetch_url` against a real server on this machine that misbehaves on request."""

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from convnext.errors import WeightsUnavailableError
from convnext.weights import transfer
from convnext.weights.transfer import fetch_url

CONTENT = random.Random(0).randbytes(3 * 2**18)
HALF = len(CONTENT) // 2
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves one file with ranges and ETag; each request first takes the next planned fault."""

    server: "Server"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.requests.append(self.headers)
        fault = self.server.faults.pop(0) if self.server.faults else send_file
        fault(self)

    def start_file(self, start: int) -> bytes:
        """Send the head of a response that begins there; returns what its body should be."""
        content = self.server.content
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        for name, value in self.server.marks.items():
            self.send_header(name, value)
        self.end_headers()
        return content[start:]

    def send_body(self, body: bytes):
        self.server.sent += len(body)
        self.wfile.write(body)


def send_file(handler: Handler):
    """What a correct server does."""
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    unchanged = handler.headers.get("If-Range") in handler.server.marks.values()
    start = int(wanted[1]) if wanted and unchanged else 0
    if start == len(handler.server.content):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{start}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    else:
        handler.send_body(handler.start_file(start))


def wait_for_bytes(path: Path, count: int):
    deadline = time.monotonic() + 20
    while not path.is_file() or path.stat().st_size < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def status(code: int) -> Callable[[Handler], None]:
    return lambda handler: handler.send_error(code)


def cut_short(handler: Handler):
    """The right Content-Length, half the bytes, and a connection closed as if all were well."""
    handler.send_body(handler.start_file(0)[:HALF])


def reset(handler: Handler):
    """Half the bytes, and then, when some have arrived, the connection is reset."""
    handler.send_body(handler.start_file(0)[:HALF])
    wait_for_bytes(handler.server.client_file, 1)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def stall(handler: Handler):
    """Half the bytes, and then nothing until the client has gone."""
    handler.send_body(handler.start_file(0)[:HALF])
    handler.server.stalled.wait(20)


def pause(handler: Handler):
    """The whole file, after a while."""
    time.sleep(0.5)
    send_file(handler)


def ignore_range(handler: Handler):
    handler.send_body(handler.start_file(0))


def redirect(handler: Handler):
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere/weights.bin")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def of_unknown_length(handler: Handler):
    handler.send_response(200)
    handler.end_headers()
    handler.send_body(handler.server.content)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.marks = {"ETag": '"one"'}
        self.faults: list[Callable[[Handler], None]] = []
        self.requests: list = []
        self.sent = 0
        self.stalled = threading.Event()
        self.client_file = Path()

    def handle_error(self, *_):
        """A client that went away is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.bin"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.stalled.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "cache" / "weights.bin"


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    taken: list[float] = []
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=taken.append))
    return taken


def files(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {f"{target.name}.lock"}


def client(server: Server, target: Path) -> subprocess.Popen:
    script = (
        "import sys, pathlib; from convnext.weights.transfer import fetch_url; "
        "fetch_url(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, server.url, str(target)], stderr=subprocess.PIPE
    )


def test_a_file_comes_once_and_whole(server, target, capsys):
    assert fetch_url(server.url, target, sha256=SHA256) == target
    assert fetch_url(server.url, target, sha256=SHA256) == target
    assert target.read_bytes() == CONTENT
    assert files(target) == {"weights.bin"}
    assert server.sent == len(CONTENT)
    assert capsys.readouterr() == ("", "")  # no bar where there is no terminal


@pytest.mark.parametrize("fault", [cut_short, reset])
def test_a_broken_connection_is_continued(server, target, pauses, fault):
    server.faults = [fault]
    server.client_file = target.with_name("weights.bin.part")
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    first, second = server.requests
    assert (first["Range"], first["If-Range"]) == (None, None)
    start = int(re.fullmatch(r"bytes=(\d+)-", second["Range"])[1])
    assert 0 < start <= HALF
    assert second["If-Range"] == '"one"'
    assert server.sent == HALF + len(CONTENT) - start
    assert len(pauses) == 1


def test_a_stalled_connection_is_given_up_and_continued(server, target, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", httpx.Timeout(0.3))
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    server.faults = [stall]
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_is_continued_by_the_next(server, target, how):
    server.faults = [stall]
    partial = target.with_name("weights.bin.part")
    with client(server, target) as process:
        wait_for_bytes(partial, HALF - 2**16)
        process.send_signal(how)
        process.communicate(timeout=20)
    assert process.returncode
    kept = partial.stat().st_size
    assert not target.exists()
    server.sent = 0

    fetch_url(server.url, target, sha256=SHA256)

    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={kept}-"]
    assert server.sent == len(CONTENT) - kept
    assert files(target) == {"weights.bin"}


def leave_partial(target: Path, content: bytes, mark: str = '"one"'):
    target.parent.mkdir()
    target.with_name("weights.bin.part").write_bytes(content)
    target.with_name("weights.bin.part.mark").write_text(mark)


def test_a_process_killed_before_the_renaming_is_completed(server, target):
    leave_partial(target, CONTENT)
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert (server.sent, server.ranges) == (0, [f"bytes={len(CONTENT)}-"])


def test_a_file_that_changed_in_between_is_fetched_anew(server, target):
    leave_partial(target, CONTENT[:HALF], '"an older one"')
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_server_that_ignores_ranges_sends_the_whole_file(server, target):
    leave_partial(target, CONTENT[:HALF])
    server.faults = [ignore_range]
    fetch_url(server.url, target)
    assert target.read_bytes() == CONTENT


def test_a_part_of_another_file_is_not_appended(server, target, pauses):
    def continue_another_file(handler):
        server.marks = {"ETag": '"two"'}
        handler.start_file(HALF)

    leave_partial(target, CONTENT[:HALF])
    server.faults = [continue_another_file]
    fetch_url(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-", None]
    assert len(pauses) == 1


def test_a_part_longer_than_the_file_is_thrown_away(server, target, pauses):
    leave_partial(target, CONTENT + b"more")
    server.faults = [status(416)]
    fetch_url(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]
    assert len(pauses) == 1


@pytest.mark.parametrize(
    ("marks", "continued"),
    [
        ({"Last-Modified": "Tue, 11 Jan 2022 00:00:00 GMT"}, True),
        ({"ETag": 'W/"weak"', "Last-Modified": "Tue, 11 Jan 2022 00:00:00 GMT"}, True),
        ({"ETag": 'W/"weak"'}, False),
        ({}, False),
    ],
)
def test_only_a_recognisable_file_is_continued(server, target, pauses, marks, continued):
    server.marks = marks
    server.faults = [cut_short]
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={HALF}-" if continued else None]
    assert server.requests[1]["If-Range"] == (marks["Last-Modified"] if continued else None)
    assert len(pauses) == 1


def test_a_corrupt_part_is_noticed_and_fetched_anew(server, target, pauses):
    leave_partial(target, bytes(HALF))
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-", None]
    assert len(pauses) == 1


def test_a_wrong_file_is_refused_at_once(server, target):
    with pytest.raises(WeightsUnavailableError, match=f"sha256 is {SHA256} where 0ff is published"):
        fetch_url(server.url, target, sha256="0ff")
    assert files(target) == set()
    assert len(server.requests) == 1


def test_leading_digits_of_a_digest_will_do(server, target):
    assert fetch_url(server.url, target, sha256=SHA256[:8].upper()).is_file()


@pytest.mark.parametrize("code", [404, 403, 501])
def test_a_refusal_is_not_asked_again(server, target, code):
    server.faults = [status(code)]
    with pytest.raises(WeightsUnavailableError, match=f"the server answered {code} "):
        fetch_url(server.url, target)
    assert len(server.requests) == 1
    assert files(target) == set()


def test_a_server_in_trouble_is_asked_again(server, target, pauses):
    server.faults = [status(500), status(429)]
    fetch_url(server.url, target)
    assert target.read_bytes() == CONTENT
    assert len(pauses) == 2


def test_a_server_in_trouble_is_asked_ever_more_slowly_and_not_for_ever(server, target, pauses):
    server.faults = [status(503)] * 9
    with pytest.raises(WeightsUnavailableError, match=r"gave up after 5 attempts.* 503 "):
        fetch_url(server.url, target)
    assert len(server.requests) == 5
    nominal = (0.5, 1, 2, 4)
    factors = [taken / doubled for taken, doubled in zip(pauses, nominal, strict=True)]
    assert all(0.5 <= factor <= 1.5 for factor in factors)
    assert len(set(factors)) == 4  # clients that failed together do not come back together


def test_bytes_received_before_giving_up_are_kept(server, target, pauses):
    server.faults = [cut_short, *[status(503)] * 4]
    with pytest.raises(WeightsUnavailableError, match="gave up"):
        fetch_url(server.url, target)
    fetch_url(server.url, target, sha256=SHA256)
    assert server.sent == len(CONTENT)
    assert len(pauses) == 4


def test_a_redirect_is_followed(server, target):
    server.faults = [redirect]
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_endless_redirects_are_an_error(server, target):
    server.faults = [redirect] * 30
    with pytest.raises(WeightsUnavailableError, match="TooManyRedirects"):
        fetch_url(server.url, target)


def test_a_file_of_unknown_length_comes(server, target):
    server.faults = [of_unknown_length]
    fetch_url(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_refused_connection_is_not_retried(target, pauses):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/weights.bin"
        with pytest.raises(WeightsUnavailableError, match="ConnectError: "):
            fetch_url(url, target)
    assert pauses == []


@pytest.mark.parametrize("url", ["nowhere/weights.bin", "ftp://127.0.0.1/w", "http://[bad/w"])
def test_an_address_that_is_none_is_an_error(target, url):
    with pytest.raises(WeightsUnavailableError):
        fetch_url(url, target)


def test_two_processes_fetch_once(server, target):
    server.faults = [pause]
    with client(server, target) as first, client(server, target) as second:
        assert [process.communicate(timeout=20)[1] for process in (first, second)] == [b"", b""]
    assert (first.returncode, second.returncode) == (0, 0)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A disk of half a mebibyte, less than the file."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.name != "posix" or os.geteuid() or not (mount and umount):
        pytest.skip("only root can mount a small disk")
    point = tmp_path / "small"
    point.mkdir()
    command = [mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(point)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    yield point
    subprocess.run([umount, str(point)], check=True)


@pytest.mark.parametrize("announced", [True, False])
def test_a_full_disk_is_named_and_left_clean(server, small_disk, announced):
    target = small_disk / "weights.bin"
    server.faults = [] if announced else [of_unknown_length]
    with pytest.raises(WeightsUnavailableError, match=f"no room for it in {small_disk}: No space"):
        fetch_url(server.url, target)
    assert files(target) == set()
    assert len(server.requests) == 1


def test_a_disk_that_fills_up_under_way_is_the_same(server, target, monkeypatch):
    """As on a small disk, where none can be mounted."""
    usage = shutil.disk_usage(target.anchor)._replace(free=HALF)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WeightsUnavailableError, match=f"No space left .*, {len(CONTENT):,} bytes"):
        fetch_url(server.url, target)
    assert files(target) == set()


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsUnavailableError, match=r"cannot write .*weights\.bin: \w+"):
        fetch_url(server.url, tmp_path / "file" / "weights.bin")
    assert server.requests == []
