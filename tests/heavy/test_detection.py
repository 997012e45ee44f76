"""The example of a detector: our backbone in torchvision's Mask R-CNN."""

import runpy

import pytest

pytestmark = [
    pytest.mark.torch_alone,
    pytest.mark.slow,
    # torchvision's, at the first masks that it pastes.
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]


def nms(boxes, scores, threshold):
    """Non-maximum suppression, for a torchvision without its compiled operators."""
    import torch
    from torchvision.ops import box_iou

    order, kept = scores.argsort(descending=True), []
    overlaps = box_iou(boxes, boxes)
    alive = torch.ones(len(boxes), dtype=torch.bool)
    for index in order.tolist():
        if alive[index]:
            kept.append(index)
            alive &= overlaps[index] <= threshold
    return torch.tensor(kept, dtype=torch.int64)


def test_mask_rcnn_learns_with_our_backbone(importable_torchvision, monkeypatch):
    del importable_torchvision
    import torch
    from torchvision.extension import _has_ops

    if not _has_ops():
        monkeypatch.setattr("torchvision.ops.boxes.nms", nms)
        # Instead of the operator, torchvision compiles its own Python, for minutes.
        monkeypatch.setattr("torch._dynamo.config.disable", True)
    example = runpy.run_path("examples/detection.py")
    torch.manual_seed(0)
    config = example["ConvNextConfig"](
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], out_features=example["LEVELS"]
    )
    backbone = example["ConvNextBackbone"](config)
    before = [parameter.detach().clone() for parameter in backbone.parameters()]
    model = example["detector"](backbone, classes=2)
    losses = example["train"](model, 8)
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    moved = [bool((a != b).any()) for a, b in zip(before, backbone.parameters(), strict=True)]
    assert all(moved)
