"""Accuracy, log-loss and calibration from logits and labels.

Sums are exact and rounded once, so results do not depend on the order of pictures or on batches.
Ties between logits have a defined order.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BINS",
    "Accuracy",
    "Bin",
    "ClassAccuracy",
    "Confusion",
    "Judgement",
    "Tally",
    "judge",
    "wilson",
]

TOP_K = 5
BINS = 15
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


class Judgement(NamedTuple):
    """The evaluation of the logits of one picture; all None if they are not finite.

    Attributes:
        prediction: The class with the largest logit; of equal ones, the first.
        rank: Number of classes before the right one: 0 if the prediction is right.
        log_probability: Natural logarithm of the right class's probability.
        confidence: Probability of the prediction.
    """

    prediction: int | None
    rank: int | None
    log_probability: float | None
    confidence: float | None


def judge(
    logits: NDArray[Any], labels: Sequence[int], competing: Sequence[int] | None = None
) -> list[Judgement]:
    """Evaluate the logits of some pictures.

    Classes are ranked by logit, equal logits by class number; so constant logits predict class 0.
    Logits that are not all finite give an empty judgement.

    Args:
        logits: `[pictures, classes]`.
        labels: The right class of each picture.
        competing: The classes to choose from, sorted; by default all. Probabilities are among
            these.

    Example:
        >>> [(prediction, rank, *_)] = judge(np.array([[0.0, 2.0, 1.0]]), [2])
        >>> prediction, rank
        (1, 1)
    """
    classes = np.arange(logits.shape[1]) if competing is None else np.asarray(competing)
    chosen = logits if competing is None else logits[:, classes]
    answered = np.isfinite(chosen).all(1)
    values = np.where(answered[:, None], chosen, 0).astype(np.float64)
    right = np.searchsorted(classes, labels)[:, None]
    of_right = np.take_along_axis(values, right, 1)
    earlier = np.arange(len(classes)) < right
    ranks = ((values > of_right) | (earlier & (values == of_right))).sum(1)
    largest = values.max(1)
    total = np.exp(values - largest[:, None]).sum(1)
    log_probabilities = of_right[:, 0] - largest - np.log(total)
    columns = (classes[values.argmax(1)], ranks, log_probabilities, 1 / total)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Judgement(*row) if valid else Judgement(None, None, None, None)
        for row, valid in zip(rows, answered, strict=True)
    ]


@dataclass(frozen=True)
class Bin:
    """Pictures with a confidence above `low` and up to `high`.

    Attributes:
        low: Lower end, not included.
        high: Upper end, included.
        pictures: Number of pictures.
        confidence: Their mean confidence; None without pictures.
        accuracy: Their share of right predictions; None without pictures.
    """

    low: float
    high: float
    pictures: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class ClassAccuracy:
    """Counts of right predictions for the pictures of one class."""

    index: int
    pictures: int
    correct: int
    within_5: int


@dataclass(frozen=True)
class Confusion:
    """Number of pictures of class `label` that were predicted as class `prediction`."""

    label: int
    prediction: int
    pictures: int


@dataclass(frozen=True)
class Accuracy:
    """The results over all pictures.

    Attributes:
        pictures: Number of pictures.
        unanswered: Number of pictures whose logits are not finite. They count as wrong in top-1
            and top-5, and are left out of log-loss and calibration.
        correct: Number of right predictions.
        within_5: Number of pictures whose right class is among the first five; None with five or
            fewer competing classes.
        log_loss: Mean of the negative natural logarithm of the right class's probability.
        ece: Expected calibration error: mean over pictures of |accuracy - mean confidence| of their
            bin, of 15 bins of equal width (Guo et al. 2017, arXiv 1706.04599).
        bins: Those bins.
        classes: Every class with pictures, in order.
        confusions: Every confusion, most frequent first, then by class.
    """

    pictures: int
    unanswered: int
    correct: int
    within_5: int | None
    log_loss: float | None
    ece: float | None
    bins: tuple[Bin, ...]
    classes: tuple[ClassAccuracy, ...]
    confusions: tuple[Confusion, ...]


class Tally:
    """Accumulates judgements, in 28 bytes each.

    Args:
        competing: Number of classes the model chooses from.
    """

    def __init__(self, competing: int) -> None:
        self._competing = competing
        self._labels, self._predictions, self._ranks = array("i"), array("i"), array("i")
        self._log_probabilities, self._confidences = array("d"), array("d")
        self._unanswered: Counter[int] = Counter()

    def add(self, label: int, judgement: Judgement) -> None:
        """Add one picture."""
        prediction, rank, log_probability, confidence = judgement
        if prediction is None or rank is None or log_probability is None or confidence is None:
            self._unanswered[label] += 1
            return
        self._labels.append(label)
        self._predictions.append(prediction)
        self._ranks.append(rank)
        self._log_probabilities.append(log_probability)
        self._confidences.append(confidence)

    def accuracy(self) -> Accuracy:
        """The results over all pictures added so far."""
        labels, ranks = np.array(self._labels), np.array(self._ranks)
        predictions = np.array(self._predictions)
        answered, unanswered = len(labels), self._unanswered.total()
        bins = self._bins(ranks == 0)
        wrong = Counter(
            zip(labels[ranks > 0].tolist(), predictions[ranks > 0].tolist(), strict=True)
        )
        gaps = math.fsum(
            bin.pictures * abs(bin.accuracy - bin.confidence)
            for bin in bins
            if bin.accuracy is not None and bin.confidence is not None
        )
        return Accuracy(
            pictures=answered + unanswered,
            unanswered=unanswered,
            correct=int((ranks == 0).sum()),
            within_5=int((ranks < TOP_K).sum()) if self._competing > TOP_K else None,
            log_loss=-math.fsum(self._log_probabilities) / answered if answered else None,
            ece=gaps / answered if answered else None,
            bins=bins,
            classes=self._classes(labels, ranks),
            confusions=tuple(
                Confusion(*pair, count)
                for pair, count in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
            ),
        )

    def _bins(self, correct: NDArray[np.bool_]) -> tuple[Bin, ...]:
        edges = np.arange(BINS + 1) / BINS
        confidences = np.array(self._confidences)
        numbers = np.searchsorted(edges[1:], confidences)
        bins = []
        for number in range(BINS):
            members = numbers == number
            count = int(members.sum())
            mean = math.fsum(confidences[members]) / count if count else None
            share = int(correct[members].sum()) / count if count else None
            bins.append(Bin(float(edges[number]), float(edges[number + 1]), count, mean, share))
        return tuple(bins)

    def _classes(self, labels: NDArray[Any], ranks: NDArray[Any]) -> tuple[ClassAccuracy, ...]:
        pictures = Counter(labels.tolist()) + self._unanswered
        correct = Counter(labels[ranks == 0].tolist())
        within_5 = Counter(labels[ranks < TOP_K].tolist())
        return tuple(
            ClassAccuracy(index, pictures[index], correct[index], within_5[index])
            for index in sorted(pictures)
        )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson's score), valid for shares near 0 and 1 too.

    Example:
        >>> low, high = wilson(41_033, 50_000)  # 82.066 %
        >>> f"{low:.4f} {high:.4f}"
        '0.8173 0.8240'
    """
    if not trials:
        return 0.0, 1.0
    share, square = successes / trials, _Z * _Z
    centre = share + square / (2 * trials)
    spread = _Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    scale = 1 + square / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
