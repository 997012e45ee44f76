"""What is to be done, cut into shards and written down once, before anything is computed.

Why it exists: if the cut is fixed, a shard is the same whoever computes it and whenever, so nothing
is lost or repeated when a worker or the whole run is killed. A shard is done when its file is
there. A run that goes on compares what it was asked with what is written here, and refuses to mix.

The folder then holds `_plan.json`, `_inputs` with the pictures of every shard, and
`part-00000-of-00040.parquet` and so on. Readers of Parquet folders pass over names with a `_`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from convnext.errors import ArgumentError
from convnext.scale.finding import PLAN, Found
from convnext.scale.inputs import INPUTS, Item, items_of, write_inputs
from convnext.scale.places import Folder
from convnext.scale.tables import TableColumns

__all__ = ["Mode", "Plan", "open_plan", "part_name"]

Mode = Literal["new", "resume", "overwrite"]

FORMAT = 1
_SHOWN = 80
_PART = re.compile(r"part-\d{5,}-of-\d{5,}\.parquet")


@dataclass(frozen=True)
class Plan:
    """A plan that is written down.

    Attributes:
        folder: Where the answers go.
        settings: Everything that they depend on, but for the pictures.
        shards: How many.
        pictures: How many in all; None if that is not known before they are read.
        fingerprint: Of the inputs' names and sizes.
    """

    folder: Folder
    settings: Mapping[str, Any]
    shards: int
    pictures: int | None
    fingerprint: str

    def part(self, shard: int) -> str:
        """The name of a shard's file."""
        return part_name(shard, self.shards)

    def done(self) -> list[int]:
        """The shards whose files are there."""
        names = self.folder.names()
        return [shard for shard in range(self.shards) if self.part(shard) in names]


def part_name(shard: int, shards: int) -> str:
    """The name of a shard's file.

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
    """Write a plan, or take up the one that is there.

    Args:
        folder: Where the answers go.
        found: Every input, in order.
        items: The items of each shard, if not those of `found`.
        settings: Everything that answers depend on; plain JSON.
        mode: `"new"` refuses a folder with a plan; `"resume"` goes on with it, if it is the same;
            `"overwrite"` removes it with what was computed, once all inputs have been looked at.

    Raises:
        ArgumentError: The folder holds something else, the plan is another, or an input cannot be
            read.
    """
    settings = json.loads(json.dumps(settings))
    names = folder.names()
    told = _Told(found)
    if PLAN in names and mode == "resume":
        return _taken_up(folder, settings, told.fingerprint())
    if PLAN in names and mode == "new":
        raise ArgumentError(
            f"{folder.text} holds {_progress(folder)}. Go on with --resume (resume=True), discard "
            "them with --overwrite (overwrite=True), or name another folder."
        )
    earlier = _ours(folder, names)

    def make_way(shards: int) -> None:
        told.fingerprint()
        if not shards:
            raise ArgumentError(f"There are no pictures: {told.problem()}.")
        for name in earlier:
            folder.remove(name)

    shard_size, columns = settings["shard_size"], TableColumns(**settings["columns"])
    shards, pictures = write_inputs(
        folder, items or items_of(told, shard_size, columns), before=make_way
    )
    plan = Plan(folder, settings, shards, pictures, told.fingerprint())
    facts = {
        "convnext_plan": FORMAT,
        "shards": shards,
        "pictures": pictures,
        "fingerprint": plan.fingerprint,
        "settings": settings,
    }
    folder.put(PLAN, lambda stream: _write(stream, facts))
    return plan


def _ours(folder: Folder, names: set[str]) -> list[str]:
    """What an earlier run left, as it is to be removed: parts without a plan would be nobody's."""
    parts = sorted(name for name in names if _PART.fullmatch(name))
    ours = [*parts, *(name for name in (PLAN, INPUTS) if name in names)]
    strange = sorted(name for name in names.difference(ours) if not name.startswith("."))
    if strange or (parts and PLAN not in names):
        example = (strange or parts)[0]
        raise ArgumentError(
            f"{folder.text} holds files that are not ours, such as {example}. Name an empty folder "
            "or one that is not there."
        )
    return ours


class _Told:
    """The inputs as they pass by, and what they were."""

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
        """Of all inputs, also of those that have not passed by yet."""
        for _ in self:
            pass
        return self._digest.hexdigest()

    def problem(self) -> str:
        """Why there is no picture among them."""
        return "what was given holds none" if self._count else "no source was given"


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
            f"{folder.text}/{PLAN} is no plan of this version. Name another folder."
        )
    return facts


def _progress(folder: Folder) -> str:
    facts = _read(folder)
    plan = Plan(folder, {}, facts["shards"], None, "")
    return f"{len(plan.done()):,} of {plan.shards:,} shards of an earlier run"


def _taken_up(folder: Folder, settings: Mapping[str, Any], fingerprint: str) -> Plan:
    facts = _read(folder)
    theirs = facts["settings"]
    other = [key for key in settings | theirs if theirs.get(key) != settings.get(key)]
    if other:
        differences = "; ".join(
            f"{key}: {_shown(theirs.get(key))} there, {_shown(settings.get(key))} now"
            for key in other
        )
        raise ArgumentError(
            f"{folder.text} holds {_progress(folder)} with other settings ({differences}). Give "
            "the same, or another folder, or discard it with --overwrite (overwrite=True)."
        )
    if facts["fingerprint"] != fingerprint:
        raise ArgumentError(
            f"{folder.text} holds {_progress(folder)} on other pictures: files have come, gone or "
            "changed since. Restore them, or name another folder, or discard what is there with "
            "--overwrite (overwrite=True)."
        )
    return Plan(folder, theirs, facts["shards"], facts["pictures"], fingerprint)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
