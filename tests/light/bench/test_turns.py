"""The contenders of the scripts in `benchmarks/`."""

import argparse
import math
import sys

import pytest
from turns import Contender, Until, add_limits, alternate, limits, times_of

from convnext.bench.process import FailedError

SCRIPT = """
import os, signal, sys
from turns import serve
turns = []

def prepare():
    if os.environ["KIND"] == "broken":
        raise ValueError("It is broken.")
    def turn(order):
        print("a library's output", flush=True)
        turns.append(order)
        if os.environ["KIND"] == "tired" and len(turns) == 2:
            os._exit(7)
        if os.environ["KIND"] == "late":
            os.kill(os.getpid(), signal.SIGALRM)
        return {"seconds": float(sys.argv[2]) * len(turns), "order": order}
    return {"ready": True}, turn

serve(prepare)
"""


@pytest.fixture
def contender(tmp_path):
    import turns

    (tmp_path / "script.py").write_text(SCRIPT)
    folder = turns.__file__.rpartition("/")[0]

    def contender(seconds, kind="steady"):
        path = {"PYTHONPATH": ":".join([folder, *sys.path])}
        return Contender(kind, str(tmp_path / "script.py"), seconds, KIND=kind, **path)

    return contender


def test_contenders_alternate(contender):
    with contender(1) as one, contender(2) as two:
        assert one.report == {"ready": True}
        alternate([one, two], Until(3, 0), "test", order=lambda number: f"part {number}")
    assert (one.seconds, two.seconds) == ([1, 2, 3], [2, 4, 6])
    assert [turn["order"] for turn in one.turns] == ["part 1", "part 2", "part 3"]


def test_a_contender_that_fails(contender):
    with pytest.raises(FailedError, match=r"ValueError: It is broken\."):
        contender(1, "broken")
    with contender(1, "tired") as one, pytest.raises(FailedError, match="ended with code 7"):
        alternate([one], Until(3, 0), "test")
    with contender(1, "late") as one, pytest.raises(FailedError, match="Its time was over"):
        one.turn()


def test_functions_alternate():
    called = []

    def turn_of(name, seconds):
        def turn():
            called.append(name)
            return seconds * len(called)

        return turn

    times = times_of({"a": turn_of("a", 1), "b": turn_of("b", 10)}, Until(3, 0))
    assert times == {"a": [1, 3, 5], "b": [20, 40, 60]}
    assert called == ["a", "b"] * 3


def test_options():
    parser = argparse.ArgumentParser()
    add_limits(parser)
    assert limits(parser.parse_args([])) == Until(None, 0.03, 180)
    assert limits(parser.parse_args(["--rounds", "5"])) == Until(5, 0, math.inf)
    assert limits(parser.parse_args(["--width", "0.1", "--seconds", "9"])) == Until(None, 0.1, 9)
    longer = argparse.ArgumentParser()
    add_limits(longer, 600)
    assert limits(longer.parse_args([])) == Until(None, 0.03, 600)
