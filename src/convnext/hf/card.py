"""The README of a model's repository: metadata for the Hub, and how to use the model."""

from __future__ import annotations

import json

from convnext.errors import UnknownNameError, listed
from convnext.hf.config import ConvNextConfig
from convnext.weights.catalog import get_checkpoint

__all__ = ["model_card"]

SHOWN_LABELS = 20
PAPERS = {"convnext": "arxiv:2201.03545", "convnextv2": "arxiv:2301.00808"}


def model_card(config: ConvNextConfig, repo_id: str, *, licence: str | None = None) -> str:
    """The text of README.md.

    Args:
        config: The model's configuration, with its `architectures`.
        repo_id: Id of the repository.
        licence: Identifier of the weights' licence; by default that of the published checkpoint
            that the model was loaded from, if any.
    """
    licence = licence or _licence(config.name_or_path)
    architecture = (config.architectures or ["ConvNextModel"])[0]
    classifies = architecture.endswith("ForImageClassification")
    task = "image-classification" if classifies else "image-feature-extraction"
    metadata = ["library_name: convnext", f"pipeline_tag: {task}"]
    if licence:
        metadata.append(f"license: {licence.lower()}")
    if config.name_or_path.count("/") == 1:
        metadata.append(f"base_model: {json.dumps(config.name_or_path)}")
    tags = [config.model_type, "vision", task, PAPERS[config.model_type]]
    lines = ["---", *metadata, "tags:", *(f"- {tag}" for tag in tags), "---", ""]
    version = "V2" if config.model_type == "convnextv2" else "V1"
    lines += [
        f"# {repo_id.rpartition('/')[2]}",
        "",
        f"A ConvNeXt {version}: depths {config.depths}, widths {config.hidden_sizes}.",
        "",
        f"- Licence of the weights: {licence or 'not stated; ask the author'}.",
    ]
    if config.name_or_path:
        lines.append(f"- It began with the weights of `{config.name_or_path}`.")
    if classifies:
        lines.append(f"- It tells {config.num_labels} classes apart: {_labels(config)}.")
    multi = config.problem_type == "multi_label_classification"
    lines += [
        "",
        "## Use",
        "",
        "```python",
        *_use(architecture, repo_id, classifies, multi),
        "```",
        "",
    ]
    lines += [f"transformers loads it too, with its own `{architecture}`.", ""]
    return "\n".join(lines)


def _licence(name: str) -> str | None:
    try:
        return get_checkpoint(name).licence
    except (UnknownNameError, ValueError):
        return None


def _labels(config: ConvNextConfig) -> str:
    return listed([name.replace("\n", " ") for name in config.id2label.values()], SHOWN_LABELS)


def _use(architecture: str, repo_id: str, classifies: bool, multi_label: bool) -> list[str]:
    lines = [
        f"from convnext.hf import ConvNextImageProcessor, {architecture}",
        "",
        f'processor = ConvNextImageProcessor.from_pretrained("{repo_id}")',
        f'model = {architecture}.from_pretrained("{repo_id}")',
        'inputs = processor("picture.jpg", return_tensors="pt")  # or "tf", "jax"',
        "outputs = model(**inputs)",
    ]
    if classifies:
        name = "model.config.id2label"
        lines.append(
            f"print([{name}[i] for i, logit in enumerate(outputs.logits[0]) if logit > 0])"
            if multi_label
            else f"print({name}[int(outputs.logits[0].argmax())])"
        )
    return lines
