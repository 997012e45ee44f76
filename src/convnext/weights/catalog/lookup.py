"""Find rows of the catalogue by any name; errors suggest similar names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from typing import get_args

from convnext.architecture import VARIANTS, Family
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.images.recipe import Triple
from convnext.weights.catalog.checkpoint import TASKS, Checkpoint
from convnext.weights.catalog.licences import TERMS
from convnext.weights.catalog.published import CHECKPOINTS, DEFAULT_RECIPES

__all__ = [
    "HUB",
    "default_checkpoint",
    "get_checkpoint",
    "licence_notice",
    "list_models",
    "published_normalisations",
]

HUB = ("hf-hub:", "hf_hub:", "https://huggingface.co/", "https://hf.co/")
OURS_FOR_TESTS = "test"  # a size
NEAREST = 4  # architectures to suggest for one without weights


def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    size: str | None = None,
    task: str | None = None,
    licence: str | None = None,
    commercial: bool | None = None,
) -> list[str]:
    """The names of the published checkpoints: V1, V2, timm's for tests, each small to large.

    Args:
        pattern: Shell-style pattern that the whole name must match: `"*.fcmae"`.
        family: `"v1"` or `"v2"`; both by default.
        size: Such as `"tiny"`; all by default.
        task: Their use: `"classification"`, `"segmentation"`, `"embedding"`, `"clip"` or
            `"encoder"`.
        licence: Such as `"MIT"`, in any letter case.
        commercial: Whether their licence allows commercial use.

    Example:
        >>> list_models("*_384", family="v2", size="nano")
        ['convnextv2_nano.fcmae_ft_in22k_in1k_384']
    """
    families = _chosen("family", family, get_args(Family))
    known = dict.fromkeys(row.size for row in VARIANTS.values() if row.family in families)
    del known[OURS_FOR_TESTS]
    sizes = _chosen("size", size, known)
    tasks, licences = _chosen("task", task, TASKS), _chosen("licence", licence, TERMS)
    return [
        row.name
        for row in CHECKPOINTS.values()
        if VARIANTS[row.variant].family in families
        and VARIANTS[row.variant].size in sizes
        and row.task in tasks
        and row.licence in licences
        and commercial in (None, TERMS[row.licence].commercial)
        and fnmatchcase(row.name, pattern.lower())
    ]


def _chosen(kind: str, wanted: str | None, allowed: Iterable[str]) -> list[str]:
    chosen = [name for name in allowed if wanted is None or wanted.lower() == name.lower()]
    if not chosen:
        raise UnknownNameError(kind, wanted, allowed)
    return chosen


def get_checkpoint(name: str) -> Checkpoint:
    """The checkpoint of this name: timm's name, a Hub repository, a TF-Hub handle, or a file name.

    The bare name of an architecture means its default checkpoint. Letter case and the prefixes of
    the Hugging Face Hub do not matter.

    Example:
        >>> get_checkpoint("facebook/convnext-tiny-224").name
        'convnext_tiny.fb_in1k'
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"A checkpoint is named by a string such as 'convnext_tiny.fb_in1k', not "
            f"{type(name).__name__}: {name!r}."
        )
    wanted = name.strip().lower().rstrip("/")
    for prefix in HUB:
        wanted = wanted.removeprefix(prefix)
    if wanted in _rows_by_name():
        return _rows_by_name()[wanted]
    architecture = wanted.partition(".")[0]
    if architecture in VARIANTS and architecture not in DEFAULT_RECIPES:
        raise _never_published(architecture)
    raise UnknownNameError("checkpoint", name, _worth_naming(wanted, architecture))


def default_checkpoint(variant: str) -> Checkpoint:
    """The checkpoint that a bare `weights="imagenet"` means for a variant: see `DEFAULT_RECIPES`.

    Args:
        variant: A key of `convnext.architecture.VARIANTS`.

    Example:
        >>> default_checkpoint("convnext_base").name
        'convnext_base.fb_in22k_ft_in1k'
    """
    if variant not in VARIANTS:
        raise UnknownNameError("architecture", variant, DEFAULT_RECIPES)
    if variant not in DEFAULT_RECIPES:
        raise _never_published(variant)
    return CHECKPOINTS[f"{variant}.{DEFAULT_RECIPES[variant]}"]


def published_normalisations(architecture: str) -> list[tuple[Triple, Triple]]:
    """The means and deviations that published weights of an architecture were trained with.

    Example:
        >>> published_normalisations("convnext_tiny")
        [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    """
    rows = (row.preprocess for row in CHECKPOINTS.values() if row.variant == architecture)
    return list(dict.fromkeys((recipe.mean, recipe.std) for recipe in rows))


def licence_notice(checkpoint: Checkpoint) -> str:
    """One line with the origin and the licence of weights, to show whenever they are used.

    Example:
        >>> licence_notice(get_checkpoint("convnextv2_atto"))  # doctest: +ELLIPSIS
        'Weights convnextv2_atto.fcmae_ft_in1k ... licence CC-BY-NC-4.0 (credit the authors; ...'
    """
    return (
        f"Weights {checkpoint.name} from {checkpoint.origin}, licence {checkpoint.licence} "
        f"({TERMS[checkpoint.licence].demands})."
    )


@cache
def _rows_by_name() -> dict[str, Checkpoint]:
    index = {variant: default_checkpoint(variant) for variant in DEFAULT_RECIPES}
    index.update((name.lower(), row) for row in CHECKPOINTS.values() for name in row.all_names)
    return index


def _worth_naming(wanted: str, architecture: str) -> list[str]:
    """Similar names, to suggest for one that does not exist."""
    if architecture in DEFAULT_RECIPES:
        return [row.name for row in CHECKPOINTS.values() if row.variant == architecture]
    longer = [name for name in _rows_by_name() if wanted and name.startswith(wanted)]
    if longer:
        return longer
    close = difflib.get_close_matches(wanted, _rows_by_name(), n=1, cutoff=0.6)
    if not close:
        return list(DEFAULT_RECIPES)
    variant = _rows_by_name()[close[0]].variant
    return [*close, *(row.name for row in CHECKPOINTS.values() if row.variant == variant)]


def _never_published(variant: str) -> ArgumentError:
    count = VARIANTS[variant].parameter_count()
    nearest = sorted(
        DEFAULT_RECIPES, key=lambda name: abs(VARIANTS[name].parameter_count() - count)
    )
    return ArgumentError(
        f"No weights were ever published for {variant!r}. Published near it: "
        f"{', '.join(nearest[:NEAREST])}. Take one of these, or build {variant!r} with "
        "weights=None and train it."
    )
