"""Times `convnext serve` beside the server that most people would write, with the same client.

64 JPEGs of about 500x375; 1, 8 and 64 connections, each asking again as soon as it is answered. The
servers take turns (A B C A B C ...), each in a process of its own that is alone while it is timed;
what counts is the median of the rounds. All have the same random weights. The client runs on the
same machine, as cheaply as it can.

Then the bare engine, in this process, and the server by the Open Inference Protocol, both on eight
pictures at once, in turns of ten calls with a pause before each, in which the other's threads fall
asleep and of which the first two calls are not counted: what is lost between them is what serving
costs.

    python benchmarks/serving.py                       # tiny and atto, some minutes
    python benchmarks/serving.py convnextv2_atto --rounds 1 --seconds 4

Results go to benchmarks/results/serving.csv, with the machine and the versions in each row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from http_load import Connection, form, free_port, load, ours, percentile, request, server
from photographs import write_photographs
from pictures import write_model
from records import save, where

RESULTS = Path(__file__).parent / "results" / "serving.csv"
MODELS = ("convnext_tiny", "convnextv2_atto")
CONNECTIONS = (1, 8, 64)
PICTURES = 64
BATCH = 8
WARM_UP = 1.5  # seconds
CALLS, UNCOUNTED, PAUSE = 10, 2, 0.3  # of a turn of eight pictures
SIDE = 224
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


class Turn(NamedTuple):
    """What one turn measured: requests a second, and milliseconds."""

    rate: float
    p50: float
    p99: float


def turn(one: Server, pictures: Sequence[bytes], connections: int, seconds: float) -> Turn:
    requests = [form(one.path, picture) for picture in pictures]
    asyncio.run(load(one.port, requests, connections, WARM_UP))
    answers, took = asyncio.run(load(one.port, requests, connections, seconds))
    bad = [answer for answer in answers if answer.status != 200]
    if bad:
        raise SystemExit(f"{one.path} answered {bad[0].status}: {bad[0].body[:200]!r}")
    times = [1000 * answer.seconds for answer in answers]
    return Turn(len(answers) / took, percentile(times, 50), percentile(times, 99))


def race(name: str, folder: Path, rounds: int, seconds: float) -> list[dict[str, object]]:
    pictures = [path.read_bytes() for path in sorted((folder / "pictures").iterdir())]
    turns: dict[tuple[str, int], list[Turn]] = {}
    for number in range(rounds):
        for label, one in servers(folder).items():
            with server(one.command, one.port, "/readyz"):
                for connections in CONNECTIONS:
                    measured = turn(one, pictures, connections, seconds)
                    turns.setdefault((label, connections), []).append(measured)
                    print(
                        f"{name}, round {number + 1}: {label:26} {connections:3} connections  "
                        f"{measured.rate:7.1f}/s  p50 {measured.p50:7.1f}  "
                        f"p99 {measured.p99:7.1f} ms",
                        flush=True,
                    )
    rows: list[dict[str, object]] = []
    for (label, connections), measured in turns.items():
        plain = turns["FastAPI and timm, float32", connections]
        ratio = statistics.median(
            mine.rate / theirs.rate for mine, theirs in zip(measured, plain, strict=True)
        )
        middle = [statistics.median(values) for values in zip(*measured, strict=True)]
        rows.append(row(name, label, connections, middle, ratio, rounds))
    return rows


def overhead(name: str, folder: Path, rounds: int) -> list[dict[str, object]]:
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
    bare: list[list[float]] = []
    served: list[list[float]] = []
    turns = 5 * rounds

    async def compare() -> None:
        connection = Connection(port)
        for _ in range(turns):
            await asyncio.sleep(PAUSE)
            times = []
            for _ in range(CALLS):
                begun = time.perf_counter()
                logits = engine.predict(batch)
                times.append(1000 * (time.perf_counter() - begun))
            bare.append(times[UNCOUNTED:])
            await asyncio.sleep(PAUSE)
            answers = [await connection.ask(data) for _ in range(CALLS)]
            served.append([1000 * answer.seconds for answer in answers[UNCOUNTED:]])
        answer = answers[-1]
        length = int(answer.headers["inference-header-content-length"])
        got = np.frombuffer(answer.body[length:], "<f4").reshape(logits.shape)
        if answer.status != 200 or not np.array_equal(got, logits):
            raise SystemExit("the server's logits are not the engine's")
        connection.close()

    with server(ours(folder / "convnext.safetensors", port), port, "/readyz"):
        asyncio.run(compare())
    middle_of = statistics.median
    ratio = middle_of(middle_of(b) / middle_of(s) for b, s in zip(bare, served, strict=True))
    rows = []
    for label, measured in ((BARE, bare), (SERVED, served)):
        times = [each for one in measured for each in one]
        middle = [1000 / statistics.median(times), percentile(times, 50), percentile(times, 99)]
        rows.append(row(name, label, 1, middle, 1.0 if label == BARE else ratio, turns))
        print(f"{name}: {label:26} p50 {middle[1]:7.2f}  p99 {middle[2]:7.2f} ms", flush=True)
    return rows


def row(
    name: str, label: str, connections: int, middle: Sequence[float], ratio: float, rounds: int
) -> dict[str, object]:
    return {
        "model": name,
        "server": label,
        "connections": connections,
        "requests_per_second": round(middle[0], 2),
        "p50_ms": round(middle[1], 2),
        "p99_ms": round(middle[2], 2),
        "relative_rate": round(ratio, 3),
        "rounds": rounds,
        **where(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, help="variants")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each turn")
    parser.add_argument("--only", choices=("race", "overhead"))
    parser.add_argument("--no-csv", action="store_true")
    args = parser.parse_args()
    rows = []
    for name in args.models:
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_model(name, folder)
            (folder / "pictures").mkdir()
            write_photographs(folder / "pictures", PICTURES)
            if args.only != "race":
                rows += overhead(name, folder, args.rounds)
            if args.only != "overhead":
                rows += race(name, folder, args.rounds, args.seconds)
    if not args.no_csv:
        save(RESULTS, rows, ("model", "server", "connections"))


if __name__ == "__main__":
    main()
