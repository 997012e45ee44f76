"""Weights files of our own layout: written and read back by the weights room, run by an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convnext.engines.base import EngineOptions
from convnext.engines.opening import ENGINES
from convnext.exports.job import Answer, Job
from convnext.graphs.network import Network
from convnext.weights.load import CanonicalWeights, read_weights
from convnext.weights.save import save_weights

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = "an engine of this package"


def write(job: Job, target: Path) -> None:
    """Write the weights, with the recipe for pictures of the job's size.

    Strides are said where a reader would not find them by that size.
    """
    network, weights = job.network, job.network.weights
    info = replace(weights.info, preprocess=network.preprocess)
    if _read(job, replace(weights, info=info)).strides != network.strides:
        info = replace(info, strides=network.strides)
    save_weights(weights.tensors, target, dtype=job.precision, info=info)  # type: ignore[arg-type]


def opened(job: Job, target: Path) -> Answer:
    """The file in the first engine that is installed."""
    name = next(name for name, runtime in ENGINES.items() if runtime.installed())
    options = EngineOptions((job.output,), "float32", "float32")
    with read_weights(target) as weights:
        return ENGINES[name].open(_read(job, weights), options).predict


def _read(job: Job, weights: CanonicalWeights) -> Network:
    """What a reader makes of weights; only that pictures need not be square is not in a file."""
    network = Network.of_weights(weights, any_size=job.network.sides is None)
    return replace(network, sides=job.network.sides)
