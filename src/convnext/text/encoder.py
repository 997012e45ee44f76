"""`TextEncoder`: texts as vectors of length 1, on OpenVINO, ONNX Runtime or Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.engines.opening import ENGINES, choose_runtime
from convnext.errors import ArgumentError, ArgumentTypeError
from convnext.processors import available_processors
from convnext.text.tokenizer import VOCABULARY_FILES, read_tokenizer
from convnext.text.tower import TextWeights, read_text_tower

__all__ = ["TextEncoder"]

Array = NDArray[Any]
Compute = Callable[[Array, Array], Array]
"""Computes vectors `[n, width]` from tokens `[n, length]` and the positions of the ends `[n]`."""

BATCH = 64  # texts, of about the same length


class TextEncoder:
    """Computes vectors of texts with a CLIP model's text tower, in float32.

    Args:
        model: A file or folder in open_clip's layout, the name of a published checkpoint, or a
            repository on the Hugging Face Hub.
        engine: One of `convnext.engines.opening.ENGINES`, or `"auto"` for the first installed.
        threads: Number of threads; by default the available processors.

    Attributes:
        width: Numbers in a vector.
        scale: Factor of the product of a text's vector and a picture's, for logits.
        bias: Added to the logits; 0 in published checkpoints.

    Raises:
        WeightsMismatchError: The model has no text tower.
        ArgumentError: There is no vocabulary beside the weights.
        MissingDependencyError: tokenizers, ftfy or the engine is not installed.

    Example:
        encoder = TextEncoder("laion/CLIP-convnext_base_w-laion2B-s13B-b82K")
        cat, dog = encoder(["a photo of a cat", "a photo of a dog"])
    """

    def __init__(
        self, model: str | Path, engine: str = "auto", *, threads: int | None = None
    ) -> None:
        choose_runtime(engine)  # before a download
        with read_text_tower(model) as weights:
            if weights.vocabulary is None:
                raise ArgumentError(
                    f"There is no vocabulary beside {model}. Put {VOCABULARY_FILES[0]} or "
                    f"{VOCABULARY_FILES[1]} there, from the repository of the weights; any of "
                    "CLIP's have it."
                )
            self._tokenizer = read_tokenizer(weights.vocabulary)
            self.width, self.length = weights.tower.outputs, weights.tower.length
            self.scale, self.bias = weights.scale, weights.bias
            self._compute = _opened(weights, engine, threads or available_processors())

    def __call__(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Compute the vectors of texts; what is beyond the tower's length is ignored.

        Returns:
            `[texts, width]`, each of length 1.
        """
        every = list(texts)
        if isinstance(texts, str) or not all(isinstance(text, str) for text in every):
            raise ArgumentTypeError("Texts are a list of strings.")
        tokens, ends = self._tokenizer(every, self.length)
        vectors = np.empty((len(every), self.width), np.float32)
        order = np.argsort(ends, kind="stable")
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            # Positions after the end change nothing, as attention is causal.
            longest = int(ends[batch].max()) + 1
            vectors[batch] = self._compute(tokens[batch, :longest], ends[batch])
        return vectors


def _opened(weights: TextWeights, engine: str, threads: int) -> Compute:
    if engine == "auto":
        engine = next(name for name, runtime in ENGINES.items() if runtime.installed())
    return OPENERS[engine](weights, threads)


def _openvino(weights: TextWeights, threads: int) -> Compute:
    from convnext.graphs.untracked_openvino import core, ov
    from convnext.text.openvino import build

    settings = {
        "INFERENCE_PRECISION_HINT": ov.Type.f32,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core().compile_model(build(weights), "CPU", settings)

    def compute(tokens: Array, ends: Array) -> Array:
        request = compiled.create_infer_request()  # so that calls may be concurrent
        vectors: Array = request.infer([tokens, ends])[0]
        return vectors

    return compute


def _onnxruntime(weights: TextWeights, threads: int) -> Compute:
    import onnxruntime as ort

    from convnext.text.onnx import build

    graph = build(weights)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
    options.add_external_initializers(list(graph.weights), values)
    session = ort.InferenceSession(
        graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def compute(tokens: Array, ends: Array) -> Array:
        vectors: Array = session.run(["vectors"], {"tokens": tokens, "ends": ends})[0]
        return vectors

    return compute


def _keras(weights: TextWeights, threads: int) -> Compute:
    del threads
    from convnext.engines.keras import choose_backend

    choose_backend()
    from convnext.nn.text import build_text_model
    from convnext.weights.canonical import canonical_variables

    model = build_text_model(weights.tower)
    for name, variable in canonical_variables(model).items():
        variable.assign(weights.values(name))
    return lambda tokens, ends: np.asarray(model.predict_on_batch([tokens, ends]), np.float32)


OPENERS: dict[str, Callable[[TextWeights, int], Compute]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "keras": _keras,
}
