"""Small networks of timm's with random values, as files and as answers."""

from __future__ import annotations

import json

from golden.networks import SMALL


def randomised(model, seed=0):
    """Ordinary values for every parameter: initial ones would hide a broken part."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.3)
            if name.endswith(("norm.weight", "stem.1.weight", "gamma")) and parameter.ndim == 1:
                parameter.add_(1)
    return model.eval()


def timms(options, **more):
    import timm

    return randomised(timm.create_model("convnext_tiny", num_classes=7, **SMALL, **options, **more))


def save(model, folder, config=None):
    from safetensors.torch import save_file

    path = folder / "model.safetensors"
    save_file(model.state_dict(), path)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return path


def answers(model, pictures):
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).numpy()
