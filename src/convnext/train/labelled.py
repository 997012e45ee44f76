"""Labelled pictures by number: all of a data set, or a part of it.

Why it exists: whoever trains needs any picture at any time, in any process, with its class. How
data sets are found and understood is another file's (`examples`), so that the processes that read
pictures import little.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.errors import ArgumentError, ImageError
from convnext.images.labels import Labels
from convnext.train.stores import ArrayStore, CachedStore, Store
from convnext.train.streams import Purpose, check_seed, stream

__all__ = ["CACHE_BYTES", "CACHE_SIDE", "Examples", "hold_out"]

CACHE_SIDE = 96  # pixels: smaller pictures take less memory than time
CACHE_BYTES = 2**30  # for all pictures of a data set together

_PROBES = 32  # pictures that are looked at before memory is set aside
_HASHED_PICTURES = 64

_log = logging.getLogger("convnext")


class Examples:
    """Labelled pictures.

    Args:
        store: Where they are.
        labels: The class of each, from 0; all 0 where there are no classes.
        naming: What the classes are called; None for pictures without classes.
        rows: The store's row of each; by default all, in order.

    Attributes:
        labels: The class of each picture, int64.
        naming: The classes' names, with WordNet ids where the data has them.
    """

    def __init__(
        self,
        store: Store,
        labels: Sequence[int] | NDArray[Any],
        naming: Labels | None,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._store = store
        self._rows = np.arange(len(store)) if rows is None else rows
        self.labels: NDArray[np.int64] = np.asarray(labels, np.int64)
        self.naming = naming
        if len(self.labels) != len(self._rows):
            raise ArgumentError(f"{len(self.labels)} labels for {len(self._rows)} pictures.")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers; none without labels."""
        return self.naming.names if self.naming else ()

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many pictures each class has."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def fingerprint(self) -> str:
        """A digest of names, labels and classes; of arrays, of some pictures as well."""
        digest = hashlib.sha256(repr((self.classes, len(self))).encode("utf-8", "surrogateescape"))
        digest.update(self.labels.astype("<i8").tobytes())
        for number in range(len(self)):
            digest.update(self.name(number).encode("utf-8", "surrogateescape") + b"\0")
        if isinstance(self._store, ArrayStore):  # whose names say nothing
            for number in _spread(len(self), _HASHED_PICTURES):
                digest.update(self.read(number).tobytes())
        return digest.hexdigest()

    def read(self, number: int) -> Image.Image:
        """One picture, decoded, in RGB.

        Raises:
            ImageError: It cannot be read.
        """
        return self._store.read(int(self._rows[number]))

    def name(self, number: int) -> str:
        """What a picture is called: its path below the data's, or its place in an array."""
        return self._store.name(int(self._rows[number]))

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> Examples:
        """Some of these, in the order given; classes stay the same."""
        chosen = np.asarray(indices, np.int64)
        return Examples(self._store, self.labels[chosen], self.naming, self._rows[chosen])

    def cached(self) -> Examples:
        """The same, kept decoded in memory that processes share, if the pictures are small.

        Nothing is read now but a few of them: each is kept by whoever reads it first. Pictures up
        to `CACHE_SIDE` pixels wide and high are small, if nearly all have one size and all together
        take up to `CACHE_BYTES`. Otherwise these examples themselves come back.
        """
        if self.in_memory:
            return self
        size = self._common_size()
        if size is None or len(self._store) * size[0] * size[1] * 3 > CACHE_BYTES:
            return self
        store = CachedStore(self._store, size)
        _log.info(
            "Keeping up to %d decoded pictures of %d x %d pixels in memory.", len(store), *size
        )
        return Examples(store, self.labels, self.naming, self._rows)

    @property
    def in_memory(self) -> bool:
        """Whether pictures are there, or are kept, as pixels."""
        return isinstance(self._store, ArrayStore | CachedStore)

    def descriptors(self) -> tuple[int, ...]:
        """What a process that is to read these must be started with."""
        return self._store.descriptors()

    def _common_size(self) -> tuple[int, int] | None:
        sizes = set()
        for number in _spread(len(self), _PROBES):
            try:
                sizes.add(self.read(number).size)
            except ImageError:
                continue
            if len(sizes) > 1 or max(max(sizes)) > CACHE_SIDE:
                return None
        return sizes.pop() if sizes else None


def hold_out(examples: Examples, fraction: float, seed: int = 0) -> tuple[Examples, Examples]:
    """Divide examples into some to train on and some to validate with, class by class.

    Every class gives the same share, rounded, but keeps one picture at least, and gives one if it
    has two.

    Args:
        examples: All there are.
        fraction: The share that is held out, between 0 and 1.
        seed: Decides which.

    Returns:
        Those to train on, and those held out, both in their old order.

    Raises:
        ArgumentError: The fraction is not between 0 and 1, or leaves one side without pictures.
    """
    check_seed(seed)
    if not 0 < fraction < 1:
        raise ArgumentError(f"The held-out fraction lies between 0 and 1; got {fraction:g}.")
    held = np.zeros(len(examples), bool)
    for label in np.unique(examples.labels):
        members = np.flatnonzero(examples.labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        drawn = stream(seed, Purpose.HOLDING_OUT, int(label)).permutation(members)
        held[drawn[:count]] = True
    if not held.any():
        raise ArgumentError(
            f"No class of these {len(examples)} pictures has two of them, so none can be held out."
        )
    return examples.subset(np.flatnonzero(~held)), examples.subset(np.flatnonzero(held))


def _spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` numbers below `count`, evenly spread."""
    wanted = min(count, wanted)
    return [place * count // wanted for place in range(wanted)]
