"""All published checkpoints, from the modules of their publishers."""

from __future__ import annotations

from types import MappingProxyType

from convnext.architecture import ARCHITECTURES
from convnext.weights.catalog.authors import authors_rows, keras_rows
from convnext.weights.catalog.checkpoint import Checkpoint
from convnext.weights.catalog.clip import clip_rows
from convnext.weights.catalog.distilled import distilled_rows
from convnext.weights.catalog.libraries import library_rows, with_copies
from convnext.weights.catalog.segmenters import segmenter_rows
from convnext.weights.catalog.timm import timm_rows

__all__ = ["CHECKPOINTS", "DEFAULT_RECIPES"]

DEFAULT_RECIPES = MappingProxyType(
    {
        "convnext_zepto_rms": "ra4_e3600_r224_in1k",
        "convnext_zepto_rms_ols": "ra4_e3600_r224_in1k",
        "convnext_atto": "d2_in1k",
        "convnext_atto_ols": "a2_in1k",
        "convnext_femto": "d1_in1k",
        "convnext_femto_ols": "d1_in1k",
        "convnext_pico": "d1_in1k",
        "convnext_pico_ols": "d1_in1k",
        "convnext_nano": "d1h_in1k",
        "convnext_nano_ols": "d1h_in1k",
        "convnext_tiny": "fb_in1k",
        "convnext_tiny_hnf": "a2h_in1k",
        "convnext_small": "fb_in1k",
        "convnext_base": "fb_in22k_ft_in1k",
        "convnext_large": "fb_in22k_ft_in1k",
        "convnext_large_mlp": "clip_laion2b_augreg_ft_in1k",
        "convnext_xlarge": "fb_in22k_ft_in1k",
        "convnext_xxlarge": "clip_laion2b_soup_ft_in1k",
        "convnext_isotropic_small": "fb_in1k",
        "convnext_isotropic_base": "fb_in1k",
        "convnext_isotropic_large": "fb_in1k",
        "convnextv2_atto": "fcmae_ft_in1k",
        "convnextv2_femto": "fcmae_ft_in1k",
        "convnextv2_pico": "fcmae_ft_in1k",
        "convnextv2_nano": "fcmae_ft_in1k",
        "convnextv2_tiny": "fcmae_ft_in1k",
        "convnextv2_base": "fcmae_ft_in1k",
        "convnextv2_large": "fcmae_ft_in1k",
        "convnextv2_huge": "fcmae_ft_in1k",
        "test_convnext": "r160_in1k",
        "test_convnext2": "r160_in1k",
        "test_convnext3": "r160_in1k",
    }
)
"""Variant -> the recipe that a bare `weights="imagenet"` means.

Always 1000 classes at the smallest published size, 224 pixels for almost all, trained on
ImageNet-1k alone if published. Base, Large and XLarge of V1 are those of `keras.applications`,
pretrained on 22k classes.
"""


def _catalogue() -> dict[str, Checkpoint]:
    rows = {row.name: row for row in (*with_copies(authors_rows()), *timm_rows())}
    rows |= {row.name: row for row in (*library_rows(), *clip_rows(), *distilled_rows())}
    rows |= {row.name: row for row in segmenter_rows()}
    rows |= {row.name: row for row in keras_rows(rows, DEFAULT_RECIPES)}
    order = {name: number for number, name in enumerate(ARCHITECTURES)}
    return dict(sorted(rows.items(), key=lambda item: order[item[1].variant]))


CHECKPOINTS = MappingProxyType(_catalogue())
"""Every published checkpoint by its name: V1 then V2, small to large."""
