"""Weights files of our own layout: written and read back by the weights room, run by an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convnext.engines.base import EngineOptions
from convnext.engines.opening import ENGINES
from convnext.exports.job import Answer, Job
from convnext.graphs.network import Network
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = "an engine of this package"


def write(job: Job, target: Path) -> None:
    """Write the weights, with the recipe for pictures of the job's size."""
    weights = job.network.weights
    info = replace(weights.info, preprocess=job.network.preprocess)
    save_weights(weights.tensors, target, dtype=job.precision, info=info)  # type: ignore[arg-type]


def opened(job: Job, target: Path) -> Answer:
    """The file in the first engine that is installed."""
    name = next(name for name, runtime in ENGINES.items() if runtime.installed())
    options = EngineOptions((job.output,), "float32", "float32")
    with read_weights(target) as weights:
        network = Network(weights, job.network.preprocess, job.network.sides, job.network.strides)
        return ENGINES[name].open(network, options).predict
