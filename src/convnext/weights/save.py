"""Save a model's weights, or convert a weights file, to any layout, format and float type.

Tensors are written one at a time. The new file is read back and compared before it replaces the
target. Keras is not imported: a model is anything with layers and variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from tqdm import tqdm

from convnext.architecture import stated
from convnext.atomic import replaced_folder
from convnext.errors import ArgumentError, UnknownNameError, WeightsError
from convnext.images.labels import resolve_labels
from convnext.images.recipe import Preprocess, stated_recipe
from convnext.images.thresholds import Thresholds, with_thresholds
from convnext.segmentation import BINS
from convnext.weights.canonical import arithmetic_of, bins_of, canonical_variables
from convnext.weights.files import LazyTensor, write_weights
from convnext.weights.files.write import FORMATS_BY_SUFFIX
from convnext.weights.info import WeightsInfo, annotation
from convnext.weights.layouts import Recognised, get_layout, recognise, to_foreign
from convnext.weights.layouts.moves import Array
from convnext.weights.load import CanonicalWeights, check_labels, read_weights
from convnext.weights.reports import SaveReport
from convnext.weights.upernet import write_configs

__all__ = ["Float", "convert", "save_weights"]

Float = Literal["float32", "float16", "bfloat16"]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
ANNOTATED = ("safetensors", "h5")  # the formats that have a place for annotations
UNKNOWN = WeightsInfo()


def save_weights(
    model: Any,
    path: str | Path,
    *,
    layout: str = "convnext",
    dtype: Float | None = None,
    info: WeightsInfo = UNKNOWN,
    architecture: object = None,
) -> SaveReport:
    """Write the weights of a model into a file.

    Args:
        model: A Keras model of ours, or a mapping from canonical names to variables or arrays.
        path: The file; its suffix decides the format: .safetensors, .pth, .npz or .h5. With the
            layout huggingface, a segmentation model can also be written into a folder of this name,
            with the configuration that transformers needs.
        layout: How the tensors are named, a key of `convnext.weights.layouts.LAYOUTS`.
        dtype: Float type to write; by default unchanged.
        info: Metadata to write, if the format has a place for it.
        architecture: The architecture, if a mapping lacks it, see `read_weights`.

    Returns:
        A report.

    Raises:
        WeightsMismatchError: The model is no ConvNeXt of ours, or has other layers too.
    """
    variables = model if isinstance(model, Mapping) else canonical_variables(model)
    expected = arithmetic_of(model) if architecture is None else stated(architecture)
    shapes = {name: tuple(v.shape) for name, v in variables.items()}
    found = recognise(shapes, "convnext", expected, info.bins or bins_of(model))
    found.check_arithmetic("these weights")
    tensors = {name: LazyTensor.of(variables[name]) for name in found.sources}
    return _write(tensors, Path(path), _Target(found, layout, dtype, info))


def convert(  # noqa: PLR0913
    source: str | Path,
    target: str | Path,
    *,
    from_layout: str | None = None,
    to_layout: str = "convnext",
    dtype: Float | None = None,
    architecture: object = None,
    preprocess: Preprocess | str | None = None,
    thresholds: Thresholds | None = None,
    progress: bool = True,
) -> SaveReport:
    """Convert weights to another layout, format or float type.

    Args:
        source: A local file or folder, a published checkpoint, or a repository, see `read_weights`.
        target: The file, or with the layout huggingface a folder, see `save_weights`.
        from_layout: Layout of the source; by default recognised.
        to_layout: Layout of the target.
        dtype: Float type to write; by default unchanged.
        architecture: The architecture, if the source lacks it, see `read_weights`.
        preprocess: The preprocessing, if the source lacks it: a `Preprocess`, or one of
            `convnext.images.recipe.NORMALISATIONS`.
        thresholds: Says that the weights are of a multi-label model, with these thresholds, see
            `convnext.images.thresholds.with_thresholds`.
        progress: Whether to show a bar when there is a terminal.

    Returns:
        A report.

    Example:
        convert("convnext_tiny_1k_224_ema.pth", "model.safetensors", to_layout="huggingface")
    """
    with read_weights(source, layout=from_layout, architecture=architecture) as weights:
        info = weights.info
        if preprocess is not None:
            info = replace(info, preprocess=stated_recipe(preprocess, weights.recipe))
        if thresholds is not None:
            info = replace(info, thresholds=_thresholds(weights, thresholds))
        to = _Target(weights.found, to_layout, dtype, info)
        return _write(weights.tensors, Path(target), to, progress)


def _thresholds(weights: CanonicalWeights, given: Thresholds) -> tuple[float, ...] | None:
    """Thresholds of the labels of some weights."""
    if weights.found.segmentation or not weights.num_classes or weights.info.task == "clip":
        raise ArgumentError(f"{weights.source} has no classifier, and so no thresholds of labels.")
    stored = (weights.info.labels, weights.num_classes, weights.source)
    return with_thresholds(resolve_labels(None, *stored), given).thresholds


@dataclass(frozen=True)
class _Target:
    """Options of a file to write."""

    found: Recognised
    layout: str
    dtype: Float | None
    info: WeightsInfo


def _write(
    tensors: Mapping[str, LazyTensor], path: Path, to: _Target, progress: bool = False
) -> SaveReport:
    if not path.suffix and to.layout == "huggingface" and to.found.segmentation:
        return _write_folder(tensors, path, to, progress)
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder. Name a file to write.")
    layout = get_layout(to.layout)
    kind = FORMATS_BY_SUFFIX.get(path.suffix.lower())
    annotated = kind in ANNOTATED
    ours = {name: _cast(tensor, to.dtype) for name, tensor in tensors.items()}
    total = sum(tensor.nbytes for tensor in ours.values())
    foreign = to_foreign(ours, to.layout, to.found.architecture)
    if kind == "h5" and not all("/" in name for name in foreign):
        raise ArgumentError(
            f"{path.name}: an .h5 file is for names as Keras has them, and {to.layout!r} has "
            "others. Write the layout keras_applications (--to keras_applications, V1) or kecam "
            "(--to kecam), or name a file that ends in .safetensors."
        )
    if to.layout != to.found.layout:
        to.found.check_arithmetic(path)
    architecture = to.found.architecture
    if to.layout == "convnext" and not annotated and not architecture.is_usual:
        raise ArgumentError(
            f"A {path.suffix} file has no place for how {architecture.name} computes "
            f"({architecture.arithmetic}). Name a file that ends in .safetensors."
        )
    notes = {} if to.found.possible else annotation(architecture)
    info, head = to.info, to.found.segmentation
    if head is not None:
        unusual = head.kind == "upernet" and head.bins != BINS
        info = replace(info, task="segmentation", bins=head.bins if unusual else None)
        if unusual and not annotated:
            raise ArgumentError(
                f"A {path.suffix} file has no place for the grids of this UPerNet's pooled "
                f"context, {head.bins}. Name a file that ends in .safetensors, or a folder for "
                "transformers (--to huggingface), which has a config.json."
            )
    if info.thresholds is not None and not annotated:
        raise ArgumentError(
            f"A {path.suffix} file has no place to say that this is a multi-label model, and would "
            "be taken for one whose classes exclude one another. Name a file that ends in "
            ".safetensors or .h5."
        )
    if annotated:
        check_labels(info, to.found.num_classes)
    nest = (layout.segmenters_under if head else None) or layout.nested_under
    bar = tqdm(
        total=2 * total,
        desc=path.name,
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    )
    with bar:
        write_weights(
            path,
            foreign,
            {**layout.annotations, **notes, **info.to_metadata()} if annotated else {},
            nested_under=nest if kind == "pth" else None,
            on_progress=bar.update,
            check=lambda file: _verify(file, ours, to.layout, bar.update),
        )
    dropped = not annotated and to.info != UNKNOWN
    return SaveReport(path, to.found.architecture, to.layout, len(foreign), total, to.info, dropped)


def _write_folder(
    tensors: Mapping[str, LazyTensor], path: Path, to: _Target, progress: bool
) -> SaveReport:
    """Write the weights and the configuration of a segmentation model, as transformers does."""
    if path.exists():
        raise ArgumentError(f"{path} exists already. Name a new folder.")
    dtype = to.dtype or str(next(iter(tensors.values())).dtype)
    with replaced_folder(path) as folder:
        report = _write(tensors, folder / "model.safetensors", to, progress)
        write_configs(folder, to.found, to.info, dtype)
    return replace(report, path=path)


def _verify(
    path: Path, written: Mapping[str, LazyTensor], layout: str, on_progress: Callable[[int], object]
) -> None:
    """Read a file back and compare it bit for bit."""
    with read_weights(path, layout=layout) as weights:
        for name, tensor in written.items():
            back = weights.tensors[name].read()
            if back.dtype != tensor.dtype or back.tobytes() != tensor.read().tobytes():
                raise WeightsError(
                    f"{name!r} is not in the file as it was written. The disk or the memory of "
                    "this machine may be faulty; nothing was kept."
                )
            on_progress(tensor.nbytes)


def _cast(tensor: LazyTensor, to: str | None) -> LazyTensor:
    if to is None:
        return tensor
    if to not in DTYPES:
        raise UnknownNameError("float type", to, DTYPES)
    dtype = DTYPES[to]
    return LazyTensor(tensor.shape, dtype, lambda: _rounded(tensor.read(), dtype))


def _rounded(array: Array, dtype: np.dtype[Any]) -> Array:
    """Round to another float type."""
    with np.errstate(over="ignore"):
        rounded = array.astype(dtype)
    if np.isfinite(array).all() and not np.isfinite(rounded).all():
        raise ArgumentError(
            f"A weight of {float(np.abs(array).max()):.3g} is too large for {dtype}. Allowed: "
            "bfloat16, which reaches as far as float32."
        )
    return rounded
