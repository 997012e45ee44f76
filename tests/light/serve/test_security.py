"""Token files, and addresses that are never downloaded from."""

import asyncio
import threading
from contextlib import AsyncExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from convnext.errors import ArgumentError
from convnext.serve.fetching import MOST_AT_ONCE, Fetcher, is_public
from convnext.serve.problems import Problem
from convnext.serve.security import read_tokens
from convnext.serve.settings import ModelSpec, Settings


def test_tokens_are_read_from_a_file_that_others_cannot_read(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("# who\n0123456789abcdef\n\n  fedcba9876543210  \n")
    path.chmod(0o600)
    assert read_tokens(path) == ("0123456789abcdef", "fedcba9876543210")
    path.chmod(0o644)
    with pytest.raises(ArgumentError, match="Everybody on this machine can read"):
        read_tokens(path)


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", "0123456789abcdef\nx\n"])
def test_files_without_good_tokens(tmp_path, text):
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ArgumentError, match="one token per line, of at least 16"):
        read_tokens(path)
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_tokens(tmp_path / "absent")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds tell their machines' secrets
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2001:0:53aa:64c::",
        "fec0::1",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1::101:101",
        "::127.0.0.1",
        "::ffff:0:10.0.0.1",
        "4000::1",
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"]
)
def test_addresses_that_are(address):
    assert is_public(address)


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"], self.headers["Cookie"]))
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/picture")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        self.end_headers()
        if self.path == "/slow":
            self.server.gate.wait(10)
        self.wfile.write(b"x" * (5000 if self.path == "/big" else 7))

    def log_message(self, *_):
        pass


@contextmanager
def site():
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.asked, server.gate = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join()


def fetch(url, *hosts, addresses=("127.0.0.1",), allowed=lambda _: True, seconds=5.0):
    looked_up = []

    async def resolve(host, port):
        looked_up.append((host, port))
        return list(addresses)

    async def main():
        settings = Settings((ModelSpec("m", "m"),), allowed_urls=hosts, max_picture_bytes=2000)
        async with Fetcher(settings, resolve, allowed, seconds).fetched(url) as data:
            return data

    return asyncio.run(main()), looked_up


def refused(url, *hosts, status=403, **options):
    with pytest.raises(Problem) as caught:
        fetch(url, *hosts, **options)
    assert caught.value.status == status
    return caught.value.detail


def test_a_picture_of_an_allowed_host_is_fetched_from_the_address_that_was_checked():
    with site() as server:
        name = f"pictures.example:{server.server_port}"
        data, looked_up = fetch(f"http://{name}/picture?a=b", name)
        assert data == b"x" * 7
        assert looked_up == [("pictures.example", server.server_port)]  # once: no second answer
        assert server.asked == [("/picture?a=b", name, None)]


def test_hosts_are_refused_unless_allowed():
    assert "downloads no URLs" in refused("http://pictures.example/a")
    for url in (
        "http://other.example/a",
        "http://pictures.example:81/a",
        "http://pictures.example.evil.example/a",
        "http://evil.example/pictures.example",
        "http://pictures.example@evil.example/a",
        "http://user:word@pictures.example/a",
        "http://evil.example\\@pictures.example/a",
        "http://127.0.0.1/a",
        "http://[::1]/a",
    ):
        assert "does not download from this host" in refused(url, "pictures.example")
    for url in (
        "file:///etc/passwd",
        "ftp://pictures.example/",
        "x",
        "",
        "http://",
        "http://[/",
        "http://pictures.example/\n",
        "http://pictures.ex\xe4mple/",
        "http://a:99999/",
    ):
        refused(url, "pictures.example", status=400 if url != "http://" else 403)


def test_a_name_with_a_private_address_is_not_connected_to():
    with site() as server:
        name = f"pictures.example:{server.server_port}"
        message = refused(f"http://{name}/", name, allowed=is_public)
        assert "not public" in message
        refused(f"http://{name}/", name, addresses=("1.1.1.1", "127.0.0.1"), allowed=is_public)
        refused(f"http://{name}/", name, addresses=())
        assert server.asked == []


def test_held_pictures_count_as_being_fetched():
    async def resolve(_host, _port):
        return ["127.0.0.1"]

    async def main(name):
        settings = Settings((ModelSpec("m", "m"),), allowed_urls=(name,))
        fetcher = Fetcher(settings, resolve, lambda _: True, 0.5)
        async with AsyncExitStack() as held:
            for _ in range(MOST_AT_ONCE):
                await held.enter_async_context(fetcher.fetched(f"http://{name}/picture"))
            with pytest.raises(Problem, match="longer than"):
                await held.enter_async_context(fetcher.fetched(f"http://{name}/picture"))
        async with fetcher.fetched(f"http://{name}/picture") as data:
            assert data == b"x" * 7

    with site() as server:
        asyncio.run(main(f"pictures.example:{server.server_port}"))
        assert len(server.asked) == MOST_AT_ONCE + 1


def test_redirects_are_not_followed_and_limits_hold():
    with site() as server:
        name = f"pictures.example:{server.server_port}"
        for path, message in (
            ("redirect", "redirects are not followed"),
            ("big", "more than the allowed 2,000 bytes"),
            ("absent", "could not be downloaded"),
        ):
            assert message in refused(f"http://{name}/{path}", name, status=422)
        assert "longer than 0.3 s" in refused(f"http://{name}/slow", name, status=422, seconds=0.3)
        assert [path for path, *_ in server.asked] == ["/redirect", "/big", "/absent", "/slow"]


def test_a_failed_download_discloses_no_reason():
    message = refused("http://pictures.example:1/", "pictures.example:1", status=422)
    assert message == "The picture at the URL could not be downloaded."
