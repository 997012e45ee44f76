"""An opened model: weights, preprocessing, class names and engines.

The weights file is opened once and stays mapped, however many engines the session opens.

    session = Session.open("convnext_tiny.fb_in1k")
    outputs = session.run(pixels, ("logits", "embedding"))
"""

from __future__ import annotations

import functools
import hashlib
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convnext.engines import Engine
from convnext.engines.base import Array, EngineOptions, Precision
from convnext.engines.opening import choose_runtime, opened_network
from convnext.engines.quantizing import calibration_of, check_calibration
from convnext.errors import ArgumentError, WeightsFileError
from convnext.graphs.fold import steps_to
from convnext.graphs.network import Network
from convnext.images.labels import Labels, Names, resolve_labels
from convnext.images.recipe import Preprocess
from convnext.images.sources import Sources
from convnext.images.thresholds import Thresholds, with_thresholds
from convnext.images.transform import normalise
from convnext.int8.calibration import Calibration
from convnext.steps import parameters
from convnext.weights.digest import digest

__all__ = ["Session"]


class Session:
    """An opened model, made by `Session.open`; thread-safe.

    The weights are readable until the session is closed or garbage collected; open engines do not
    need them.

    Attributes:
        network: Weights, preprocessing and geometry.
        info: Metadata of the weights, such as their licence.
        source: Origin of the weights, for messages.
        variant: The architecture.
        num_classes: Number of classes, of the whole picture or of each pixel; 0 without a head for
            them, as in CLIP's image towers.
        vector_width: Numbers in an embedding; 0 for segmentation models, which have none.
        preprocess: The preprocessing of pictures.
        strides: Of the stem and the downsamplings.
        has_names: Whether the classes have names.
        engine_name: The requested engine.
        options: Options of the engines.
        engines: The open engines, by their outputs.
    """

    def __init__(
        self,
        network: Network,
        engine_name: str,
        options: EngineOptions,
        calibration: Calibration | Sources | None,
        labels: Names | None,
        thresholds: Thresholds | None,
        release: Callable[[], object],
    ) -> None:
        self._release = weakref.finalize(self, release)
        self.network = network
        self.info = network.weights.info
        self.source = network.weights.source
        self.variant = network.variant
        self.num_classes = 0 if network.is_clip else network.num_classes
        self.vector_width = 0 if network.segmentation else network.width("embedding")
        self.preprocess = network.preprocess
        self.strides = network.strides
        self.has_names = labels is not None or self.info.labels is not None
        self.engine_name = engine_name
        self.options = options
        self.engines: dict[tuple[str, ...], Engine] = {}
        self._calibration = calibration
        self._labels = labels
        self._thresholds = thresholds
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
        output_stride: int | None = None,
        labels: Names | None = None,
        thresholds: Thresholds | None = None,
    ) -> Session:
        """Open a model's weights. Engines, labels and a calibration are made on first use.

        Args:
            model: The name of a published checkpoint or of a repository on the Hugging Face Hub,
                a weights file in any layout, weights from `read_weights` or a Keras model of this
                package.
            engine: See `convnext.engines.open_engine`.
            precision: The engine's precision.
            calibration: Required by `"int8"`, see `convnext.engines.open_engine`.
            device: The runtime's name of a device.
            threads: Number of threads; by default the available processors.
            size: Side of the pictures, instead of the recipe's.
            any_size: Whether to accept batches of every picture size.
            preprocess: Preprocessing instead of the weights' own: a `Preprocess`, or one of
                `convnext.images.recipe.NORMALISATIONS`.
            architecture: The network, if the file does not determine it, see `read_weights`.
            output_stride: See `convnext.engines.open_engine`.
            labels: Class names instead of the weights' own.
            thresholds: Of a multi-label model, instead of the weights' own, see
                `convnext.images.thresholds.with_thresholds`.

        Raises:
            ConvNeXtError: The weights cannot be read, or an option is not allowed.
        """
        # A Keras model does not normalise, so its pictures are normalised before the engine.
        kind: Any = "float32" if hasattr(model, "get_layer") else "uint8"
        options = EngineOptions((), kind, precision, device, threads)
        check_calibration(calibration, precision)
        opened = ExitStack()
        network = opened.enter_context(
            opened_network(
                model,
                size,
                any_size=any_size,
                preprocess=preprocess,
                architecture=architecture,
                output_stride=output_stride,
            )
        )
        return cls(network, engine, options, calibration, labels, thresholds, opened.close)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the weights. Open engines keep working; no others can be opened."""
        self._release()
        self.network = replace(self.network, weights=replace(self.network.weights, tensors={}))

    @functools.cached_property
    def digest(self) -> str | None:
        """SHA-256 of the weights file; None for weights that are in no file."""
        path = self.network.weights.path
        return None if path is None else digest(path)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the parameters of the embedding, the same in every layout and float32 format.

        Vectors can be compared if the fingerprints of their models are equal.
        """
        self._check_readable()
        found = hashlib.sha256()
        for name in parameters(steps_to(self.network.steps, ("embedding",))):
            # CLIP's projection, whether or not a head of class names follows it.
            found.update(name.replace("head_projection.", "head.").encode())
            found.update(np.ascontiguousarray(self.network.values(name)).data)
        return found.hexdigest()

    @property
    def facts(self) -> dict[str, str]:
        """Name, licence and fingerprint of the model, to store with its vectors."""
        name, licence = self.info.name or "", self.info.licence or ""
        return {"model": name, "licence": licence, "fingerprint": self.fingerprint}

    @functools.cached_property
    def labels(self) -> Labels:
        """The class names, of a multi-label model with its thresholds.

        Raises:
            ArgumentError: The number of names is not the number of classes, or thresholds are given
                for a model whose classes exclude one another.
        """
        found = resolve_labels(self._labels, self.info.labels, self.num_classes, self.source)
        if self.info.thresholds is None:
            if self._thresholds is not None:
                raise ArgumentError(
                    f"{self.source} does not say that it is a multi-label model, so its classes "
                    "exclude one another and have no thresholds. If it is one, "
                    "`convnext convert MODEL NEW.safetensors --threshold 0.5` writes it into a "
                    "file."
                )
            return found
        own = self.info.thresholds
        return with_thresholds(found, own if self._thresholds is None else self._thresholds)

    @functools.cached_property
    def calibration(self) -> Calibration | None:
        """The int8 calibration, computed once for all engines; None for other precisions.

        Raises:
            ArgumentError: None of the calibration pictures can be read.
            MissingDependencyError: OpenVINO, which calibrates, is not installed.
        """
        if self._calibration is None:
            return None
        self._check_readable()
        return calibration_of(self.network, self._calibration)

    @functools.cached_property
    def head(self) -> Mapping[str, Array]:
        """The parameters after the last feature map."""
        self._check_readable()
        names = parameters(self.variant.head_steps(self.num_classes))
        return {name: np.array(self.network.values(name)) for name in names}

    def check_pictures(self) -> None:
        """Refuse a network that does not take preprocessed RGB pictures.

        Raises:
            ArgumentError: It takes another number of channels, or another size.
            UnstatedError: The weights do not say how to normalise pixels.
        """
        size = self.preprocess.size
        if not self.network.recipe_known:
            self.network.weights.check_recipe()
        if self.network.channels != 3:
            raise ArgumentError(
                f"{self.source} takes {self.network.channels} channels, but pictures have 3. "
                "Prepare the arrays yourself and use open_engine(..., input='float32')."
            )
        if self.network.sides not in (None, (size, size)):
            raise ArgumentError(
                f"{self.source} takes pictures of {self.network.sides}, but its preprocessing "
                f"makes {size} x {size}. Save its weights to a file, which runs at every size."
            )

    def check_task(self, *, segmentation: bool) -> None:
        """Refuse a segmentation model, or anything else.

        Args:
            segmentation: Whether a segmentation model is wanted.

        Raises:
            ArgumentError: The model is of the other kind.
        """
        found = self.network.weights.found
        if segmentation and found.segmentation is None:
            raise ArgumentError(
                f"{self.source} is no segmentation model but a {found.kind}. Open it with "
                "convnext.Classifier (`convnext predict`); `convnext list --task segmentation` "
                "shows models that give the class of each pixel."
            )
        if not segmentation and found.segmentation is not None:
            raise ArgumentError(
                f"{self.source} is a {found.kind}, which gives the class of each pixel and not of "
                "the whole picture. Open it with convnext.Segmenter (`convnext segment`)."
            )

    def engine(self, *outputs: str) -> Engine:
        """The engine for these outputs, opened on first use with a graph of its own.

        A graph with more outputs would be fused differently, and differ in bfloat16.

        Args:
            outputs: Some of `convnext.graphs.network.OUTPUTS`. Each set of outputs holds the
                weights in memory once more.

        Raises:
            ConvNeXtError: The engine is not installed, or does not support the options.
        """
        if outputs not in self.engines:
            with self._lock:
                if outputs not in self.engines:
                    self.engines[outputs] = self._open(outputs)
        return self.engines[outputs]

    def run(self, pixels: Array, outputs: tuple[str, ...]) -> dict[str, Array]:
        """Compute outputs for a batch of pictures.

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
        if not self._release.alive:
            raise ArgumentError(f"{self.source} is closed: open it again to read its weights.")
        now = _stamp(self.network.weights.path)
        # The mapping of a replaced file stays valid; that of an overwritten one (same inode) not.
        if now and self._stamp and now[0] == self._stamp[0] and now != self._stamp:
            raise WeightsFileError(
                f"{self.source} was overwritten since it was opened, so its weights cannot be read "
                "any more. Open it again."
            )


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """Inode, size and time of a file, to detect changes; None for folders and missing files."""
    if path is None or not path.is_file():
        return None
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
