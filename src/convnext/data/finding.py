"""Expands sources (folders, patterns, archives, tables; paths or URLs) to a sorted list of files.

Files are listed, not opened. The order is reproducible, as shards and resuming depend on it.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

from convnext.data.files import Stat, file_name, listed, local_path, stat
from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.images.folders import is_picture, walk
from convnext.images.read import is_url

__all__ = ["PLAN", "Found", "Kind", "Sources", "find"]

Kind = Literal["file", "zip", "tar", "stream", "table"]
Sources = str | os.PathLike[str] | Iterable["str | os.PathLike[str]"]

PLAN = "_plan.json"  # marks a folder of output, which is no source

_MOST_EXPANDED = 1_000_000  # names from a pair of braces
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_PLAIN_WEB = ("http://", "https://")


class Found(NamedTuple):
    """A file with one or several pictures.

    Attributes:
        kind: `"file"` for a picture, `"zip"`, `"tar"` for a tar archive with random access,
            `"stream"` for one without, `"table"` for Parquet.
        path: The path or URL.
        size: In bytes; 0 for a picture on the web, to save a request.
    """

    kind: Kind
    path: str
    size: int


def find(sources: Sources) -> Iterator[Found]:
    """Find every file of the sources, in order.

    Args:
        sources: One or several: pictures, archives (.zip, .tar, .tar.gz, .tgz), Parquet files
            (.parquet), folders, patterns such as `"*.tar"` or `"**/*.png"`, or numbered names such
            as `"part-{000..119}.tar"`; paths or URLs. A folder stands for the pictures below it,
            or for the archives and Parquet files below it, without hidden files and output of
            earlier runs; links to folders are not followed.

    Raises:
        ArgumentError: A source does not exist, a folder or pattern has no pictures, or a folder
            has both pictures and archives.
        ArgumentTypeError: A source is neither a path nor a URL.
    """
    for text in _texts(sources):
        for name in _expanded(text):
            yield from _found(name)


def _texts(sources: Sources) -> Iterator[str]:
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    if not isinstance(sources, Iterable):
        raise ArgumentTypeError(f"Sources are paths and URLs, not {type(sources).__name__}.")
    for source in sources:
        if not isinstance(source, str | os.PathLike):
            raise ArgumentTypeError(
                f"A source is a path or a URL, not {type(source).__name__}. For pictures in memory "
                "use convnext.Classifier."
            )
        yield os.fspath(source)


def _expanded(text: str) -> Iterator[str]:
    """Expand `{000..119}` to numbered names."""
    match = _BRACES.search(text)
    here = local_path(text)
    if match is None or (here is not None and here.exists()):
        yield text
        return
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + _MOST_EXPANDED:
        raise ArgumentError(
            f"{text}: {match[0]} must count upwards, over {_MOST_EXPANDED:,} numbers at most."
        )
    for number in range(first, last + 1):
        name = f"{number:0{len(match[1])}}"
        yield from _expanded(text[: match.start()] + name + text[match.end() :])


def _found(text: str) -> Iterator[Found]:
    if text.lower().startswith(_PLAIN_WEB) and _kind(text.partition("?")[0]) == "file":
        yield Found("file", text, 0)
        return
    path = local_path(text)
    try:
        if path is not None:
            yield from _here(path)
        else:
            yield from _there(text)
    except OSError as error:
        raise ArgumentError(f"{text} cannot be read: {error}") from error


def _here(path: Path) -> Iterator[Found]:
    if path.is_dir():
        yield from _all_alike(path.as_posix(), _walk(path))
    elif not path.exists() and glob.has_magic(str(path)):
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 (absolute ones too)
        if not names:
            raise ArgumentError(f"{path} matches no file. Check the pattern.")
        for name in names:
            if not Path(name).is_dir():
                yield _of(Stat(Path(name).as_posix(), Path(name).stat().st_size))
    else:
        found = stat(path.as_posix())
        if found is not None:
            yield _of(found)


def _there(text: str) -> Iterator[Found]:
    if glob.has_magic(text):
        root = text[: re.search(r"[*?\[]", text).start()].rpartition("/")[0]  # type: ignore[union-attr]
        pattern = text.split("/")
        names = [item for item in listed(root) if _matches(item.path.split("/"), pattern)]
        if not names:
            raise ArgumentError(f"{text} matches no file. Check the pattern.")
        yield from map(_of, names)
        return
    found = stat(text)
    if found is None:
        yield from _all_alike(text, _without_answers(listed(text)))
    else:
        yield _of(found)


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Match like `glob`: `**` is any number of folders, or at the end everything below."""
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        return not rest or any(_matches(parts[n:], rest) for n in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], first) and _matches(parts[1:], rest)


def _walk(folder: Path) -> Iterator[Stat]:
    for found in walk(folder, unless=PLAN):
        if isinstance(found, OSError):
            raise found
        if found.is_file():
            yield Stat(Path(found).as_posix(), found.stat().st_size)


def _without_answers(files: Sequence[Stat]) -> Iterator[Stat]:
    answers = tuple(f.path.removesuffix(PLAN) for f in files if file_name(f.path) == PLAN)
    return (file for file in files if not file.path.startswith(answers))


def _all_alike(folder: str, files: Iterable[Stat]) -> Iterator[Found]:
    """Select the pictures, or the archives and tables, among a folder's files."""
    named = ((file_name(file.path), file) for file in files)
    known = (_of(file) for name, file in named if is_picture(name) or _kind(name) != "file")
    first = next(known, None)
    if first is None:
        raise ArgumentError(f"{folder} holds no picture, no archive and no Parquet file.")
    for found in itertools.chain([first], known):
        if (found.kind == "file") != (first.kind == "file"):
            raise ArgumentError(
                f"{folder} holds pictures as well as archives or Parquet files, such as "
                f"{file_name(first.path)} and {file_name(found.path)}, which may have the same "
                f"pictures. Choose with a pattern such as {folder}/*.tar."
            )
        yield found


def _of(file: Stat) -> Found:
    kind = _kind(file.path)
    if kind == "tar" and is_url(file.path) and local_path(file.path) is None:
        kind = "stream"  # a request for each header would take longer than reading all
    return Found(kind, file.path, file.size)


def _kind(name: str) -> Kind:
    lowered = name.lower()
    if lowered.endswith((".tar.gz", ".tgz")):
        return "stream"
    for suffix, kind in ((".zip", "zip"), (".tar", "tar"), (".parquet", "table")):
        if lowered.endswith(suffix):
            return kind  # type: ignore[return-value]
    return "file"
