"""Ratios and their intervals on synthetic timings, with a clock that the turns themselves move."""

import math

import numpy as np
import pytest

from convnext.bench.rounds import Ratio, Until, ratio_of, take_turns


class Machine:
    """A machine whose speed drifts, with noise in each turn and some turns disturbed."""

    def __init__(self, seed, noise=0.03, drift=0.02, disturbed=0.1):
        self.random = np.random.default_rng(seed)
        self.noise, self.drift, self.disturbed = noise, drift, disturbed
        self.now = 0.0
        self.slow = 0.0
        self.played = []

    def contender(self, seconds):
        def turn(number):
            self.played.append((seconds, number))
            self.slow = 0.95 * self.slow + self.random.normal(0, self.drift)
            other = self.random.exponential(0.3) * (self.random.random() < self.disturbed)
            taken = seconds * math.exp(self.slow + self.random.normal(0, self.noise) + other)
            self.now += taken
            return taken

        return turn

    def race(self, *seconds, until, base=0):
        turns = [self.contender(own) for own in seconds]
        return take_turns(turns, until, base=base, clock=lambda: self.now)


@pytest.mark.parametrize(("rounds", "noise"), [(6, 0.03), (9, 0.1), (16, 0.02)])
def test_the_interval_of_so_many_rounds_holds_the_true_ratio(rounds, noise):
    """Of 300 races; 0.91 is 3 standard deviations below 0.95."""
    held = 0
    for seed in range(300):
        base, times = Machine(seed, noise).race(1.0, 1.3, until=Until(rounds, 0))
        found = ratio_of(times, base)
        held += found.low <= 1.3 <= found.high
    assert 0.91 <= held / 300 <= 0.99


def test_the_interval_of_a_race_stopped_by_its_width_holds_the_true_ratio():
    held, counts = 0, []
    for seed in range(200):
        base, times = Machine(seed, 0.02).race(1.0, 0.8, until=Until(60, 0.04))
        found = ratio_of(times, base)
        held += found.low <= 0.8 <= found.high
        counts.append(found.rounds)
    assert 0.9 <= held / 200 <= 0.99
    assert len(set(counts)) > 3, "each race stops when its own interval is narrow"


def test_equal_contenders_show_no_difference():
    verdicts = []
    for seed in range(100):
        base, times = Machine(seed).race(1.0, 1.0, until=Until(20, 0))
        verdicts.append(ratio_of(times, base).verdict)
    assert verdicts.count("no difference shown") >= 90
    base, times = Machine(1).race(1.0, 1.5, until=Until(20, 0))
    assert (ratio_of(times, base).verdict, ratio_of(base, times).verdict) == ("above 1", "below 1")


def test_a_ratio_and_its_inverse():
    base, times = Machine(1).race(1.0, 1.3, until=Until(12, 0))
    one, other = ratio_of(times, base), ratio_of(base, times)
    assert one == ratio_of(times, base), "the draws are the same each time"
    assert one.value * other.value == pytest.approx(1)
    assert one.low < one.value < one.high
    assert ratio_of([2.0] * 5, [1.0] * 5) == Ratio(pytest.approx(2), *[pytest.approx(2)] * 2, 5)


def test_a_disturbed_round_does_not_move_the_ratio():
    disturbed = ratio_of([1.2] * 8 + [99.0], [1.0] * 9)
    assert disturbed.value == pytest.approx(1.2)


def test_few_rounds_have_no_interval():
    few = ratio_of([1.0, 1.5, 1.25, 1.25], [1.0] * 4)
    assert (few.low, few.high, few.width) == (None, None, math.inf)
    assert few.verdict == "too few rounds"
    assert str(few) == "1.250 in 4 rounds, too few rounds"


def test_a_ratio_as_text_and_as_columns():
    assert (
        str(Ratio(1.0125, 0.98, 1.05, 9)) == "1.012 [0.980, 1.050] in 9 rounds, no difference shown"
    )
    assert str(Ratio(2.0, 1.9, 2.1, 9)) == "2.000 [1.900, 2.100] in 9 rounds"
    assert Ratio(1.23456, 1.2, 1.3, 9).columns("x") == {
        "x": 1.2346,
        "x_low": 1.2,
        "x_high": 1.3,
        "rounds": 9,
    }
    assert Ratio(1.5, None, None, 3).columns("x")["x_low"] is None


def test_turns_alternate():
    machine = Machine(0)
    times = machine.race(1, 2, 3, until=Until(2, 0))
    assert machine.played == [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
    assert [len(own) for own in times] == [2, 2, 2]


def test_rounds_end_at_the_first_look_if_intervals_are_narrow():
    times = Machine(0, 0.001, 0, 0).race(1, 2, until=Until(100, 0.03))
    assert [len(own) for own in times] == [8, 8]


def test_rounds_go_on_until_every_interval_is_narrow():
    machine = Machine(0, 0.001, 0, 0)
    steady = [machine.contender(1), machine.contender(2)]

    def wavering(number):
        return 1.0 + number % 3

    assert len(take_turns([*steady, wavering], Until(20, 0.03))[0]) == 20


def test_intervals_are_of_ratios_to_the_base():
    """Two contenders that differ from the third by up to 5 %, and from each other by 10 %."""
    turns = [lambda n: 1.05 ** (n % 2), lambda n: 1.05 ** -(n % 2), lambda _: 1.0]
    assert len(take_turns(turns, Until(20, 0.08))[0]) == 20
    assert len(take_turns(turns, Until(20, 0.08), base=-1)[0]) == 8


def test_rounds_end_when_time_is_up():
    machine = Machine(0, 0.001, 0, 0)
    base, _ = machine.race(1, 2, until=Until(None, 1e-9, seconds=11.5))
    assert len(base) == 4, "the round that has begun is finished"


def test_a_contender_that_is_out_does_not_delay_the_end():
    machine = Machine(0, 0.001, 0, 0)

    def out(number):
        return None if number > 2 else 1.0

    times = take_turns([out, machine.contender(1), machine.contender(2)], Until(50, 0.03))
    assert [len(own) for own in times] == [2, 8, 8]
    assert take_turns([lambda _: None], Until()) == [[]]


def test_limits_by_default():
    assert Until.first_of() == Until(None, 0.03, 60)
    assert Until.first_of(usual_seconds=180) == Until(None, 0.03, 180)
    assert Until.first_of(9) == Until(9, 0, math.inf), "exactly so many"
    assert Until.first_of(9, 0.1, 5) == Until(9, 0.1, 5)
    assert Until.first_of(width=0.1) == Until(None, 0.1, 60)
