"""A teacher's answers to plain pictures, from `convnext predict --logits`, for all their views."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convnext.data.labelled import Examples
from convnext.data.random_streams import Purpose, stream
from convnext.errors import ArgumentError, listed
from convnext.search import open_vectors
from convnext.train.augment.mixing import Mixer
from convnext.train.distillation.teacher import columns_of, labels_of
from convnext.train.input.loader import TrainingBatch
from convnext.train.input.order import Order
from convnext.train.input.team_order import PairedOrder
from convnext.train.input.worker import candidates
from convnext.train.recipe import Recipe
from convnext.weights.digest import digest
from convnext.weights.info import WeightsInfo

__all__ = ["FixedAnswers", "are_fixed"]

Array = NDArray[np.float32]


def are_fixed(source: str | Path) -> bool:
    """Whether a path is a file of `convnext predict --logits`, and not of weights."""
    path = Path(source)
    if path.suffix.lower() == ".parquet":
        return True
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"ids.npy", "logits.npy"} <= set(archive.namelist())


class FixedAnswers:
    """The answers to plain pictures, for every view of them: a fixed teacher.

    The answers to mixed pictures are their probabilities, at the recipe's temperature, mixed as the
    labels are.

    Args:
        path: A file of `convnext predict --logits`.
        recipe: Of the run.
        examples: Its data.
        order: Their order.
        mixer: Mixes the batches.
        host: Rank of this host and number of hosts.

    Attributes:
        name: Of the teacher.
        digest: Of the file.
        about: A few words for the first message of a run.
        width: Number of classes.

    Raises:
        ArgumentError: The file is damaged, lacks pictures or classes, or the recipe does not allow
            such answers.
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        examples: Examples,
        order: Order,
        mixer: Mixer,
        host: tuple[int, int] = (0, 1),
    ) -> None:
        if not recipe.distill.fixed:
            raise ArgumentError(
                f"{path} holds answers to plain pictures, and a run sees them augmented. Set "
                "distill.fixed=true to learn these answers for all views of a picture, or give "
                "the teacher itself, which answers to each."
            )
        stored = open_vectors(path, "logits")
        pieces = list(stored.pieces())
        logits = np.concatenate([np.zeros((0, stored.width), "f4"), *(p.vectors for p in pieces)])
        rows = _matched([str(name) for p in pieces for name in p.names], examples, path)
        try:
            info = WeightsInfo.from_metadata(json.loads(stored.facts.get("annotations", "{}")))
        except (ValueError, AttributeError) as error:
            raise stored.damaged(error) from error
        self.name = stored.facts.get("model") or str(path)
        labels = labels_of(recipe.distill, examples.classes, info.labels, stored.width, self.name)
        columns = columns_of(labels, examples.classes, self.name)
        self._logits = logits[rows] if columns is None else logits[np.ix_(rows, columns)]
        if not np.isfinite(self._logits).all():
            raise ArgumentError(
                f"{path} holds logits that are no finite numbers. Compute it again."
            )
        self.digest = digest(path)
        self.width = len(examples.classes)
        self.about = f"answers to plain pictures in {path}"
        self._examples = examples
        self._order = order if host == (0, 1) else PairedOrder(order, *host, recipe.run.batch_size)
        self._mixer = mixer
        self._seed = recipe.run.seed
        self._temperature = recipe.distill.temperature

    def answers(self, batch: TrainingBatch) -> Array:
        """Answers for the pictures of a batch."""
        count, height, width, _ = batch.pictures.shape
        start = batch.step * count
        indices = self._order.indices(start, count)
        if batch.bad:
            positions = self._order.positions(start, count)
            indices = self._replaced(indices, positions, {name for name, _ in batch.bad})
        logits: Array = self._logits[indices]
        mixing = stream(self._seed, Purpose.MIXING, batch.step)
        share = self._mixer.draw(height, width, mixing).share
        if share == 1:
            return logits
        logs = logits / np.float32(self._temperature)
        logs -= np.logaddexp.reduce(logs, axis=1, keepdims=True)
        with np.errstate(divide="ignore"):  # a share of 0
            mixed = np.logaddexp(logs + np.log(share), logs[::-1] + np.log1p(-share))
        answers: Array = (self._temperature * mixed).astype(np.float32)
        return answers

    def _replaced(
        self, indices: NDArray[np.int64], positions: NDArray[np.int64], bad: set[str]
    ) -> NDArray[np.int64]:
        """The examples that took the places of unreadable ones."""
        names, found = self._examples, indices.copy()
        for row, (index, position) in enumerate(zip(indices, positions, strict=True)):
            tried = candidates(self._seed, int(position), int(index), len(names))
            found[row] = next(number for number in tried if names.name(number) not in bad)
        return found


def _matched(ids: Sequence[str], examples: Examples, path: Path) -> NDArray[np.int64]:
    """The row of each example, whose name is the end of an id; all ids begin alike before it."""
    rows = {name: row for row, name in enumerate(ids)}
    names = [examples.name(number) for number in range(len(examples))]
    starts = {
        name.removesuffix(names[0])
        for name in rows
        if name == names[0] or name.endswith(f"/{names[0]}")
    }
    lacking = {start: [n for n in names if start + n not in rows] for start in starts or {""}}
    start = min(lacking, key=lambda start: (len(lacking[start]), start))
    if lacking[start]:
        raise ArgumentError(
            f"{path} has no answers to {len(lacking[start]):,} of the {len(names):,} pictures of "
            f"the run: {listed(lacking[start])}. Run `convnext predict --logits` on the same "
            "pictures, and remove those that it cannot read."
        )
    return np.array([rows[start + name] for name in names], np.int64)
