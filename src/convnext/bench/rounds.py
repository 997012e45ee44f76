"""Rounds of turns, and ratios of times with intervals.

A machine's speed varies over seconds and minutes. In a round each contender has one turn, so the
times of a round are of about the same machine, and only ratios inside a round are compared: the
ratio of two contenders is the median over rounds. The median, as a turn that something else
disturbed is an outlier, and a mean would follow it; of logarithms, so that A over B is exactly the
inverse of B over A.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np

__all__ = ["Ratio", "Until", "Verdict", "ratio_of", "take_turns"]

Verdict = Literal["above 1", "below 1", "no difference shown", "too few rounds"]

WIDTH = 0.03
SECONDS = 60.0
FEWEST = 5  # rounds, for an interval: of fewer, even all the ratios span less than 95 %
FIRST_LOOK = 8  # rounds
DRAWS = 1000
# Percentiles of the drawn medians. With the plain 2.5 and 97.5, as the median of few values is one
# of few numbers, intervals hold the true ratio in 89 to 94 % of races of 5 to 20 rounds, and in 81
# to 90 % of races that the width stops; with these in 91 to 98 and 93 to 96 % (see
# benchmarks/intervals.py).
ENDS = (0.01, 0.99)


@dataclass(frozen=True)
class Ratio:
    """The ratio of two contenders' times.

    Attributes:
        value: The median of the rounds' ratios.
        low: Start of the 95 % interval; None with fewer than `FEWEST` rounds.
        high: End of the interval.
        rounds: Number of rounds.
    """

    value: float
    low: float | None
    high: float | None
    rounds: int

    @property
    def width(self) -> float:
        """How much the end of the interval is above its start, as a fraction of the start."""
        return math.inf if self.low is None or self.high is None else self.high / self.low - 1

    @property
    def verdict(self) -> Verdict:
        """Whether the interval is above 1 or below, or shows no difference as it holds 1."""
        if self.low is None or self.high is None:
            return "too few rounds"
        if self.low <= 1 <= self.high:
            return "no difference shown"
        return "above 1" if self.low > 1 else "below 1"

    @property
    def interval(self) -> str:
        """The ratio and its interval as text, as in `1.250 [1.214, 1.287]`."""
        ends = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{ends}"

    def __str__(self) -> str:
        doubt = "" if self.verdict.endswith(" 1") else f", {self.verdict}"
        return f"{self.interval} in {self.rounds} rounds{doubt}"

    def columns(self, name: str) -> dict[str, float | int | None]:
        """The ratio, its interval and the number of rounds, as columns of a CSV file."""
        ends = {"low": self.low, "high": self.high}
        return {
            name: round(self.value, 4),
            **{f"{name}_{end}": value and round(value, 4) for end, value in ends.items()},
            "rounds": self.rounds,
        }


def ratio_of(times: Sequence[float], base: Sequence[float]) -> Ratio:
    """Compute the ratio of times to those of another contender in the same rounds.

    The interval is a bootstrap: medians of rounds drawn anew, from the same random numbers each
    time.

    Args:
        times: The seconds of each round.
        base: Those of the other.
    """
    logs = np.log(np.asarray(times, float) / np.asarray(base, float))
    value = float(np.exp(np.median(logs)))
    if len(logs) < FEWEST:
        return Ratio(value, None, None, len(logs))
    drawn = np.random.default_rng(0).integers(0, len(logs), (DRAWS, len(logs)))
    low, high = np.exp(np.quantile(np.median(logs[drawn], axis=1), ENDS))
    return Ratio(value, float(low), float(high), len(logs))


@dataclass(frozen=True)
class Until:
    """When rounds end: at the first of these limits.

    Attributes:
        rounds: So many rounds; None for no such limit.
        width: The interval of every ratio is as narrow as this, see `Ratio.width`.
        seconds: So many seconds have passed; a round that has begun is finished.
    """

    rounds: int | None = None
    width: float = WIDTH
    seconds: float = SECONDS

    @classmethod
    def first_of(
        cls,
        rounds: int | None = None,
        width: float | None = None,
        seconds: float | None = None,
        *,
        usual_seconds: float = SECONDS,
    ) -> Until:
        """Make the limits of what a caller chose: with `rounds` alone, exactly so many.

        Args:
            rounds: Most rounds.
            width: By default 0.03; without effect if only `rounds` is given.
            seconds: By default `usual_seconds`; without effect if only `rounds` is given.
            usual_seconds: The default of `seconds`.
        """
        if rounds is None:
            return cls(None, width or WIDTH, seconds or usual_seconds)
        return cls(rounds, width or 0.0, seconds or math.inf)


def take_turns(
    turns: Sequence[Callable[[int], float | None]],
    until: Until,
    *,
    base: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> list[list[float]]:
    """Call the turns of contenders by rounds until a limit is reached.

    Widths are looked at after 8 rounds and then each time that there are a fifth more, since an
    interval that is looked at after every round is, when it stops the race, often narrow by chance.

    Args:
        turns: Each is called with the number of the round, from 1; it returns seconds, or None if
            its contender is out.
        until: The limits.
        base: Index, among the contenders that are not out, of the one that ratios are to.
        clock: Seconds that pass.

    Returns:
        The seconds of each contender, round by round.
    """
    times: list[list[float]] = [[] for _ in turns]
    began, look = clock(), FIRST_LOOK
    for number in count(1):
        for turn, own in zip(turns, times, strict=True):
            seconds = turn(number)
            if seconds is not None:
                own.append(seconds)
        racing = [own for own in times if len(own) == number]
        if not racing or number == until.rounds or clock() - began >= until.seconds:
            return times
        if number == look:
            look += max(1, number // 5)
            if all(ratio_of(own, racing[base]).width <= until.width for own in racing):
                return times
    raise AssertionError  # pragma: no cover
