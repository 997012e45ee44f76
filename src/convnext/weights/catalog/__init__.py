"""The catalogue of published checkpoints, found by any of their names.

`checkpoint` defines a row, and `licences` the terms of licences. One module for each publisher has
its rows, `published` all of them; `lookup` finds them.
"""

from convnext.weights.catalog.checkpoint import (
    TASKS,
    Checkpoint,
    CheckpointTask,
    FileSource,
    HubFile,
    LabelSet,
    Layout,
    Url,
)
from convnext.weights.catalog.licences import TERMS, Licence, Terms, forbids_commerce
from convnext.weights.catalog.lookup import (
    HUB,
    default_checkpoint,
    get_checkpoint,
    licence_notice,
    list_models,
    published_normalisations,
)
from convnext.weights.catalog.published import CHECKPOINTS, DEFAULT_RECIPES

__all__ = [
    "CHECKPOINTS",
    "DEFAULT_RECIPES",
    "HUB",
    "TASKS",
    "TERMS",
    "Checkpoint",
    "CheckpointTask",
    "FileSource",
    "HubFile",
    "LabelSet",
    "Layout",
    "Licence",
    "Terms",
    "Url",
    "default_checkpoint",
    "forbids_commerce",
    "get_checkpoint",
    "licence_notice",
    "list_models",
    "published_normalisations",
]
