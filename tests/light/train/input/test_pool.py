"""Worker processes: how they end, and that none is left behind."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from convnext.data.examples import open_examples
from convnext.errors import ArgumentError, ImageError, TrainingError
from convnext.images.recipe import Preprocess
from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.augment.transforms import Evaluation
from convnext.train.input.loader import Loader
from convnext.train.input.order import Order

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

DEADLINE = 30  # seconds, enough for a busy machine


@pytest.fixture
def loader(examples):
    """Makes loaders of cats and dogs."""
    loaders = []

    def make(transform, workers=2, **options):
        order = Order(examples.labels, seed=0)
        mixer = Mixer(Mixing(), 2)
        loaders.append(
            Loader(
                examples, transform, mixer, order, batch_size=4, seed=0, workers=workers, **options
            )
        )
        return loaders[-1]

    yield make
    for made in loaders:
        made.close()


def _gone(pids):
    """Whether all processes end within a while."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if not any(_runs(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _runs(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def _pids(loader):
    return [worker.process.pid for worker in loader._pool._workers]


def test_closing_ends_the_workers_at_once(loader, augmentation):
    made = loader(augmentation)
    batches = made.batches(0, 100)
    next(batches)
    pids = _pids(made)
    assert all(map(_runs, pids))
    made.close()
    made.close()
    assert not any(map(_runs, pids))
    with pytest.raises(ArgumentError, match="ended"):
        next(batches)
    with pytest.raises(ArgumentError, match="closed"):
        next(made.batches(0, 1))


def test_a_killed_worker_is_named(loader, augmentation):
    made = loader(augmentation)
    batches = made.batches(0, 10_000)
    next(batches)
    first, second = _pids(made)
    os.kill(second, signal.SIGKILL)
    with pytest.raises(TrainingError, match=rf"Worker 1 \(process {second}\).*SIGKILL.*memory"):
        list(batches)
    assert _gone([first, second])


def test_an_error_in_a_worker_comes_with_its_trace(loader, augmentation):
    augmentation.settings = None
    with pytest.raises(TrainingError, match=r"(?s)Worker \d failed.*AttributeError: 'NoneType'"):
        next(loader(augmentation).batches(0, 1))


def test_an_error_on_purpose_comes_as_it_is(folder, augmentation):
    root = folder({"cat": 3})
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    examples = open_examples(root)
    order = Order(examples.labels, seed=0)
    with Loader(
        examples, augmentation, Mixer(Mixing(), 1), order, batch_size=4, seed=0, workers=1
    ) as made:
        with pytest.raises(ImageError, match="more than half"):
            next(made.batches(0, 1))
        assert _gone(_pids(made))


def test_a_transform_that_cannot_be_pickled_is_refused_at_once(loader):
    class Local(Evaluation):
        pass

    transform = Local(Preprocess(size=4))
    with pytest.raises(ArgumentError, match=r"cannot be sent to workers.*workers=0"):
        loader(transform)
    assert len(list(loader(transform, workers=0).batches(0, 2))) == 2


def test_a_transform_that_cannot_be_unpickled_ends_the_worker_with_an_error(
    loader, monkeypatch, capfd
):
    module = types.ModuleType("no_such_module")
    module.Transform = type("Transform", (), {"size": 4, "__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(TrainingError, match="ended with code 1"):
        next(loader(module.Transform()).batches(0, 1))
    assert "No module named 'no_such_module'" in capfd.readouterr().err


SCRIPT = """
import sys
import numpy as np
from convnext.images.recipe import Preprocess
from convnext.train.augment.transforms import Augment, Augmentation
from convnext.images.recipe import Preprocess
from convnext.train.augment.transforms import Evaluation
from convnext.data.examples import open_examples
from convnext.train.input.loader import Loader
from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.input.order import Order

examples = open_examples(sys.argv[1])
loader = Loader(
    examples, Augmentation(Augment(), Preprocess(size=8)), Mixer(Mixing(), 2),
    Order(examples.labels, seed=0), batch_size=4, seed=0, workers=2,
)
batches = loader.batches(0, 10**9)
next(batches)
try:
    print(*[worker.process.pid for worker in loader._pool._workers], flush=True)
    for batch in batches:
        pass
except KeyboardInterrupt:
    loader.close()
    print("closed", flush=True)
"""


@pytest.fixture
def parent(folder):
    """A process that trains without end, in its own process group, and its workers' ids."""
    root = folder({"cat": 4, "dog": 4})
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2, process.stderr.read()
    yield process, pids
    process.kill()
    process.communicate()


def test_workers_do_not_outlive_a_killed_parent(parent):
    process, pids = parent
    process.kill()
    assert _gone(pids)


def test_no_shared_memory_has_a_name_that_could_be_left_behind(parent):
    _, pids = parent
    for pid in pids:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        shared = [line for line in lines if " rw-s " in line]
        assert shared
        assert all("memfd:convnext (deleted)" in line for line in shared)


def test_ctrl_c_reaches_the_parent_alone(parent):
    process, pids = parent
    assert process.pid not in [
        os.getpgid(pid) for pid in pids
    ]  # those that a terminal would signal
    for pid in pids:  # as if sent to all of them
        os.kill(pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE)
    assert output == "closed\n"
    assert not errors
    assert _gone(pids)
