"""Writes this folder's arrays and files: what timm, transformers, torchvision and Keras answer.

    KERAS_BACKEND=torch PYTHONPATH=tests:benchmarks python tests/golden/make.py

Values are drawn from seeds, so that nothing of anybody's weights is in here. `made.json` says with
which versions. A test with the libraries holds today's answers against the file.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from convnext.weights.layouts import to_foreign
from golden.networks import (
    CLASSES,
    FILES,
    FOLDER,
    SIDE,
    SMALL,
    STRIDES,
    TRAITS,
    Array,
    architecture,
    pictures,
    weights,
)

TINY = {"depths": [1, 1, 2, 1], "dims": [4, 8, 12, 16]}
LIBRARIES = ("numpy", "torch", "timm", "transformers", "torchvision", "keras")


def of_timm(trait: str, **more: Any) -> dict[str, Array]:
    """timm's answers with the values of `weights`: logits, and what comes before them."""
    import torch
    from timm.models.convnext import ConvNeXt

    # `create_model` would leave out options that are None.
    model = ConvNeXt(num_classes=CLASSES, **SMALL, **TRAITS[trait][1], **more).eval()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    named = to_foreign(weights(trait), "timm", architecture(trait))
    state = {n: torch.tensor(np.ascontiguousarray(a)).reshape(shapes[n]) for n, a in named.items()}
    model.load_state_dict(state, strict=True)
    with torch.inference_mode():
        last = model.forward_features(channels_first(pictures()))
        norm, hidden = (getattr(model.head, name, None) for name in ("norm", "hidden_size"))
        before = model.forward_head(last, pre_logits=True)
        return {
            "logits": model.forward_head(last).numpy(),
            "pre_logits" if hidden else "embedding": before.numpy(),
            "tokens": (last if norm is None else norm(last)).permute(0, 2, 3, 1).numpy(),
        }


def of_timm_dilated(output_stride: int) -> dict[str, Array]:
    """timm's answer at a smaller output stride."""
    return {"logits": of_timm("usual", output_stride=output_stride)["logits"]}


def channels_first(images: Array) -> Any:
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2)


def drawn(model: Any) -> Any:
    """A model of PyTorch with a value of ordinary size for every parameter."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.25
            is_norm = parameter.ndim == 1 and "norm" in name and name.endswith("weight")
            parameter.normal_(float(is_norm), scale)
    return model.eval()


def write_file(name: str, folder: Path) -> dict[str, Array]:
    """Write one of `FILES` by its library's own means, and compute the logits."""
    return {
        "timm": _timm,
        "transformers": _transformers,
        "torchvision.pth": _torchvision,
        "keras_applications.weights.h5": _keras_applications,
    }[name](folder / name)


def _timm(path: Path) -> dict[str, Array]:
    import timm

    ours = {"license": "apache-2.0", "tag": ""}  # of these values, which are not the authors'
    options = TINY | {"num_classes": CLASSES, "pretrained_cfg_overlay": ours}
    model = drawn(timm.create_model("convnextv2_tiny", **options))
    timm.models.save_for_hf(model, path, model_args=TINY, safe_serialization=True)
    return _logits(model, lambda answer: answer)


def _transformers(path: Path) -> dict[str, Array]:
    from transformers import ConvNextV2Config, ConvNextV2ForImageClassification

    config = ConvNextV2Config(
        depths=TINY["depths"], hidden_sizes=TINY["dims"], num_labels=CLASSES, layer_norm_eps=1e-6
    )
    model = drawn(ConvNextV2ForImageClassification(config))
    model.save_pretrained(path)
    return _logits(model, lambda answer: answer.logits)


def _torchvision(path: Path) -> dict[str, Array]:
    import torch
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    widths = [*TINY["dims"], None]
    stages = [CNBlockConfig(widths[i], widths[i + 1], n) for i, n in enumerate(TINY["depths"])]
    model = drawn(ConvNeXt(stages, num_classes=CLASSES))
    torch.save(model.state_dict(), path)
    return _logits(model, lambda answer: answer)


def _logits(model: Any, logits_of: Any) -> dict[str, Array]:
    import torch

    with torch.inference_mode():
        return {"logits": logits_of(model(channels_first(pictures()))).numpy()}


def _keras_applications(path: Path) -> dict[str, Array]:
    import keras
    from keras.src.applications.convnext import ConvNeXt

    keras.backend.clear_session()  # which numbers the layers that have no name
    model = ConvNeXt(
        TINY["depths"],
        TINY["dims"],
        name="convnext_tiny",
        weights=None,
        include_preprocessing=False,
        classes=CLASSES,
        classifier_activation=None,
        input_shape=(SIDE, SIDE, 3),
    )
    rng = np.random.default_rng(0)
    for variable in model.weights:
        scale = np.prod(variable.shape[:-1]) ** -0.5 if variable.ndim > 1 else 0.25
        values = scale * rng.standard_normal(variable.shape)
        variable.assign(values + float("gamma" in variable.path))
    model.save_weights(path)
    return {"logits": keras.ops.convert_to_numpy(model(pictures(), training=False))}


def compute(folder: Path) -> dict[str, Array]:
    """Every array of `outputs.npz`; writes `FILES` into the folder."""
    found = {trait: of_timm(trait) for trait in TRAITS}
    found |= {name: of_timm_dilated(stride) for name, stride in STRIDES.items()}
    found |= {name: write_file(name, folder) for name in FILES}
    return {
        f"{name}/{output}": values
        for name, outputs in found.items()
        for output, values in outputs.items()
    }


if __name__ == "__main__":
    import importable_torchvision  # noqa: F401  beside a PyTorch of another build

    np.savez_compressed(FOLDER / "outputs.npz", **compute(FOLDER))
    made = {name: version(name) for name in LIBRARIES}
    (FOLDER / "made.json").write_text(json.dumps(made, indent=2) + "\n")
