"""Layouts: parameter names and axes of other libraries, one table each, used in both directions.

`to_canonical` converts from any layout to our own names, and `to_foreign` back. Arrays become views
if possible. Nothing here opens a file or imports a framework.

    facebook             the authors' checkpoints, dense, V1 and V2
    isotropic            the authors' isotropic checkpoints, V1
    fcmae                files of the authors' FCMAE pretraining, sparse
    huggingface          transformers, classifiers and backbones
    dinov3               transformers' DINOv3ConvNext, V1
    dinov3_facebook      the authors' DINOv3 and EUPE, V1
    open_clip            open_clip's CLIP with a ConvNeXt, the image tower
    timm                 timm
    torchvision          torchvision, V1
    mmpretrain           mmpretrain, and the backbones of OpenMMLab 2
    keras_applications   keras.applications, V1
    kecam                keras_cv_attention_models
    tf_hub               the TF-Hub collection, V1, read only
    convnext             our own
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from convnext.architecture import Architecture, Arithmetic, Shape
from convnext.errors import ArgumentError, UnknownNameError
from convnext.weights.files import LazyTensor
from convnext.weights.layouts.dinov3 import DINOV3, DINOV3_FACEBOOK
from convnext.weights.layouts.facebook import FACEBOOK
from convnext.weights.layouts.fcmae import FCMAE
from convnext.weights.layouts.huggingface import HUGGINGFACE
from convnext.weights.layouts.isotropic import ISOTROPIC
from convnext.weights.layouts.kecam import KECAM
from convnext.weights.layouts.keras_applications import KERAS_APPLICATIONS
from convnext.weights.layouts.mmpretrain import MMPRETRAIN
from convnext.weights.layouts.moves import Tensor, moved
from convnext.weights.layouts.open_clip import OPEN_CLIP
from convnext.weights.layouts.own import OWN
from convnext.weights.layouts.recognition import Recognised
from convnext.weights.layouts.recognition import recognise as _recognise
from convnext.weights.layouts.table import Layout, LayoutRow, expand
from convnext.weights.layouts.tf_hub import TF_HUB
from convnext.weights.layouts.timm import TIMM
from convnext.weights.layouts.torchvision import TORCHVISION

__all__ = [
    "LAYOUTS",
    "Layout",
    "Recognised",
    "foreign_rows",
    "get_layout",
    "recognise",
    "to_canonical",
    "to_foreign",
]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        OWN,
        DINOV3_FACEBOOK,
        FACEBOOK,
        ISOTROPIC,
        FCMAE,
        HUGGINGFACE,
        DINOV3,
        OPEN_CLIP,
        TIMM,
        TORCHVISION,
        MMPRETRAIN,
        KERAS_APPLICATIONS,
        KECAM,
        TF_HUB,
    )
}
"""Every layout by its name."""


def get_layout(name: str) -> Layout:
    """The layout of this name."""
    if name not in LAYOUTS:
        raise UnknownNameError("layout", name, LAYOUTS)
    return LAYOUTS[name]


def recognise(
    shapes: Mapping[str, Shape],
    layout: str | None = None,
    given: Architecture | Arithmetic | None = None,
) -> Recognised:
    """Recognise the layout and the architecture of named shapes.

    Args:
        shapes: Name and shape of every tensor.
        layout: The only layout to try; by default all.
        given: The expected architecture or arithmetic, if known.
    """
    tried = LAYOUTS.values() if layout is None else [get_layout(layout)]
    return _recognise(shapes, tried, given)


def to_canonical(
    foreign: Mapping[str, Tensor],
    layout: str | None = None,
    given: Architecture | Arithmetic | None = None,
) -> dict[str, Tensor]:
    """Convert foreign tensors to our names and axes, in network order.

    Args:
        foreign: Arrays or lazy tensors by their foreign names, with any prefix.
        layout: Their layout; by default recognised.
        given: See `recognise`.
    """
    shapes = {name: tuple(array.shape) for name, array in foreign.items()}
    found = recognise(shapes, layout, given)
    found.check_twins(foreign)
    sources = found.sources.items()
    return {name: moved(source.move.read, foreign[source.name]) for name, source in sources}


def to_foreign(
    canonical: Mapping[str, Tensor], layout: str, architecture: Architecture
) -> dict[str, Tensor]:
    """Convert our tensors to a layout's names and axes.

    Args:
        canonical: Arrays or lazy tensors by canonical names.
        layout: The layout to write.
        architecture: Their architecture.

    Raises:
        ArgumentError: The layout has no name for one of them, or its library would compute
            other results.
    """
    rows = foreign_rows(canonical, layout, architecture)
    to = get_layout(layout)
    _check_fit(canonical, rows, to)
    named = {row.foreign: moved(row.move.write, canonical[name]) for name, row in rows.items()}
    return named | {twin: named[name] for twin, name in to.twins.items() if name in named}


def _check_fit(ours: Mapping[str, Any], rows: Mapping[str, LayoutRow], to: Layout) -> None:
    """Refuse tensors that a layout's library cannot hold."""
    misfit = to.misfit(ours) if to.misfit else None
    lost = [name for name in ours if name not in rows and np.any(LazyTensor.of(ours[name]).read())]
    if lost:
        misfit = f"its network has no {lost[0]}, and this one is not zero."
    if misfit:
        raise ArgumentError(
            f"These weights cannot be written in the layout {to.name!r} ({to.about}): {misfit}"
        )


def foreign_rows(
    names: Collection[str], layout: str, architecture: Architecture
) -> dict[str, LayoutRow]:
    """The layout's row for each canonical name, without implied rows.

    Raises:
        ArgumentError: The layout cannot be written, has no name for one of them, or its library
            would compute other results.
    """
    to = get_layout(layout)
    rows = to.rows_for(architecture) if to.rows_for else to.rows
    decoder_blocks = {n.partition(".")[0] for n in names if n.startswith("decoder_block_")}
    prefix, depths = to.prefix(architecture, names), architecture.depths
    spelled = {row.canonical: row for row in expand(rows, depths, len(decoder_blocks), prefix)}
    nameless = [name for name in names if name not in spelled]
    if nameless or not to.writable or not to.computes(architecture):
        allowed = ", ".join(name for name, other in LAYOUTS.items() if other.writable)
        about = f" It has no name for {', '.join(nameless[:5])}." if nameless else ""
        if not to.computes(architecture):
            about = f" Its library has no network like it, with {architecture.arithmetic}."
        raise ArgumentError(
            f"{architecture.name} cannot be written in the layout {layout!r} ({to.about}).{about} "
            f"Layouts that can be written: {allowed}."
        )
    found = {name: spelled[name] for name in names if not spelled[name].implied}
    if len({row.foreign for row in found.values()}) < len(found):
        raise ArgumentError(
            f"{architecture.name} cannot be written in the layout {layout!r}: it has one name for "
            "the norm of the last feature map and for the one before the classifier."
        )
    return found
