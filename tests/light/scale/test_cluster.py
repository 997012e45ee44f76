"""Death and replacement of workers, on a fake of Ray. With Ray itself: `test_ray.py`."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from convnext.data.files import Folder
from convnext.errors import ArgumentError, ConvNeXtError
from convnext.images.labels import Labels
from convnext.images.recipe import Preprocess
from convnext.scale import cluster as module
from convnext.scale.cluster import TRIES, Cluster, Room
from convnext.scale.plan import Plan
from convnext.scale.run_options import RunOptions
from convnext.scale.worker import ShardDone

OPTIONS = RunOptions("predict", "a model", Preprocess(), Labels(("a",)), 8, "/")
FACTS = {"weights": "0", "engine": "openvino"}


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


def died(why):
    """A message like `ray.exceptions.ActorDiedError`'s: the actor first, the reason last."""
    return RayError(
        "The actor died unexpectedly before finishing this task.\n"
        "\tclass_name: _Hand\n"
        "\tactor_id: 4c4fe2e8c2a8bc0e2e58a8b501000000\n"
        "\tpid: 4711\n"
        "\tnamespace: 5e0c5d4f-4d8a-4c8a-8f6e-0d3f6a9d7c11\n"
        "\tip: 127.0.0.1\n"
        f"{why}."
    )


class Call:
    """A call to a worker, which is computed when its result is requested."""

    def __init__(self, actor, work):
        self.actor = actor
        self.work = work


class Ray:
    """Runs calls one by one, the oldest first.

    `deaths` is how often the worker of each shard dies, `starts` the results of new workers; at the
    shard `outage` the node fails, with all idle workers.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, deaths=None, starts=None, resources=None, fails=None, outage=None):
        self.deaths = dict(deaths or {})
        self.starts = list(starts or [])
        self.resources = resources or {"CPU": 8.0}
        self.fails = fails or {}
        self.outage = outage
        self.hired, self.killed, self.computed = 0, 0, []
        self.there, self.most = [], 0  # running workers, and their maximum
        self.options = None
        self.stuck = 0  # waits without a result

    def remote(self, **options):
        assert options == {"max_restarts": 0, "max_task_retries": 0}
        return lambda _: Actors(self)

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return self.resources

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": self.resources.get("CPU", 0)}}]

    def put(self, value):
        return value

    def wait(self, calls, timeout):
        assert timeout
        if self.stuck:
            self.stuck -= 1
            return [], calls
        return calls[:1], calls[1:]

    def get(self, call):
        call.actor.calls -= 1
        if not call.actor.alive:
            raise died("The actor is dead because its node has died")
        return call.work()

    def kill(self, actor):
        self.there.remove(actor)
        self.killed += 1

    def shutdown(self):
        pass


class Actors:
    """The class of actors that `ray.remote` returns."""

    def __init__(self, ray):
        self.ray = ray

    def options(self, **options):
        self.ray.options = options
        return self

    def remote(self, _):
        ray = self.ray
        ray.hired += 1
        actor = Actor(ray, ray.starts.pop(0) if ray.starts else FACTS)
        ray.there.append(actor)
        ray.most = max(ray.most, len(ray.there))
        return actor


class Actor:
    """An actor, which can die while it computes or is idle."""

    def __init__(self, ray, said):
        self.ray, self.said = ray, said
        self.alive, self.calls = True, 0
        self.facts = SimpleNamespace(remote=lambda: self.call(self.tell))
        self.compute = SimpleNamespace(remote=lambda _, shard: self.call(lambda: self.work(shard)))

    def call(self, work):
        self.calls += 1
        return Call(self, work)

    def tell(self):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    def work(self, shard):
        ray = self.ray
        if shard == ray.outage:
            ray.outage = None
            for actor in ray.there:
                actor.alive = actor.calls > 0
            raise died("The actor is dead because its node has died")
        if ray.deaths.get(shard, 0):
            ray.deaths[shard] -= 1
            raise died("The actor is dead because its worker process has died")
        if shard in ray.fails:
            return ray.fails[shard]
        ray.computed.append(shard)
        return ShardDone(shard, 10, 0, (), 0.1)


@pytest.fixture
def run(monkeypatch, tmp_path):
    def run(ray, room=None, shards=12):
        monkeypatch.setattr(module, "ray", lambda: ray)
        plan = Plan(Folder(str(tmp_path)), {}, shards, None, "")
        advanced = []
        with Cluster(OPTIONS, room or Room(workers=2)) as cluster:
            assert cluster.facts() == FACTS
            done = [each.shard for each in cluster.run(plan, range(shards), advanced.append)]
        assert sum(advanced) == 10 * len(done)
        assert ray.killed == ray.hired
        return done

    return run


def test_every_shard_once(run):
    ray = Ray()
    assert sorted(run(ray)) == list(range(12))
    assert (ray.hired, ray.options) == (2, {"num_cpus": 4, "num_gpus": 0})


def test_the_shard_of_a_dead_worker_is_tried_again_behind_the_others(run):
    ray = Ray(deaths={3: 1, 5: 2})
    done = run(ray)
    assert sorted(done) == sorted(ray.computed) == list(range(12))
    assert {3, 5} == set(done[-2:])
    assert (ray.hired, ray.most) == (5, 2), "who is given up takes no room"


def test_workers_that_died_while_they_were_idle_are_not_charged_to_a_shard(run):
    ray = Ray(outage=3)
    assert sorted(run(ray, Room(workers=4), shards=4)) == [0, 1, 2, 3]
    assert ray.hired == 5


def test_the_reason_of_a_workers_death_is_logged(run, caplog):
    run(Ray(deaths={3: 1}))
    [said] = [record.getMessage() for record in caplog.records]
    assert said.endswith("00012.parquet: The actor is dead because its worker process has died")


def test_a_shard_that_kills_its_workers_is_set_aside(run):
    ray = Ray(deaths={0: 99, 7: 99})
    with pytest.raises(ConvNeXtError, match=r"2 of 12 shards are missing.*part-00000-of.*00007"):
        run(ray)
    assert sorted(ray.computed) == [1, 2, 3, 4, 5, 6, *range(8, 12)]
    assert ray.deaths == {0: 99 - TRIES, 7: 99 - TRIES}


def test_errors_of_ours_end_the_run(run):
    ray = Ray(fails={4: module._Failed("The disk is full.")})
    with pytest.raises(ConvNeXtError, match="The disk is full"):
        run(ray)


def test_workers_that_are_not_alike_are_refused(run):
    ray = Ray(starts=[FACTS, {**FACTS, "engine": "onnxruntime"}])
    with pytest.raises(ConvNeXtError, match="engine: openvino on one, onnxruntime on another"):
        run(ray)


def test_workers_that_die_at_the_start(run):
    killed = died("it was killed, out of memory")
    ray = Ray(starts=[killed, FACTS, killed, FACTS])
    assert len(run(ray)) == 12
    assert ray.most == 2
    with pytest.raises(ConvNeXtError, match=r"3 workers died .*: it was .* memory\. Request fewer"):
        run(Ray(starts=[killed] * 9))


def test_a_model_that_cannot_be_opened(run):
    with pytest.raises(ConvNeXtError, match="no such file there"):
        run(Ray(starts=[module._Failed("no such file there")]))


def test_workers_that_do_not_start_are_an_error(run):
    ray = Ray()
    ray.stuck = 1
    with pytest.raises(ConvNeXtError, match=r"2 workers with 4 CPU each .* cluster has 8 CPU"):
        run(ray)


def test_shards_may_take_long_but_workers_must_come(run, monkeypatch):
    ray = Ray(deaths={3: 1})
    kept = Ray.wait

    def wait(self, calls, timeout):
        self.stuck = len(self.computed) == 2 and self.hired == 2 and not self.waited
        self.waited = self.waited or self.stuck
        return kept(self, calls, timeout)

    monkeypatch.setattr(Ray, "wait", wait)
    ray.waited = False
    assert len(run(ray)) == 12
    assert ray.waited
    ray = Ray(deaths={0: 1})

    def lost(self, calls, timeout):
        self.stuck = self.hired == 2
        return kept(self, calls, timeout)

    monkeypatch.setattr(Ray, "wait", lost)
    with pytest.raises(ConvNeXtError, match="No worker started"):
        run(ray, Room(workers=1))


@pytest.mark.parametrize(
    ("room", "resources", "expected"),
    [
        (Room(), {"CPU": 2.0}, (1, 2, 0)),
        (Room(), {"CPU": 16.0}, (4, 4, 0)),
        (Room(workers=2), {"CPU": 3.0}, (2, 1, 0)),
        (Room(gpus=1), {"CPU": 16.0, "GPU": 2.0}, (2, 8, 1)),
        (Room(gpus=0.5), {"CPU": 16.0, "GPU": 2.0}, (4, 4, 0.5)),
        (Room(processors=3), {"CPU": 16.0}, (5, 3, 0)),
        (Room("x:1", workers=6, processors=8), {"CPU": 16.0}, (6, 8, 0)),
    ],
)
def test_workers_processors_and_gpus_follow_the_resources(run, room, resources, expected):
    ray = Ray(resources=resources)
    run(ray, room)
    assert (ray.hired, ray.options["num_cpus"], ray.options["num_gpus"]) == expected


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (Room(workers=0), "workers and processors are 1 or more"),
        (Room(processors=0), "workers and processors are 1 or more"),
        (Room(workers=-2), "workers and processors are 1 or more"),
        (Room(gpus=-1), "gpus of a worker is 0 or more"),
        (Room(workers=9), "9 workers with 1 CPU each are requested, and this machine has 8 CPU"),
        (Room(workers=1, gpus=1), "8 CPU and 1 GPU each .* 8 CPU and 0 GPU"),
    ],
)
def test_resources_that_the_cluster_lacks_are_refused(run, room, words):
    with pytest.raises(ArgumentError, match=words):
        run(Ray(), room)


@pytest.mark.parametrize("address", ["nowhere", "host:port", "127.0.0.1:99999"])
def test_invalid_addresses_are_refused(address, monkeypatch):
    ray = Ray()
    ray.is_initialized = lambda: False
    monkeypatch.setattr(module, "ray", lambda: ray)
    with pytest.raises(ArgumentError, match="no address"), Cluster(OPTIONS, Room(address)):
        pass


def test_ray_does_not_start(monkeypatch):
    ray = Ray()
    ray.is_initialized = lambda: False
    monkeypatch.setattr(module, "ray", lambda: ray)

    def init(**_):
        raise Exception("The current node timed out")  # noqa: TRY002 (as Ray does)

    ray.init = init
    with (
        pytest.raises(ConvNeXtError, match="cannot be started here: The current node timed out"),
        Cluster(OPTIONS, Room()),
    ):
        pass


def test_an_address_where_nothing_listens_is_refused(monkeypatch):
    ray = Ray()
    ray.is_initialized = lambda: False
    monkeypatch.setattr(module, "ray", lambda: ray)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(ArgumentError, match="cannot be reached at"),
        Cluster(OPTIONS, Room(address)),
    ):
        pass
