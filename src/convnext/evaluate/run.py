"""Run a model over labelled pictures, batch by batch.

Pictures are decoded as in the authors' pipeline: EXIF orientation is ignored and transparency
dropped. (`convnext predict` applies EXIF orientation.)
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convnext.data.datasets import Dataset
from convnext.engines import Engine
from convnext.errors import ArgumentError, ImageError
from convnext.evaluate.accuracy import Accuracy, Tally, judge
from convnext.evaluate.journal import EvaluationRecord, Journal
from convnext.images.batches import DecodedBatch, batches
from convnext.images.decode import decode
from convnext.images.recipe import Preprocess
from convnext.images.sources import Named

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["READ", "BadPicture", "Measured", "evaluate"]

READ = functools.partial(decode, orientation=False, background=None)
"""Decodes pictures like Pillow's `convert("RGB")`, which the authors use."""


@dataclass(frozen=True)
class BadPicture:
    """A picture that could not be read, and the error; it is left out of all results."""

    id: str
    error: str


@dataclass(frozen=True)
class Measured:
    """The result of an evaluation.

    Attributes:
        accuracy: The results over all pictures.
        bad: Pictures that could not be read.
        seconds: Running time, added up over interruptions.
    """

    accuracy: Accuracy
    bad: tuple[BadPicture, ...]
    seconds: float


def evaluate(
    engine: Engine,
    preprocess: Preprocess,
    data: Dataset,
    batch_size: int = 32,
    *,
    journal: Journal | None = None,
    progress: bool = False,
) -> Measured:
    """Measure a model on labelled pictures.

    Args:
        engine: Takes uint8 pixels; its first output is the logits.
        preprocess: The model's recipe.
        data: From `open_dataset`.
        batch_size: Pictures in a batch. Runtimes may round differently for another size.
        journal: From `open_journal`: its pictures are not evaluated again, others are added to it
            batch by batch.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        ArgumentError: The model's classes are not those of the data, or the data changed.

    Example:
        subject = open_subject("convnext_tiny.fb_in1k")
        data = open_dataset("val", subject.classes)
        print(evaluate(subject.engine, subject.preprocess, data).accuracy.correct)
    """
    from tqdm import tqdm

    tally = Tally(len(data.competing) if data.competing else data.classes.count)
    bad: list[BadPicture] = []
    done = journal.records if journal else ()
    _take(done, tally, bad)
    seconds = journal.seconds if journal else 0.0
    disable = None if progress else True  # None: shown on a terminal only
    with tqdm(
        desc="evaluating", initial=len(done), total=len(data.entries), unit="img", disable=disable
    ) as bar:
        began = time.perf_counter()
        for records in _judged(engine, preprocess, data, len(done), batch_size):
            ended = time.perf_counter()
            if journal:
                journal.append(records, ended - began)
            seconds, began = seconds + ended - began, ended
            _take(records, tally, bad)
            _advance(bar, len(records), len(bad))
    return Measured(tally.accuracy(), tuple(bad), seconds)


def _judged(
    engine: Engine, preprocess: Preprocess, data: Dataset, start: int, batch_size: int
) -> Iterator[list[EvaluationRecord]]:
    labels: deque[int] = deque()

    def sources() -> Iterator[Named]:
        for named, label in data.pictures(start):
            labels.append(label)
            yield named

    for batch in batches(sources(), preprocess, batch_size, read=READ):
        yield _judge_batch(engine, data, batch, [labels.popleft() for _ in batch.ids])


def _judge_batch(
    engine: Engine, data: Dataset, batch: DecodedBatch, labels: list[int]
) -> list[EvaluationRecord]:
    count = data.classes.count
    logits = engine.predict(batch.pixels) if len(batch.pixels) else np.zeros((0, count))
    if logits.shape[1:] != (count,):
        raise ArgumentError(
            f"The engine's outputs have shape {logits.shape[1:]}, but there are {count:,} classes. "
            "Open it with outputs='logits', and the data with the model's classes."
        )
    good = [label for position, label in enumerate(labels) if position not in batch.errors]
    outcomes = batch.outcomes(judge(logits, good, data.competing))
    return [
        EvaluationRecord(name, label, None, str(outcome))
        if isinstance(outcome, ImageError)
        else EvaluationRecord(name, label, outcome)
        for (name, outcome), label in zip(outcomes, labels, strict=True)
    ]


def _take(records: Sequence[EvaluationRecord], tally: Tally, bad: list[BadPicture]) -> None:
    for record in records:
        if record.judgement is None:
            bad.append(BadPicture(record.id, record.error or ""))
        else:
            tally.add(record.label, record.judgement)


def _advance(bar: tqdm, pictures: int, bad: int) -> None:
    if bad:
        bar.set_postfix_str(f"{bad} bad", refresh=False)
    bar.update(pictures)
