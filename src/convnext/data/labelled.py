"""Labelled pictures with random access, which any process can read.

Data sets are opened in `examples`, so that the processes that read pictures import little.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convnext.data.random_streams import Purpose, check_seed, stream
from convnext.data.stores import ArrayStore, CachedStore, Store
from convnext.errors import ArgumentError, ImageError
from convnext.images.labels import Labels

__all__ = ["CACHE_BYTES", "CACHE_SIDE", "Examples", "hold_out"]

CACHE_SIDE = 96  # pixels: up to this size, decoded pictures are worth their memory
CACHE_BYTES = 2**30  # for all pictures of a data set together

_PROBES = 32  # pictures whose size is read before memory is allocated
_HASHED_PICTURES = 64

_log = logging.getLogger("convnext")

Some = TypeVar("Some", bound="Examples")


class Examples:
    """Labelled pictures.

    Args:
        store: The pictures.
        labels: The class of each, from 0; all 0 if there are no classes.
        naming: Class names; None for pictures without classes.
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
        """Class names in the order of their numbers; empty without labels."""
        return self.naming.names if self.naming else ()

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of pictures of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def fingerprint(self) -> str:
        """Digest of names, labels and classes; for arrays, also of some pictures."""
        digest = hashlib.sha256(repr((self.classes, len(self))).encode("utf-8", "surrogateescape"))
        digest.update(self._label_bytes())
        for number in range(len(self)):
            digest.update(self.name(number).encode("utf-8", "surrogateescape") + b"\0")
        if isinstance(self._store, ArrayStore):  # their names are only numbers
            for number in _spread(len(self), _HASHED_PICTURES):
                digest.update(self.read(number).tobytes())
        return digest.hexdigest()

    def _label_bytes(self) -> bytes:
        return self.labels.astype("<i8").tobytes()

    def read(self, number: int) -> Image.Image:
        """Read a picture, decoded to RGB.

        Raises:
            ImageError: It cannot be read.
        """
        return self._store.read(int(self._rows[number]))

    def name(self, number: int) -> str:
        """Name of a picture: its path below the data's, or its index in an array."""
        return self._store.name(int(self._rows[number]))

    def target_form(self, side: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """Shape and type of the target of an example whose picture has this side."""
        del side
        return (), np.int64

    def example(
        self,
        number: int,
        transform: Callable[[Image.Image, np.random.Generator], NDArray[np.float32]],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], Any]:
        """Read an example and transform its picture; returns this and the target, its class.

        Raises:
            ImageError: It cannot be read.
        """
        return transform(self.read(number), rng), int(self.labels[number])

    def subset(self, indices: Sequence[int] | NDArray[Any]) -> Self:
        """Select examples, in the order given; the classes stay the same."""
        chosen = np.asarray(indices, np.int64)
        found = copy.copy(self)
        found.labels, found._rows = self.labels[chosen], self._rows[chosen]
        return found

    def cached(self) -> Self:
        """Cache decoded pictures in memory shared by processes, if they are small.

        The process that reads a picture first stores it. Pictures are small if nearly all have one
        size, up to `CACHE_SIDE` pixels wide and high, and take up to `CACHE_BYTES` together. If
        they are not, these examples are returned unchanged.
        """
        if self.in_memory:
            return self
        size = self._common_size()
        if size is None or len(self._store) * size[0] * size[1] * 3 > CACHE_BYTES:
            return self
        found = copy.copy(self)
        found._store = CachedStore(self._store, size)
        _log.info(
            "Keeping up to %d decoded pictures of %d x %d pixels in memory.",
            len(self._store),
            *size,
        )
        return found

    @property
    def in_memory(self) -> bool:
        """Whether decoded pictures are in memory, or will be cached there."""
        return isinstance(self._store, ArrayStore | CachedStore)

    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that a process must inherit to read these."""
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


def hold_out(examples: Some, fraction: float, seed: int = 0) -> tuple[Some, Some]:
    """Hold out a fraction of the examples of each class for validation.

    The number is rounded, but every class keeps one picture at least, and of two gives one.

    Args:
        examples: All examples.
        fraction: The fraction to hold out, between 0 and 1.
        seed: Selects the pictures.

    Returns:
        Training examples and held-out examples, both in their original order.

    Raises:
        ArgumentError: The fraction is not between 0 and 1, or one side would be empty.
    """
    check_seed(seed)
    if not 0 < fraction < 1:
        raise ArgumentError(f"The fraction to hold out is between 0 and 1; got {fraction:g}.")
    held = np.zeros(len(examples), bool)
    for label in np.unique(examples.labels):
        members = np.flatnonzero(examples.labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        drawn = stream(seed, Purpose.HOLDING_OUT, int(label)).permutation(members)
        held[drawn[:count]] = True
    if not held.any():
        raise ArgumentError(
            f"None of the {len(examples)} pictures can be held out: every class has a single one. "
            "Add pictures, or pass validation data."
        )
    return examples.subset(np.flatnonzero(~held)), examples.subset(np.flatnonzero(held))


def _spread(count: int, wanted: int) -> list[int]:
    """Choose up to `wanted` indices below `count`, evenly spread."""
    wanted = min(count, wanted)
    return [index * count // wanted for index in range(wanted)]
