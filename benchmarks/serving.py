"""Times `convnext serve` beside the server that most people would write, with the same client.

64 JPEGs of about 500x375; 1, 8 and 64 connections, each asking again as soon as it is answered.
Each server has a process of its own, and they take turns (A B C A B C ...), in which the others
wait; what counts is the ratio in a round, its median and 95 % interval. All have the same random
weights. The client runs on the same machine, as cheaply as it can.

Then the bare engine, in this process, and the server by the Open Inference Protocol, both on eight
pictures at once, in turns of ten calls with a pause before each, in which the other's threads fall
asleep and of which the first two calls are not counted: what is lost between them is what serving
costs.

    python benchmarks/serving.py                       # tiny and atto, some minutes
    python benchmarks/serving.py convnextv2_atto --rounds 1 --turn 4

Results go to benchmarks/results/serving.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from asyncio import Runner
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from http_load import Connection, form, free_port, load, ours, percentile, request, server
from photographs import write_photographs
from pictures import write_model
from records import save, where
from turns import Until, add_limits, limits, ratio_of, timed, times_of

from convnext.bench.rounds import Ratio

RESULTS = Path(__file__).parent / "results" / "serving.csv"
MODELS = ("convnext_tiny", "convnextv2_atto")
CONNECTIONS = (1, 8, 64)
PICTURES = 64
BATCH = 8
WARM_UP = 1.5  # seconds
CALLS, UNCOUNTED, PAUSE = 10, 2, 0.3  # of a turn of eight pictures
SIDE = 224
PLAIN = "FastAPI and timm, float32"
BARE, SERVED = "bare engine, 8 pictures", "convnext serve, 8 pictures"


class Server(NamedTuple):
    """One contender: its command, and where it takes pictures."""

    command: list[str]
    port: int
    path: str


def servers(folder: Path) -> dict[str, Server]:
    plain = str(Path(__file__).with_name("plain_server.py"))
    ports = [free_port() for _ in range(3)]
    model = folder / "convnext.safetensors"
    found = {"convnext serve": Server(ours(model, ports[0]), ports[0], "/v1/classify")}
    for port, precision in zip(ports[1:], ("float32", "bfloat16"), strict=True):
        command = [sys.executable, plain, str(folder), precision, str(port)]
        found[f"FastAPI and timm, {precision}"] = Server(command, port, "/classify")
    return found


class Turns:
    """Turns of a server at a number of connections; the milliseconds of every answer are kept."""

    def __init__(self, one: Server, pictures: Sequence[bytes], connections: int, seconds: float):
        self.one, self.connections, self.length = one, connections, seconds
        self.requests = [form(one.path, picture) for picture in pictures]
        self.milliseconds: list[float] = []

    def __call__(self) -> float:
        """Take a turn; returns the seconds for each answer."""
        for seconds in (WARM_UP, self.length):
            answers, took = asyncio.run(
                load(self.one.port, self.requests, self.connections, seconds)
            )
        bad = [answer for answer in answers if answer.status != 200]
        if bad:
            raise SystemExit(f"{self.one.path} answered {bad[0].status}: {bad[0].body[:200]!r}")
        self.milliseconds += [1000 * answer.seconds for answer in answers]
        return took / len(answers)


def race(name: str, folder: Path, until: Until, seconds: float) -> list[dict[str, object]]:
    pictures = [path.read_bytes() for path in sorted((folder / "pictures").iterdir())]
    found = servers(folder)
    rows: list[dict[str, object]] = []
    with ExitStack() as stack:
        for one in found.values():
            stack.enter_context(server(one.command, one.port, "/readyz"))
        for count in CONNECTIONS:
            turns = {label: Turns(one, pictures, count, seconds) for label, one in found.items()}
            times = times_of(turns, until, f"{name}, {count} connections")
            for label, own in times.items():
                ratio = ratio_of(times[PLAIN], own)
                rows.append(row(name, label, count, own, turns[label].milliseconds, ratio))
    return rows


def overhead(name: str, folder: Path, until: Until) -> list[dict[str, object]]:
    from convnext.engines import open_engine

    engine = open_engine(folder / "convnext.safetensors")
    batch = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)
    tensor = {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": list(batch.shape),
        "parameters": {"binary_data_size": batch.nbytes},
    }
    wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    data = request(
        "/v2/models/m/infer",
        head + batch.tobytes(),
        "application/octet-stream",
        Inference_Header_Content_Length=str(len(head)),
    )
    port = free_port()
    connection = Connection(port)
    every: dict[str, list[float]] = {BARE: [], SERVED: []}

    def turn(label: str, call: Callable[[], float]) -> float:
        time.sleep(PAUSE)
        seconds = [call() for _ in range(CALLS)][UNCOUNTED:]
        every[label] += [1000 * each for each in seconds]
        connection.close()  # the server would, after a long turn of the other
        return statistics.median(seconds)

    with server(ours(folder / "convnext.safetensors", port), port, "/readyz"), Runner() as runner:
        answer = runner.run(connection.ask(data))
        logits = engine.predict(batch)
        length = int(answer.headers["inference-header-content-length"])
        got = np.frombuffer(answer.body[length:], "<f4").reshape(logits.shape)
        if answer.status != 200 or not np.array_equal(got, logits):
            raise SystemExit("the server's logits are not the engine's")
        calls = {
            BARE: lambda: timed(lambda: engine.predict(batch)),
            SERVED: lambda: runner.run(connection.ask(data)).seconds,
        }
        times = times_of({label: partial(turn, label, calls[label]) for label in calls}, until)
    return [
        row(name, label, 1, own, every[label], ratio_of(times[BARE], own))
        for label, own in times.items()
    ]


def row(
    name: str,
    label: str,
    connections: int,
    seconds: Sequence[float],
    milliseconds: Sequence[float],
    ratio: Ratio,
) -> dict[str, object]:
    found = {
        "model": name,
        "server": label,
        "connections": connections,
        "requests_per_second": round(1 / statistics.median(seconds), 2),
        "p50_ms": round(percentile(milliseconds, 50), 2),
        "p99_ms": round(percentile(milliseconds, 99), 2),
    }
    print(*(f"{key} {value}" for key, value in found.items()), f"relative {ratio}", sep="  ")
    return {**found, **ratio.columns("relative_rate"), **where()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, help="variants")
    add_limits(parser)
    parser.add_argument("--turn", type=float, default=6.0, help="seconds of a server's turn")
    parser.add_argument("--only", choices=("race", "overhead"))
    parser.add_argument("--dry", action="store_true", help="print, and store nothing")
    args = parser.parse_args()
    rows = []
    for name in args.models:
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_model(name, folder)
            (folder / "pictures").mkdir()
            write_photographs(folder / "pictures", PICTURES)
            if args.only != "race":
                rows += overhead(name, folder, limits(args))
            if args.only != "overhead":
                rows += race(name, folder, limits(args), args.turn)
    if not args.dry:
        save(RESULTS, rows, ("model", "server", "connections"))


if __name__ == "__main__":
    main()
