"""Find the class folders of a data set, and match their names to the classes of a model.

Data sets name classes by WordNet id, number or words. All names of a data set are interpreted in
the same way, or refused in one error, since a wrong match would silently falsify every result.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from convnext.errors import ArgumentError
from convnext.images.labels import Labels, class_number

__all__ = ["Classes", "Naming", "Scheme", "class_level"]

Scheme = Literal["wnid", "name", "index"]

LISTED = 10  # unknown names in an error


@dataclass(frozen=True)
class Naming:
    """The classes of the names in a data set.

    Attributes:
        by: Whether the names are WordNet ids, words or numbers.
        numbers: The class of each name.
        unknown: Names that match no class, if these are allowed.
    """

    by: Scheme
    numbers: Mapping[str, int]
    unknown: tuple[str, ...] = ()


def class_level(paths: Sequence[list[str]], splits: Collection[str] = ()) -> int:
    """Depth of the class folders: of the first folders that differ, or of the last that all share.

    Folders below a class folder belong to it. If a picture is in no folder, the depth is 0.

    Args:
        paths: The parts of each picture's path, the last of which is its own name.
        splits: Names of folders, in lower case, that are no parents of class folders.
    """
    first, last = min(paths), max(paths)
    deepest = min(map(len, paths)) - 2
    level = 0
    while level < deepest and first[level] == last[level] and first[level].lower() not in splits:
        level += 1
    return level


def _fold(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


class _NameIndex:
    """An index of classes by name, exact or ignoring case, hyphens and underscores."""

    def __init__(self) -> None:
        self.spelled: defaultdict[str, set[int]] = defaultdict(set)
        self._folded: defaultdict[str, set[int]] = defaultdict(set)

    def add(self, index: int, *names: str) -> None:
        for name in names:
            self.spelled[name].add(index)
            self._folded[_fold(name)].add(index)

    def find(self, text: str) -> set[int]:
        return self.spelled.get(text) or self._folded.get(_fold(text), set())


@dataclass(frozen=True)
class Classes:
    """The classes of a model.

    Attributes:
        count: Width of its classifier.
        labels: Their names, if known.
        origin: Source of the names, for reports.

    Example:
        >>> pets = Classes(2, Labels(("cat, house cat", "dog")))
        >>> pets.understand(["House_Cat", "dog"]).numbers
        {'House_Cat': 0, 'dog': 1}
    """

    count: int
    labels: Labels | None = None
    origin: str = "none: classes are numbers"

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != self.count:
            raise ArgumentError(
                f"The model has {self.count:,} classes, but {len(self.labels):,} names were given "
                f"({self.origin}). Give a file with one name for each class, in order."
            )

    def name(self, index: int) -> str:
        """The first of a class's names, or its number."""
        return self.labels.short(index) if self.labels else str(index)

    def wnid(self, index: int) -> str | None:
        """A class's WordNet id, if it has one."""
        return self.labels.wnids[index] if self.labels and self.labels.wnids else None

    def understand(
        self,
        texts: Collection[str],
        *,
        what: str = "folder",
        partial: bool = False,
        by: Scheme | None = None,
    ) -> Naming:
        """Find the class of every name: all by WordNet id, else all by words, else all by number.

        Words are any of a class's names, or all of them as in the model's labels. A class's first
        name has precedence over other names of other classes. Case, hyphens and underscores matter
        only between names that differ in nothing else. Numbers count from 0, unless the model's
        labels are numbers (such as 1 to 102), which are words.

        Args:
            texts: The names.
            what: Kind of the names, for the error.
            partial: Whether to return unknown names instead of raising an error.
            by: Kind of the names, if known.

        Raises:
            ArgumentError: A name matches no class, or more than one. Lists all such names.
        """
        if by and by not in self._finders:
            raise ArgumentError(
                "The names of the model's classes are unknown. Give them with --labels."
            )
        finders = {by: self._finders[by]} if by else self._finders
        attempts = {way: {text: find(text) for text in texts} for way, find in finders.items()}
        known = {
            way: sum(len(hits) == 1 for hits in found.values()) for way, found in attempts.items()
        }
        likely = None if any(known.values()) else _likely(texts)
        way = max(known, key=lambda way: (known[way], way == likely))  # the first of equals
        found = attempts[way]
        unknown = sorted(text for text, hits in found.items() if len(hits) != 1)
        if len(unknown) == len(found) or (unknown and not partial):
            raise ArgumentError(self._unknown(way, {text: found[text] for text in unknown}, what))
        numbers = {text: min(hits) for text, hits in found.items() if len(hits) == 1}
        return Naming(way, numbers, tuple(unknown))

    @cached_property
    def _finders(self) -> Mapping[Scheme, Callable[[str], set[int]]]:
        finders: dict[Scheme, Callable[[str], set[int]]] = {}
        if self.labels and self.labels.wnids:
            wnids = {wnid: {index} for index, wnid in enumerate(self.labels.wnids)}
            finders["wnid"] = lambda text: wnids.get(text, set())
        if self.labels:
            finders["name"] = self._by_name
        finders["index"] = self._by_index
        return finders

    def _by_name(self, text: str) -> set[int]:
        return next((hits for names in self._names if (hits := names.find(text))), set())

    @cached_property
    def _names(self) -> tuple[_NameIndex, _NameIndex]:
        """Indexes of first and full names, and of the other names, which are tried second."""
        first, others = _NameIndex(), _NameIndex()
        for index, whole in enumerate(self.labels.names if self.labels else ()):
            name, *synonyms = whole.split(", ")
            first.add(index, whole, name)
            others.add(index, *synonyms)
        return first, others

    def _by_index(self, text: str) -> set[int]:
        number = class_number(text)
        return set() if number is None or number >= self.count else {number}

    def _unknown(self, by: Scheme, unknown: Mapping[str, set[int]], what: str) -> str:
        listed = [self._suggest(by, text, hits) for text, hits in list(unknown.items())[:LISTED]]
        more = f" and {len(unknown) - LISTED:,} more" if len(unknown) > LISTED else ""
        ways = {
            "wnid": "by WordNet id (n01440764)",
            "name": "by name",
            "index": f"by number (0 to {self.count - 1})",
        }
        allowed = ", or all ".join(ways[scheme] for scheme in self._finders)
        return (
            f"{len(unknown):,} {what} name{'s match' if len(unknown) > 1 else ' matches'} no class "
            f"of the model: {', '.join(listed)}{more}. Classes may be named all {allowed}. The "
            f"source of the model's names: {self.origin}; give others with --labels."
        )

    def _suggest(self, by: Scheme, text: str, hits: set[int]) -> str:
        if hits:
            return f"{text!r} (may be class {' or '.join(map(str, sorted(hits)))})"
        if by != "name" or self.labels is None:
            return repr(text)
        spelled = {_fold(name): name for names in self._names for name in names.spelled}
        close = difflib.get_close_matches(_fold(text), spelled, n=1, cutoff=0.6)
        return f"{text!r} (did you mean {spelled[close[0]]!r}?)" if close else repr(text)


def _likely(texts: Collection[str]) -> Scheme:
    """The probable kind of unknown names, for the error."""
    if all(re.fullmatch(r"n\d{8}", text) for text in texts):
        return "wnid"
    return "index" if all(text.isdecimal() for text in texts) else "name"
