"""`convnext serve` as a process: options, start, signals, several workers, and the end."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from PIL import Image

from convnext.cli import main, serve
from convnext.errors import ArgumentError, MissingDependencyError
from convnext.serve.server import PUBLISH_SECONDS

SECONDS = 60
OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def picture():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (75, 75, 75)).save(stream, "PNG")
    return stream.getvalue()


class Command:
    def __init__(self, process):
        self.process = process
        self.lines = []
        self.port = int(self.until(r"listening on http://127\.0\.0\.1:(\d+)")[1])
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=SECONDS, trust_env=False
        )

    def until(self, pattern):
        """Wait for the next log line that matches."""
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError("".join(self.lines))

    def end(self):
        code = self.process.wait(SECONDS)
        self.lines += self.process.stderr.readlines()
        return code


@contextmanager
def command(*arguments):
    pytest.importorskip("openvino")
    program = "import sys; from convnext.cli.main import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", program, "serve", "--port", "0", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Command(process)
        finally:
            process.kill()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_answers_accepted_requests_and_exits_with_0(named_weights, picture, name):
    options = ("--answers", "classify", "--max-pictures", "64")
    with command("--model", named_weights, *options) as run:
        run.until(" ready$")
        files = [("p", (str(number), picture)) for number in range(64)]
        asked = httpx.Request("POST", f"http://127.0.0.1:{run.port}/v1/classify", files=files)
        body = asked.read()
        import socket

        with socket.create_connection(("127.0.0.1", run.port)) as connection:
            head = "".join(f"{key}: {value}\r\n" for key, value in asked.headers.items())
            connection.sendall(f"POST /v1/classify HTTP/1.1\r\n{head}\r\n".encode() + body[:-10])
            time.sleep(0.1)
            run.process.send_signal(name)
            run.until("stopping")
            connection.sendall(body[-10:])
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b'"classes"') == 64
        assert run.end() == 0
        assert not any("Traceback" in line for line in run.lines)
        run.client.close()


def test_workers_share_the_socket_and_add_up_their_counts(named_weights, picture):
    options = ("--workers", "2", "--answers", "classify", "--drain-seconds", "5")
    with command("--model", named_weights, *options) as run:
        pids = {run.until(r" (\d+) INFO ready$")[1] for _ in range(2)}
        assert len(pids) == 2
        for _ in range(24):  # each on a connection of its own
            with httpx.Client(trust_env=False, timeout=SECONDS) as client:
                url = f"http://127.0.0.1:{run.port}/v1/classify"
                assert client.post(url, content=picture, headers=OCTETS).status_code == 200

        def counted():
            text = run.client.get("/metrics").text
            counts = re.findall(r'requests_total\{.*/v1/classify.*"200"\} (\d+)', text)
            return sum(map(int, counts)), re.findall(r"convnext_workers (\d+)", text)

        ends = time.monotonic() + SECONDS
        while counted() != (24, ["2"]):
            assert time.monotonic() < ends, counted()
            time.sleep(0.2)
        time.sleep(2 * PUBLISH_SECONDS)  # metrics since the last write are lost
        killed = int(pids.pop())
        os.kill(killed, signal.SIGKILL)
        assert int(run.until(r" (\d+) INFO ready$")[1]) != killed  # another took its place
        ends = time.monotonic() + SECONDS
        while counted() != (24, ["2"]):  # what the dead one had counted still counts
            assert time.monotonic() < ends, counted()
            time.sleep(0.2)
        run.client.close()
        run.process.send_signal(signal.SIGTERM)
        assert run.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command_fails_if_no_model_can_be_loaded(tmp_path, workers):
    with command("--model", tmp_path / "absent.pth", "--workers", workers) as run:
        run.client.close()
        assert run.end() == 2
        assert any("absent.pth" in line for line in run.lines)
        assert not any("Traceback" in line for line in run.lines)


def settings(*arguments):
    return serve.settings_of(main.build_parser().parse_args(["serve", *arguments]))


def test_options_become_settings(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("0123456789abcdef0123\n")
    tokens.chmod(0o600)
    made = settings(
        *("--model", "a=x.pth", "--model", "convnext_tiny", "--answers", "classify, embed"),
        *("--token-file", str(tokens), "--allow-host", "h", "--allow-url", "u:1"),
        *("--max-wait-ms", "2.5", "--max-pixels", "9", "--no-page", "--no-access-log"),
    )
    assert [model.name for model in made.models] == ["a", "convnext_tiny"]
    assert made.answers == ("classify", "embed")
    assert made.tokens == ("0123456789abcdef0123",)
    assert (made.allowed_hosts, made.allowed_urls) == (("h",), ("u:1",))
    assert (made.max_wait_ms, made.max_pixels) == (2.5, 9)
    assert (made.page, made.access_log, made.host, made.port) == (False, False, "127.0.0.1", 8000)


def test_every_limit_has_the_default_that_its_help_says(capsys):
    with pytest.raises(SystemExit):
        main.main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    made = settings()
    units = {"MiB": 2**20}
    found = re.findall(
        r"--([a-z-]+) [A-Z]+ (?:(?!--)[^(])*?\(default: ([\d.,]+)(?: (MiB))?\)", text
    )
    assert len(found) > 12
    for name, number, unit in found:
        value = float(number.replace(",", "")) * units.get(unit, 1)
        if hasattr(made, name.replace("-", "_")):
            assert getattr(made, name.replace("-", "_")) == value, name


def test_help_teaches_by_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["serve", "--help"])
    out = capsys.readouterr().out
    assert "examples:\n  convnext serve" in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--answers", "sing"], "--answers must be some of classify, embed, explain"),
        (["--precision", "int8"], "Unknown precision of a server: 'int8'"),
        (["--precision", "fp16"], "float16"),
        (["--threads", "0"], "--threads must be 1 or more"),
        (["--token-file", "absent"], "absent cannot be read"),
        (["--max-queue", "1"], "--max-queue must be at least --max-pictures"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(ArgumentError) as caught:
        settings(*arguments)
    assert message in str(caught.value)


def test_without_what_it_needs_it_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.startswith(("convnext.serve", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    args = main.build_parser().parse_args(["serve"])
    with pytest.raises(MissingDependencyError, match=r"convnext\[serve\]"):
        args.run(args)


def test_a_port_in_use_is_an_error(named_weights, served):
    arguments = ["serve", "--model", str(named_weights), "--port", str(served.port)]
    args = main.build_parser().parse_args(arguments)
    with pytest.raises(ArgumentError, match="Address already in use"):
        args.run(args)


def test_the_light_half_serves_without_a_framework():
    program = "import sys, convnext.serve.workers; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "uvicorn" in loaded
    assert not {"jax", "keras", "tensorflow", "torch", "fastapi"} & set(loaded)
