"""Asks `convnext serve` good, bad, slow and abandoned things for ten minutes, and then too much.

Loopback only, with a few dozen connections. What must hold, or the exit code is 1:

- every accepted request is answered rightly: its logits are those of `Classifier`;
- no 5xx but the stated back-pressure, 503 with Retry-After;
- memory grows by less than 5 % after the first fifth of the time;
- at the end nothing is held: no place in the queue, no byte of a body, no request;
- at five times the capacity, what is accepted is answered within the deadline, and as much is
  answered as nine tenths of what can be. The client runs on the same processors: what it takes of
  them is in the record, beside the plain ratio.

    python benchmarks/soak_serving.py                  # ten minutes and one
    python benchmarks/soak_serving.py --minutes 1

The record goes to benchmarks/results/serving_soak.json.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from http_load import Connection, form, free_port, load, ours, percentile, request, server
from memory import mib
from photographs import write_photographs
from pictures import write_model
from PIL import Image
from records import where

from convnext.classifier import Classifier

RESULTS = Path(__file__).parent / "results" / "serving_soak.json"
MODEL = "convnextv2_atto"
PICTURES = 32
GROWTH = 0.05
OVERLOAD = 5
DEADLINE = 2.0  # seconds, of the overloaded server
SLACK = 0.25  # seconds beyond the deadline: the client's own turn on busy processors
BASE = 2**20


class Soak:
    """What is asked, and what came of it."""

    def __init__(self, port: int, pictures: list[bytes], logits: np.ndarray, seed: int) -> None:
        self.port = port
        self.pictures = pictures
        self.logits = logits
        self.random = random.Random(seed)
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.worst = 0.0
        self.ends = 0.0
        huge = io.BytesIO()
        Image.new("1", (30_000, 30_000)).save(huge, "PNG")  # 900 megapixels in 110 kB
        self.huge = huge.getvalue()

    def note(
        self, kind: str, status: int, headers: dict[str, str], allowed: tuple[int, ...]
    ) -> None:
        self.statuses[f"{kind} {status}"] += 1
        pressed = status == 503 and "retry-after" in headers
        if status not in allowed and not pressed:
            self.wrong.append(f"{kind} got {status}")

    async def good_logits(self, connection: Connection) -> None:
        """By the Inference Protocol, whole files in, logits out."""
        chosen = self.random.choices(range(len(self.pictures)), k=self.random.choice((1, 1, 2, 5)))
        parts = [self.pictures[number] for number in chosen]
        data = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        tensor = {
            "name": "image",
            "datatype": "BYTES",
            "shape": [len(parts)],
            "parameters": {"binary_data_size": len(data)},
        }
        wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        answer = await connection.ask(
            request(
                "/v2/models/m/infer",
                head + data,
                "application/octet-stream",
                Inference_Header_Content_Length=str(len(head)),
            )
        )
        self.note("logits", answer.status, answer.headers, (200,))
        if answer.status == 200:
            length = int(answer.headers["inference-header-content-length"])
            got = np.frombuffer(answer.body[length:], "<f4").reshape(len(parts), -1)
            difference = float(np.abs(got - self.logits[chosen]).max())
            self.worst = max(self.worst, difference)
            if difference > 1e-5:
                self.wrong.append(f"logits differ by {difference}")

    async def good_classes(self, connection: Connection) -> None:
        number = self.random.randrange(len(self.pictures))
        picture = self.pictures[number]
        content = {"pictures": [{"data": base64.b64encode(picture).decode()}], "top": 1}
        asked = self.random.choice(
            [
                request("/v1/classify?top=1", picture),
                form("/v1/classify?top=1", picture),
                request("/v1/classify", json.dumps(content).encode(), "application/json"),
            ]
        )
        answer = await connection.ask(asked)
        self.note("classes", answer.status, answer.headers, (200,))
        if answer.status == 200:
            [row] = json.loads(answer.body)["pictures"]
            if row["classes"][0]["index"] != int(self.logits[number].argmax()):
                self.wrong.append("another class")

    async def good_others(self, connection: Connection) -> None:
        path = self.random.choice(["/v1/embed", "/v1/explain?side=128"])
        answer = await connection.ask(request(path, self.random.choice(self.pictures)))
        self.note(path[:11], answer.status, answer.headers, (200,))

    async def bad(self, connection: Connection) -> None:
        """Pictures that are none, truncated, mislabelled, enormous; bodies of noise."""
        noise = self.random.randbytes(self.random.randrange(400))
        picture = self.random.choice(self.pictures)
        kind = self.random.choice(["image/png", "application/json", "text/plain", "multipart/x"])
        path = self.random.choice(
            ["/v1/classify", "/v1/embed", "/v1/explain", "/v2/models/m/infer"]
        )
        body = self.random.choice([noise, picture[: len(picture) // 2], noise + picture, self.huge])
        answer = await connection.ask(request(path, body, kind))
        # Half a JPEG is an error as well; PNG for JPEG is not: what counts is what it is.
        self.note("bad", answer.status, answer.headers, (200, 400, 413, 415, 422))

    async def mislabelled(self, connection: Connection) -> None:
        answer = await connection.ask(
            request("/v1/classify", self.random.choice(self.pictures), "image/gif")
        )
        self.note("mislabelled", answer.status, answer.headers, (200,))

    async def oversized(self, connection: Connection) -> None:
        answer = await connection.ask(request("/v1/classify", bytes(5 * BASE)))
        self.note("oversized", answer.status, answer.headers, (413,))

    async def abandoned(self, _connection: Connection) -> None:
        """Sent whole or in part, and gone before the answer."""
        data = request("/v1/classify", self.random.choice(self.pictures))
        cut = self.random.choice([len(data), len(data) // 2, 20])
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data[:cut])
        await asyncio.sleep(self.random.random() / 20)
        writer.transport.abort()
        self.statuses["abandoned"] += 1

    async def slow(self, _connection: Connection) -> None:
        """Byte by byte until the server has had enough."""
        data = request("/v1/classify", self.random.choice(self.pictures))
        start = self.random.choice([10, data.index(b"\r\n\r\n") + 100])
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data[:start])
        closed = asyncio.ensure_future(reader.read())
        for byte in data[start:]:
            done, _ = await asyncio.wait([closed], timeout=0.3)
            if done or time.monotonic() > self.ends:
                break
            writer.write(bytes([byte]))
        writer.transport.abort()
        closed.cancel()
        await asyncio.gather(closed, return_exceptions=True)
        self.statuses["slow"] += 1

    async def one(self, work: Callable[[Connection], Awaitable[None]], pause: float) -> None:
        connection = Connection(self.port)
        while time.monotonic() < self.ends:
            try:
                await work(connection)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.wrong.append(f"{work.__name__}: {type(error).__name__} for an answer")
                connection.close()
            await asyncio.sleep(pause * self.random.random())
        connection.close()

    async def run(self, seconds: float, watch: Callable[[], Awaitable[None]]) -> None:
        self.ends = time.monotonic() + seconds
        workers = [
            *[self.one(self.good_logits, 0.1) for _ in range(6)],
            *[self.one(self.good_classes, 0.1) for _ in range(6)],
            *[self.one(self.good_others, 0.3) for _ in range(2)],
            *[self.one(self.bad, 0.2) for _ in range(4)],
            self.one(self.mislabelled, 0.5),
            self.one(self.oversized, 2.0),
            *[self.one(self.abandoned, 0.2) for _ in range(2)],
            *[self.one(self.slow, 0.1) for _ in range(8)],
        ]
        await asyncio.gather(*workers, watch())


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith((f"{name} ", name + "{")))


def soak(folder: Path, pictures: list[bytes], logits: np.ndarray, seconds: float) -> dict:
    port = free_port()
    options = ("--header-seconds", "3", "--stall-seconds", "3", "--body-seconds", "6")
    command = ours(
        folder / "convnext.safetensors", port, *options, "--max-body-bytes", str(4 * BASE)
    )
    memory: list[float] = []
    with server(command, port, "/readyz") as process:
        soaking = Soak(port, pictures, logits, seed=1)

        async def watch() -> None:
            while time.monotonic() < soaking.ends:
                memory.append(round(mib("VmRSS", process.pid), 1))
                print(
                    f"{len(memory):4}  {memory[-1]:7.1f} MiB  {sum(soaking.statuses.values())} "
                    f"asked, {len(soaking.wrong)} wrong",
                    flush=True,
                )
                await asyncio.sleep(min(5.0, seconds / 20))

        asyncio.run(soaking.run(seconds, watch))
        time.sleep(1.5)
        held = {
            name: metric(port, f"convnext_{name}")
            for name in ("queue_pictures", "body_bytes_in_flight")
        }
    fifth = len(memory) // 5
    start = np.median(memory[fifth : 2 * fifth])
    end = np.median(memory[-fifth:])
    growth = float(end / start - 1) if len(memory) >= 10 else float("inf")
    problems = sorted(set(soaking.wrong))[:20]
    if not growth <= GROWTH:
        problems.append(f"memory grew by {growth:.1%}")
    if any(held.values()):
        problems.append(f"still held: {held}")
    if process.returncode != 0:
        problems.append(f"the server ended with {process.returncode}")
    return {
        "seconds": seconds,
        "statuses": dict(sorted(soaking.statuses.items())),
        "wrong": len(soaking.wrong),
        "problems": problems,
        "largest_difference_of_a_logit": soaking.worst,
        "memory_mib": memory,
        "memory_growth": round(growth, 4),
    }


def overload(folder: Path, pictures: list[bytes], seconds: float) -> dict:  # noqa: C901
    """Arrivals at five times the capacity, whether or not anything is answered."""
    port = free_port()
    command = ours(folder / "convnext.safetensors", port, "--deadline", str(DEADLINE))
    requests = [request("/v1/classify", picture) for picture in pictures]
    with server(command, port, "/readyz"):
        asyncio.run(load(port, requests, 16, 3))
        cpu = time.process_time()
        answers, took = asyncio.run(load(port, requests, 16, seconds))
        client = (time.process_time() - cpu) / took
        capacity = sum(answer.status == 200 for answer in answers) / took
        rate = OVERLOAD * capacity
        free = [Connection(port) for _ in range(400)]
        done: list[tuple[int, float]] = []
        missed = 0

        async def one(number: int, connection: Connection) -> None:
            begun = time.perf_counter()
            try:
                data = requests[number % len(requests)]
                try:
                    answer = await connection.ask(data)
                except (ConnectionError, asyncio.IncompleteReadError):
                    # It lay idle until the server closed it: every client asks again then.
                    answer = await connection.ask(data)
                if answer.status == 503 and "retry-after" not in answer.headers:
                    raise SystemExit("503 without Retry-After")
                done.append((answer.status, time.perf_counter() - begun))
            except (ConnectionError, asyncio.IncompleteReadError):
                done.append((0, time.perf_counter() - begun))
            free.append(connection)

        async def arrive() -> None:
            nonlocal missed
            tasks, begun, number = set(), time.perf_counter(), 0
            while (now := time.perf_counter() - begun) < seconds:
                while number < now * rate:
                    number += 1
                    if not free:  # this client's own limit; said in the record
                        missed += 1
                        continue
                    task = asyncio.create_task(one(number, free.pop()))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                await asyncio.sleep(0.002)
            await asyncio.gather(*tasks)

        begun, cpu = time.perf_counter(), time.process_time()
        asyncio.run(arrive())
        took = time.perf_counter() - begun
        busier = (time.process_time() - cpu) / took
    accepted = [seconds for status, seconds in done if status == 200]
    p99 = percentile(accepted, 99)
    goodput = len(accepted) / took
    statuses = Counter(status for status, _ in done)
    problems = []
    if p99 > DEADLINE + SLACK:
        problems.append(f"p99 of accepted requests is {p99:.2f} s")
    if goodput < 0.9 * capacity:
        problems.append(f"goodput is {goodput / capacity:.0%} of the capacity")
    if set(statuses) - {200, 503}:
        problems.append(f"statuses {dict(statuses)}")
    return {
        "capacity_per_second": round(capacity, 1),
        "offered_per_second": round((len(done) + missed) / took, 1),
        "not_sent_for_want_of_connections": missed,
        "goodput_per_second": round(goodput, 1),
        "goodput_of_capacity": round(goodput / capacity, 3),
        "processors_of_the_client_at_capacity": round(client, 2),
        "processors_of_the_client_overloading": round(busier, 2),
        "p50_of_accepted_ms": round(1000 * percentile(accepted, 50), 1),
        "p99_of_accepted_ms": round(1000 * p99, 1),
        "deadline_ms": 1000 * DEADLINE,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "problems": problems,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", choices=("soak", "overload"))
    parser.add_argument("--no-record", action="store_true")
    args = parser.parse_args()
    record: dict = {"model": MODEL}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(MODEL, folder)
        (folder / "pictures").mkdir()
        write_photographs(folder / "pictures", PICTURES)
        files = sorted((folder / "pictures").iterdir())
        pictures = [path.read_bytes() for path in files]
        if args.only != "overload":
            classifier = Classifier(folder / "convnext.safetensors")
            answers = classifier.run(files, ("logits",), batch_size=1)
            logits = np.stack([answer.outputs["logits"] for answer in answers])
            record["soak"] = where() | soak(folder, pictures, logits, 60 * args.minutes)
        if args.only != "soak":
            record["overload"] = where() | overload(folder, pictures, min(20.0, 20 * args.minutes))
    if not args.no_record:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**kept, **record}, indent=1) + "\n")
    for name in ("soak", "overload"):
        shown = {k: v for k, v in record.get(name, {}).items() if k != "memory_mib"}
        print(name, json.dumps(shown, indent=1))
    return int(any(record.get(name, {}).get("problems") for name in ("soak", "overload")))


if __name__ == "__main__":
    raise SystemExit(main())
