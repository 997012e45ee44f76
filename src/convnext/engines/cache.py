"""Compiled graphs on disk, for those that take longer to compile than to read back.

A CPU's do not: Tiny compiles in 0.2 s, and reading its 110 MB takes as long (docs/engines.md). A
GPU's do. So what was compiled within `WORTH_KEEPING` seconds is not kept, and the folder stays
below `MOST_BYTES`: the longest unused go first.

A file that is damaged is never believed: it carries a checksum, is made anew, and the log says so.
It knows nothing of what the bytes mean.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

__all__ = ["GraphCache", "graphs_folder"]

WORTH_KEEPING = 1.0  # seconds
MOST_BYTES = 4 << 30
CHECKSUM = 4  # bytes in front of the content

Compiled = TypeVar("Compiled")

_log = logging.getLogger("convnext")


def graphs_folder() -> Path:
    """Where compiled graphs are kept: below `$CONVNEXT_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("CONVNEXT_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "graphs"
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(shared) / "convnext" / "graphs"


class GraphCache:
    """A folder of compiled graphs.

    Args:
        folder: Where; made when something is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def compiled(
        self,
        options: str,
        weights: Callable[[], str],
        compile: Callable[[], Compiled],
        to_bytes: Callable[[Compiled], bytes],
        from_bytes: Callable[[bytes], Compiled],
    ) -> Compiled:
        """The compiled graph, from the folder or else made and, where it pays, kept.

        Args:
            options: Digest of all that matters but the weights.
            weights: Gives the digest of the weights; asked only where there is something to find
                or to keep, because it takes time.
            compile: Makes the graph.
            to_bytes: Turns it into what is stored.
            from_bytes: Turns that back; may raise anything.
        """
        path = None
        if any(self.folder.glob(f"{options}-*.graph")):
            path = self.folder / f"{options}-{weights()}.graph"
            found = self._read(path, from_bytes)
            if found is not None:
                return found
        start = time.perf_counter()
        made = compile()
        if time.perf_counter() - start >= WORTH_KEEPING:
            self._write(path or self.folder / f"{options}-{weights()}.graph", to_bytes(made))
        return made

    def _read(self, path: Path, from_bytes: Callable[[bytes], Compiled]) -> Compiled | None:
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        try:
            content = stored[CHECKSUM:]
            if zlib.crc32(content).to_bytes(CHECKSUM, "big") != stored[:CHECKSUM]:
                raise ValueError("its checksum is wrong")
            graph = from_bytes(content)
        except Exception as error:  # whatever a runtime throws at bytes it does not like
            _log.warning("The cached graph %s is damaged (%s); compiling it anew.", path, error)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return graph

    def _write(self, path: Path, content: bytes) -> None:
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(zlib.crc32(content).to_bytes(CHECKSUM, "big"))
                file.write(content)
            part.replace(path)
            self._prune()
        except OSError as error:
            _log.warning("The compiled graph could not be kept (%s); this run goes on.", error)
            with suppress(OSError):
                part.unlink()

    def _prune(self) -> None:
        """Remove the longest unused until the rest fits."""
        kept = 0
        files = [(path, path.stat()) for path in self.folder.glob("*.graph*")]
        for path, facts in sorted(files, key=lambda file: -file[1].st_mtime):
            kept += facts.st_size
            if kept > MOST_BYTES:
                path.unlink(missing_ok=True)
