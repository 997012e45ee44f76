"""Our backbone in torchvision's Mask R-CNN, trained for some steps on pictures made on the spot.

KERAS_BACKEND=torch python examples/detection.py [MODEL]

MODEL is a folder, a repository or a name of `convnext list`; without one, a small network starts
from random weights. It needs torchvision, whose detector, losses and evaluation are used as they
are: only the backbone is ours.
"""

from __future__ import annotations

import sys
from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork

from convnext.hf import ConvNextBackbone, ConvNextConfig

LEVELS = ["stage1", "stage2", "stage3", "stage4"]
WIDTH = 64  # of the pyramid; 256 for real work
SIDE = 128
STEPS = 30


class BackboneWithPyramid(nn.Module):
    """The four feature maps of a ConvNeXt, as the pyramid that torchvision's detectors take."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = FeaturePyramidNetwork(backbone.channels, WIDTH)
        self.out_channels = WIDTH

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.backbone(pictures).feature_maps
        # Under "0" to "3", the names that torchvision's heads look for.
        return self.pyramid(OrderedDict((str(n), each) for n, each in enumerate(maps)))


def detector(backbone: nn.Module, classes: int) -> MaskRCNN:
    """Mask R-CNN with this backbone; class 0 is the background."""
    sizes = tuple((side,) for side in (16, 32, 64, 128))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    return MaskRCNN(
        BackboneWithPyramid(backbone),
        classes,
        min_size=SIDE,
        max_size=SIDE,
        rpn_anchor_generator=anchors,
        # Fewer proposals than for COCO's pictures, for a picture of one rectangle.
        rpn_pre_nms_top_n_train=200,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=50,
        box_batch_size_per_image=32,
    )


def scene(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A noisy picture with one bright rectangle, and its box, mask and class as in COCO."""
    picture = 0.3 * torch.rand(3, SIDE, SIDE, generator=generator)
    x, y, width, height = (int(torch.randint(24, 64, (1,), generator=generator)) for _ in range(4))
    mask = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    mask[y : y + height, x : x + width] = 1
    picture[:, mask.bool()] += 0.6
    box = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32)
    return picture, {"boxes": box, "labels": torch.tensor([1]), "masks": mask[None]}


def train(model: MaskRCNN, steps: int = STEPS) -> list[float]:
    """Train on generated scenes; returns the loss of each step."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    model.train()
    for _ in range(steps):
        pictures, targets = zip(*(scene(generator) for _ in range(2)), strict=True)
        loss = sum(model(list(pictures), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def main() -> None:
    torch.manual_seed(0)
    if len(sys.argv) > 1:
        backbone = ConvNextBackbone.from_pretrained(sys.argv[1], out_features=LEVELS)
    else:
        config = ConvNextConfig(
            depths=[1, 1, 2, 1], hidden_sizes=[16, 32, 64, 96], out_features=LEVELS
        )
        backbone = ConvNextBackbone(config)
    losses = train(detector(backbone, classes=2))
    print(
        f"loss of the first five steps {sum(losses[:5]) / 5:.2f}, of the last five "
        f"{sum(losses[-5:]) / 5:.2f}"
    )


if __name__ == "__main__":
    main()
