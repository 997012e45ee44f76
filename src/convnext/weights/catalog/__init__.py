"""Which weights were published: one typed row each, found by any name they are known by.

`checkpoint` says what a row holds, `published` holds the rows, `lookup` finds them.

Left out are timm's other architectures that share the family's name: `_ols` (overlapping stem),
`_hnf` (norm before pooling), `_rms` (another norm) and `_mlp`, `xxlarge` and everything `clip`
(other heads, other input statistics), as are the isotropic models. DINOv3 and EUPE weights have
licences of their own and stay where they are.
"""

from convnext.weights.catalog.checkpoint import (
    Checkpoint,
    HubFile,
    LabelSet,
    Layout,
    Licence,
    Source,
    Url,
)
from convnext.weights.catalog.lookup import (
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
    "Checkpoint",
    "HubFile",
    "LabelSet",
    "Layout",
    "Licence",
    "Source",
    "Url",
    "default_checkpoint",
    "get_checkpoint",
    "licence_notice",
    "list_models",
    "published_normalisations",
]
