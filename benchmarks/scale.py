"""Many workers against one process: the same rows, how fast, in how much memory, and when killed.

    python benchmarks/scale.py                     # all of it: an hour on two cores
    python benchmarks/scale.py --only speed        # turns of one process and two workers, compared
    python benchmarks/scale.py --only memory       # from 1,000 to 60,000 pictures
    python benchmarks/scale.py --only kills        # a worker and a driver are killed half way

Pictures are those of CIFAR-10, enlarged to `--size`; the model has random weights. Every run is a
process of its own, the contenders take turns, and what counts is the ratio in a round, its median
and 95 % interval.
Needs the real data folder (`--data`), `pip install 'convnext[ray]'`, and nothing else running.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import records
from memory import mib
from turns import add_limits, limits, ratio_of, times_of

from convnext.architecture import VARIANTS
from convnext.images.recipe import Preprocess
from convnext.scale import Room, predict_dataset
from convnext.weights.info import WeightsInfo
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results" / "scale.csv"
PICTURES = 20_000
LADDER = (1_000, 10_000, 60_000)
ARCHIVE = 10_000  # pictures
WORKER = "ray::_Hand"
KEY = ("task", "runner", "model", "size", "pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="speed,memory,kills")
    parser.add_argument("--model", default="convnextv2_atto")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures (speed)")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    add_limits(parser, 1800)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--dry", action="store_true", help="print, and store nothing")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(**json.loads(args.child))))
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in args.only.split(","):
            rows = {"speed": speed, "memory": memory, "kills": kills}[name](args, place)
            if rows and not args.dry:
                records.save(RESULTS, rows, KEY)


def speed(args: argparse.Namespace, place: Path) -> list[records.Row]:
    """Turns; the files of both are compared byte for byte."""
    source = archive(args.data, place, args.pictures)
    model = weights(place, args.model, args.size)
    found: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}

    def turn(runner: str) -> float:
        out = place / runner
        shutil.rmtree(out, ignore_errors=True)
        found[runner].append(run(source, model, out, runner, args.workers))
        print(f"{runner}: {found[runner][-1]}", flush=True)
        if runner == "ray":
            same(place / "local", out)
        return found[runner][-1]["seconds"]

    times = times_of({runner: partial(turn, runner) for runner in found}, limits(args))
    ratios = {runner: ratio_of(times["local"], own) for runner, own in times.items()}
    print(f"The rows are the same. Ray's speed over that of one process: {ratios['ray']}")
    return [
        row(args, "speed", runner, args.size, args.pictures, found[runner])
        | ratios[runner].columns("ratio")
        for runner in found
    ]


def memory(args: argparse.Namespace, place: Path) -> list[records.Row]:
    """The peak of the process, of Ray's driver, and of its largest worker."""
    model = weights(place, args.model, 32)
    rows = []
    for pictures in LADDER:
        source = archive(args.data, place, pictures)
        for runner in ("local", "ray"):
            out = place / f"memory-{runner}"
            shutil.rmtree(out, ignore_errors=True)
            found = run(source, model, out, runner, args.workers)
            print(f"{pictures:,} pictures, {runner}: {found}", flush=True)
            rows.append(row(args, "memory", runner, 32, pictures, [found]))
    return rows


def kills(args: argparse.Namespace, place: Path) -> list[records.Row]:
    """Nothing is lost and nothing done twice; there is nothing to store, it holds or it raises."""
    source = archive(args.data, place, args.pictures)
    model = weights(place, args.model, 32)
    whole, parts = place / "whole", place / "killed"
    run(source, model, whole, "local", args.workers)
    half = len(list(whole.glob("part-*"))) // 2
    for victim in ("worker", "driver"):
        shutil.rmtree(parts, ignore_errors=True)
        process = started(source, model, parts, "ray", args.workers)
        while len(list(parts.glob("part-*"))) < half:
            if process.poll() is not None:
                raise SystemExit(f"it ended before its {victim} was killed: {process.returncode}")
            time.sleep(0.01)
        if victim == "worker":
            os.kill(workers_below(process.pid)[0], signal.SIGKILL)
            finished(process)
        else:
            process.kill()
            process.wait()
            there = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")}
            finished(started(source, model, parts, "ray", args.workers, resume=True))
            for name, when in there.items():
                if (parts / name).stat().st_mtime_ns != when:
                    raise SystemExit(f"{name} was computed twice")
        same(whole, parts)
        print(f"A {victim} was killed after {half} shards: the same {args.pictures:,} rows.")
    return []


def archive(data: Path, place: Path, pictures: int) -> list[Path]:
    """So many pictures of CIFAR-10, in archives of the same size: each is a directory in memory."""
    starts = range(0, pictures, ARCHIVE)
    targets = {start: place / f"{pictures}-{start}.zip" for start in starts}
    with (
        zipfile.ZipFile(data / "cifar10" / "train.zip") as train,
        zipfile.ZipFile(data / "cifar10" / "test.zip") as test,
    ):
        members = [(source, name) for source in (train, test) for name in source.namelist()]
        for start, target in targets.items():
            if target.exists():
                continue
            with zipfile.ZipFile(target, "w") as copy:
                for source, name in members[start : min(start + ARCHIVE, pictures)]:
                    copy.writestr(name, source.read(name))
    return list(targets.values())


def weights(place: Path, name: str, size: int) -> Path:
    path = place / f"{name}-{size}.safetensors"
    if not path.exists():
        info = WeightsInfo(name=name, preprocess=Preprocess(size=size, crop_fraction=1.0))
        save_weights(random_weights(VARIANTS[name], 10), path, info=info)
    return path


def started(
    sources: list[Path], model: Path, out: Path, runner: str, workers: int, resume: bool = False
) -> subprocess.Popen[str]:
    given = {"sources": list(map(str, sources)), "model": str(model), "out": str(out)}
    told = json.dumps({**given, "runner": runner, "workers": workers, "resume": resume})
    command = [sys.executable, __file__, "--child", told]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, float]:
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run failed: {process.returncode}")
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def run(sources: list[Path], model: Path, out: Path, runner: str, workers: int) -> dict[str, float]:
    return finished(started(sources, model, out, runner, workers))


def child(
    sources: list[str], model: str, out: str, runner: str, workers: int, resume: bool
) -> dict[str, float]:
    watch = Watch()
    began = time.perf_counter()
    done = predict_dataset(
        sources,
        Path(model),
        out,
        vectors=True,
        runner=runner,  # type: ignore[arg-type]
        room=Room(workers=workers) if runner == "ray" else None,
        resume=resume,
    )
    if done.bad:
        raise SystemExit(f"{done.bad} pictures could not be read: {done.listed[:3]}")
    return {
        "pictures": done.pictures,
        "seconds": round(done.seconds, 2),
        "start_s": round(time.perf_counter() - began - done.seconds, 2),
        **watch.peaks(),
    }


class Watch:
    """The most memory that this process, and any one worker below it, ever held, in MiB."""

    def __init__(self) -> None:
        self._worker = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            self._worker = max(
                [self._worker, *(mib("VmHWM", each) for each in workers_below(os.getpid()))]
            )

    def peaks(self) -> dict[str, float]:
        self._ended.set()
        self._thread.join()
        return {"peak_mib": round(mib("VmHWM")), "worker_peak_mib": round(self._worker)}


def workers_below(process: int) -> list[int]:
    """Ray's workers that a process brought about."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                names[int(entry.name)] = (entry / "cmdline").read_text().partition("\0")[0]
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
    found = []
    for number, name in names.items():
        above = number
        while above in parents and above != process:
            above = parents[above]
        if above == process and name.startswith(WORKER):
            found.append(number)
    return found


def same(first: Path, second: Path) -> None:
    """Two folders hold the same files, byte for byte; else the program ends."""
    names = sorted({path.name for folder in (first, second) for path in folder.iterdir()})
    _, other, absent = filecmp.cmpfiles(first, second, names, shallow=False)
    if other or absent:
        raise SystemExit(f"{first} and {second} differ: {other[:5]} {absent[:5]}")


def row(
    args: argparse.Namespace,
    task: str,
    runner: str,
    size: int,
    pictures: int,
    found: list[dict[str, float]],
) -> records.Row:
    middle = {name: statistics.median(r[name] for r in found) for name in found[0]}
    return {
        "task": task,
        "runner": runner,
        "model": args.model,
        "size": size,
        "pictures": pictures,
        "workers": args.workers if runner == "ray" else 1,
        "pictures_per_s": round(pictures / middle["seconds"], 2),
        "start_s": middle["start_s"],
        "peak_mib": middle["peak_mib"],
        "worker_peak_mib": middle["worker_peak_mib"],
        "rounds": len(found),
        **records.where(),
    }


if __name__ == "__main__":
    main()
