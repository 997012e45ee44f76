"""Read the JSON files that other libraries put beside their weights.

timm writes `config.json` with the architecture's name and the recipe, and WD taggers have their
tags in `selected_tags.csv` as well; transformers writes
`config.json` and `preprocessor_config.json`, also of UPerNets with a ConvNeXt as encoder; open_clip
writes `open_clip_config.json`. Missing values get the defaults of that library.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convnext.architecture import ARCHITECTURES, Architecture, checked_strides
from convnext.errors import ConvNeXtError, WeightsFileError, WeightsMismatchError
from convnext.images.recipe import NORMALISATIONS, Preprocess
from convnext.images.thresholds import THRESHOLD, checked_thresholds
from convnext.segmentation import BINS, checked_bins
from convnext.steps import ACTIVATIONS, ActivationKind
from convnext.weights.catalog import CHECKPOINTS
from convnext.weights.catalog.checkpoint import LABEL_COUNTS
from convnext.weights.info import WeightsInfo, checked_preprocess

__all__ = [
    "CONFIG",
    "GELUS",
    "OPEN_CLIP",
    "PROCESSOR",
    "RESAMPLING",
    "TAGS",
    "UPERNET",
    "Beside",
    "companions",
    "read_beside",
]

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
OPEN_CLIP = "open_clip_config.json"
TAGS = "selected_tags.csv"  # of WD taggers
WD_TAGGER = Preprocess(448, 1.0, "pad", "bicubic", *NORMALISATIONS["half"])
WD_THRESHOLDS = {"0": 0.35, "4": 0.85}  # by category: of general tags and of characters
MAX_BYTES = 16 << 20
CONVNEXTS = ("convnext", "convnextv2")
UPERNET = "upernet"
DEFAULT_LABELS = 2  # of transformers' configurations without id2label
SQUASHED_FROM = 384  # from this side on, transformers' processor does not crop

# timm's arguments that change the network, and our fields for them.
TIMM_TRAITS = {
    "act_layer": "activation",
    "depths": "depths",
    "dims": "dims",
    "head_hidden_size": "head_hidden",
    "kernel_sizes": "kernels",
    "norm_eps": "epsilon",
    "norm_layer": "norm",
    "patch_size": "patch",
    "stem_type": "stem",
    "use_grn": "grn",
}
TIMM_NEUTRAL = {
    *("conv_mlp", "drop_path_rate", "drop_rate", "global_pool", "head_init_scale", "in_chans"),
    *("ls_init_value", "num_classes", "pretrained"),
}
TIMM_NORMS = {"layernorm": "layer", "rmsnorm": "rms", "simplenorm": "simple"}
GELUS: dict[str, ActivationKind] = {
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "swish": "silu",
}
RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclass(frozen=True)
class Beside:
    """The content of the JSON files beside weights; None for values they lack.

    Attributes:
        architecture: The architecture.
        info: Labels, licence, preprocessing and so on.
        num_classes: Width of the classifier.
        bgr: Whether the network takes blue first, and red last.
    """

    architecture: Architecture | None = None
    info: WeightsInfo = field(default_factory=WeightsInfo)
    num_classes: int | None = None
    bgr: bool = False

    def check(self, num_classes: int) -> None:
        """Refuse weights with a classifier of another width.

        Raises:
            WeightsMismatchError: The widths differ.
        """
        if self.num_classes and num_classes and self.num_classes != num_classes:
            raise WeightsMismatchError(
                f"The {CONFIG} beside the weights says {self.num_classes:,} classes, and their "
                f"classifier has {num_classes:,}. Mend the one that is wrong, or move the file "
                "away."
            )


def companions(config: Path) -> tuple[str, ...]:
    """Names of the other JSON files that belong to a config.json.

    Raises:
        WeightsFileError: The config.json is of another kind of network.
    """
    content = _read(config) or {}
    named = content.get("architecture") or content.get("model_type")
    if named and "convnext" not in json.dumps(content).lower():
        raise WeightsFileError(
            f"Its {CONFIG} is that of {named!r}, which is no ConvNeXt. `convnext list` has those "
            "that were published."
        )
    if "model_type" in content:
        return (PROCESSOR,)
    named = content.get("label_names") or (content.get("pretrained_cfg") or {}).get("label_names")
    imagenet = content.get("num_classes") in (0, None, *LABEL_COUNTS.values())
    return () if named or imagenet else (TAGS,)


_Found = Beside | None


def read_beside(weights: Path) -> Beside:
    """Read the JSON files beside a weights file, or in a folder of weights.

    Raises:
        WeightsFileError: A file describes a ConvNeXt and is invalid.
    """
    folder = weights if weights.is_dir() else weights.parent
    found = _understood(folder / CONFIG, _of_config)
    return found or _understood(folder / OPEN_CLIP, _open_clip) or Beside()


def _understood(path: Path, reader: Callable[[dict[str, Any], Path], _Found]) -> _Found:
    config = _read(path)
    try:
        return None if config is None else reader(config, path)
    except (ConvNeXtError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsFileError(
            f"{path} cannot be understood: {error} Mend it, or name the architecture yourself and "
            "move the file away."
        ) from error


def _of_config(config: dict[str, Any], path: Path) -> _Found:
    if str(config.get("architecture", "")).partition(".")[0] in ARCHITECTURES:
        found = _timm(config)
        tags = path.with_name(TAGS)
        return _wd_tagger(found, tags) if tags.exists() else found
    if config.get("model_type") in CONVNEXTS:
        return _transformers(config, _read(path.with_name(PROCESSOR)))
    if config.get("model_type") == UPERNET:
        return _upernet(config, _read(path.with_name(PROCESSOR)))
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _timm(config: Mapping[str, Any]) -> Beside:
    cfg = config.get("pretrained_cfg") or config
    known = ARCHITECTURES[config["architecture"].partition(".")[0]]
    traits: dict[str, Any] = {}
    for name, value in (config.get("model_args") or {}).items():
        if name == "head_norm_first":
            traits["head"] = "norm_pool" if value else "pool_norm"
        elif name in TIMM_TRAITS:
            traits[TIMM_TRAITS[name]] = tuple(value) if isinstance(value, list) else value
        elif name not in TIMM_NEUTRAL:
            raise ValueError(f"model_args has {name!r}, whose meaning is not known here.")
    if "norm" in traits:
        traits["norm"] = TIMM_NORMS[str(traits["norm"]).removesuffix("2d")]
    if isinstance(traits.get("kernels"), int):
        traits["kernels"] = (traits["kernels"],) * len(known.depths)
    architecture = replace(known, **{k: v for k, v in traits.items() if v is not None})
    if architecture.activation not in ACTIVATIONS:
        raise ValueError(f"the activation {architecture.activation!r} is none of {ACTIVATIONS}.")
    published = CHECKPOINTS.get(f"{known.name}.{cfg.get('tag')}")
    labels = config.get("label_names") or cfg.get("label_names") or ()
    words = config.get("label_descriptions") or {}  # of WordNet's ids
    return Beside(
        architecture,
        WeightsInfo(
            labels=tuple(words.get(label, label) for label in labels) or None,
            licence=cfg.get("license"),
            preprocess=_timm_recipe(cfg) if "mean" in cfg and "std" in cfg else None,
            task=published.task if published else None,
        ),
        config.get("num_classes"),
    )


def _wd_tagger(timm: Beside, tags: Path) -> Beside:
    """A WD tagger, from timm's config.json and the tags beside it, by SmilingWolf.

    It takes pictures padded to a square with white, blue first. Reference: the app of
    https://huggingface.co/spaces/SmilingWolf/wd-tagger, also for the thresholds.
    """
    rows = list(csv.DictReader(tags.read_text("utf-8-sig").splitlines()))
    if not rows or not rows[0].keys() >= {"name", "category"}:
        raise ValueError(f"{TAGS} beside it has no columns name and category.")
    recipe = replace(timm.info.preprocess or WD_TAGGER, mode="pad", crop_fraction=1.0)
    info = replace(
        timm.info,
        labels=tuple(row["name"] for row in rows),
        thresholds=tuple(WD_THRESHOLDS.get(row["category"], THRESHOLD) for row in rows),
        preprocess=recipe,
    )
    return replace(timm, info=info, bgr=True)


def _timm_recipe(cfg: Mapping[str, Any]) -> Preprocess:
    mode = {"center": "crop", "squash": "squash"}[cfg.get("crop_mode") or "center"]
    return checked_preprocess(
        {
            "size": cfg["input_size"][-1],
            "crop_fraction": cfg.get("crop_pct") or 0.875,
            "mode": mode,
            "interpolation": cfg.get("interpolation") or "bicubic",
            "mean": cfg["mean"],
            "std": cfg["std"],
        }
    )


def _open_clip(config: dict[str, Any], path: Path) -> _Found:
    del path
    tower, recipe = config["model_cfg"]["vision_cfg"], config.get("preprocess_cfg") or {}
    known = ARCHITECTURES.get(str(tower.get("timm_model_name")))
    if known is None:
        return None
    if tower.get("timm_proj", "linear") == "mlp":
        known = replace(known, head_hidden=2 * config["model_cfg"]["embed_dim"])
    alike = (row for row in ARCHITECTURES.values() if row.same_traits(known))
    mean, std = NORMALISATIONS["clip"]
    size = recipe.get("size") or tower.get("image_size", 224)
    preprocess = {
        "size": size if isinstance(size, int) else size[0],
        "crop_fraction": 1.0,
        "mode": {"shortest": "crop", "squash": "squash"}[recipe.get("resize_mode", "shortest")],
        "interpolation": recipe.get("interpolation", "bicubic"),
        "mean": recipe.get("mean", mean),
        "std": recipe.get("std", std),
    }
    info = WeightsInfo(preprocess=checked_preprocess(preprocess), task="clip")
    return Beside(next(alike, known), info)


def _transformers(config: Mapping[str, Any], processor: Mapping[str, Any] | None) -> Beside:
    activation = config.get("hidden_act", "gelu")
    activation = GELUS.get(activation, activation)
    if activation not in ACTIVATIONS:
        raise ValueError(f"the activation {activation!r} is none of {ACTIVATIONS}.")
    is_v2 = config["model_type"] == "convnextv2"
    depths, dims = config.get("depths") or (3, 3, 9, 3), config.get("hidden_sizes")
    epsilon = config.get("layer_norm_eps", 1e-12)  # of the norm after pooling alone
    seen = Architecture(
        "convnextv2_custom" if is_v2 else "convnext_custom",
        "custom",
        tuple(depths),
        tuple(dims or (96, 192, 384, 768)),
        grn=is_v2,
        layer_scale=not is_v2,
        patch=config.get("patch_size", 4),
        head_epsilon=None if epsilon == 1e-6 else epsilon,
        activation=activation,
    )
    published = next((row for row in ARCHITECTURES.values() if row.same_encoder(seen)), seen)
    architecture = replace(seen, name=published.name, size=published.size)
    names = config.get("id2label") or {}
    labels = tuple(names[key] for key in sorted(names, key=int))
    if all(label == f"LABEL_{number}" for number, label in enumerate(labels)):
        labels = ()
    strides = config.get("strides")
    return Beside(
        architecture,
        WeightsInfo(
            labels=labels or None,
            preprocess=_processor_recipe(processor) if processor else None,
            strides=checked_strides(strides) if strides else None,
            thresholds=_transformers_thresholds(config, len(names)),
        ),
        len(names) or None,
    )


def _transformers_thresholds(config: Mapping[str, Any], count: int) -> tuple[float, ...] | None:
    """Thresholds of a multi-label classifier: our entry, or the default for each label."""
    if config.get("problem_type") != "multi_label_classification":
        return None
    return checked_thresholds(config.get("thresholds") or (THRESHOLD,) * (count or DEFAULT_LABELS))


def _upernet(config: Mapping[str, Any], processor: Mapping[str, Any] | None) -> Beside:
    backbone = config.get("backbone_config") or {}
    if backbone.get("model_type") not in CONVNEXTS:
        raise ValueError(f"its backbone is {backbone.get('model_type')!r}, which is no ConvNeXt.")
    found = _transformers({**backbone, "id2label": config.get("id2label")}, processor)
    assert found.architecture is not None
    # The file's epsilon is that of a norm after pooling, which a UPerNet lacks.
    architecture = replace(found.architecture, head="none", head_epsilon=None)
    bins = checked_bins(config.get("pool_scales") or BINS)
    info = replace(found.info, task="segmentation", bins=None if bins == BINS else bins)
    return Beside(architecture, info, found.num_classes)


def _processor_recipe(processor: Mapping[str, Any]) -> Preprocess | None:
    steps = ("do_resize", "do_rescale", "do_normalize")
    if not all(processor.get(step, True) for step in steps):
        return None
    size = processor.get("size", 384)
    side = size if isinstance(size, int) else size.get("shortest_edge", size.get("height"))
    squashed = side >= SQUASHED_FROM or (isinstance(size, Mapping) and "height" in size)
    return checked_preprocess(
        {
            "size": side,
            "crop_fraction": 1.0 if squashed else processor.get("crop_pct") or 224 / 256,
            "mode": "squash" if squashed else "crop",
            "interpolation": RESAMPLING[processor.get("resample", 2)],
            "mean": processor["image_mean"],
            "std": processor["image_std"],
            "rescale": processor.get("rescale_factor", 1 / 255),
        }
    )
