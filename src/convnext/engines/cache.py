"""Cache of compiled graphs on disk, for devices where compiling takes longer than reading.

If the folder exceeds `MOST_BYTES`, the least recently used graphs are removed. Files have a
checksum; damaged ones are replaced, with a warning in the log.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from convnext.atomic import replaced

__all__ = ["GraphCache", "graphs_folder"]

MOST_BYTES = 4 << 30
CHECKSUM = 4  # bytes in front of the content

Compiled = TypeVar("Compiled")

_log = logging.getLogger("convnext")


def graphs_folder() -> Path:
    """The folder of compiled graphs, in `$CONVNEXT_CACHE` or the user's cache folder."""
    chosen = os.environ.get("CONVNEXT_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "graphs"
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(shared) / "convnext" / "graphs"


class GraphCache:
    """A folder of compiled graphs.

    Args:
        folder: Its path; created when a graph is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def compiled(
        self,
        key: str,
        compile: Callable[[], Compiled],
        to_bytes: Callable[[Compiled], bytes],
        from_bytes: Callable[[bytes], Compiled],
    ) -> Compiled:
        """Read a compiled graph from the folder, or compile and store it.

        Args:
            key: Digest of everything the graph depends on.
            compile: Compiles the graph.
            to_bytes: Serializes it.
            from_bytes: Deserializes it; may raise any exception.
        """
        path = self.folder / f"{key}.graph"
        graph = self._read(path, from_bytes)
        if graph is None:
            graph = compile()
            self._write(path, to_bytes(graph))
        return graph

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
        except Exception as error:  # runtimes raise nearly anything for damaged data
            _log.warning("The cached graph %s is damaged (%s); compiling it anew.", path, error)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return graph

    def _write(self, path: Path, content: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replaced(path) as temporary, temporary.open("wb") as file:
                file.write(zlib.crc32(content).to_bytes(CHECKSUM, "big"))
                file.write(content)
            self._prune()
        except OSError as error:
            _log.warning("The compiled graph could not be cached (%s); this run continues.", error)

    def _prune(self) -> None:
        """Remove the least recently used graphs until the rest fits."""
        kept = 0
        files = []
        for path in self.folder.glob("*.graph*"):
            with suppress(FileNotFoundError):  # another process removed it
                files.append((path, path.stat()))
        for path, facts in sorted(files, key=lambda file: -file[1].st_mtime):
            kept += facts.st_size
            if kept > MOST_BYTES:
                path.unlink(missing_ok=True)
