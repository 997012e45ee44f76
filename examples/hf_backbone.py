"""The backbone's feature maps as a detector uses them: one pyramid, top down, on PyTorch.

KERAS_BACKEND=torch python examples/hf_backbone.py [MODEL]

MODEL is a folder, a repository or a name of `convnext list`; without one, a small network starts
from random weights.
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.nn.functional import interpolate

from convnext.hf import ConvNextBackbone, ConvNextConfig

LEVELS = ["stage2", "stage3", "stage4"]
WIDTH = 64


class Pyramid(nn.Module):
    """Maps of one width at strides 8, 16 and 32, each with what the coarser ones saw."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.sideways = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in backbone.channels)
        self.smooth = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in LEVELS)

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        maps = self.backbone(pixel_values).feature_maps
        levels = [side(one) for side, one in zip(self.sideways, maps, strict=True)]
        for fine in range(len(levels) - 2, -1, -1):
            above = interpolate(levels[fine + 1], size=levels[fine].shape[-2:])
            levels[fine] = levels[fine] + above
        return [smooth(one) for smooth, one in zip(self.smooth, levels, strict=True)]


def main() -> None:
    if len(sys.argv) > 1:
        backbone = ConvNextBackbone.from_pretrained(sys.argv[1], out_features=LEVELS)
    else:
        config = ConvNextConfig(
            depths=[1, 1, 2, 1], hidden_sizes=[16, 32, 64, 96], out_features=LEVELS
        )
        backbone = ConvNextBackbone(config)
    detector = Pyramid(backbone)
    levels = detector(torch.randn(2, 3, 256, 320))
    for name, one in zip(LEVELS, levels, strict=True):
        print(f"{name}: {tuple(one.shape)}")
    sum(one.square().mean() for one in levels).backward()
    trained = sum(p.grad is not None for p in backbone.parameters())
    print(f"{trained} of {len(list(backbone.parameters()))} parameters of the backbone learn")


if __name__ == "__main__":
    main()
