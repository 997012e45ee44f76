"""A model, opened: its weights, what is done to pictures, what classes are called, its engines.

Why it exists: whoever shows pictures to a model has to know all of that, and finding it out takes
opening the weights. A session does so once and keeps the file mapped, however many engines it
opens. It knows nothing of where pictures come from or of what becomes of answers.

    session = Session.open("convnext_tiny.fb_in1k")
    outputs = session.run(pixels, ("logits", "embedding"))
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convnext.architecture import parameters
from convnext.engines import Engine
from convnext.engines.base import Array, EngineOptions, Precision
from convnext.engines.opening import choose_runtime, opened_network
from convnext.engines.quantizing import calibration_of, check_calibration
from convnext.errors import ArgumentError, WeightsFileError
from convnext.graphs.network import Network
from convnext.images.labels import Labels, Names, resolve_labels
from convnext.images.recipe import Preprocess
from convnext.images.sources import Sources
from convnext.images.transform import normalise
from convnext.int8.calibration import Calibration
from convnext.weights.digest import digest

__all__ = ["Session"]


class Session:
    """A model that answers, made by `Session.open`. Safe to use from several threads.

    Its weights can be read until it is closed or forgotten; engines that are open do not need them.

    Attributes:
        network: Weights, recipe and geometry.
        info: What is known about the weights, such as their licence.
        source: Where they come from, for messages.
        variant: The architecture.
        num_classes: Width of the classifier; 0 where there is none, as in CLIP's image towers.
        vector_width: Numbers in an embedding.
        preprocess: What is done to pictures.
        strides: Of the stem and the downsamplings.
        has_names: Whether anybody said what the classes are called.
        engine_name: What computes, as it was asked for.
        options: What engines are opened with.
        engines: Those that are open, by their outputs.
    """

    def __init__(
        self,
        network: Network,
        engine_name: str,
        options: EngineOptions,
        calibration: Calibration | Sources | None,
        labels: Names | None,
        release: Callable[[], object],
    ) -> None:
        self._release = weakref.finalize(self, release)
        self.network = network
        self.info = network.weights.info
        self.source = network.weights.source
        self.variant = network.variant
        self.num_classes = 0 if network.is_clip else network.num_classes
        self.vector_width = network.width("embedding")
        self.preprocess = network.preprocess
        self.strides = network.strides
        self.has_names = labels is not None or self.info.labels is not None
        self.engine_name = engine_name
        self.options = options
        self.engines: dict[tuple[str, ...], Engine] = {}
        self._calibration = calibration
        self._labels = labels
        self._stamp = _stamp(network.weights.path)
        self._lock = threading.RLock()

    @classmethod
    def open(  # noqa: PLR0913
        cls,
        model: Any,
        *,
        engine: str = "auto",
        precision: Precision = "auto",
        calibration: Calibration | Sources | None = None,
        device: str = "auto",
        threads: int | None = None,
        size: int | None = None,
        any_size: bool = False,
        preprocess: Preprocess | str | None = None,
        architecture: object = None,
        labels: Names | None = None,
    ) -> Session:
        """Open a model's weights; engines, labels and a calibration follow when they are needed.

        Args:
            model: The name of a published checkpoint, a weights file in any layout, weights from
                `read_weights` or a Keras model of this package.
            engine: What computes, see `convnext.engines.open_engine`.
            precision: What it computes in.
            calibration: What `"int8"` needs, see `convnext.engines.open_engine`.
            device: The runtime's name of a device.
            threads: How many; by default as many processors as this process may use.
            size: Side of the pictures, if not that of the recipe.
            any_size: Whether batches of every picture size are taken.
            preprocess: What is done to pictures, if not what the weights say: a `Preprocess`, or
                one of `convnext.images.recipe.NORMALISATIONS`.
            architecture: What a file does not say of its network, see `read_weights`.
            labels: What the classes are called, if not what the weights say.

        Raises:
            ConvNeXtError: The weights cannot be read, or an option makes no sense.
        """
        # A Keras model has no place for a recipe, so it is followed before the engine.
        kind: Any = "float32" if hasattr(model, "get_layer") else "uint8"
        options = EngineOptions((), kind, precision, device, threads)
        check_calibration(calibration, precision)
        held = ExitStack()
        network = held.enter_context(
            opened_network(
                model, size, any_size=any_size, preprocess=preprocess, architecture=architecture
            )
        )
        return cls(network, engine, options, calibration, labels, held.close)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the weights. Engines that are open go on, and no others can be opened."""
        self._release()
        self.network = replace(self.network, weights=replace(self.network.weights, tensors={}))

    @functools.cached_property
    def digest(self) -> str | None:
        """Which weights these are; None of weights that are in no file."""
        path = self.network.weights.path
        return None if path is None else digest(path)

    @functools.cached_property
    def labels(self) -> Labels:
        """What the classes are called.

        Raises:
            ArgumentError: There are more or fewer names than classes.
        """
        return resolve_labels(self._labels, self.info.labels, self.num_classes, self.source)

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """How int8 rounds: found once, however many engines there are. None for other precisions.

        Raises:
            ArgumentError: No picture can be read.
            MissingDependencyError: OpenVINO, which finds it, is not installed.
        """
        if self._calibration is None:
            return None
        self._check_readable()
        return calibration_of(self.network, self._calibration)

    @functools.cached_property
    def head(self) -> Mapping[str, Array]:
        """The parameters behind the last feature map."""
        self._check_readable()
        names = parameters(self.variant.head_steps(self.num_classes))
        return {name: np.array(self.network.values(name)) for name in names}

    def check_pictures(self) -> None:
        """Refuse a network that pictures made by the recipe cannot be shown to.

        Raises:
            ArgumentError: It takes other channels, or another size.
            UnstatedError: It is not known how pixels are normalised.
        """
        size = self.preprocess.size
        if not self.network.recipe_known:
            self.network.weights.check_recipe()
        if self.network.channels != 3:
            raise ArgumentError(
                f"{self.source} takes {self.network.channels} channels, and pictures have 3. "
                "Prepare the arrays yourself and use open_engine(..., input='float32')."
            )
        if self.network.sides not in (None, (size, size)):
            raise ArgumentError(
                f"{self.source} takes pictures of {self.network.sides}, and pictures are made "
                f"{size} x {size}. Save its weights to a file, which runs at every size."
            )

    def engine(self, *outputs: str) -> Engine:
        """What computes these outputs: opened when first asked for, with a graph of its own.

        A graph that gave more would be fused differently and, in bfloat16, answer differently.

        Args:
            outputs: Some of `convnext.graphs.network.OUTPUTS`. Each set of them that is asked for
                holds the weights in memory once more.

        Raises:
            ConvNeXtError: The engine is not installed, or cannot do what is asked.
        """
        if outputs not in self.engines:
            with self._lock:
                if outputs not in self.engines:
                    self.engines[outputs] = self._open(outputs)
        return self.engines[outputs]

    def run(self, pixels: Array, outputs: tuple[str, ...]) -> dict[str, Array]:
        """Each output for a batch of pictures.

        Args:
            pixels: uint8 `[n, size, size, 3]`, as `convnext.images.transform.pixels` gives them.
            outputs: As for `engine`.
        """
        engine = self.engine(*outputs)
        if engine.input.dtype == "float32":
            pixels = normalise(pixels, self.preprocess)
        return engine.predict_all(pixels)

    def _open(self, outputs: tuple[str, ...]) -> Engine:
        self.check_pictures()
        self._check_readable()
        self.network.check_outputs(outputs)
        runtime = choose_runtime(self.engine_name, self.options.precision)
        calibration = self.calibration if runtime.int8 else None
        options = replace(self.options, outputs=outputs, calibration=calibration)
        return runtime.open(self.network, options)

    def _check_readable(self) -> None:
        """Refuse weights that are gone, or others in their place."""
        if not self._release.alive:
            raise ArgumentError(f"{self.source} is closed: open it once more to read its weights.")
        now = _stamp(self.network.weights.path)
        # A file that was replaced is mapped as it was; one that was written over is not.
        if now and self._stamp and now[0] == self._stamp[0] and now != self._stamp:
            raise WeightsFileError(
                f"{self.source} was written over since it was opened, so the weights that were "
                "there cannot be read any more. Open it once more."
            )


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """What tells a file from itself with other content; None for folders and what is gone."""
    if path is None or not path.is_file():
        return None
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
