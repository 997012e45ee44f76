"""CLIP models of open_clip's with a ConvNeXt as image tower, and the files they come in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

SIDE = 128
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def clip(folder, timm_name="test_convnext2", proj="linear", width=12, text=None, kind="CLIP"):
    """A model with random weights, saved in a folder as on the Hub; its vocabulary is CLIP's."""
    import open_clip
    import torch
    from open_clip import model as models
    from safetensors.torch import save_file

    sizes = {"width": 64, "heads": 2, "layers": 2} if text is None else text
    vision = {"timm_model_name": timm_name, "timm_pool": "", "timm_proj": proj, "image_size": SIDE}
    text_cfg = {"context_length": 77, "vocab_size": 49408, **sizes}
    torch.manual_seed(0)
    model = getattr(models, kind)(embed_dim=width, vision_cfg=vision, text_cfg=text_cfg).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # biases and norms, which are 0 and 1 at first
                parameter.add_(torch.randn_like(parameter) / 5)
            elif name.endswith(("gamma", "embedding", "embedding.weight")):
                parameter.mul_(10)
    config = {"embed_dim": width, "vision_cfg": vision, "text_cfg": text_cfg}
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    shutil.copy(Path(open_clip.__file__).parent / VOCABULARY, folder)
    return model


def encoded(model, texts):
    """open_clip's vectors of texts."""
    import open_clip
    import torch

    with torch.inference_mode():
        return model.encode_text(open_clip.tokenizer.tokenize(texts), normalize=True).numpy()


def picture(seed=0):
    """A picture without meaning."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (150, 201, 3), np.uint8)
    return Image.fromarray(pixels)


def prepared(*pictures):
    """Pictures as open_clip's own transform gives them to a model."""
    import torch
    from open_clip import transform

    change = transform.image_transform_v2(transform.PreprocessCfg(size=SIDE), is_train=False)
    return torch.stack([change(each) for each in pictures])
