"""Logits of published checkpoints for one well-known picture, as other projects published them.

Weights can load completely and still be wrong. These logits come from independent programs, so they
check the file, its layout, the preprocessing and the arithmetic together.

The picture is number 000000039769 of COCO's val2017, two cats on a sofa; not shipped here.

References:
    V2, first five logits: transformers, models/convnextv2/convert_convnextv2_to_pytorch.py
    V1 tiny, first three: transformers, tests/models/convnext/test_modeling_convnext.py
"""

from __future__ import annotations

from types import MappingProxyType

__all__ = [
    "PICTURE",
    "PICTURE_SIZE",
    "PICTURE_TILES",
    "PUBLISHED_LOGITS",
    "TOLERANCE",
]

PICTURE = "COCO val2017 000000039769 (two cats)"
PICTURE_SIZE = (640, 480)
PICTURE_TILES = (
    ((150, 72, 108), (119, 59, 75), (120, 82, 90), (134, 80, 91)),
    ((175, 133, 159), (170, 70, 117), (161, 120, 125), (197, 84, 138)),
    ((195, 104, 167), (238, 93, 181), (227, 91, 168), (221, 81, 165)),
)
"""The mean colour of each of its 4 by 3 tiles: the same for COCO's JPEG and for a PNG made of it,
whose bytes differ."""

TOLERANCE = 2e-3
"""The largest allowed difference from a published logit.

The converters allowed 1e-3, and as much separates what transformers published for V1 tiny before
and after it changed its image library. A missing centre crop moves the same logits by 0.1.
"""

PUBLISHED_LOGITS = MappingProxyType(
    {
        # The conversion script of V1 has logits of every checkpoint, too. They were made without a
        # centre crop, disagree with this test, and are reported not to reproduce.
        "convnext_tiny.fb_in1k": (-0.0260, -0.4739, 0.1911),
        "convnextv2_atto.fcmae_ft_in1k": (-0.3930, 0.1747, -0.5246, 0.4177, 0.4295),
        "convnextv2_femto.fcmae_ft_in1k": (-0.1727, -0.5341, -0.7818, -0.4745, -0.6566),
        "convnextv2_pico.fcmae_ft_in1k": (-0.0333, 0.1563, -0.9137, 0.1054, 0.0381),
        "convnextv2_nano.fcmae_ft_in1k": (-0.1744, -0.1555, -0.0713, 0.0950, -0.1431),
        "convnextv2_tiny.fcmae_ft_in1k": (0.9996, 0.1966, -0.4386, -0.3472, 0.6661),
        "convnextv2_base.fcmae_ft_in1k": (-0.2553, -0.6708, -0.1359, 0.2518, -0.2488),
        "convnextv2_large.fcmae_ft_in1k": (-0.0673, -0.5627, -0.3753, -0.2722, 0.0178),
        "convnextv2_huge.fcmae_ft_in1k": (-0.6377, -0.7458, -0.2150, 0.1184, -0.0597),
        "convnextv2_nano.fcmae_ft_in22k_in1k": (1.0799, 0.2322, -0.8860, 1.0219, 0.6231),
        "convnextv2_tiny.fcmae_ft_in22k_in1k": (0.4220, -0.6919, -0.4317, -0.2881, -0.6609),
        "convnextv2_base.fcmae_ft_in22k_in1k": (-0.2419, -0.6221, 0.2176, -0.0980, -0.7527),
        "convnextv2_large.fcmae_ft_in22k_in1k": (-0.0504, 0.5636, -0.1729, -0.6507, -0.3949),
        "convnextv2_nano.fcmae_ft_in22k_in1k_384": (0.3766, 0.4917, -1.1426, 0.9942, 0.6024),
        "convnextv2_tiny.fcmae_ft_in22k_in1k_384": (0.1082, -0.8286, -0.5095, 0.4681, -0.8085),
        "convnextv2_base.fcmae_ft_in22k_in1k_384": (0.0391, -0.4371, 0.3786, 0.1251, -0.2784),
        "convnextv2_large.fcmae_ft_in22k_in1k_384": (0.3560, 0.9486, 0.3149, -0.2667, -0.5138),
        "convnextv2_huge.fcmae_ft_in22k_in1k_384": (-0.2469, -0.4550, -0.5853, -0.0810, 0.0309),
        "convnextv2_huge.fcmae_ft_in22k_in1k_512": (-0.3090, 0.0802, -0.0682, -0.1979, -0.2826),
    }
)
"""Name of a checkpoint -> its first logits for the picture."""
