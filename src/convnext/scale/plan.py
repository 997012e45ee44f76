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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from convnext.errors import ArgumentError
from convnext.scale.finding import Found
from convnext.scale.inputs import INPUTS, Item, items_of, write_inputs
from convnext.scale.places import Folder
from convnext.scale.tables import TableColumns

__all__ = ["PLAN", "Mode", "Plan", "open_plan", "part_name"]

Mode = Literal["new", "resume", "overwrite"]

PLAN = "_plan.json"
FORMAT = 1
_SHOWN = 80


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
            `"overwrite"` removes it with what was computed.

    Raises:
        ArgumentError: The folder holds something else, the plan is another, or an input cannot be
            read.
    """
    settings = json.loads(json.dumps(settings))
    names = folder.names()
    digest = hashlib.sha256()
    told = _told(found, digest)
    if PLAN in names and mode == "resume":
        for _ in told:
            pass
        return _taken_up(folder, settings, digest.hexdigest())
    if PLAN in names and mode == "new":
        raise ArgumentError(
            f"{folder.text} holds {_progress(folder)}. Go on with --resume (resume=True), discard "
            "them with --overwrite (overwrite=True), or name another folder."
        )
    ours = {name for name in names if name in (PLAN, INPUTS) or name.startswith("part-")}
    strange = sorted(name for name in names - ours if not name.startswith("."))
    if strange or (PLAN not in names and ours - {INPUTS}):
        example = (strange or sorted(ours))[0]
        raise ArgumentError(
            f"{folder.text} holds files that are not ours, such as {example}. Name an empty folder "
            "or one that is not there."
        )
    for name in (PLAN, *sorted(ours - {PLAN})):  # the plan first: without it nothing counts
        folder.remove(name)
    shard_size, columns = settings["shard_size"], TableColumns(**settings["columns"])
    shards, pictures = write_inputs(folder, items or items_of(told, shard_size, columns))
    for _ in told:
        pass
    if not shards:
        folder.remove(INPUTS)
        raise ArgumentError("There are no pictures: no source was given.")
    plan = Plan(folder, settings, shards, pictures, digest.hexdigest())
    facts = {
        "convnext_plan": FORMAT,
        "shards": shards,
        "pictures": pictures,
        "fingerprint": plan.fingerprint,
        "settings": settings,
    }
    folder.put(PLAN, lambda stream: _write(stream, facts))
    return plan


def _told(found: Iterable[Found], digest: Any) -> Iterator[Found]:
    for item in found:
        text = f"{item.kind}\0{item.path}\0{item.size}\0"
        digest.update(text.encode("utf-8", "surrogateescape"))  # a file's name may hold any bytes
        yield item


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
