"""Contenders in processes of their own, which do something when it is their turn.

Frameworks in one process disturb each other, and a machine's speed changes: so every contender
waits in its own process, and they take turns. A contender's process calls `serve`; the one that
keeps time makes a `Contender` of each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

Report = Mapping[str, Any]


class Contender:
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
        self.name = name
        self.turns: list[Report] = []
        self._process = subprocess.Popen(
            [sys.executable, script, "--serve", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        )
        try:
            self.report = self._answer()
        except RuntimeError:
            self.close()
            raise

    def turn(self, order: str = "") -> None:
        """Let it do what it does, once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        self.turns.append(self._answer())

    def _answer(self) -> Report:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended early")
        return dict(json.loads(line))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve(prepare: Callable[[], tuple[Report, Callable[[str], Report]]]) -> None:
    """In a contender's process: get ready, then take a turn for each line on standard input.

    Args:
        prepare: Gives what is said when ready, and what a turn does; what libraries print goes to
            standard error.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    report, turn = prepare()
    print(json.dumps(report), file=channel, flush=True)
    for line in sys.stdin:
        print(json.dumps(turn(line.strip())), file=channel, flush=True)
