"""Find and download single files of a model, in a local folder or a repository on the Hub.

Downloads use `huggingface_hub`, so its cache, mirrors, tokens and offline mode apply.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from convnext.atomic import replaced_in
from convnext.errors import (
    ArgumentError,
    ConvNeXtError,
    WeightsFileError,
    WeightsUnavailableError,
)

__all__ = [
    "Hub",
    "built_from",
    "file_of",
    "find_file",
    "is_repository",
    "read_json",
    "refuse_unsupported",
    "staged",
]

MAX_JSON = 16 << 20  # bytes; the config of a model with 21841 labels takes 2 million

# Arguments of transformers that are not supported, and what to do instead. Without this check
# they would silently become attributes.
_UNSUPPORTED = {
    "adapter_kwargs": "Load the model first, and its adapter with peft.",
    "device_map": "Move the model when it is loaded, on PyTorch with model.to(device).",
    "gguf_file": "Give a folder with safetensors.",
    "quantization_config": "Export to eight bits with convnext.export.",
    "variant": "Give the folder that holds the file as model.safetensors.",
}

_Built = TypeVar("_Built")


@dataclass(frozen=True)
class Hub:
    """Options of downloads from the Hub.

    Attributes:
        revision: Branch, tag or commit; the main branch by default.
        cache_dir: Folder for downloaded files; by default the Hugging Face cache.
        local_files_only: Whether to use cached files only.
        token: Access token; True or None for the stored one, False for none.
        subfolder: Folder inside the folder or repository.
        force_download: Whether to download cached files again.
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    token: str | bool | None = None
    subfolder: str = ""
    force_download: bool = False


def is_repository(source: str | Path) -> bool:
    """Whether this is the id of a repository, `owner/name`, and not a local folder."""
    return isinstance(source, str) and source.count("/") == 1 and not Path(source).exists()


def find_file(source: str | Path, name: str, hub: Hub, *, optional: bool = False) -> Path | None:
    """The local path of a model's file, downloaded if necessary.

    Args:
        source: A folder, or the id of a repository.
        name: The file's name.
        hub: Options of downloads.
        optional: Whether to return None if there is no such file.

    Raises:
        WeightsUnavailableError: There is no such folder or repository, or no such file in it.
    """
    if not is_repository(source):
        return _find_here(Path(source, hub.subfolder), name, optional)
    from huggingface_hub import hf_hub_download  # slow to import
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(
                str(source),
                name,
                revision=hub.revision,
                cache_dir=hub.cache_dir,
                local_files_only=hub.local_files_only,
                token=hub.token,
                subfolder=hub.subfolder or None,
                force_download=hub.force_download,
            )
        )
    # Any exception: huggingface_hub does not wrap the errors of its HTTP client.
    except Exception as error:
        not_reached = isinstance(error, LocalEntryNotFoundError)
        if optional and isinstance(error, EntryNotFoundError) and not not_reached:
            return None
        if optional and hub.local_files_only and not_reached:
            return None
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise WeightsUnavailableError(
            f"Cannot get {name} of {source}: {reason}. Check the id and the network, log in "
            "with `hf auth login` if it is private, or give a folder that holds the model."
        ) from error


def _find_here(folder: Path, name: str, optional: bool) -> Path | None:
    path = folder / name
    if path.is_file():
        return path
    if optional and folder.is_dir():
        return None
    what = "no such folder" if not folder.is_dir() else f"no {name} in it"
    raise WeightsUnavailableError(
        f"{folder} holds no model: {what}. Give a folder that save_pretrained wrote, the id of a "
        "repository such as 'facebook/convnext-tiny-224', or a name of `convnext list`."
    )


def file_of(source: str | Path, name: str, hub: Hub) -> Path:
    """The local path of a model's file; `source` itself if it is a file."""
    if Path(source).is_file():
        return Path(source)
    path = find_file(source, name, hub)
    assert path is not None
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        WeightsFileError: The file holds no JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"it is longer than {MAX_JSON:,} bytes")
        content = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise WeightsUnavailableError(
            f"{path} cannot be read: {error.strerror or error}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(f"{path} cannot be used: {error}.") from error
    if not isinstance(content, Mapping):
        raise WeightsFileError(f"{path} cannot be used: it holds no JSON object.")
    return dict(content)


def refuse_unsupported(overrides: Mapping[str, Any]) -> None:
    """Refuse arguments that only transformers' `from_pretrained` supports.

    Raises:
        ArgumentError: There is such an argument.
    """
    for name, instead in _UNSUPPORTED.items():
        if overrides.get(name):
            raise ArgumentError(f"from_pretrained does not support {name}. {instead}")


def built_from(cls: type[_Built], values: Mapping[str, Any]) -> _Built:
    """`cls(**values)`, with every failure as an `ArgumentError`.

    Raises:
        ArgumentError: A value is invalid, or named like a method or a read-only property.
    """
    for name in values:
        found = getattr(cls, name, None)
        if callable(found) or (isinstance(found, property) and found.fset is None):
            raise ArgumentError(
                f"{name!r} cannot be set: it is a part of {cls.__name__}. Take it out of the file "
                "or dictionary."
            )
    try:
        return cls(**values)
    except ConvNeXtError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"A value of this {cls.__name__} cannot be used: {error}. Compare the file or "
            f"dictionary with that of {cls.__name__}().to_dict()."
        ) from error


@contextmanager
def staged(folder: str | Path, replaces: Sequence[str] = ()) -> Iterator[Path]:
    """Write files into a folder atomically: all of them, or none.

    Args:
        folder: The folder; created if missing.
        replaces: Patterns of older files to delete there.

    Yields:
        A temporary folder to write into. If writing fails, `folder` is unchanged.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ArgumentError(f"{target} is a file. Name a folder to save into.")
    existed = target.is_dir()
    target.mkdir(parents=True, exist_ok=True)
    try:
        with replaced_in(target) as temporary:
            yield temporary
            new = {file.name for file in temporary.iterdir()}
        for old in [old for pattern in replaces for old in target.glob(pattern)]:
            if old.name not in new:
                old.unlink()
    except BaseException:
        if not existed and not any(target.iterdir()):
            target.rmdir()
        raise
