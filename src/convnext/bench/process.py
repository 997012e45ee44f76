"""Both ends of a contender's process: it runs a command from each line of standard input.

Frameworks in one process disturb each other, so each contender has a process. Its reply to a line
is a line of JSON, `{"error": "..."}` if it failed. Output of libraries goes to standard error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

from convnext.errors import ConvNeXtError

__all__ = ["FailedError", "Process", "Reply", "serve"]

LONGEST_ERROR = 400
ENDINGS = {  # by the number of the signal, which not every system has a name for
    9: "It was killed, as the system does when memory runs out.",
    14: "Its time was over.",
}

Reply = Mapping[str, Any]


class FailedError(Exception):
    """Failure of a contender."""


class Process:
    """A process that runs `serve`.

    Args:
        arguments: Of Python, from the script or `-m` on.
        environment: Added to this process's own.
        quiet: Whether to keep its standard error, for its error message, instead of showing it.
    """

    def __init__(
        self, arguments: Sequence[object], environment: Mapping[str, str], *, quiet: bool = True
    ) -> None:
        self._errors: IO[bytes] | None = TemporaryFile() if quiet else None  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **environment},
        )

    def reply(self) -> dict[str, Any]:
        """Read the next reply.

        Raises:
            FailedError: It is an error, or the process ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise FailedError(self._end())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise FailedError(reply["error"])
        return reply

    def call(self, command: str) -> dict[str, Any]:
        """Send a command, and read the reply.

        Raises:
            FailedError: It failed.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `reply` raises the reason
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        return self.reply()

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):
                if stream:
                    stream.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _end(self) -> str:
        """Error message for a process that ended unexpectedly."""
        code = self._process.wait()
        lines = []
        if self._errors:
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        last = f" Its last message: {lines[-1][:200]}" if lines else ""
        if -code in ENDINGS:
            return ENDINGS[-code]
        return f"Its process ended with code {code}.{last}"


def serve(prepare: Callable[[], tuple[Reply, Callable[[str], Reply]]]) -> int:
    """Run commands, in a contender's process, until standard input ends.

    Args:
        prepare: Returns the first reply, and a function that runs a command.

    Returns:
        An exit code.
    """
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        try:
            reply, run = prepare()
            _send(channel, reply)
            for line in sys.stdin:
                _send(channel, run(line.strip()))
        except Exception as error:  # any error is this contender's result
            traceback.print_exc()
            _send(channel, {"error": _described(error)})
            return 1
    return 0


def _send(channel: IO[str], reply: Reply) -> None:
    print(json.dumps(reply), file=channel, flush=True)


def _described(error: Exception) -> str:
    text = " ".join(str(error).split())[:LONGEST_ERROR]
    if isinstance(error, ConvNeXtError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
