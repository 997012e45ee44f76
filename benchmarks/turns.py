"""Contenders that are scripts of this folder, and the options of their races.

Every contender waits in a process of its own, and they take turns; `convnext.bench` has the process
and the rounds. A contender's script calls `serve`; the one that keeps time calls `alternate`. Where
contenders share a process, or start one for each turn, they are functions: `times_of`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from convnext.bench.process import Process, serve
from convnext.bench.process import Reply as Report
from convnext.bench.rounds import Until, ratio_of, take_turns

__all__ = [
    "Contender",
    "Report",
    "Until",
    "add_limits",
    "alternate",
    "limits",
    "ratio_of",
    "serve",
    "take_turns",
    "timed",
    "times_of",
]

SECONDS = 180.0  # turns here are longer than those of `convnext bench`


class Contender(Process):
    """A process that takes a turn when told to.

    Args:
        name: What it is called.
        script: The program, whose `--serve` leads to `serve`.
        arguments: Behind `--serve`.
        environment: Beside this process's own.

    Attributes:
        report: What it said when it was ready.
        turns: What it said of each turn.
    """

    def __init__(self, name: str, script: str, *arguments: object, **environment: object) -> None:
        texts = {name: str(value) for name, value in environment.items()}
        super().__init__([script, "--serve", *arguments], texts, quiet=False)
        self.name = name
        self.turns: list[Report] = []
        try:
            self.report: Report = self.reply()
        except BaseException:
            self.close()
            raise

    @property
    def seconds(self) -> list[float]:
        """The seconds of each turn."""
        return [turn["seconds"] for turn in self.turns]

    def turn(self, order: str = "") -> float:
        """Let it do what it does, once."""
        self.turns.append(self.call(order))
        return self.seconds[-1]


def add_limits(parser: argparse.ArgumentParser, seconds: float = SECONDS) -> None:
    """Add `--rounds`, `--width` and `--seconds`, as `convnext bench` has them.

    Args:
        parser: The script's.
        seconds: The default of `--seconds`.
    """
    parser.add_argument("--rounds", type=int, help="at most, or exactly if it is the only limit")
    parser.add_argument("--width", type=float, help="narrow enough an interval (default: 0.03)")
    parser.add_argument(
        "--seconds", type=float, help=f"time for a race's rounds (default: {seconds:.0f})"
    )
    parser.set_defaults(usual_seconds=seconds)


def limits(args: argparse.Namespace) -> Until:
    """When races end by these options."""
    return Until.first_of(args.rounds, args.width, args.seconds, usual_seconds=args.usual_seconds)


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def times_of(
    turns: Mapping[str, Callable[[], float]], until: Until, about: str = "", *, base: int = 0
) -> dict[str, list[float]]:
    """Call functions by turns until a limit is reached.

    Args:
        turns: What each contender does in a turn, by its name; it returns seconds.
        until: The limits.
        about: What is shown while they race.
        base: Index of the contender that ratios are to.

    Returns:
        The seconds of each, round by round.
    """

    def turn_of(turn: Callable[[], float]) -> Callable[[int], float]:
        def numbered(number: int) -> float:
            if sys.stderr.isatty():
                print(f"\r{about}: round {number} ", end="", flush=True, file=sys.stderr)
            return turn()

        return numbered

    times = take_turns([turn_of(turn) for turn in turns.values()], until, base=base)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return dict(zip(turns, times, strict=True))


def alternate(
    contenders: Sequence[Contender],
    until: Until,
    about: str,
    *,
    order: Callable[[int], str] = lambda _: "",
    base: int = 0,
) -> None:
    """Let contenders take turns until a limit is reached; their `turns` then have the reports.

    Args:
        contenders: Those that are ready.
        until: The limits.
        about: What is shown while they race.
        order: What each is told in the round of that number, from 1.
        base: Index of the one that ratios are to.
    """

    def turn_of(contender: Contender) -> Callable[[], float]:
        return lambda: contender.turn(order(len(contender.turns) + 1))

    turns = {f"{number}": turn_of(each) for number, each in enumerate(contenders)}
    times_of(turns, until, about, base=base)
