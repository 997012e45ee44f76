"""Slow, idle and excessive connections, and what happens to them when the server stops."""

import json
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress

import pytest

from convnext.serve import limits

pytestmark = pytest.mark.usefixtures("mock_engine")

HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def picture():
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (75, 75, 75)).save(stream, "PNG")
    return stream.getvalue()


def connect(run):
    return closing(socket.create_connection(("127.0.0.1", run.port), timeout=20))


def everything(connection):
    """Everything received until the other side closes."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def parts(data):
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


def test_headers_that_come_slowly_or_never(running, named_weights):
    with running(named_weights, header_seconds=0.3) as run:
        with connect(run) as silent, connect(run) as slow, connect(run) as dripping:
            slow.sendall(b"GET /healthz HT")
            begun = time.monotonic()
            for byte in b"GET /healthz HTTP/1.1":
                try:
                    dripping.send(bytes([byte]))
                except OSError:
                    break
                time.sleep(0.05)
            assert parts(everything(slow))[0] == 408
            assert everything(silent) == b""
            assert parts(everything(dripping))[0] == 408
            assert time.monotonic() - begun < 5
        assert run.client.get("/healthz").status_code == 200


def test_a_second_request_has_the_same_time_for_its_headers(running, named_weights):
    with running(named_weights, header_seconds=0.3) as run, connect(run) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(0.5)  # idle: another limit
        connection.sendall(b"GET /heal")
        assert parts(everything(connection))[0] == 408


def test_headers_without_end(running, named_weights):
    with running(named_weights) as run, connect(run) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"y" * 1000))
        except OSError:
            pass
        assert number < 5000  # no more than what buffers hold
        with connect(run) as one_line:
            with suppress(OSError):
                one_line.sendall(b"GET /" + b"x" * 200_000)
            data = everything(one_line)
        assert not data or parts(data)[0] == 431
        assert run.client.get("/healthz").status_code == 200


def test_trailers_without_end(running, named_weights):
    with running(named_weights) as run, connect(run) as connection:
        head = (
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head + b"1\r\nx\r\n0\r\nX: ")

        def drown():
            for _ in range(10_000):
                connection.sendall(b"y" * 10_000)

        with pytest.raises(OSError, match=r"reset|Broken"):
            drown()
        assert run.client.get("/healthz").status_code == 200


def test_bodies_that_come_slowly_or_never(running, named_weights, picture):
    with running(named_weights, stall_seconds=0.3, body_seconds=0.6) as run:
        with connect(run) as stalled, connect(run) as dripping:
            stalled.sendall(HEAD % len(picture) + picture[:10])
            dripping.sendall(HEAD % 10_000)
            for _ in range(60):
                try:
                    dripping.send(b"x")
                except OSError:
                    break
                time.sleep(0.02)
            for connection in (stalled, dripping):
                status, problem = parts(everything(connection))
                assert (status, problem["code"]) == (408, "slow-body")
        assert run.metric("convnext_body_bytes_in_flight") == 0


def test_bytes_that_are_no_http_get_status_400(running, named_weights):
    with running(named_weights) as run:
        for nonsense in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\r\n\0\r\n\r\n",
            b"A B\r\n\r\n",
        ):
            with connect(run) as connection:
                connection.sendall(nonsense)
                status, problem = parts(everything(connection))
                assert (status, problem["code"]) == (400, "bad-http")


def test_too_many_connections_are_refused(running, named_weights):
    with running(named_weights, max_connections=3) as run:
        run.client.close()
        run.eventually(lambda: not run.server.server_state.connections)
        with connect(run) as one, connect(run) as two, connect(run) as three:
            run.eventually(lambda: len(run.server.server_state.connections) == 3)
            with connect(run) as four:
                status, problem = parts(everything(four))
                assert (status, problem["code"]) == (503, "busy")
            for connection in (one, two, three):
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_two_requests_at_once_on_one_connection(running, named_weights, picture):
    with running(named_weights) as run, connect(run) as connection:
        request = HEAD % len(picture) + picture
        connection.sendall(request + request)
        data = b""
        while data.count(b'"shade 3, nuance 3"') < 2:
            chunk = connection.recv(65536)
            assert chunk
            data += chunk
        assert data.count(b"HTTP/1.1 200") == 2


def test_stopping_answers_what_is_accepted_and_what_has_begun_to_arrive(
    running, named_weights, picture
):
    with (
        running(named_weights) as run,
        connect(run) as waiting,
        connect(run) as half,
        connect(run) as begun,
        connect(run) as idle,
    ):
        [engine] = run.engines
        engine.gate.clear()
        waiting.sendall(HEAD % len(picture) + picture)
        half.sendall(HEAD % len(picture) + picture[:20])
        begun.sendall(HEAD[:20])
        run.eventually(lambda: run.metric("convnext_queue_pictures") == 1)
        run.eventually(lambda: run.metric("convnext_requests_in_flight") == 3)  # and its own
        stopping = threading.Thread(target=run.stop)
        stopping.start()
        assert everything(idle) == b""  # closed at once
        time.sleep(0.2)
        engine.gate.set()
        half.sendall(picture[20:])
        begun.sendall((HEAD % len(picture))[20:] + picture)
        for connection in (waiting, half, begun):
            data = everything(connection)
            status, answer = parts(data)
            assert status == 200
            assert b"connection: close" in data
            assert answer["pictures"][0]["classes"][0]["index"] == 3
        stopping.join(20)
        assert not run.thread.is_alive()


def test_before_it_stops_it_says_that_it_will(running, named_weights):
    with running(named_weights, drain_delay=0.5) as run:
        stopping = threading.Thread(target=run.stop)
        stopping.start()
        run.eventually(lambda: run.client.get("/readyz").status_code == 503)
        assert run.client.get("/healthz").status_code == 200
        stopping.join(20)


def newest(run):
    """The server side of the connection that has sent no request yet."""
    new = lambda: [each for each in run.server.server_state.connections if not each.cycle]  # noqa: E731
    run.eventually(new)
    [protocol] = new()
    return protocol


def test_requests_sent_far_ahead_of_their_answers_end_the_connection(
    running, named_weights, picture
):
    with running(named_weights) as run, connect(run) as connection:
        [engine] = run.engines
        engine.gate.clear()
        protocol = newest(run)
        ask = HEAD % len(picture) + picture
        ahead = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(ask + limits.MAX_PIPELINED * ahead)
        run.eventually(lambda: len(protocol.pipeline) == limits.MAX_PIPELINED)
        connection.sendall(1000 * ahead)
        assert everything(connection) == b""
        assert len(protocol.pipeline) == limits.MAX_PIPELINED
        assert run.metric("convnext_rejected_total", reason="pipelined") == 1


def test_a_body_that_is_no_longer_wanted_and_never_ends(running, named_weights):
    with running(named_weights, body_seconds=0.5) as run, connect(run) as connection:
        begun = time.monotonic()
        connection.sendall(
            b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 404")
        connection.sendall(b"x")
        everything(connection)
        assert time.monotonic() - begun < 10  # before any other limit


def test_after_a_body_that_is_no_longer_wanted_a_connection_is_as_idle_as_any(
    running, named_weights
):
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
    with running(named_weights, idle_seconds=0.5) as run, connect(run) as connection:
        for _ in range(2):
            connection.sendall(head + b"xx")
            data = b""
            while not data.endswith(b"}"):
                data += connection.recv(65536)
            assert parts(data)[0] == 404
            connection.sendall(b"xx")
        begun = time.monotonic()
        assert everything(connection) == b""
        assert 0.4 < time.monotonic() - begun < 10


@contextmanager
def narrow(run):
    """A connection with small socket buffers, and its server side."""
    with closing(socket.socket()) as connection:
        connection.settimeout(20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", run.port))
        protocol = newest(run)
        end = protocol.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield connection, protocol


def test_an_unread_answer_is_cut_off(running, named_weights, monkeypatch):
    monkeypatch.setattr(limits, "SEND_STALL_SECONDS", 0.3)
    with running(named_weights) as run, narrow(run) as (connection, protocol):
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        run.eventually(protocol.transport.get_write_buffer_size)
        assert protocol.transport.get_write_buffer_size() < 2**16
        begun = time.monotonic()
        run.eventually(lambda: protocol not in run.server.server_state.connections)
        assert time.monotonic() - begun < 10  # before any other limit
        assert run.client.get("/healthz").status_code == 200


def test_an_answer_that_is_taken_slowly_is_not(running, named_weights, monkeypatch):
    monkeypatch.setattr(limits, "SEND_STALL_SECONDS", 0.8)
    with running(named_weights) as run, narrow(run) as (connection, _):
        wanted = run.client.get("/openapi.json").content
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data, begun = b"", time.monotonic()
        while not data.endswith(wanted[-100:]):
            chunk = connection.recv(1024)
            assert chunk
            data += chunk
            time.sleep(0.06)
        assert time.monotonic() - begun > 1
        assert data.endswith(wanted)
