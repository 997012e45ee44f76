"""The contenders of the scripts in `benchmarks/`."""

import argparse
import math
import sys

import pytest
from turns import Contender, Until, add_limits, alternate, limits

from convnext.bench.process import FailedError

SCRIPT = """
import os, sys
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


def test_options():
    parser = argparse.ArgumentParser()
    add_limits(parser)
    assert limits(parser.parse_args([])) == Until(None, 0.03, 180)
    assert limits(parser.parse_args(["--rounds", "5"])) == Until(5, 0, math.inf)
    assert limits(parser.parse_args(["--width", "0.1", "--seconds", "9"])) == Until(None, 0.1, 9)
