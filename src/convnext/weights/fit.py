"""Match the tensors of a file with the variables of a model, by names and shapes alone.

Every tensor is used once and every variable is filled. Exceptions are whole parts, never single
tensors, and all are reported:

- parts that the model lacks are left in the file: a classifier or a decoder;
- with `head="new"` the model keeps its own classifiers, of pictures or of pixels, and any other
  part after the encoder that the file lacks (the norm after pooling, a dense-prediction backbone's
  norms, a segmentation head, a decoder).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from convnext.errors import UnknownNameError, WeightsMismatchError
from convnext.steps import Shape
from convnext.weights.layouts import Recognised, recognise
from convnext.weights.layouts.misfit import Misfit
from convnext.weights.layouts.recognition import described

__all__ = ["Fit", "Head", "fit"]

# First words of parameters' names, and the parts of the network that these belong to.
CLASSIFIERS = {
    "head": "head",
    "segment_classify": "classifier of pixels",
    "auxiliary_classify": "auxiliary classifier of pixels",
}
PARTS = {
    **CLASSIFIERS,
    "head_hidden": CLASSIFIERS["head"],
    "head_projection": CLASSIFIERS["head"],
    "head_norm": "head norm",
    "map_norm": "head norm",
    "feature": "feature norms",
    "decoder": "decoder",
    "segment": "segmentation head",
    "auxiliary": "auxiliary head",
}

Head = Literal["keep", "new"]


@dataclass(frozen=True)
class Fit:
    """The variables that a file fills and those that it does not.

    Attributes:
        filled: Variables that are read from the file, by canonical name.
        fresh: Variables that keep their values.
        unused: Tensors of the file that the model lacks.
    """

    filled: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def fit(model: Mapping[str, Shape], file: Mapping[str, Shape], head: Head = "keep") -> Fit:
    """Match a model's variables with a file's tensors.

    Args:
        model: Canonical name and shape of every variable.
        file: Canonical name and shape of every tensor.
        head: `"keep"` for the file's classifier, `"new"` for the model's own.

    Raises:
        WeightsMismatchError: They do not fit; lists all differences and likely causes.
    """
    if head not in get_args(Head):
        raise UnknownNameError("head", head, get_args(Head))
    parts_of_model = {_part(name) for name in model}
    parts_of_file = {_part(name) for name in file}
    lacking = parts_of_model - parts_of_file - {"encoder"}
    own = {*CLASSIFIERS.values(), *lacking} if head == "new" else set()
    foreign = own | (parts_of_file - parts_of_model - {"encoder"})
    fresh = tuple(name for name in model if _part(name) in own)
    unused = tuple(name for name in file if _part(name) in foreign)
    wanted = {name: shape for name, shape in model.items() if _part(name) not in own}
    given = {name: shape for name, shape in file.items() if _part(name) not in foreign}
    misfit = Misfit(
        missing=[name for name in wanted if name not in given],
        left_over=[name for name in given if name not in wanted],
        mismatched=[
            (name, given[name], shape)
            for name, shape in wanted.items()
            if given.get(name, shape) != shape
        ],
    )
    if misfit:
        absent = {_part(name): None for name in wanted if _part(name) not in parts_of_file}
        raise misfit.error("These weights do not fit the model.", _causes(model, file, absent))
    return Fit(tuple(wanted), fresh, unused)


def _part(name: str) -> str:
    """The part of the network that a parameter belongs to."""
    layer = name.partition(".")[0]
    return PARTS.get(layer) or PARTS.get(layer.partition("_")[0], "encoder")


def _causes(
    model: Mapping[str, Shape], file: Mapping[str, Shape], absent: Collection[str]
) -> list[str]:
    """Likely causes of a mismatch, in sentences."""
    have, need = _recognised(file), _recognised(model)
    if have is None or need is None:
        return []
    theirs, ours = have.architecture, need.architecture
    if theirs.family != ours.family:
        return [
            f"This is a {theirs.family.upper()} checkpoint; the model is {ours.family.upper()}."
        ]
    if not theirs.same_encoder(ours):
        return [f"The file holds {described(theirs)}; the model is {described(ours)}."]
    causes = []
    if have.channels != need.channels:
        causes.append(
            f"The file takes pictures with {have.channels} channels, the model with "
            f"{need.channels}: give the model {have.channels}."
        )
    if have.layer_scale and not need.layer_scale:
        causes.append("The file has layer scale: build the model with layer_scale_init_value=1e-6.")
    if need.layer_scale and not have.layer_scale:
        causes.append(
            "The file has no layer scale: build the model with layer_scale_init_value=None."
        )
    one, other = have.segmentation, need.segmentation
    if one and other and (one.kind, one.width) != (other.kind, other.width):
        causes.append(
            f"The file's segmentation head is {one.kind} with {one.width} channels, the model's "
            f"{other.kind} with {other.width}: build the model with the file's."
        )
    elif absent:
        causes.append(
            f"The file has no {' and no '.join(absent)} ({have.kind}): pass head='new' to "
            "begin with the model's own, untrained."
        )
    elif need.num_classes not in (0, have.num_classes):
        causes.append(
            f"The file's head has {have.num_classes} classes, the model's {need.num_classes}: pass "
            "head='new' to begin with the model's own, untrained."
        )
    return causes


def _recognised(shapes: Mapping[str, Shape]) -> Recognised | None:
    try:
        return recognise(shapes, "convnext")
    except WeightsMismatchError:
        return None
