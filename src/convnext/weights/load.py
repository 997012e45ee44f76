"""Load weights: a file in any layout, a published checkpoint, or a repository on the Hub.

`read_weights` gives arrays, and `load_weights` fills a Keras model. Both are strict, see `fit`.
Values are read one tensor at a time. Keras is not imported: a model is anything with layers and
variables.
"""

from __future__ import annotations

import functools
import logging
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convnext.architecture import ARCHITECTURES, Architecture, Arithmetic, stated
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    UnknownNameError,
    UnstatedError,
    WeightsFileError,
    WeightsMismatchError,
)
from convnext.images.recipe import NORMALISATIONS, SEGMENTATION, Preprocess
from convnext.steps import Shape
from convnext.weights.beside import CONFIG, Beside, read_beside
from convnext.weights.bundled import BUNDLED, bundled_path
from convnext.weights.canonical import activation_of, bins_of, canonical_variables
from convnext.weights.catalog import (
    forbids_commerce,
    get_checkpoint,
    published_normalisations,
)
from convnext.weights.channels import STEM, for_channels
from convnext.weights.download import fetch
from convnext.weights.files import LazyTensor, WeightsFile, open_weights
from convnext.weights.fit import Fit, Head, fit
from convnext.weights.info import WeightsInfo, stated_in
from convnext.weights.layouts import Recognised, get_layout, recognise
from convnext.weights.layouts.keras_archive import variable_path
from convnext.weights.layouts.moves import Array, moved
from convnext.weights.layouts.recognition import described
from convnext.weights.reports import LoadReport
from convnext.weights.repository import fetch_repository, repository_named

__all__ = [
    "CanonicalWeights",
    "Variable",
    "assign",
    "check_labels",
    "forget_pages",
    "load_weights",
    "read_weights",
    "unknown_weights",
]


CACHE_LINE = 64 // np.dtype(np.float32).itemsize  # numbers


class Variable(Protocol):
    """The interface of Keras variables that loading uses."""

    @property
    def shape(self) -> Any:
        """Its shape."""

    def assign(self, value: Any) -> Any:
        """Set its values."""


@dataclass(frozen=True)
class CanonicalWeights:
    """Weights with canonical names, readable while their file is open.

    Attributes:
        tensors: Every tensor by canonical name, in network order.
        found: The layout and architecture that were recognised.
        info: Metadata of the weights.
        source: Where they come from, for messages.
        path: Their local file or folder; None for weights in memory.
    """

    tensors: Mapping[str, LazyTensor]
    found: Recognised
    info: WeightsInfo
    source: str
    path: Path | None = None

    @property
    def architecture(self) -> Architecture:
        """The architecture."""
        return self.found.architecture

    @property
    def variant(self) -> Architecture:
        """Another name of `architecture`."""
        return self.architecture

    @property
    def recipe(self) -> Preprocess | None:
        """Preprocessing of pictures; None if their normalisation is unknown.

        Without metadata it is known for libraries that have only one normalisation, for
        architectures whose published weights all have the same, and for our own files, which mean
        ImageNet's.
        """
        if self.info.preprocess is not None:
            return self.info.preprocess
        usual = SEGMENTATION if self.found.segmentation else Preprocess()
        arithmetic = get_layout(self.layout).arithmetic
        ways = published_normalisations(self.architecture.name)
        if arithmetic == "usual" or (arithmetic == "usual_if_unpublished" and not ways):
            return usual
        return replace(usual, mean=ways[0][0], std=ways[0][1]) if len(ways) == 1 else None

    def check_recipe(self) -> None:
        """Refuse weights whose normalisation of pixels is unknown.

        Raises:
            UnstatedError: It is unknown: published weights differ, or there are none.
        """
        if self.recipe is not None:
            return
        names = {way: name for name, way in NORMALISATIONS.items()}
        ways = published_normalisations(self.architecture.name)
        known = " or ".join(names.get(way, str(way)) for way in ways) or "nothing is known of it"
        raise UnstatedError(
            f"{self.source} does not say how pixels are normalised (published weights of "
            f"{described(self.architecture)}: {known}). Say so: preprocess='imagenet' "
            f"(--mean-std imagenet; also: {', '.join(list(NORMALISATIONS)[1:])}, or a whole "
            "Preprocess in Python). `convnext convert` writes it into a file once and for all."
        )

    @property
    def num_classes(self) -> int:
        """Number of classes, of the whole picture or of each pixel; 0 without a head for them."""
        return self.found.num_classes

    @property
    def layout(self) -> str:
        """Name of the file's layout."""
        return self.found.layout


@contextmanager
def read_weights(
    source: str | Path, *, layout: str | None = None, architecture: object = None
) -> Iterator[CanonicalWeights]:
    """Open weights in any layout, with canonical names and axes.

    Args:
        source: A local file or folder, `"bundled"` for the weights that come with the package, the
            name of a published checkpoint, or a repository on the Hugging Face Hub, `owner/name`.
        layout: Its layout; by default recognised.
        architecture: The name of an architecture, an `Architecture`, or its arithmetic, if the file
            lacks it (see `convnext.architecture.stated`).

    Raises:
        WeightsFileError: The file cannot be read.
        WeightsMismatchError: The file holds no complete ConvNeXt.
        WeightsUnavailableError: The checkpoint cannot be downloaded.

    Example:
        with read_weights("convnext_tiny_1k_224_ema.pth") as weights:
            kernel = weights.tensors["stem_conv.kernel"].read()
    """
    path, info, row = _resolve(source)
    option = None if architecture is None else stated(architecture)
    with open_weights(path) as file:
        with _about(source):
            there = _named(file)
            beside = read_beside(path) if row is None else Beside()
            own = WeightsInfo.from_metadata(file.metadata)
            info = info or _completed(own, beside.info)
            expected = option or row or stated_in(file.metadata)
            found = _recognised(there, layout, expected, beside, info.bins)
            found.check_twins(there)
            info = _with_task(info, found)
            check_labels(info, found.num_classes)
        if info.notice:
            _announce(info.notice, restricted=forbids_commerce(info.licence))
        tensors = {
            name: moved(origin.move.read, there[origin.name])
            for name, origin in found.sources.items()
        }
        if beside.bgr and own == WeightsInfo():  # what this package wrote takes red first
            tensors[STEM] = moved(_turned, tensors[STEM])
        yield CanonicalWeights(tensors, found, info, str(source), path)


def _turned(kernel: Array) -> Array:
    """A kernel for pictures with red first, of one for blue first."""
    return kernel[:, :, ::-1]


def _recognised(
    there: Mapping[str, LazyTensor],
    layout: str | None,
    expected: Architecture | Arithmetic | None,
    beside: Beside,
    bins: tuple[int, ...] | None,
) -> Recognised:
    """Recognise tensors, as the expected architecture or else as the files beside them say."""
    try:
        found = recognise(_shapes(there), layout, expected or beside.architecture, bins)
    except WeightsMismatchError as error:
        if expected or beside.architecture is None:
            raise
        raise WeightsMismatchError(
            f"{error} (The {CONFIG} beside them says {described(beside.architecture)}; naming the "
            "architecture yourself goes before that.)"
        ) from error
    beside.check(found.num_classes)
    return found


@functools.cache
def _announce(notice: str, *, restricted: bool) -> None:
    """Log a licence notice once in a process.

    A licence that forbids commercial use is a warning, which shows without configuring logging.
    """
    logging.getLogger("convnext").log(logging.WARNING if restricted else logging.INFO, notice)


def _named(file: WeightsFile) -> Mapping[str, LazyTensor]:
    """The file's tensors; those of a Keras archive are named by their layers."""
    if file.format not in ("keras", "weights.h5"):
        return file.tensors
    shapes = _shapes(file.tensors)
    named = {
        variable_path(name, shapes, file.metadata): tensor for name, tensor in file.tensors.items()
    }
    if len(named) < len(file.tensors):
        raise WeightsMismatchError(
            "Two layers of this Keras archive have the same name. Save one model on its own."
        )
    return named


def _completed(own: WeightsInfo, beside: WeightsInfo) -> WeightsInfo:
    """Metadata from the file, completed from the files beside it."""
    missing = {f.name: getattr(beside, f.name) for f in fields(own) if getattr(own, f.name) is None}
    return replace(own, **missing)


def _with_task(info: WeightsInfo, found: Recognised) -> WeightsInfo:
    """The metadata with the task that the tensors or their layout tell."""
    if found.segmentation:
        return replace(info, task="segmentation")
    if info.task is None and found.num_classes:
        return replace(info, task=get_layout(found.layout).task)
    return info


def check_labels(info: WeightsInfo, num_classes: int) -> None:
    """Refuse more or fewer labels, or thresholds, than classes.

    Raises:
        WeightsFileError: Their numbers differ.
    """
    for name, values in (("labels", info.labels), ("thresholds", info.thresholds)):
        if num_classes and isinstance(values, tuple) and len(values) != num_classes:
            raise WeightsFileError(
                f"There are {len(values)} {name} for a head of {num_classes} classes. Give as "
                f"many {name} as classes, in order."
            )


@contextmanager
def _about(source: object) -> Iterator[None]:
    """Put the name of the weights before errors raised inside."""
    try:
        yield
    except (WeightsMismatchError, WeightsFileError) as error:
        raise type(error)(f"{source}: {error}") from error


def unknown_weights(source: object, error: UnknownNameError) -> ArgumentError:
    """The error for a name that is neither a file nor a published checkpoint."""
    return ArgumentError(
        f"{source!r} is neither a file on this machine nor a published checkpoint. {error}"
    )


def _resolve(source: str | Path) -> tuple[Path, WeightsInfo | None, Architecture | None]:
    """The file to open, and its metadata and architecture if it is in the catalogue."""
    if not isinstance(source, str | Path):
        raise ArgumentTypeError(
            f"Weights come from a path or a name, not {type(source).__name__}: {source!r}."
        )
    # Path.exists raises for an invalid name.
    if isinstance(source, Path) or os.path.exists(source):  # noqa: PTH110
        return Path(source), None, None
    if source == BUNDLED:
        return bundled_path(), None, None
    try:
        checkpoint = get_checkpoint(source)
    except UnknownNameError as error:
        repository = repository_named(source)
        if repository:
            return fetch_repository(repository, near=error.suggestion), None, None
        raise unknown_weights(source, error) from error
    fetched = fetch(checkpoint)
    return fetched.path, WeightsInfo.of_checkpoint(checkpoint), ARCHITECTURES[checkpoint.variant]


def assign(
    variables: Mapping[str, Variable],
    tensors: Mapping[str, LazyTensor] | Mapping[str, Array],
    head: Head = "keep",
) -> Fit:
    """Fill variables with tensors of the same canonical names; all of them, or none.

    Args:
        variables: Variables by canonical name.
        tensors: Arrays or lazy tensors by canonical name.
        head: `"new"` keeps the values of the classifier.

    Returns:
        The variables that were filled and those that were not.

    Raises:
        WeightsMismatchError: The weights do not fit; nothing was assigned.
    """
    fitted = fit(_shapes(variables), _shapes(tensors), head)
    for name in fitted.filled:
        tensor = tensors[name]
        values = tensor.read() if isinstance(tensor, LazyTensor) else tensor
        variables[name].assign(_own_copy(values))
        forget_pages(values)
    return fitted


def _own_copy(values: Array) -> Array:
    """A contiguous float32 copy of the values.

    Backends differ in whether they take read-only, transposed or half-precision views of a file.
    """
    copy = np.empty(values.shape, np.float32)
    # Linear layers are transposed views. NumPy copies in the order of the source, so one copy would
    # write each number to another cache line, which is five times slower.
    for start in range(0, values.shape[-1], CACHE_LINE):
        columns = slice(start, start + CACHE_LINE)
        copy[..., columns] = values[..., columns]
    return copy


def forget_pages(values: Array) -> None:
    """Release the memory of a mapped file's pages; the system keeps them in its cache."""
    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    # A writable map would lose what was written to it.
    if isinstance(base, mmap.mmap) and memoryview(base).readonly and sys.platform != "win32":
        base.madvise(mmap.MADV_DONTNEED)


def _shapes(tensors: Mapping[str, Any]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _check_bins(model: Any, weights: CanonicalWeights) -> None:
    """Refuse a UPerNet whose context is pooled to other grids, which no shape shows."""
    head, ours = weights.found.segmentation, bins_of(model)
    if head is not None and ours not in (None, head.bins):
        raise WeightsMismatchError(
            f"{weights.source}: its UPerNet pools the last map to the grids {head.bins}, the model "
            f"to {ours}. Build the model with the file's."
        )


def _check_activation(model: Any, weights: CanonicalWeights) -> None:
    """Refuse a softmax after the classifier of a multi-label model."""
    if weights.info.thresholds is not None and activation_of(model) == "softmax":
        raise WeightsMismatchError(
            f"{weights.source} is a multi-label model, and the model given ends in a softmax, for "
            "classes that exclude one another. Build it with classifier_activation='sigmoid', or "
            "None for logits."
        )


def load_weights(
    model: Any,
    source: str | Path,
    *,
    head: Head = "keep",
    layout: str | None = None,
    adapt_channels: bool = False,
) -> LoadReport:
    """Fill a Keras model of ours with weights from a file, a checkpoint or a repository.

    Args:
        model: A model, as `create_convnext_v1` and `create_convnext_v2` return it.
        source: A local file or folder, the name of a published checkpoint, or a
            repository on the Hugging Face Hub, `owner/name`.
        head: `"new"` keeps the model's initial classifier, to train on other classes.
        layout: The file's layout; by default recognised.
        adapt_channels: Whether to adapt weights for another number of channels, see
            `convnext.weights.channels`.

    Returns:
        A report of the variables loaded and not loaded.

    Raises:
        WeightsMismatchError: The weights do not fit; nothing was assigned.
    """
    with read_weights(source, layout=layout) as weights:
        variables, tensors = canonical_variables(model), weights.tensors
        _check_bins(model, weights)
        if head == "keep":
            _check_activation(model, weights)
        if adapt_channels and STEM in variables:
            tensors = for_channels(tensors, variables[STEM].shape[2])
        with _about(weights.source):
            fitted = assign(variables, tensors, head)
        return LoadReport(weights.source, weights.found, weights.info, fitted)
