"""Download a model from any repository on the Hugging Face Hub.

The JSON files and the weights go into the Hub's cache, in one folder of one commit. A repository
whose config.json is not of a ConvNeXt is refused before the weights are downloaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from convnext.errors import WeightsUnavailableError
from convnext.weights.beside import CONFIG, OPEN_CLIP, companions
from convnext.weights.catalog import HUB
from convnext.weights.download import hub_cache, hub_cached, hub_file, is_offline, status
from convnext.weights.files.shards import FILES_OF_A_FOLDER, read_index

__all__ = ["Repository", "fetch_repository", "repository_named"]

NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w./-]{1,96}))?", re.ASCII)
VOCABULARY = "tokenizer.json"  # of the texts that a CLIP model reads
NOT_FOUND = 404
FINAL = (401, 403, NOT_FOUND)
COMMIT = re.compile(r"[0-9a-f]{40}")
OF_FILES = (".bin", ".ckpt", ".h5", ".keras", ".npz", ".pt", ".pth", ".safetensors", ".tar.gz")


class Repository(NamedTuple):
    """A repository, and its branch, tag or commit; None for the main branch."""

    name: str
    revision: str | None = None


def repository_named(text: str) -> Repository | None:
    """The repository that a text names: `owner/name`, as timm and browsers write it too.

    Example:
        >>> repository_named("hf-hub:someone/my-convnext@v2")
        Repository(name='someone/my-convnext', revision='v2')
        >>> repository_named("runs/best.pth") is None  # a file that is not there
        True
    """
    name = text.strip().rstrip("/")
    prefix = next((prefix for prefix in HUB if name.lower().startswith(prefix)), "")
    name = name[len(prefix) :]
    found = NAME.fullmatch(name)
    if found is None or (not prefix and name.lower().endswith(OF_FILES)):
        return None
    return Repository(*found.groups())


def fetch_repository(
    repository: Repository,
    *,
    near: str | None = None,
    cache_dir: str | Path | None = None,
    offline: bool | None = None,
    progress: bool = True,
) -> Path:
    """Download the weights of a repository and its JSON files, into one folder.

    A newer commit is downloaded first. Without a network, the cached files are used.

    Args:
        repository: The repository.
        near: A published checkpoint of a similar name, for the error.
        cache_dir: See `convnext.weights.download.fetch`.
        offline: Whether to use cached files only; by default as `$HF_HUB_OFFLINE` says.
        progress: Whether to show a bar when there is a terminal.

    Returns:
        The weights file, or the index of its shards.

    Raises:
        WeightsUnavailableError: There is no such repository, or it has no weights.
        WeightsFileError: Its config.json is of another kind of network.
    """
    offline = is_offline() if offline is None else offline
    unreached = "it is not in the cache, and offline mode is on" if offline else ""
    files = _Files(repository.name, repository.revision, hub_cache(cache_dir), progress, unreached)
    try:
        config = files.find(CONFIG)
        for name in companions(config) if config else (OPEN_CLIP, VOCABULARY):
            files.find(name)
        for name in FILES_OF_A_FOLDER:
            path = files.find(name)
            if path is not None:
                for shard in read_index(path) if path.suffix == ".json" else ():
                    files.need(shard.name)
                return path
        raise files.missing(f"one of {', '.join(FILES_OF_A_FOLDER)}")
    except WeightsUnavailableError as error:
        hint = f" Did you mean {near!r}?" if near else ""
        raise WeightsUnavailableError(
            f"{repository.name!r} is neither a file on this machine nor a published checkpoint, "
            f"and as a repository on the Hugging Face Hub it cannot be had: {error}.{hint} Or give "
            "the path of a file or folder that you have."
        ) from error


@dataclass
class _Files:
    """The files of a repository, all of the commit of the first one downloaded.

    Attributes:
        repository: Its name.
        revision: Branch, tag or commit; the commit, once it is known.
        cache: Folder of downloaded Hub files; None for the default.
        progress: Whether to show a bar.
        unreached: Why the Hub is not used; empty if it is.
    """

    repository: str
    revision: str | None
    cache: Path | None
    progress: bool
    unreached: str

    def find(self, name: str) -> Path | None:
        """Local path of a file, downloaded if necessary; None if there is none."""
        named = (self.repository, name, self.revision, self.cache)
        here = hub_cached(*named)
        if self.unreached or (here and COMMIT.fullmatch(self.revision or "")):
            return here
        try:
            path = hub_file(*named, progress=self.progress)
        except WeightsUnavailableError as error:
            if _lacks_file(error):
                return None
            if status(error) in FINAL:
                raise
            self.unreached = str(error)
            return here
        self.revision = path.parent.name
        return path

    def need(self, name: str) -> None:
        """Download a file; raise if there is none."""
        if self.find(name) is None:
            raise self.missing(name)

    def missing(self, what: str) -> WeightsUnavailableError:
        """The error for a missing file."""
        return WeightsUnavailableError(self.unreached or f"it does not hold {what}")


def _lacks_file(error: WeightsUnavailableError) -> bool:
    """Whether the repository exists and has no such file."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    unknown = isinstance(error.__cause__, RepositoryNotFoundError | RevisionNotFoundError)
    return status(error) == NOT_FOUND and not unknown
