"""Which weights were published: one typed row each, found by any name they are known by.

`checkpoint` says what a row holds and `licences` what its licence forbids; the files of those who
published hold the rows, `published` all of them; `lookup` finds them.
"""

from convnext.weights.catalog.checkpoint import (
    TASKS,
    Checkpoint,
    HubFile,
    LabelSet,
    Layout,
    Source,
    Task,
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
    "HubFile",
    "LabelSet",
    "Layout",
    "Licence",
    "Source",
    "Task",
    "Terms",
    "Url",
    "default_checkpoint",
    "forbids_commerce",
    "get_checkpoint",
    "licence_notice",
    "list_models",
    "published_normalisations",
]
