"""The documentation pages of modules and of the collection, in TF-Hub's Markdown.

A page begins with `# Module publisher/name/version`, a sentence of description, and properties in
comments.

Reference: https://www.tensorflow.org/hub/writing_documentation
"""

from __future__ import annotations

from collections.abc import Iterable

from convnext.architecture import VARIANTS
from convnext.evaluate.markdown import table
from convnext.hub.collection import VERSION, HubModule
from convnext.weights.catalog import TERMS, LabelSet, Licence

__all__ = ["COLLECTION_NAME", "collection_page", "module_page"]

COLLECTION_NAME = "convnext"

TRAINED_ON: dict[LabelSet | None, str] = {
    "imagenet-1k": "ImageNet-1k",
    "imagenet-22k": "ImageNet-22k",
}
DATASETS: dict[LabelSet | None, str] = {
    "imagenet-1k": "imagenet-ilsvrc-2012-cls",
    "imagenet-22k": "imagenet-21k",
}
PAPERS = {
    "v1": "[A ConvNet for the 2020s](https://arxiv.org/abs/2201.03545)",
    "v2": "[ConvNeXt V2](https://arxiv.org/abs/2301.00808)",
}


def module_page(module: HubModule, publisher: str, asset_path: str) -> str:
    """The page of one module, whose archive is at the path or URL `asset_path`."""
    variant = VARIANTS[module.architecture]
    row = module.row
    title = f"ConvNeXt {variant.family.upper()} {variant.size.capitalize()}"
    kind = "feature extractor" if module.feature_extractor else "image classifier"
    task = "image-feature-vector" if module.feature_extractor else "image-classification"
    properties = {
        "asset-path": asset_path,
        "task": task,
        "network-architecture": "convnext",
        "dataset": DATASETS[row.labels],
        "format": "saved_model_2",
        "fine-tunable": "true",
        "license": TERMS[row.licence].hub_id,
    }
    comments = "\n".join(f"<!-- {name}: {value} -->" for name, value in properties.items())
    side = module.resolution
    return f"""\
# Module {publisher}/{module.name}/{VERSION}

{title}, {kind} at {side}x{side} pixels, trained on {_training(module)}.

{comments}

## Overview

{_overview(module)}

- weights: `{row.name}`, from {row.origin}
- parameters: {variant.parameter_count(module.num_classes):,}
- multiply-adds: {row.macs / 1e9:.1f} G
- top-1 accuracy on ImageNet-1k as the authors published it: {_percent(module.original_top1)}
- licence of the weights: {row.licence}{_terms(row.licence)}

## Usage

Pictures are float32, `(batch, {side}, {side}, 3)`, divided by 255 and then normalised: minus
{list(row.preprocess.mean)}, over {list(row.preprocess.std)}. {_resizing(module)}

```python
{_usage(module, publisher)}
```

The module can be fine-tuned: `trainable=True` gives every variable to the optimizer. Signatures
are `serving_default` (from `images` to `{_output(module)}`) and the endpoints `serve` and
`serve_training`, which `keras.layers.TFSMLayer` takes.

## References

- {PAPERS[variant.family]}
- [Authors' code and weights](https://github.com/{row.origin})
- [The collection](https://tfhub.dev/{publisher}/collections/{COLLECTION_NAME}/{VERSION})
"""


def collection_page(modules: Iterable[HubModule], publisher: str) -> str:
    """The page of the collection, with the table of its classifiers."""
    modules = list(modules)
    classifiers = [module for module in modules if not module.feature_extractor]
    extractors = [module for module in modules if module.feature_extractor]
    titles = ("name", "original acc@1", "former Keras acc@1", "side", "classes", "licence")
    rows = [
        (
            module.name,
            _percent(module.original_top1),
            _percent(module.keras_top1),
            str(module.resolution),
            f"{module.num_classes:,}",
            module.row.licence,
        )
        for module in classifiers
    ]
    return f"""\
# Collection {publisher}/{COLLECTION_NAME}/{VERSION}

ConvNeXt V1 and V2: image classifiers and feature extractors with the authors' weights.

<!-- task: image-classification -->
<!-- dataset: {DATASETS["imagenet-1k"]} -->
<!-- network-architecture: convnext -->

## Overview

Classifiers take normalised pictures of one size and give logits. Feature extractors, whose names
end in `_fe`, give the layer-normalised mean of the last feature map: what the classifier sees.
`21k` in a name means training on 21841 classes, `21k_1k` that and fine-tuning on ImageNet-1k.

{table(titles, rows)}

The column in the middle is what the first edition of this collection measured with its Keras
models, whose pictures were resized without antialiasing and without keeping their proportions.

### Image classifiers

{_links(classifiers, publisher)}

### Feature extractors

{_links(extractors, publisher)}

## References

- {PAPERS["v1"]}
- {PAPERS["v2"]}
"""


def _training(module: HubModule) -> str:
    on = TRAINED_ON[module.row.labels]
    if module.row.labels == "imagenet-1k" and "_21k_1k_" in module.name:
        return f"{TRAINED_ON['imagenet-22k']} and fine-tuned on {on}"
    return on


def _overview(module: HubModule) -> str:
    if module.feature_extractor:
        width = VARIANTS[module.architecture].dims[-1]
        return (
            f"It gives a vector of {width} numbers for each picture: the layer-normalised mean of "
            "the last\nfeature map."
        )
    return f"It gives {module.num_classes:,} logits for each picture: no softmax is inside."


def _output(module: HubModule) -> str:
    return "embedding" if module.feature_extractor else "logits"


def _resizing(module: HubModule) -> str:
    recipe = module.row.preprocess
    if recipe.mode == "squash":
        return (
            f"They were\nresized to {recipe.size}x{recipe.size}, bicubic and antialiased, "
            "whatever their proportions."
        )
    return (
        f"The short side\nwas resized to {recipe.resized_side}, bicubic and antialiased, and the "
        "centre cropped."
    )


def _usage(module: HubModule, publisher: str) -> str:
    handle = f"https://tfhub.dev/{publisher}/{module.name}/{VERSION}"
    lines = [
        "import tensorflow as tf",
        "import tensorflow_hub as hub",
        "",
    ]
    if module.feature_extractor:
        lines += [
            "model = tf.keras.Sequential([",
            f'    hub.KerasLayer("{handle}", trainable=True),',
            "    tf.keras.layers.Dense(5),",
            "])",
        ]
    else:
        lines += [
            f'classifier = hub.KerasLayer("{handle}")',
            "probabilities = tf.nn.softmax(classifier(images))",
        ]
    return "\n".join(lines)


def _terms(licence: Licence) -> str:
    return "" if TERMS[licence].commercial else ": no commercial use"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _links(modules: Iterable[HubModule], publisher: str) -> str:
    return "\n".join(
        f"- [{module.name}](https://tfhub.dev/{publisher}/{module.name}/{VERSION})"
        for module in modules
    )
