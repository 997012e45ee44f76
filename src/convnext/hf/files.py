"""Read and write weights files with transformers' names for parameters.

Reading reports missing, unexpected and mismatched parameters, as transformers does. Values are read
one tensor at a time. Nothing here imports a framework: a model is a mapping from names to shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from convnext.architecture import Shape
from convnext.errors import ArgumentError, ArgumentTypeError, WeightsMismatchError, listed
from convnext.hf.hub import Hub, find_file, is_repository, read_json
from convnext.weights.files import LazyTensor, open_weights, write_weights
from convnext.weights.layouts import to_foreign
from convnext.weights.layouts.moves import Array
from convnext.weights.load import read_weights

__all__ = [
    "LoadingReport",
    "bare",
    "compare",
    "given_tensors",
    "lazy",
    "open_tensors",
    "weights_path",
    "write_shards",
]

BASES = ("model.", "convnext.", "convnextv2.")
FIRST = {
    "huggingface": "embeddings.patch_embeddings.weight",
    "dinov3": "stages.0.downsample_layers.0.weight",
}
SAFE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class LoadingReport:
    """The parameters that were loaded and those that were not; `str` gives a summary.

    Attributes:
        source: Where the weights come from, for messages.
        loaded: Parameters that were filled.
        missing: Parameters that the file lacks; they have initial values.
        unexpected: Names in the file that the model lacks.
        mismatched: Parameters of another shape, with the file's shape and the model's; they have
            initial values.
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, Shape, Shape], ...]

    @property
    def names_in_file(self) -> dict[str, str]:
        """Name of each loaded parameter in the file, without its prefix."""
        return {name: bare(name) for name in self.loaded}

    @property
    def fresh(self) -> tuple[str, ...]:
        """Names that keep their initial values."""
        return (*self.missing, *(name for name, _, _ in self.mismatched))

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} parameters loaded."]
        if self.missing:
            lines.append(
                f"NOT IN THE FILE, newly initialised and to be trained: {listed(self.missing, 4)}."
            )
        if self.mismatched:
            shapes = [f"{name} ({have} there, {want} here)" for name, have, want in self.mismatched]
            lines.append(
                f"OF ANOTHER SHAPE, newly initialised and to be trained: {listed(shapes, 4)}."
            )
        if self.unexpected:
            lines.append(f"Left in the file: {listed(self.unexpected, 4)}.")
        return "\n".join(lines)


def bare(name: str) -> str:
    """A parameter's name without the prefix of the encoder, such as `convnext.`."""
    for base in BASES:
        name = name.removeprefix(base)
    return name


def compare(
    wanted: Mapping[str, Shape],
    given: Mapping[str, Shape],
    source: str,
    ignore_mismatched: bool,
    may_be_empty: bool = False,
) -> LoadingReport:
    """Compare a model's parameters with a file's.

    Args:
        wanted: The model's shapes by name.
        given: The file's shapes by `bare` name.
        source: Where the weights come from, for messages.
        ignore_mismatched: Whether to accept parameters of another shape.
        may_be_empty: Whether to accept a file without parameters.

    Raises:
        WeightsMismatchError: Shapes differ, or the file has no parameter of the encoder.
    """
    there = {name: bare(name) for name in wanted}
    missing = tuple(name for name, short in there.items() if short not in given)
    mismatched = tuple(
        (name, given[short], wanted[name])
        for name, short in there.items()
        if short in given and given[short] != wanted[name]
    )
    if mismatched and not ignore_mismatched:
        lines = [f"  {name}: {have} there, {want} here" for name, have, want in mismatched[:6]]
        raise WeightsMismatchError(
            f"{source}: {len(mismatched)} parameters have another shape than the model's:\n"
            + "\n".join(lines)
            + "\nPass ignore_mismatched_sizes=True to begin with new values for them, as for a "
            "classifier of other classes, or build the model that the file holds."
        )
    filled = tuple(n for n, short in there.items() if given.get(short) == wanted[n])
    inside = ("encoder.", "stages.")
    if not any(there[n].startswith(inside) for n in filled) and not (may_be_empty and not given):
        raise WeightsMismatchError(
            f"{source}: none of the encoder's parameters is in the file. It is of another model; "
            f"its first names are {', '.join(list(given)[:4]) or 'none'}."
        )
    unexpected = tuple(name for name in given if name not in there.values())
    return LoadingReport(source, filled, missing, unexpected, mismatched)


def weights_path(source: str | Path, hub: Hub) -> Path:
    """The weights file or index of shards of a model, downloaded if necessary."""
    for name in (SAFE, INDEX, PICKLED, PICKLED_INDEX):
        path = find_file(source, name, hub, optional=True)
        if path is None:
            continue
        if path.suffix == ".json" and is_repository(source):
            shards = read_json(path).get("weight_map")
            for shard in sorted(set(shards.values())) if isinstance(shards, dict) else ():
                if not isinstance(shard, str) or Path(shard).name != shard:
                    break  # refused when the index is read: it points outside the folder
                find_file(source, shard, hub)
        return path
    # Not optional this time, so that the error names the file and the reason.
    found = find_file(source, SAFE, hub)
    assert found is not None
    return found


@contextmanager
def open_tensors(
    source: str | Path, layout: str = "huggingface"
) -> Iterator[dict[str, LazyTensor]]:
    """The tensors of a file in any layout, under transformers' names without a prefix.

    Args:
        source: A file, or the name of a published checkpoint.
        layout: The layout of the names, `"huggingface"` or `"dinov3"`.
    """
    path = Path(source)
    if path.exists():
        with open_weights(path) as file:
            named = {bare(name): tensor for name, tensor in file.tensors.items()}
            if FIRST[layout] in named:
                yield named
                return
    with read_weights(source) as weights:
        foreign = to_foreign(weights.tensors, layout, weights.variant)
        yield {bare(name): tensor for name, tensor in foreign.items()}


def given_tensors(values: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Lazy tensors of arrays or tensors of any framework."""
    return {name: lazy(value) for name, value in values.items()}


def lazy(value: Any) -> LazyTensor:
    """A lazy tensor of an array or tensor of any framework."""
    dtype = np.dtype(str(value.dtype).removeprefix("torch."))

    def read() -> Array:
        if not hasattr(value, "detach"):
            return np.asarray(value)
        values = value.detach().cpu().contiguous()
        if dtype.isbuiltin != 1:  # bfloat16, which PyTorch cannot convert to NumPy
            values = values.view(values.flatten()[:0].short().dtype)
        return cast("Array", values.numpy().view(dtype))

    return LazyTensor(tuple(value.shape), dtype, read)


def write_shards(
    folder: Path,
    tensors: Mapping[str, LazyTensor],
    max_shard_size: int | str,
    safe_serialization: bool,
) -> None:
    """Write parameters as transformers reads them: in one file, or in shards with an index.

    Args:
        folder: The folder to write to.
        tensors: Tensors by transformers' names.
        max_shard_size: Size limit of a file, in bytes or as `"5GB"`.
        safe_serialization: False for PyTorch's pickled form.
    """
    limit = _bytes(max_shard_size)
    shards: list[dict[str, LazyTensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    whole, index = (SAFE, INDEX) if safe_serialization else (PICKLED, PICKLED_INDEX)
    metadata = {"format": "pt"} if safe_serialization else {}
    kind = "safetensors" if safe_serialization else "pth"
    if len(shards) == 1:
        write_weights(folder / whole, shards[0], metadata, format=kind)
        return
    stem, _, suffix = whole.partition(".")
    files: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.{suffix}"
        write_weights(folder / file, shard, metadata, format=kind)
        files |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    content = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / index).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")


def _bytes(size: int | str) -> int:
    if isinstance(size, str):
        text = size.strip().upper()
        unit = next((unit for unit in UNITS if text.endswith(unit)), None)
        number = text.removesuffix(unit).strip() if unit else ""
        if unit is None or not number.replace(".", "", 1).isdigit():
            raise ArgumentError(f"max_shard_size={size!r} is no size. Allowed: '5GB', '200MB', ...")
        return int(float(number) * UNITS[unit])
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentTypeError(f"max_shard_size is a number of bytes or '5GB', not {size!r}.")
    return size
