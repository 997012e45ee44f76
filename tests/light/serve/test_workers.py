"""The supervisor of several workers, with fake processes and a fake clock."""

import logging

import pytest

from convnext.errors import ConvNeXtError
from convnext.serve import workers
from convnext.serve.settings import ModelSpec, Settings

SETTINGS = Settings((ModelSpec("m", "m"),), workers=2)


class Process:
    """A fake process that lives until its exit code is set."""

    pid = None

    def __init__(self):
        self.exitcode = None

    def is_alive(self):
        return self.exitcode is None

    def join(self, _seconds):
        self.exitcode = 0


class World:
    """A supervisor with fake processes and clock; `plan` maps a time to an action."""

    def __init__(self, monkeypatch, seconds, plan):
        self.now, self.seconds, self.plan = 0.0, seconds, dict(plan)
        self.started = []
        self.supervisor = workers._Supervisor(SETTINGS, self, None)
        self.supervisor._start = self._start
        monkeypatch.setattr(workers.time, "sleep", self._sleep)
        monkeypatch.setattr(workers.time, "monotonic", lambda: self.now)

    def _start(self):
        process = Process()
        self.started.append((process, self.now))
        return process

    def _sleep(self, seconds):
        assert seconds < 1  # else signals and other workers would wait
        self.now += seconds
        for when in [when for when in self.plan if when <= self.now]:
            self.plan.pop(when)(self)
        if self.now > self.seconds:
            self.supervisor._stopping = True

    def close(self):
        """Stand in for a socket."""

    def die(self, number, code):
        self.started[number][0].exitcode = code

    def run(self):
        self.supervisor.run()
        return [round(when) for _, when in self.started]


def dies(number, code=-9):
    return lambda world: world.die(number, code)


def test_a_worker_that_dies_is_started_anew_and_sooner_if_it_lived_long(monkeypatch):
    world = World(monkeypatch, 100, {40: dies(1), 43: dies(2), 50: dies(3)})
    assert world.run() == [0, 0, 40, 44, 52]


def test_the_server_ends_if_its_first_workers_load_no_model(monkeypatch):
    world = World(monkeypatch, 100, {5: dies(0, workers.FAILED)})
    with pytest.raises(ConvNeXtError, match="No worker could load a model"):
        world.run()
    assert len(world.started) == 2


def test_a_later_worker_that_can_load_no_model_leaves_the_others_at_work(monkeypatch):
    plan = {40: dies(1), **{41 + n * 35: dies(2 + n, workers.FAILED) for n in range(3)}}
    world = World(monkeypatch, 200, plan)
    assert len(world.run()) == 6
    assert world.started[0][0].exitcode == 0  # alive until the end


def test_a_worker_is_started_while_another_pauses(monkeypatch, caplog):
    plan = {}
    for number, when in enumerate([1, 3, 6, 11, 20, 37]):  # ever longer pauses for the first
        plan[when] = dies(0 if number == 0 else number + 1)
    plan[38] = dies(1)
    with caplog.at_level(logging.ERROR, "convnext.serve"):
        world = World(monkeypatch, 45, plan)
        assert world.run()[-1] == 38
