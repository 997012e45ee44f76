"""The plan of a run: its division into shards and its settings, written before computing.

With a fixed division, a shard is the same on any worker, so a killed run neither loses nor repeats
shards. A shard is done if its file exists. A resumed run must have the settings of the plan.

The folder holds `_plan.json`, `_inputs` with the inputs of every shard, and
`part-00000-of-00040.parquet` and so on. Readers of Parquet folders skip names that begin with `_`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from convnext.data.files import Folder
from convnext.data.finding import PLAN, Found
from convnext.data.parquet import TableColumns
from convnext.errors import ArgumentError
from convnext.scale.inputs import INPUTS, Item, items_of, write_inputs

__all__ = ["Mode", "Plan", "open_plan", "part_name"]

Mode = Literal["new", "resume", "overwrite"]

FORMAT = 1
_SHOWN = 80
_PART = re.compile(r"part-\d{5,}-of-\d{5,}\.parquet")


@dataclass(frozen=True)
class Plan:
    """A stored plan.

    Attributes:
        folder: Of the output.
        settings: Settings on which the output depends.
        shards: Number of shards.
        pictures: Number of pictures; None if it is unknown before reading.
        fingerprint: Of the inputs' names and sizes.
    """

    folder: Folder
    settings: Mapping[str, Any]
    shards: int
    pictures: int | None
    fingerprint: str

    def part(self, shard: int) -> str:
        """Name of a shard's file."""
        return part_name(shard, self.shards)

    def done(self) -> list[int]:
        """Numbers of the shards whose files exist."""
        names = self.folder.names()
        return [shard for shard in range(self.shards) if self.part(shard) in names]


def part_name(shard: int, shards: int) -> str:
    """Name of a shard's file.

    Example:
        >>> part_name(3, 40)
        'part-00003-of-00040.parquet'
    """
    return f"part-{shard:05d}-of-{shards:05d}.parquet"


def open_plan(
    folder: Folder,
    found: Iterable[Found],
    items: Iterable[list[Item]] | None,
    settings: Mapping[str, Any],
    mode: Mode = "new",
) -> Plan:
    """Write a plan, or resume an existing one.

    Args:
        folder: Of the output.
        found: Every input file, in order.
        items: The inputs of each shard, if they are not made from `found`.
        settings: Settings on which the output depends, as plain JSON.
        mode: `"new"` refuses a folder with a plan; `"resume"` resumes it if it is the same;
            `"overwrite"` removes it and its output, once all inputs are listed.

    Raises:
        ArgumentError: The folder holds other files, the plan differs, or an input cannot be read.
    """
    settings = json.loads(json.dumps(settings))
    names = folder.names()
    inputs = _Fingerprinted(found)
    if PLAN in names and mode == "resume":
        return _resumed(folder, settings, inputs.fingerprint())
    if PLAN in names and mode == "new":
        raise ArgumentError(
            f"{folder.text} holds {_progress(folder)}. Resume it with --resume (resume=True), "
            "discard it with --overwrite (overwrite=True), or name another folder."
        )
    earlier = _earlier_files(folder, names)

    def remove_earlier(shards: int) -> None:
        inputs.fingerprint()
        if not shards:
            raise ArgumentError(f"There are no pictures: {inputs.problem()}.")
        for name in earlier:
            folder.remove(name)

    shard_size, columns = settings["shard_size"], TableColumns(**settings["columns"])
    shards, pictures = write_inputs(
        folder, items or items_of(inputs, shard_size, columns), before=remove_earlier
    )
    plan = Plan(folder, settings, shards, pictures, inputs.fingerprint())
    facts = {
        "convnext_plan": FORMAT,
        "shards": shards,
        "pictures": pictures,
        "fingerprint": plan.fingerprint,
        "settings": settings,
    }
    folder.put(PLAN, lambda stream: _write(stream, facts))
    return plan


def _earlier_files(folder: Folder, names: set[str]) -> list[str]:
    """Files of an earlier run, in order of removal: parts first, as the plan marks them."""
    parts = sorted(name for name in names if _PART.fullmatch(name))
    earlier = [*parts, *(name for name in (PLAN, INPUTS) if name in names)]
    strange = sorted(name for name in names.difference(earlier) if not name.startswith("."))
    if strange or (parts and PLAN not in names):
        example = (strange or parts)[0]
        raise ArgumentError(
            f"{folder.text} holds other files, such as {example}. Name a folder that is new or "
            "empty."
        )
    return earlier


class _Fingerprinted:
    def __init__(self, found: Iterable[Found]) -> None:
        self._found = iter(found)
        self._digest = hashlib.sha256()
        self._count = 0

    def __iter__(self) -> Iterator[Found]:
        for item in self._found:
            text = f"{item.kind}\0{item.path}\0{item.size}\0"
            self._digest.update(text.encode("utf-8", "surrogateescape"))  # names of any bytes
            self._count += 1
            yield item

    def fingerprint(self) -> str:
        """Fingerprint of all inputs; iterates over those that are left."""
        for _ in self:
            pass
        return self._digest.hexdigest()

    def problem(self) -> str:
        """Explain why there are no pictures."""
        return "the sources hold none" if self._count else "name a source"


def _write(stream: IO[bytes], facts: Mapping[str, Any]) -> None:
    stream.write(json.dumps(facts, indent=1).encode() + b"\n")


def _read(folder: Folder) -> dict[str, Any]:
    with folder.open(PLAN) as stream:
        try:
            facts: dict[str, Any] = json.loads(stream.read())
            known = facts["convnext_plan"] == FORMAT and facts["shards"] > 0
        except (ValueError, KeyError, TypeError):
            known = False
    if not known:
        raise ArgumentError(
            f"{folder.text}/{PLAN} is not a plan of this version. Name another folder."
        )
    return facts


def _progress(folder: Folder) -> str:
    facts = _read(folder)
    plan = Plan(folder, {}, facts["shards"], None, "")
    return f"{len(plan.done()):,} of {plan.shards:,} shards of an earlier run"


def _resumed(folder: Folder, settings: Mapping[str, Any], fingerprint: str) -> Plan:
    facts = _read(folder)
    theirs = facts["settings"]
    other = [key for key in settings | theirs if theirs.get(key) != settings.get(key)]
    if other:
        differences = "; ".join(
            f"{key}: {_shown(theirs.get(key))} there, {_shown(settings.get(key))} now"
            for key in other
        )
        raise ArgumentError(
            f"{folder.text} holds {_progress(folder)} with other settings ({differences}). Use "
            "the same ones, name another folder, or discard it with --overwrite (overwrite=True)."
        )
    if facts["fingerprint"] != fingerprint:
        raise ArgumentError(
            f"{folder.text} holds {_progress(folder)} on other pictures: files were added, removed "
            "or changed since. Restore them, name another folder, or discard it with --overwrite "
            "(overwrite=True)."
        )
    return Plan(folder, theirs, facts["shards"], facts["pictures"], fingerprint)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
