"""Write weights files in this package's layout, and run them in an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from convnext.engines.base import EngineOptions
from convnext.engines.opening import ENGINES
from convnext.exports.spec import ExportSpec, Predict
from convnext.graphs.network import Network
from convnext.weights.load import CanonicalWeights, read_weights
from convnext.weights.save import save_weights

__all__ = ["RUNTIME", "opened", "write"]

RUNTIME = "an engine of this package"


def write(spec: ExportSpec, target: Path) -> None:
    """Write the weights, with the preprocessing for the export's picture size.

    Strides are included only if they do not follow from that size.
    """
    network, weights = spec.network, spec.network.weights
    info = replace(weights.info, preprocess=network.preprocess)
    if _read(spec, replace(weights, info=info)).strides != network.strides:
        info = replace(info, strides=network.strides)
    save_weights(weights.tensors, target, dtype=spec.precision, info=info)  # type: ignore[arg-type]


def opened(spec: ExportSpec, target: Path) -> Predict:
    """Load the file in the first installed engine."""
    name = next(name for name, runtime in ENGINES.items() if runtime.installed())
    options = EngineOptions((spec.output,), "float32", "float32")
    with read_weights(target) as weights:
        return ENGINES[name].open(_read(spec, weights), options).predict


def _read(spec: ExportSpec, weights: CanonicalWeights) -> Network:
    """The network of weights, with the export's sides, which the file lacks if not square."""
    network = Network.of_weights(weights, any_size=spec.network.sides is None)
    return replace(network, sides=spec.network.sides)
