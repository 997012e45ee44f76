"""Get a checkpoint's file from the cache, or download it from the first source that works.

Hub files are downloaded by `huggingface_hub`, so its cache, mirrors, tokens and offline mode apply,
and other addresses by `transfer`. If every source fails, the error lists the attempts and what to
do; weights are never random instead.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from convnext.errors import WeightsUnavailableError
from convnext.weights.catalog import Checkpoint, HubFile, Source, Url

__all__ = [
    "Fetched",
    "cached",
    "fetch",
    "hub_cache",
    "hub_cached",
    "hub_file",
    "is_offline",
    "status",
]


REFUSALS = (401, 403)  # status codes of the Hub for gated and private repositories


@dataclass(frozen=True)
class Fetched:
    """A checkpoint's local file, and the source it is a copy of."""

    path: Path
    source: Source


def fetch(
    checkpoint: Checkpoint,
    *,
    cache_dir: str | Path | None = None,
    offline: bool | None = None,
    progress: bool = True,
) -> Fetched:
    """Get a checkpoint's file from the cache, or download it from the first source that works.

    Args:
        checkpoint: A row of the catalogue.
        cache_dir: Folder for files. By default `$CONVNEXT_CACHE`; without that, `convnext` in
            `$XDG_CACHE_HOME` or `~/.cache`, and Hub files in the Hugging Face cache.
        offline: Whether to use cached files only; by default as `$HF_HUB_OFFLINE` says.
        progress: Whether to show a bar when there is a terminal.

    Raises:
        WeightsUnavailableError: Every source failed; has the reasons and what to do.
    """
    cache = _Cache.at(cache_dir)
    here = cache.find(checkpoint)
    if here:
        return here
    offline = is_offline() if offline is None else offline
    failures = []
    for source in checkpoint.sources:
        try:
            if offline:
                raise WeightsUnavailableError("not in the cache, and offline mode is on")
            return Fetched(_download(checkpoint, source, cache, progress), source)
        except WeightsUnavailableError as error:
            failures.append(f"{source} ({error})")
    raise WeightsUnavailableError(
        f"Could not get the weights {checkpoint.name}. Tried {'; '.join(failures)}. "
        + _ways_out(checkpoint, cache)
    )


def cached(checkpoint: Checkpoint, *, cache_dir: str | Path | None = None) -> Path | None:
    """Local path of the checkpoint's file, or None; does not use the network."""
    here = _Cache.at(cache_dir).find(checkpoint)
    return here.path if here else None


def is_offline() -> bool:
    """Whether `$HF_HUB_OFFLINE` forbids using the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def hub_cache(cache_dir: str | Path | None = None) -> Path | None:
    """Folder of downloaded Hub files, see `fetch`; None for the Hugging Face cache."""
    return _Cache.at(cache_dir).hub


@dataclass(frozen=True)
class _Cache:
    """Folders of downloaded files: our own, and the Hub's (None for its default)."""

    root: Path
    hub: Path | None

    @classmethod
    def at(cls, chosen: str | Path | None) -> _Cache:
        chosen = chosen or os.environ.get("CONVNEXT_CACHE")
        if chosen:
            root = Path(chosen).expanduser()
            return cls(root, root / "hub")
        shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return cls(Path(shared) / "convnext", None)

    def path(self, checkpoint: Checkpoint, source: Source) -> Path:
        """Path in our folder for a file from this source, downloaded or put there by hand."""
        return self.root / checkpoint.name / source.layout / source.filename

    def find(self, checkpoint: Checkpoint) -> Fetched | None:
        for source in checkpoint.sources:
            file = self.path(checkpoint, source)
            path = file if file.is_file() else None
            if path is None and isinstance(source, HubFile):
                path = hub_cached(source.repo, source.filename, source.revision, self.hub)
            if path:
                return Fetched(path, source)
        return None


def _download(checkpoint: Checkpoint, source: Source, cache: _Cache, progress: bool) -> Path:
    if isinstance(source, HubFile):
        named = (source.repo, source.filename, source.revision, cache.hub)
        return hub_file(*named, progress=progress)
    from convnext.weights.transfer import fetch_url  # imports the HTTP client, which is slow

    target = cache.path(checkpoint, source)
    return fetch_url(source.url, target, sha256=source.sha256, progress=progress)


def hub_cached(repo: str, name: str, revision: str | None, cache: Path | None) -> Path | None:
    """Local path of a file of a repository, or None; does not use the network."""
    from huggingface_hub import try_to_load_from_cache  # slow to import

    found = try_to_load_from_cache(repo, name, cache_dir=cache, revision=revision)
    return Path(found) if isinstance(found, str) else None


def hub_file(
    repo: str, name: str, revision: str | None, cache: Path | None, *, progress: bool = True
) -> Path:
    """Local path of a file of a repository, downloaded if it is missing or has changed.

    Args:
        repo: `"owner/name"`.
        name: Path inside the repository.
        revision: Branch, tag or commit; the main branch by default.
        cache: Folder of downloaded Hub files; None for the Hugging Face cache.
        progress: Whether to show a bar when there is a terminal.

    Raises:
        WeightsUnavailableError: The download failed; has the reason in one phrase. See `status`.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # slow to import
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        # Fails at once without a network, where the download would retry for 20 seconds. Any
        # response, even a refusal, is left to the download.
        with suppress(HfHubHTTPError):
            get_hf_file_metadata(hf_hub_url(repo, name, revision=revision))
        with _hub_progress(progress):
            return Path(hf_hub_download(repo, name, revision=revision, cache_dir=cache))
    # Any exception: huggingface_hub does not wrap the errors of its HTTP client, whose library
    # depends on the version.
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        unknown = isinstance(error, RepositoryNotFoundError)
        if status(error) in REFUSALS or unknown:
            perhaps = "there is no such repository, or you may not see it; " if unknown else ""
            reason = (
                f"the Hub answered {status(error)}: {perhaps}if the repository is gated, its "
                f"licence has to be accepted first, at https://huggingface.co/{repo}; then log in "
                "with `hf auth login`, or set HF_TOKEN"
            )
        raise WeightsUnavailableError(reason) from error


def status(error: BaseException | None) -> int | None:
    """HTTP status code of an error or of its causes; None if there is none."""
    while error is not None:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code is not None:
            return int(code)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def _hub_progress(show: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if show or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _ways_out(checkpoint: Checkpoint, cache: _Cache) -> str:
    plain = (source for source in checkpoint.sources if isinstance(source, Url))
    by_hand = next(plain, checkpoint.sources[0])
    copy = f"to {cache.hub}" if cache.hub else "and point HF_HOME at the copy"
    return (
        f"Three ways out: download {by_hand} elsewhere and put it at "
        f"{cache.path(checkpoint, by_hand)}; or use a file you have, as the model: --model FILE, "
        'or weights="FILE" in Python; or copy the Hugging Face cache of a machine that has it '
        f"{copy}, and set HF_HUB_OFFLINE=1."
    )
