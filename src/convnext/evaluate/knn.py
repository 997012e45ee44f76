"""Accuracy of embeddings: classify pictures by their nearest neighbours among labelled ones.

The protocol of DINO, DINOv2 and DINOv3: cosines between embeddings; the `k` nearest vote for their
classes, each with the weight exp(cosine / 0.07). No training, and no classifier.

References:
    Wu et al., https://arxiv.org/abs/1805.01978; Caron et al., https://arxiv.org/abs/2104.14294;
    Siméoni et al., https://arxiv.org/abs/2508.10104 (k of 10 and 20)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from convnext.data.datasets import Dataset
from convnext.errors import ArgumentError
from convnext.evaluate.accuracy import TOP_K
from convnext.evaluate.run import READ, BadPicture
from convnext.images.batches import batches
from convnext.images.sources import Named
from convnext.search.nearest import unit
from convnext.session import Session

__all__ = ["NEIGHBOURS", "TEMPERATURE", "KnnAccuracy", "evaluate_knn", "votes"]

NEIGHBOURS = (10, 20)
TEMPERATURE = 0.07
QUERIES = 256  # compared at once

Array = NDArray[Any]


@dataclass(frozen=True)
class KnnAccuracy:
    """The result of an evaluation by nearest neighbours.

    Attributes:
        neighbours: Number of neighbours.
        pictures: Number of pictures that were classified.
        correct: Of these, with the right class.
        within_5: Of these, with the right class among the first five; None with five classes or
            fewer.
    """

    neighbours: int
    pictures: int
    correct: int
    within_5: int | None


def evaluate_knn(
    session: Session,
    examples: Dataset,
    data: Dataset,
    neighbours: Sequence[int] = NEIGHBOURS,
    batch_size: int = 32,
    *,
    progress: bool = False,
) -> tuple[list[KnnAccuracy], list[BadPicture]]:
    """Classify the pictures of a data set by their neighbours in another.

    Args:
        session: The model, of any kind with an embedding.
        examples: The labelled pictures to be neighbours, of the same classes. Their embeddings are
            held in memory.
        data: The pictures to classify.
        neighbours: Numbers of neighbours to measure.
        batch_size: Pictures in a batch.
        progress: Whether to show a progress bar on a terminal.

    Returns:
        The accuracy for each number of neighbours, and the pictures that could not be read.

    Raises:
        ArgumentError: There are fewer examples than neighbours.
    """
    bad: list[BadPicture] = []
    known, labels = _embedded(session, examples, batch_size, bad, "neighbours", progress)
    if len(known) < max(neighbours):
        raise ArgumentError(
            f"{examples.path} has {len(known)} readable pictures, and {max(neighbours)} neighbours "
            "were to be found. Give more pictures."
        )
    queries, truths = _embedded(session, data, batch_size, bad, "evaluating", progress)
    count = data.classes.count
    found = []
    for number in neighbours:
        scores = votes(known, labels, queries, count, number)
        own = np.take_along_axis(scores, truths[:, None], 1)
        earlier = np.arange(count) < truths[:, None]
        ranks = ((scores > own) | (earlier & (scores == own))).sum(1)
        within = int((ranks < TOP_K).sum()) if count > TOP_K else None
        found.append(KnnAccuracy(number, len(ranks), int((ranks == 0).sum()), within))
    return found, bad


def votes(
    known: Array, labels: Array, queries: Array, classes: int, neighbours: int
) -> NDArray[np.float64]:
    """The sum of the neighbours' votes for each class.

    Args:
        known: `[examples, width]`, each of length 1.
        labels: `[examples]`, class numbers.
        queries: `[n, width]`, each of length 1.
        classes: Number of classes.
        neighbours: Examples that vote.

    Returns:
        `[n, classes]`.
    """
    sums = np.zeros((len(queries), classes))
    for begin in range(0, len(queries), QUERIES):
        rows = slice(begin, begin + QUERIES)
        cosines = queries[rows] @ known.T
        chosen = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
        nearest = np.take_along_axis(cosines, chosen, 1).astype(np.float64)
        weights = np.exp((nearest - 1) / TEMPERATURE)
        for position in range(neighbours):
            np.add.at(
                sums[rows],
                (np.arange(len(cosines)), labels[chosen[:, position]]),
                weights[:, position],
            )
    return sums


def _embedded(
    session: Session,
    data: Dataset,
    batch_size: int,
    bad: list[BadPicture],
    title: str,
    progress: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings of length 1 and labels of the pictures that can be read."""
    vectors, labels, waiting = [], [], []

    def sources() -> Any:
        for named, label in data.pictures():
            waiting.append(label)
            yield Named(named.id, named.source)

    disable = None if progress else True  # None: shown on a terminal only
    with tqdm(desc=title, total=len(data.entries), unit="img", disable=disable) as bar:
        for batch in batches(sources(), session.preprocess, batch_size, read=READ):
            own, waiting[: len(batch.ids)] = waiting[: len(batch.ids)], []
            if len(batch.pixels):
                vectors.append(session.run(batch.pixels, ("embedding",))["embedding"])
            for position, label in enumerate(own):
                if position in batch.errors:
                    bad.append(BadPicture(batch.ids[position], str(batch.errors[position])))
                else:
                    labels.append(label)
            bar.update(len(own))
    width = session.vector_width
    every = np.concatenate(vectors) if vectors else np.empty((0, width), np.float32)
    return unit(every, session.source), np.array(labels, np.int64)
