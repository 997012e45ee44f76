"""How often intervals of a ratio hold the true one, and how wide they are, in simulated races.

    python benchmarks/intervals.py

A race's logarithms of ratios are noise around 0: normal, or of two turns of which each tenth is
disturbed. `stopped` is a race that ends when its interval is 3 % wide, or after 60 rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np

from convnext.bench import rounds
from convnext.bench.rounds import FIRST_LOOK, ratio_of

RACES, ROUNDS, WIDTH = 300, (5, 6, 8, 10, 15, 20), 0.03
Random = np.random.Generator
Interval = tuple[float, float]


def normal(random: Random, count: int) -> np.ndarray:
    return random.normal(0, 0.04, count)


def disturbed(random: Random, count: int) -> np.ndarray:
    def turns() -> np.ndarray:
        other = (random.random(count) < 0.1) * random.exponential(0.3, count)
        return random.normal(0, 0.02, count) + other

    return turns() - turns()


def of_medians(low: float) -> Callable[[np.ndarray], Interval]:
    def interval(logs: np.ndarray) -> Interval:
        with patch.object(rounds, "ENDS", (low, 1 - low)):
            ratio = ratio_of(np.exp(logs), np.ones_like(logs))
        return np.log(ratio.low), np.log(ratio.high)

    return interval


def drawn(logs: np.ndarray) -> np.ndarray:
    return logs[np.random.default_rng(0).integers(0, len(logs), (rounds.DRAWS, len(logs)))]


def of_means(logs: np.ndarray) -> Interval:
    low, high = np.quantile(drawn(logs).mean(1), (0.025, 0.975))
    return low, high


def of_studentised_means(logs: np.ndarray) -> Interval:
    again, count = drawn(logs), len(logs) ** 0.5
    scores = (again.mean(1) - logs.mean()) / np.maximum(again.std(1, ddof=1) / count, 1e-12)
    low, high = np.quantile(scores, (0.025, 0.975)) * logs.std(ddof=1) / count
    return logs.mean() - high, logs.mean() - low


INTERVALS = {
    "medians, 1 to 99 % (taken)": of_medians(0.01),
    "medians, 2.5 to 97.5 %": of_medians(0.025),
    "means": of_means,
    "means, studentised": of_studentised_means,
}


def stopped(logs: np.ndarray, interval: Callable[[np.ndarray], Interval]) -> Interval:
    """The interval of a race that ends when it is narrow, looked at as `take_turns` does."""
    look = FIRST_LOOK
    while True:
        low, high = interval(logs[:look])
        if np.exp(high - low) - 1 <= WIDTH or look == len(logs):
            return low, high
        look = min(len(logs), look + max(1, look // 5))


def lines() -> Iterator[str]:
    yield "| noise | interval | " + " | ".join(map(str, ROUNDS)) + " rounds | stopped |"
    yield "| --- | --- |" + " --- |" * (len(ROUNDS) + 1)
    for noise in (normal, disturbed):
        for name, interval in INTERVALS.items():
            cells = []
            for count in (*ROUNDS, None):
                random = np.random.default_rng(count)
                races = [noise(random, count or 60) for _ in range(RACES if count else RACES // 2)]
                found = [interval(r) if count else stopped(r, interval) for r in races]
                held = np.mean([low <= 0 <= high for low, high in found])
                width = np.median([np.exp(high - low) - 1 for low, high in found])
                cells.append(f"{held:.0%}, {width:.1%}" if count else f"{held:.0%}")
            yield f"| {noise.__name__} | {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
