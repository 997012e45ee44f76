from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from convnext.errors import ArgumentError, ImageError, TrainingError
from convnext.train.recipe import load_recipe
from convnext.train.run.provenance import RunRecord, share_record
from convnext.train.team.base import ALONE, Alone, Hosts, Team, lost


def test_hosts_are_read():
    assert Hosts.parse("node-1:29500,0,4") == Hosts("node-1", 29500, 0, 4)
    assert Hosts.parse("[::1]:29500,1,2") == Hosts("::1", 29500, 1, 2)
    assert Hosts.parse("[::1]:29500,1,2").endpoint == "[::1]:29500"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node-1,0,2", "host:port,rank,count"),
        ("node-1:29500", "host:port,rank,count"),
        ("node-1:http,0,2", "host:port,rank,count"),
        ("node-1:29500,0", "host:port,rank,count"),
        ("node-1:29500,2,2", "ranks of 2 hosts are 0 to 1; got 2"),
        ("node-1:29500,-1,2", "0 to 1; got -1"),
        ("node-1:99999,0,2", "a port from 1 to 65535"),
        (":29500,0,2", "a port from 1 to 65535"),
        ("node-1:29500,0,0", "ranks of 0 hosts"),
    ],
)
def test_hosts_that_cannot_be(text, said):
    with pytest.raises(ArgumentError, match=said):
        Hosts.parse(text)


class Thread(Alone):
    """A host that is a thread."""

    def __init__(self, rank, count, board, barrier):
        self.rank, self.count = rank, count
        self.board, self.wait = board, barrier.wait

    def exchange(self, data):
        self.board[self.rank] = data
        self.wait(10)
        found = [self.board[rank] for rank in range(self.count)]
        self.wait(10)
        assert len({len(given) for given in found}) == 1
        return found

    agree = Team.agree


def together(count, work):
    """Run `work(team)` on each host; returns its results or errors."""
    board, barrier = {}, threading.Barrier(count)

    def outcome(rank):
        try:
            return work(Thread(rank, count, board, barrier))
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(outcome, range(count)))


def test_numbers_are_added_in_all_their_digits():
    found = together(3, lambda team: team.sum([0.1 * (team.rank + 1), 2**40 + team.rank]))
    assert found == [[0.1 + 0.2 + 0.1 * 3, 3 * 2**40 + 3]] * 3


def test_a_step_has_the_mean_of_all_and_a_wish_of_one_is_everybodys():
    found = together(2, lambda team: team.agree({"loss": team.rank}, [team.rank == 1, False]))
    assert found == [({"loss": 0.5}, [True, False])] * 2
    assert ALONE.agree({"loss": 3.0}, [True, False]) == ({"loss": 3.0}, [True, False])


def test_hosts_hear_what_each_says():
    assert together(3, lambda team: team.texts("é" * team.rank)) == [["", "é", "éé"]] * 3
    assert together(2, lambda team: team.texts("")) == [["", ""]] * 2


def test_hosts_that_differ_are_named():
    found = together(4, lambda team: team.same(str(team.rank % 2), "look there."))
    assert all(isinstance(error, TrainingError) for error in found)
    assert str(found[0]) == "Hosts 1, 3 and host 0 differ: look there."
    assert together(4, lambda team: team.same("same", "")) == [None] * 4


def test_all_hosts_fail_if_the_first_fails():
    def work(team):
        def action():
            raise ImageError(f"bad for {team.rank}")

        team.first(action)

    first, second = together(2, work)
    assert isinstance(first, ImageError)
    assert isinstance(second, TrainingError)
    assert "bad for 0" in str(second)
    with pytest.raises(ImageError):
        work(ALONE)


def test_only_the_first_host_acts():
    acted = []
    together(3, lambda team: team.first(lambda: acted.append(team.rank)))
    assert acted == [0]


@pytest.mark.parametrize(
    ("count", "pictures", "block"), [(1, 7, 3), (2, 7, 3), (3, 20, 6), (5, 2, 4)]
)
def test_every_picture_is_one_hosts(count, pictures, block):
    parts = together(count, lambda team: team.share(pictures, block).tolist())
    assert sorted(number for part in parts for number in part) == list(range(pictures))


@pytest.mark.parametrize(
    ("count", "devices", "batch", "accumulate", "said"),
    [
        (1, 1, 7, 1, None),
        (2, 1, 8, 1, None),
        (2, 1, 6, 1, "2 hosts, each with an even number.* multiple of 4, such as 8"),
        (1, 4, 10, 1, "over 4 devices. .*multiple of 4, such as 8"),
        (1, 4, 24, 3, None),
        (2, 2, 20, 3, "2 hosts of 2 devices each and run.accumulate = 3.* multiple of 12"),
    ],
)
def test_batches_that_cannot_be_shared(count, devices, batch, accumulate, said):
    team = Alone()
    team.count, team.devices = count, devices
    if said is None:
        team.check(batch, accumulate)
        return
    with pytest.raises(ArgumentError, match=said):
        team.check(batch, accumulate)


def test_errors_of_a_lost_host_become_a_training_error_with_advice():
    team = Alone()
    team.count = 2
    with (
        pytest.raises(TrainingError, match=r"got: \[gloo\] Connection closed by peer\).*--resume"),
        lost(team),
    ):
        raise RuntimeError("Keras met:\n\n\x1b[1m[gloo] Connection closed by peer\x1b[0m\nfar away")
    with pytest.raises(RuntimeError, match="other"), lost(team):
        raise RuntimeError("some other mistake")
    with pytest.raises(RuntimeError, match="closed by peer"), lost(ALONE):
        raise RuntimeError("closed by peer")


RECORD = RunRecord(load_recipe("cifar10"), ("cat", "dog"), ("a", "b"), "torch")


def _join(folder, record=lambda _team: RECORD, resume=False):
    def work(team):
        with ExitStack() as stack:
            share_record(stack, team, folder(team), record(team), resume=resume)
            team.barrier()

    return work


def test_the_first_host_writes_how_a_run_begins(tmp_path):
    assert together(2, _join(lambda _team: tmp_path / "run")) == [None, None]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["team"] == "one device"
    (tmp_path / "run" / "checkpoints" / "step-000000001").mkdir(parents=True)
    first, second = together(2, _join(lambda _team: tmp_path / "run"))
    assert isinstance(first, ArgumentError)
    assert "holds a run already" in str(second)
    assert together(2, _join(lambda _team: tmp_path / "run", resume=True)) == [None, None]


def test_hosts_that_were_started_differently_do_not_begin(tmp_path):
    def record(team):
        return RunRecord(load_recipe("cifar10", [f"run.seed={team.rank}"]), (), ("a", "b"), "torch")

    found = together(2, _join(lambda _team: tmp_path / "run", record))
    assert all("the same command" in str(error) for error in found)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_not_shared_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr("convnext.train.run.provenance.SHOWN_WITHIN", 0.3)
    found = together(2, _join(lambda team: tmp_path / str(team.rank)))
    assert all("all hosts share" in str(error) for error in found)


def test_a_team_of_one_process_has_one_device_and_all_examples():
    with ALONE as team:
        assert team.is_first
        assert str(team) == "one device"
        assert team.workers is None
        assert np.array_equal(team.share(5, 2), np.arange(5))
