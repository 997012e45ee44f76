"""Several real processes train like a single one, also when killed or interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentError, TrainingError
from convnext.train import train
from convnext.train.fcmae.pretraining import pretrain
from convnext.train.recipe import load_recipe
from convnext.train.run.learner import classifier
from convnext.train.run.run_states import RunStates
from convnext.train.team.base import Hosts
from onnx_files import write_means

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.skipif(
    BACKEND == "tensorflow", reason="on TensorFlow a run has one device"
)
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's team")
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="of JAX's team")

# 96 pictures, 6 steps an epoch, 20 in all. Every pair of pictures is mixed, gradients are
# accumulated over two parts and clipped, and weights averaged. No stochastic depth, which differs
# between hosts.
SIZE = ["model.variant=test_v2", "run.precision=float32", "run.batch_size=16", "run.accumulate=2"]
CHANGES = [
    *SIZE,
    *("run.epochs=3.34", "run.log_every=1", "run.validate_every=2", "run.checkpoint_minutes=0"),
    *("optimizer.warmup_epochs=0", "optimizer.learning_rate=0.02", "optimizer.clip_norm=1"),
    *("optimizer.ema=0.5", "model.drop_path=0"),
    *("mixing.mixup=0.8", "mixing.cutmix=1", "mixing.probability=1"),
]
STEPS = 20
TOLERANCE = 1e-4  # of losses: the order of summation differs, over 20 steps
LAST_WORD = 60  # seconds after which no host may still wait for a lost one


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of noise; 21 validation pictures, which no batch size divides."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for part, counts in (("train", (48, 48)), ("val", (10, 11))):
        for label, channel, count in zip(("blue", "red"), (2, 0), counts, strict=True):
            place = folder / part / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 90
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def alone(pictures, tmp_path_factory):
    """The run of a single process, the reference of all others."""
    return _train(pictures, tmp_path_factory.mktemp("alone") / "run").folder


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Folder of JAX's compilation cache, so that resumed processes need not compile."""
    return tmp_path_factory.mktemp("compiled")


def _train(pictures, out, **options):
    options = {"workers": 0, "progress": False, "say": lambda _: None} | options
    return train("cifar10", pictures, out, changes=CHANGES, **options)


def _command(pictures, out, *options, changes=CHANGES, command=("train", "cifar10")):
    sets = [part for change in changes for part in ("--set", change)]
    given = ["--data", str(pictures), "--out", str(out), "--workers", "0", *sets, *options]
    return ["-m", "convnext", *command, *given]


class Processes:
    """Several processes, with their output and exit codes."""

    def __init__(self, folder, compiled, *commands):
        self.logs = [folder / f"host-{rank}.log" for rank in range(len(commands))]
        environment = {
            **os.environ,
            "KERAS_BACKEND": BACKEND,
            "OMP_NUM_THREADS": "1",
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        self.all = []
        for command, log in zip(commands, self.logs, strict=True):
            with log.open("wb") as file:
                self.all.append(
                    subprocess.Popen(
                        [sys.executable, *command],
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env=environment,
                    )
                )

    def __enter__(self):
        return self

    def __exit__(self, *_reason):
        for process in self.all:
            process.kill()
            process.wait()

    def __getitem__(self, rank):
        return self.all[rank]

    def said(self, rank=0):
        return self.logs[rank].read_text(errors="replace")

    def codes(self, within=180):
        end = time.monotonic() + within
        return [process.wait(max(0.1, end - time.monotonic())) for process in self.all]

    def wait_for_step(self, folder, after):
        """Wait until there is a run state of a later step."""
        while not any(_step(place) > after for place in folder.glob("checkpoints/step-*[0-9]")):
            assert all(process.poll() is None for process in self.all), self.said()
            time.sleep(0.01)


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _step(place):
    return int(place.name.removeprefix("step-"))


@pytest.fixture
def start(tmp_path, pictures, compiled):
    """Starts two hosts on the run in a folder."""

    def begin(out, *options, **settings):
        port = _free_port()
        logs = tmp_path / f"logs-{port}"
        logs.mkdir()
        return Processes(
            logs,
            compiled,
            *(
                _command(
                    pictures, out, *options, "--hosts", f"127.0.0.1:{port},{rank},2", **settings
                )
                for rank in range(2)
            ),
        )

    return begin


def _records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = ("pictures_per_second", "waiting", "teacher")
    return [{k: v for k, v in json.loads(x).items() if k not in timed} for x in lines]


def _assert_same(folder, reference, steps=STEPS):
    ours = [record for record in _records(folder) if record["step"] <= steps]
    theirs = [record for record in _records(reference) if record["step"] <= steps]
    assert [r["step"] for r in ours if r["kind"] == "train"] == list(range(1, steps + 1))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=TOLERANCE), f"step {one['step']}"


@pytest.mark.slow
def test_two_hosts_learn_what_one_does(start, tmp_path, pictures, compiled, alone):
    out = tmp_path / "run"
    if BACKEND == "torch":
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launcher, *_command(pictures, out)]
        processes = Processes(tmp_path, compiled, command)
    else:
        processes = start(out)
    with processes:
        codes = processes.codes()
        assert set(codes) == {0}, processes.said()
        said = processes.said()
    assert ", 2 hosts; 96 pictures" in said
    assert said.count("The model is in") == 1
    _assert_same(out, alone)
    [*_, last] = [r for r in _records(out) if r["kind"] == "validation"]
    assert last["accuracy"] * 21 == pytest.approx(round(last["accuracy"] * 21))
    one, other = (RunStates(place / "checkpoints").latest() for place in (out, alone))
    assert one.arrays.keys() == other.arrays.keys()
    assert json.loads((out / "run.json").read_text())["team"] == "2 hosts"


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Options of a run with a teacher, and their changes."""
    pytest.importorskip("onnx")
    teacher = write_means(tmp_path_factory.mktemp("t") / "teacher.onnx", shape=("n", 3, 32, 32))
    stated = ["distill.mean=[0,0,0]", "distill.std=[1,1,1]", "distill.classes=same"]
    return teacher, [*CHANGES, *stated, "distill.precision=float32", "run.epochs=1"]


@pytest.mark.slow
def test_each_host_asks_the_teacher_about_its_own_pictures(start, tmp_path, pictures, taught):
    teacher, changes = taught
    settings = {"workers": 0, "progress": False, "say": lambda _: None, "teacher": teacher}
    one = train("cifar10", pictures, tmp_path / "one", changes=changes, **settings)
    with start(tmp_path / "two", "--teacher", str(teacher), changes=changes) as hosts:
        assert hosts.codes() == [0, 0], hosts.said()
    _assert_same(tmp_path / "two", one.folder, one.steps)


@pytest.mark.slow
def test_a_host_that_is_killed_ends_the_others_and_any_number_goes_on(
    start, tmp_path, pictures, alone
):
    """On JAX the first host is killed, on which JAX itself depends."""
    victim = 0 if BACKEND == "jax" else 1
    with start(tmp_path / "run") as hosts:
        hosts.wait_for_step(tmp_path / "run", 0)
        hosts[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        code = hosts[1 - victim].wait(LAST_WORD)
        assert time.monotonic() - killed < LAST_WORD
        time.sleep(0.5)  # on JAX, the watching process may print last
        said = hosts.said(1 - victim)
    assert code != 0
    assert "start all hosts again with --resume" in said.replace("\n", " ")
    assert RunStates(tmp_path / "run" / "checkpoints").latest().step < STEPS
    assert not (tmp_path / "run" / "model").exists()
    shutil.copytree(tmp_path / "run", tmp_path / "one")
    with start(tmp_path / "run", "--resume") as hosts:
        assert hosts.codes() == [0, 0], hosts.said()
    _assert_same(tmp_path / "run", alone)
    assert _train(pictures, tmp_path / "one", resume=True).finished
    _assert_same(tmp_path / "one", alone)


@on_torch
@pytest.mark.torch_alone
@pytest.mark.slow
def test_two_hosts_resume_a_run_of_one_and_stop_together(start, tmp_path, pictures, alone):
    out = tmp_path / "run"

    def interrupt(line):
        if line.startswith("epoch 2:"):
            os.kill(os.getpid(), signal.SIGINT)

    assert not _train(pictures, out, say=interrupt).finished
    with start(out, "--resume") as hosts:
        hosts.wait_for_step(out, 12)
        hosts[1].send_signal(signal.SIGTERM)  # signalling the second one stops both
        assert hosts.codes() == [130, 130], hosts.said()
        assert "Resuming after step 12 of 20." in hosts.said()
    last = RunStates(out / "checkpoints").latest().step
    assert 12 < last < STEPS
    assert f"Interrupted after step {last}" in hosts.said()
    _assert_same(out, alone, last)


@on_torch
@pytest.mark.torch_alone
@pytest.mark.slow
def test_two_hosts_pretrain_as_one_does(start, tmp_path, pictures):
    changes = [
        *SIZE,
        *("model.strides=[2,2,2,1]", "masking.decoder_width=16", "data.hold_out=0.22"),
        *("run.epochs=2", "run.log_every=1", "optimizer.warmup_epochs=0"),
    ]
    settings = {"workers": 0, "progress": False, "say": lambda _: None}
    one = pretrain("fcmae_cifar10", pictures, tmp_path / "one", changes=changes, **settings)
    command = ("pretrain", "fcmae_cifar10")
    with start(tmp_path / "two", changes=changes, command=command) as hosts:
        assert hosts.codes() == [0, 0], hosts.said()
    steps = _records(tmp_path / "two")[-1]["step"]
    _assert_same(tmp_path / "two", one.folder, steps)
    drawn = [
        sorted(p.name for p in (tmp_path / n / "reconstructions").iterdir()) for n in ("one", "two")
    ]
    assert drawn[0] == drawn[1]


TWO_DEVICES = """
import json, sys
from convnext.train import train
pictures, out, teacher, *changes = sys.argv[1:]
for devices in (1, 2):
    train("cifar10", pictures, f"{out}/{devices}", changes=changes, devices=devices, workers=0,
          teacher=teacher or None, progress=False)
"""


@pytest.mark.slow
@on_jax
def test_training_on_two_devices_equals_training_on_one(pictures, tmp_path, compiled, monkeypatch):
    """With stochastic depth, whose choices belong to rows of the whole batch on JAX."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    monkeypatch.setenv("XLA_FLAGS", flags)
    changes = [*CHANGES, "model.drop_path=0.3"]
    command = ["-c", TWO_DEVICES, str(pictures), str(tmp_path), "", *changes]
    with Processes(tmp_path, compiled, command) as processes:
        assert processes.codes() == [0], processes.said()
    assert ", 2 devices; 96 pictures" in processes.said()
    _assert_same(tmp_path / "2", tmp_path / "1")


@pytest.mark.slow
@on_jax
def test_two_devices_learn_from_a_teacher_what_one_does(
    pictures, tmp_path, compiled, monkeypatch, taught
):
    """By embeddings and labels, so that the model has two outputs."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    monkeypatch.setenv("XLA_FLAGS", flags)
    teacher, changes = taught
    changes = [change for change in changes if not change.startswith("distill.classes")]
    changes = [*changes, "distill.loss=features", "distill.hard=0.5"]
    command = ["-c", TWO_DEVICES, str(pictures), str(tmp_path), str(teacher), *changes]
    with Processes(tmp_path, compiled, command) as processes:
        assert processes.codes() == [0], processes.said()
    _assert_same(tmp_path / "2", tmp_path / "1", 6)


UNEQUAL = """
import os, sys
place, rank = sys.argv[1:]
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={int(rank) + 1}"
from convnext.train.team.forming import form_team
with form_team("jax", 1, f"{place},{rank},2"):
    print("they met")
"""


@on_jax
def test_hosts_with_unequal_devices_end_with_advice(tmp_path, compiled):
    """Also with equal `--devices`: JAX exchanges through all devices that it sees."""
    place = f"127.0.0.1:{_free_port()}"
    commands = [["-c", UNEQUAL, place, str(rank)] for rank in range(2)]
    with Processes(tmp_path, compiled, *commands) as hosts:
        assert 0 not in hosts.codes(LAST_WORD)
    for rank in range(2):
        assert "these see 1, 2. Hide devices" in hosts.said(rank)


@on_torch
def test_processes_draw_numbers_of_their_own_and_keep_the_first_ones_seeds():
    from convnext.train.team.torch_processes import SPREAD, WORD, TorchTeam

    recipe = load_recipe("cifar10", [*CHANGES, "model.drop_path=0.3"])
    learners = [
        classifier(recipe, 2, TorchTeam(Hosts("nowhere", 1, rank, 3), {})) for rank in range(3)
    ]
    alone = classifier(recipe, 2)
    seeds = [name for name, v in alone._variables().items() if "seed" in v.name]
    assert seeds
    for rank, learner in enumerate(learners):
        fresh = learner.state()
        for name in seeds:
            seed, drawn = alone.state()[name].astype(np.int64) % WORD
            expected = [(seed + rank * SPREAD) % WORD, drawn]
            assert (fresh[name].astype(np.int64) % WORD).tolist() == expected
        learner.restore(alone.state())
        again = learner.state()
        assert all((again[name] == value).all() for name, value in fresh.items())


@on_torch
def test_gpus_that_are_not_there(monkeypatch):
    import torch

    from convnext.train.team.torch_processes import TorchTeam

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    team = TorchTeam(Hosts("nowhere", 1, 0, 4), {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"})
    with pytest.raises(ArgumentError, match=r"the machine 2 GPUs.*--nproc-per-node 2"), team:
        pass
    with pytest.raises(ArgumentError, match="as torchrun sets"):
        TorchTeam(Hosts("nowhere", 1, 0, 4), {"LOCAL_RANK": "first"})


@on_jax
def test_devices_and_hosts_that_are_not_there(pictures, tmp_path, monkeypatch):
    from convnext.train.team import jax_devices as team_jax

    with pytest.raises(
        ArgumentError, match=r"--devices 64 is more than this host's 1 devices.*XLA_FLAGS"
    ):
        _train(pictures, tmp_path / "run", devices=64)
    assert not (tmp_path / "run").exists()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=rf"Port {port} of this host"):
            _train(pictures, tmp_path / "run", hosts=f"127.0.0.1:{port},0,2")
    monkeypatch.setattr(team_jax, "JOINING", 0.5)
    with pytest.raises(TrainingError, match="first host does not answer"):
        _train(pictures, tmp_path / "run", hosts=f"127.0.0.1:{port},1,2")
    keras.ops.ones(()) + 1
    with pytest.raises(ArgumentError, match="or in a new process"):
        _train(pictures, tmp_path / "run", hosts=f"127.0.0.1:{port},0,2")
