"""The modules of the TF-Hub collection, and new ones named like them, as data.

A name consists of architecture, training data and size of the pictures: `convnext_base_21k_1k_384`
was trained on 21841 classes and fine-tuned on ImageNet-1k at 384 pixels.

References:
    The collection: https://tfhub.dev/sayakpaul/collections/convnext/1
    The accuracies of its Keras models: README of github.com/sayakpaul/ConvNeXt-TF
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.evaluate.table import COLLECTION
from convnext.weights.catalog import CHECKPOINTS, Checkpoint, get_checkpoint

__all__ = ["MODULES", "PUBLISHER", "VERSION", "HubModule", "get_module", "list_modules"]

PUBLISHER = "sayakpaul"
VERSION = 1
EXTRACTOR = "_fe"
HANDLE = re.compile(
    r"(?:https?://(?:www\.)?tfhub\.dev/)?(?P<publisher>[\w-]+)/(?P<name>[\w-]+)/(?P<version>\d+)/?"
)
SUGGESTED = 5


@dataclass(frozen=True)
class HubModule:
    """A module of the collection.

    Attributes:
        name: Such as `"convnext_tiny_1k_224"`; feature extractors end in `_fe`.
        checkpoint: The catalogue's name of its weights.
        feature_extractor: Whether its output is a vector instead of logits.
        in_collection: Whether it is in the TF-Hub collection, not new.
        keras_top1: ImageNet-1k accuracy in percent that the collection publishes for its Keras
            model, whose pictures were resized differently from the authors'.
    """

    name: str
    checkpoint: str
    feature_extractor: bool = False
    in_collection: bool = False
    keras_top1: float | None = None

    @property
    def row(self) -> Checkpoint:
        """Its checkpoint in the catalogue."""
        return CHECKPOINTS[self.checkpoint]

    @property
    def architecture(self) -> str:
        """A key of `convnext.architecture.VARIANTS`."""
        return self.row.variant

    @property
    def resolution(self) -> int:
        """Side of its pictures."""
        return self.row.resolution

    @property
    def num_classes(self) -> int:
        """Number of logits; 0 for a feature extractor."""
        return 0 if self.feature_extractor else self.row.num_classes

    @property
    def original_top1(self) -> float | None:
        """ImageNet-1k accuracy in percent that the authors published."""
        return self.row.top1

    @property
    def handle(self) -> str | None:
        """Its address on TF-Hub; None for new modules."""
        return (
            f"https://tfhub.dev/{PUBLISHER}/{self.name}/{VERSION}" if self.in_collection else None
        )


# New modules: name pattern, training recipe of the checkpoint, sizes.
NEW_V1 = (
    ("convnext_{size}_21k_224", "fb_in22k", ("tiny", "small")),
    ("convnext_{size}_21k_1k_224", "fb_in22k_ft_in1k", ("tiny", "small")),
    ("convnext_{size}_21k_1k_384", "fb_in22k_ft_in1k_384", ("tiny", "small")),
)
NEW_V2 = (
    (
        "convnextv2_{size}_1k_224",
        "fcmae_ft_in1k",
        ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"),
    ),
    ("convnextv2_{size}_21k_1k_224", "fcmae_ft_in22k_in1k", ("nano", "tiny", "base", "large")),
    (
        "convnextv2_{size}_21k_1k_384",
        "fcmae_ft_in22k_in1k_384",
        ("nano", "tiny", "base", "large", "huge"),
    ),
    ("convnextv2_{size}_21k_1k_512", "fcmae_ft_in22k_in1k_512", ("huge",)),
)


def _classifiers() -> Iterator[HubModule]:
    for name, top1 in COLLECTION.items():
        row = get_checkpoint(name)
        yield HubModule(name, row.name, in_collection=True, keras_top1=top1)
    for family, rows in (("convnext", NEW_V1), ("convnextv2", NEW_V2)):
        for name, recipe, sizes in rows:
            for size in sizes:
                yield HubModule(name.format(size=size), f"{family}_{size}.{recipe}")


def _modules() -> Iterator[HubModule]:
    classifiers = list(_classifiers())
    yield from classifiers
    for module in classifiers:
        yield replace(module, name=module.name + EXTRACTOR, feature_extractor=True, keras_top1=None)


MODULES = MappingProxyType({module.name: module for module in _modules()})
"""Every module by its name: the collection's classifiers, new ones, then the feature extractors."""


def list_modules(pattern: str = "*", *, feature_extractors: bool | None = None) -> list[str]:
    """The names of the modules.

    Args:
        pattern: Shell-style pattern that the whole name must match.
        feature_extractors: Whether to list these or the classifiers; by default both.

    Example:
        >>> list_modules("convnext_tiny_1k_*")
        ['convnext_tiny_1k_224', 'convnext_tiny_1k_224_fe']
    """
    return [
        module.name
        for module in MODULES.values()
        if fnmatchcase(module.name, pattern.lower())
        and feature_extractors in (None, module.feature_extractor)
    ]


def get_module(name: str) -> HubModule:
    """The module of this name or handle.

    Args:
        name: Such as `"convnext_tiny_1k_224"`, `"sayakpaul/convnext_tiny_1k_224/1"`, or the
            latter's address on tfhub.dev.

    Raises:
        UnknownNameError: There is no such module; suggests similar names.

    Example:
        >>> get_module("https://tfhub.dev/sayakpaul/convnext_base_21k_1k_384_fe/1").checkpoint
        'convnext_base.fb_in22k_ft_in1k_384'
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"A module's name must be a string such as 'convnext_tiny_1k_224', not "
            f"{type(name).__name__}: {name!r}."
        )
    wanted = name.strip().lower()
    if match := HANDLE.fullmatch(wanted):
        wanted = match["name"]
        if match["publisher"] != PUBLISHER:
            raise ArgumentError(
                f"{name!r} is a handle of {match['publisher']!r}. Allowed: names such as "
                f"'convnext_tiny_1k_224', and handles of {PUBLISHER!r}."
            )
        if int(match["version"]) != VERSION and wanted in MODULES:
            raise ArgumentError(f"{name!r}: there is version {VERSION} only. Give that.")
    if wanted not in MODULES:
        raise UnknownNameError("module of the TF-Hub collection", name, _near(wanted))
    return MODULES[wanted]


def _near(wanted: str) -> list[str]:
    """Names to suggest for one that does not exist: similar ones, or all classifiers."""
    name = wanted.rstrip("/").rpartition("/")[2] or wanted
    close = difflib.get_close_matches(name, MODULES, n=SUGGESTED, cutoff=0.6)
    return close or list_modules(feature_extractors=False)
