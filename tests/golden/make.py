"""Writes this folder's arrays and files: what timm, transformers, torchvision and Keras answer.

    KERAS_BACKEND=torch PYTHONPATH=tests:tests/heavy:benchmarks python tests/golden/make.py

Values are drawn from seeds, so that nothing of anybody's weights is in here. `made.json` says with
which versions. A test with the libraries holds today's answers against the file.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from convnext.architecture import Architecture
from convnext.weights.layouts import to_foreign
from golden.networks import (
    CLASSES,
    FILES,
    FOLDER,
    SIDE,
    SMALL,
    STRIDES,
    TRAITS,
    V2,
    Array,
    architecture,
    pictures,
    weights,
)
from peers import (
    answers,
    build_keras_applications,
    build_torchvision,
    build_transformers,
    randomise,
)

TINY = {"depths": [1, 1, 2, 1], "dims": [4, 8, 12, 16]}
V1 = Architecture("convnext_custom", "custom", *map(tuple, TINY.values()))
LIBRARIES = ("numpy", "torch", "timm", "transformers", "torchvision", "keras")


def of_timm(trait: str, **more: Any) -> dict[str, Array]:
    """timm's answers with the values of `weights`: logits, and what comes before them."""
    from timm.models.convnext import ConvNeXt

    # `create_model` would leave out options that are None.
    model = ConvNeXt(num_classes=CLASSES, **SMALL, **TRAITS[trait][1], **more).eval()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    named = to_foreign(weights(trait), "timm", architecture(trait))
    state = {n: torch.tensor(np.ascontiguousarray(a)).reshape(shapes[n]) for n, a in named.items()}
    model.load_state_dict(state, strict=True)
    with torch.inference_mode():
        last = model.forward_features(torch.from_numpy(pictures()).permute(0, 3, 1, 2))
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


def write_file(name: str, folder: Path) -> dict[str, Array]:
    """Write one of `FILES` by its library's own means, and compute the logits."""
    path = folder / name
    keras.backend.clear_session()  # which numbers the layers that have no name
    if FILES[name] == "timm":
        import timm

        ours = {"license": "apache-2.0", "tag": ""}  # of these values, which are not the authors'
        options = TINY | {"num_classes": CLASSES, "pretrained_cfg_overlay": ours}
        model = randomise(timm.create_model("convnextv2_tiny", **options)).eval()
        timm.models.save_for_hf(model, path, model_args=TINY, safe_serialization=True)
    elif FILES[name] == "huggingface":
        model = randomise(build_transformers(replace(V1, **V2), CLASSES)).eval()
        model.save_pretrained(path)
    elif FILES[name] == "torchvision":
        model = randomise(build_torchvision(V1, CLASSES)).eval()
        torch.save(model.state_dict(), path)
    else:
        model = randomise(build_keras_applications(V1, CLASSES, SIDE))
        model.save_weights(path)
    return {"logits": answers(model, pictures())}


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
