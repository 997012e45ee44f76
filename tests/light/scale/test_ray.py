"""Real workers on Ray with a real engine: rows equal those of one process, also after kills."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from convnext.cli.main import main
from convnext.errors import ConvNeXtError
from convnext.evaluate.report import read_report
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.processors import available_processors
from convnext.scale import Room, predict_dataset
from convnext.scale.cluster import Cluster
from convnext.scale.run_options import RunOptions

psutil = pytest.importorskip("psutil")
ray = pytest.importorskip("ray")
pytest.importorskip("openvino")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.skipif(available_processors() < 2, reason="two workers need two processors"),
    pytest.mark.usefixtures("cluster", "here"),
    # Ray does not wait for its own processes if they are slow to start or to end.
    pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TWO = Room(workers=2)
SECONDS = 90


@pytest.fixture(scope="module")
def cluster():
    """Ray, started as a run does, once for all tests."""
    connection = Cluster(RunOptions("embed", "", Preprocess(), Labels(()), 8, "/"), Room())
    connection._connect()
    yield
    connection.__exit__()


@pytest.fixture
def predict(named_weights):
    def predict(sources, out, **options):
        settings = {"engine": "openvino", "precision": "float32", "vectors": True, "top": 3}
        return predict_dataset(sources, named_weights, out, **{**settings, **options})

    return predict


def zip_of(path, pictures, count):
    """A number of photographs, and a file that is no picture."""
    with zipfile.ZipFile(path, "w") as target:
        for number in range(count):
            target.write(pictures[number % len(pictures)], f"{number:04}.jpg")
        target.writestr("no.jpg", b"no picture")
    return path


@pytest.fixture(scope="module")
def slow(tmp_path_factory, make):
    """100 slow pictures, of 1000 pixels."""
    folder = tmp_path_factory.mktemp("slow")
    kinds = [make.encoded(25 * shade, (1000, 1000), "JPEG") for shade in range(10)]
    for number in range(100):
        (folder / f"{number:03}.jpg").write_bytes(kinds[number % 10])
    return folder


def workers_of(process):
    """The worker processes."""
    found = []
    for child in process.children(recursive=True):
        try:
            if child.cmdline()[:1] == ["ray::_Actor.compute"]:
                found.append(child)
        except psutil.Error:
            continue
    return found


def wait_for(condition):
    until = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.005)
    return found


def parts(folder):
    return sorted(Path(folder).glob("part-*.parquet"))


def test_two_workers_write_what_one_process_writes(here, predict, class_folders, files):
    pictures = sorted(class_folders.rglob("*.jpg"))
    source = zip_of(here / "x.zip", pictures, 300)
    alone = predict("x.zip", "alone", shard_size=64)
    together = predict("x.zip", "together", shard_size=64, runner="ray", room=TWO)
    assert (alone.pictures, alone.bad) == (together.pictures, together.bad) == (301, 1)
    assert together.listed[0][0] == "x.zip/no.jpg"
    assert files("alone") == files("together")
    assert len(files("alone")) == 5 + 2
    assert source.exists()


@pytest.mark.slow
def test_a_worker_that_is_killed(slow, predict, files):
    predict(slow, "alone", shard_size=5)
    killed = []

    def kill():
        wait_for(lambda: parts("together"))
        [victim, *_] = wait_for(lambda: workers_of(psutil.Process()))
        victim.send_signal(signal.SIGKILL)
        killed.append(len(parts("together")))

    thread = threading.Thread(target=kill)
    thread.start()
    done = predict(slow, "together", shard_size=5, runner="ray", room=TWO)
    thread.join()
    assert 1 <= killed[0] < 20, "it was in the middle"
    assert (done.pictures, done.bad) == (100, 0)
    assert files("together") == files("alone"), "nothing lost, nothing twice, no draft"


@pytest.mark.slow
def test_a_driver_that_is_killed(slow, predict, named_weights, files):
    command = [sys.executable, "-m", "convnext", "predict", str(slow), "--model"]
    command += [str(named_weights), "--out", "together/", "--shard-size", "5", "--top", "3"]
    command += ["--engine", "openvino", "--precision", "float32", "--vectors"]
    command += ["--engine-runner", "ray", "--num-workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as driver:
        wait_for(lambda: parts("together") or driver.poll() is not None)
        assert driver.poll() is None, driver.stderr.read().decode()
        children = psutil.Process(driver.pid).children(recursive=True)
        workers = workers_of(psutil.Process(driver.pid))
        driver.send_signal(signal.SIGKILL)
    there = [path.name for path in parts("together")]
    assert 1 <= len(there) < 20, "it was in the middle"
    before = {name: Path("together", name).stat().st_mtime_ns for name in there}
    _, alive = psutil.wait_procs(workers, timeout=SECONDS)
    assert not alive, "workers end with their driver"
    for child in children:  # Ray takes a minute to notice the remaining processes
        with contextlib.suppress(psutil.Error):
            child.kill()
    done = predict(slow, "together", shard_size=5, runner="ray", room=TWO, resume=True)
    assert done.pictures == 100
    assert 0 < done.computed < 100
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in parts("together")}.items()
    predict(slow, "alone", shard_size=5)
    assert files("together") == files("alone")


@pytest.mark.slow
def test_errors_come_through(here, slow, predict):
    (here / "blocked/part-00001-of-00020.parquet").mkdir(parents=True)
    with pytest.raises(ConvNeXtError, match=r"part-00001-of-00020\.parquet cannot be written"):
        predict(slow, "blocked", shard_size=5, runner="ray", room=TWO)


@pytest.mark.slow
def test_an_evaluation_by_workers(here, make, named_weights, capsys):
    for number in range(60):
        path = here / f"data/shade {number // 6}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make.encoded(4 * number))
    (here / "data/shade 3/18.png").write_bytes(b"no picture")
    command = ["evaluate", "--model", str(named_weights), "--data", "data", "--engine", "openvino"]
    assert main([*command, "--out", "alone"]) == 1
    workers = ["--engine-runner", "ray", "--num-workers", "2", "--shard-size", "32"]
    assert main([*command, "--out", "together", *workers]) == 1
    assert "1 pictures could not be read" in capsys.readouterr().out
    alone, together = (read_report(here / out / "report.json") for out in ("alone", "together"))
    for report in (alone, together):
        del report["session"]
        report["results"]["log_loss"] = pytest.approx(report["results"]["log_loss"], abs=1e-9)
    assert together == alone
    assert len(parts("together/judgements")) == 2
