"""Finds the files that make up one set of weights: a folder, or an index of shards.

Large models are published in shards with an index in JSON, and hub downloads are folders.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

from convnext.errors import WeightsFileError

__all__ = ["main_file", "read_index"]

MAX_INDEX = 512 << 10  # bytes; the entry of one tensor takes about 60

FILES_OF_A_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)


def main_file(folder: Path) -> Path:
    """The weights file, or index of shards, in a folder."""
    for name in FILES_OF_A_FOLDER:
        if (folder / name).is_file():
            return folder / name
    raise WeightsFileError(
        f"The folder holds no weights. Wanted: {', '.join(FILES_OF_A_FOLDER)}, or a SavedModel."
    )


def read_index(path: Path) -> dict[Path, list[str]]:
    """Names of the tensors in each shard, in the order of the index."""
    if path.stat().st_size > MAX_INDEX:
        raise WeightsFileError(f"An index of shards takes at most {MAX_INDEX:,} bytes.")
    try:
        index: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(
            f"It starts like an index of shards and is no JSON: {error}."
        ) from error
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not files:
        raise WeightsFileError("It is JSON without the weight_map of an index of shards.")
    shards: dict[Path, list[str]] = {}
    for name, file in files.items():
        if not isinstance(file, str) or PurePath(file).name != file or "\\" in file:
            raise WeightsFileError(f"It names a shard outside its own folder: {str(file)[:100]!r}.")
        if not file.isprintable():
            raise WeightsFileError(f"It names a shard with unprintable characters: {file[:100]!a}.")
        shards.setdefault(path.parent / file, []).append(name)
    return shards
