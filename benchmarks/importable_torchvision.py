"""Lets torchvision import beside a PyTorch build that its compiled operators do not match.

There is no CPU build of torchvision everywhere, and timm and transformers need its transforms only.
Declaring the two operators that its import registers something for is enough.

    import importable_torchvision  # before torchvision, timm or transformers
"""

import importlib
import warnings

import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _operator in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _operator):
        LIBRARY.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    importlib.import_module("torchvision")
