"""A text tower of CLIP's as data, and its weights in a file of open_clip's.

    tokens -> embedding of tokens + of positions -> text_block_0 ... -> text_norm
           -> the position of the end -> text_projection -> length 1

A block is x + attention(norm(x)), then x + hidden layer(norm(x)), with the exact GELU; attention is
causal. `parameters` gives names and shapes, in the canonical form of `convnext.weights.canonical`,
and `ROWS` open_clip's names for them, read both ways.

Reference: Radford et al., https://arxiv.org/abs/2103.00020; open_clip's src/open_clip/model.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convnext.errors import UnknownNameError, UnstatedError, WeightsError, WeightsMismatchError
from convnext.steps import Shape
from convnext.weights.beside import OPEN_CLIP
from convnext.weights.bundled import BUNDLED, bundled_path
from convnext.weights.catalog import Checkpoint, HubFile, get_checkpoint
from convnext.weights.download import fetch, hub_cache, hub_cached, hub_file, is_offline
from convnext.weights.files import LazyTensor, open_weights
from convnext.weights.layouts.moves import LINEAR, SAME, Move, moved
from convnext.weights.load import forget_pages, unknown_weights
from convnext.weights.repository import fetch_repository, repository_named

__all__ = ["EPSILON", "TextTower", "TextWeights", "parameters", "read_text_tower", "to_open_clip"]

EPSILON = 1e-5  # of all norms
# Heads do not follow from shapes: (width, blocks) -> heads of the published towers.
HEADS = {(512, 12): 8, (640, 12): 10, (768, 12): 12, (768, 16): 12, (1024, 24): 16}
FIRST = "token_embedding.weight"
BLOCK = "transformer.resblocks.{i}"

ROWS: tuple[tuple[str, str, Move], ...] = (
    (FIRST, "text_embedding.tokens", SAME),
    ("positional_embedding", "text_embedding.positions", SAME),
    (f"{BLOCK}.ln_1.weight", "text_block_{i}.norm_1.gamma", SAME),
    (f"{BLOCK}.ln_1.bias", "text_block_{i}.norm_1.beta", SAME),
    (f"{BLOCK}.attn.in_proj_weight", "text_block_{i}.query_key_value.kernel", LINEAR),
    (f"{BLOCK}.attn.in_proj_bias", "text_block_{i}.query_key_value.bias", SAME),
    (f"{BLOCK}.attn.out_proj.weight", "text_block_{i}.attention_out.kernel", LINEAR),
    (f"{BLOCK}.attn.out_proj.bias", "text_block_{i}.attention_out.bias", SAME),
    (f"{BLOCK}.ln_2.weight", "text_block_{i}.norm_2.gamma", SAME),
    (f"{BLOCK}.ln_2.bias", "text_block_{i}.norm_2.beta", SAME),
    (f"{BLOCK}.mlp.c_fc.weight", "text_block_{i}.hidden.kernel", LINEAR),
    (f"{BLOCK}.mlp.c_fc.bias", "text_block_{i}.hidden.bias", SAME),
    (f"{BLOCK}.mlp.c_proj.weight", "text_block_{i}.hidden_out.kernel", LINEAR),
    (f"{BLOCK}.mlp.c_proj.bias", "text_block_{i}.hidden_out.bias", SAME),
    ("ln_final.weight", "text_norm.gamma", SAME),
    ("ln_final.bias", "text_norm.beta", SAME),
    ("text_projection", "text_projection.kernel", SAME),
)
"""open_clip's name, ours, and the change of axes; `{i}` is the number of a block."""

# Settings of open_clip's text towers that do not change what is computed here.
NEUTRAL = {"hf_tokenizer_name", "tokenizer_kwargs", "text_mask", "output_tokens"}


@dataclass(frozen=True)
class TextTower:
    """A text tower.

    Attributes:
        width: Channels.
        heads: Of the attention.
        layers: Blocks.
        length: Positions.
        vocabulary: Tokens.
        outputs: Width of the vectors.
        expansion: Ratio of the width of a block's hidden layer to `width`.
    """

    width: int
    heads: int
    layers: int
    length: int = 77
    vocabulary: int = 49_408
    outputs: int = 512
    expansion: int = 4


@dataclass(frozen=True)
class TextWeights:
    """A text tower and its weights, readable while their file is open.

    Attributes:
        tower: The tower.
        tensors: Every tensor by canonical name.
        scale: Factor of the products of two vectors of length 1, for logits.
        bias: Added to the logits; 0 in published checkpoints.
        vocabulary: File with the vocabulary of its tokenizer; None if none was found.
        source: Where they come from, for messages.
    """

    tower: TextTower
    tensors: Mapping[str, LazyTensor]
    scale: float
    bias: float
    vocabulary: Path | None
    source: str

    def values(self, name: str) -> NDArray[np.float32]:
        """Read a parameter by its canonical name.

        Raises:
            WeightsError: A value is not finite.
        """
        stored = self.tensors[name].read()
        values = np.array(stored, np.float32, order="C")
        forget_pages(stored)
        if not np.isfinite(values).all():
            raise WeightsError(
                f"{self.source}: {name}: some values are not finite (NaN or infinity), so all "
                "vectors of texts would be wrong. The file is damaged; use another copy."
            )
        return values


def parameters(tower: TextTower) -> dict[str, Shape]:
    """Canonical name and shape of every parameter, in the order of computation."""
    width, hidden = tower.width, tower.width * tower.expansion
    shapes: dict[str, Shape] = {
        "text_embedding.tokens": (tower.vocabulary, width),
        "text_embedding.positions": (tower.length, width),
    }
    for block in range(tower.layers):
        linears = {
            "query_key_value": (width, 3 * width),
            "attention_out": (width, width),
            "hidden": (width, hidden),
            "hidden_out": (hidden, width),
        }
        for norm, names in (("norm_1", list(linears)[:2]), ("norm_2", list(linears)[2:])):
            prefix = f"text_block_{block}"
            shapes |= {f"{prefix}.{norm}.{part}": (width,) for part in ("gamma", "beta")}
            for name in names:
                shapes[f"{prefix}.{name}.kernel"] = linears[name]
                shapes[f"{prefix}.{name}.bias"] = linears[name][1:]
    shapes |= {f"text_norm.{part}": (width,) for part in ("gamma", "beta")}
    return shapes | {"text_projection.kernel": (width, tower.outputs)}


def _expanded(layers: int) -> Iterator[tuple[str, str, Move]]:
    for foreign, ours, move in ROWS:
        for block in range(layers if "{i}" in ours else 1):
            yield foreign.format(i=block), ours.format(i=block), move


def to_open_clip(tower: TextTower, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Convert tensors with canonical names to open_clip's names and axes."""
    return {theirs: move.write(tensors[ours]) for theirs, ours, move in _expanded(tower.layers)}


@contextmanager
def read_text_tower(source: str | Path) -> Iterator[TextWeights]:
    """Open the text tower of a CLIP model.

    Args:
        source: A file or folder in open_clip's layout, the name of a published checkpoint, or a
            repository on the Hugging Face Hub. `open_clip_config.json` and the vocabulary are read
            from the same folder.

    Raises:
        WeightsMismatchError: The model has no text tower, or one of another kind.
        UnstatedError: The number of heads is unknown.
        WeightsUnavailableError: The checkpoint cannot be downloaded.
    """
    path, row = _resolve(source)
    with open_weights(path) as file:
        names = {name.removesuffix(FIRST): None for name in file.tensors if name.endswith(FIRST)}
        if len(names) != 1:
            how = "no text tower" if not names else f"{len(names)} text towers"
            raise WeightsMismatchError(
                f"{source} has {how}. Take weights of a whole CLIP model in open_clip's layout, "
                'such as laion/CLIP-convnext_base_w-laion2B-s13B-b82K: `convnext list "*.clip_*"`.'
            )
        [prefix] = names
        there = {
            name.removeprefix(prefix): tensor
            for name, tensor in file.tensors.items()
            if name.startswith(prefix) and not name.startswith(f"{prefix}visual.")
        }
        tower = _tower(there, path, source, row)
        tensors = _tensors(there, tower, source)
        scale = _scalar(file.tensors, prefix, "logit_scale")
        if scale is None:
            raise WeightsMismatchError(f"{source} has no logit_scale, which CLIP's logits need.")
        bias = _scalar(file.tensors, prefix, "logit_bias") or 0.0
        if not math.isfinite(scale) or not 0 < math.exp(min(scale, 20)) < 1e6:
            raise WeightsError(f"{source}: the scale of its logits, exp({scale:g}), is damaged.")
        vocabulary = _vocabulary(path, row)
        yield TextWeights(tower, tensors, math.exp(scale), bias, vocabulary, str(source))


def _resolve(source: str | Path) -> tuple[Path, Checkpoint | None]:
    if isinstance(source, Path) or Path(source).exists():
        return Path(source), None
    if source == BUNDLED:
        return bundled_path(), None
    try:
        row = get_checkpoint(source)
    except UnknownNameError as error:
        repository = repository_named(source)
        if repository is None:
            raise unknown_weights(source, error) from error
        return fetch_repository(repository, near=error.suggestion), None
    whole = tuple(each for each in row.sources if each.layout == "open_clip")
    if not whole:
        raise WeightsMismatchError(
            f"{row.name} was published without a text tower. `convnext list --task clip` has those "
            "with one."
        )
    return fetch(replace(row, sources=whole)).path, row


def _tower(
    there: Mapping[str, LazyTensor], path: Path, source: object, row: Checkpoint | None
) -> TextTower:
    shapes = {name: tensor.shape for name, tensor in there.items()}
    numbers = {
        int(m[1]) for name in shapes if (m := re.match(r"transformer\.resblocks\.(\d+)\.", name))
    }
    try:
        vocabulary, width = shapes[FIRST]
        length, _ = shapes["positional_embedding"]
        _, outputs = shapes["text_projection"]
        hidden, _ = shapes[f"{BLOCK.format(i=0)}.mlp.c_fc.weight"]
    except (KeyError, ValueError) as error:
        raise WeightsMismatchError(
            f"{source} has a text tower of another kind than CLIP's ({error})."
        ) from error
    config = None if row else _config(path)
    heads = _heads(config, source) if config else HEADS.get((width, len(numbers)))
    if not heads or width % heads:
        raise UnstatedError(
            f"{source} does not say how many heads its text tower has. Put the {OPEN_CLIP} that "
            "came with it beside it."
        )
    return TextTower(width, heads, len(numbers), length, vocabulary, outputs, hidden // width)


def _config(path: Path) -> dict[str, Any] | None:
    folder = path if path.is_dir() else path.parent
    try:
        content = json.loads((folder / OPEN_CLIP).read_text("utf-8"))["model_cfg"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _heads(config: Mapping[str, Any], source: object) -> int | None:
    """The number of heads; refuses settings of other computations."""
    text = config.get("text_cfg") or {}
    other = [name for name in ("quick_gelu", "custom_text") if config.get(name)]
    known = {"context_length", "vocab_size", "width", "heads", "layers"} | NEUTRAL
    other = other[:1] if "quick_gelu" in other else []
    other += [name for name, value in text.items() if name not in known and value]
    allowed = {"mlp_ratio": 4.0, "pool_type": "argmax", "proj_type": "linear"}
    other = [name for name in other if text.get(name) != allowed.get(name, ...)]
    if other:
        raise WeightsMismatchError(
            f"The text tower of {source} has {other[0]!r}, unlike those of published ConvNeXt "
            "CLIPs. Compute its vectors with open_clip."
        )
    heads = text.get("heads")
    return heads if isinstance(heads, int) and heads > 0 else None


def _tensors(
    there: Mapping[str, LazyTensor], tower: TextTower, source: object
) -> dict[str, LazyTensor]:
    found = {}
    for name, shape in parameters(tower).items():
        foreign, move = _foreign(name)
        tensor = there.get(foreign)
        if tensor is None or move.read_shape(tensor.shape) != shape:
            what = "lacks it" if tensor is None else f"has it as {tensor.shape}"
            raise WeightsMismatchError(
                f"{source}: the text tower needs {foreign!r} as {move.written_shape(shape)}, and "
                f"the file {what}."
            )
        found[name] = moved(move.read, tensor)
    return found


def _foreign(name: str) -> tuple[str, Move]:
    number = re.search(r"\d+", name.partition(".")[0])
    pattern = re.sub(r"text_block_\d+", "text_block_{i}", name)
    [(foreign, move)] = [(row[0], row[2]) for row in ROWS if row[1] == pattern]
    return foreign.format(i=number[0] if number else ""), move


def _scalar(tensors: Mapping[str, LazyTensor], prefix: str, name: str) -> float | None:
    """A number of the whole model, which does not stand with a text tower under a prefix."""
    for start in (prefix, prefix.removesuffix("text.")):
        if f"{start}{name}" in tensors:
            return float(tensors[f"{start}{name}"].read().astype(np.float32).reshape(()))
    return None


def _vocabulary(path: Path, row: Checkpoint | None) -> Path | None:
    from convnext.text.tokenizer import VOCABULARY_FILES

    folder = path if path.is_dir() else path.parent
    beside = next((p for name in VOCABULARY_FILES if (p := folder / name).is_file()), None)
    hub = [each for each in row.sources if isinstance(each, HubFile)] if row else []
    if beside or not hub:
        return beside
    place = (hub[-1].repo, VOCABULARY_FILES[0], hub[-1].revision, hub_cache())
    return hub_cached(*place) or (None if is_offline() else hub_file(*place))
