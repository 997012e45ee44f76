"""Where a checkpoint's file comes from: the cache, else the first source that delivers.

Hub files go through `huggingface_hub`, so its cache, mirrors, tokens and offline switch apply;
other addresses through `transfer`. When nothing works, the error says what was tried and what to
do; weights are never made up.
It knows no architecture and does not look into the files.
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

__all__ = ["Fetched", "cached", "fetch"]


REFUSALS = (401, 403)  # what the Hub answers to whoever has not accepted a licence


@dataclass(frozen=True)
class Fetched:
    """A checkpoint's file on this machine, and the source it is a copy of."""

    path: Path
    source: Source


def fetch(
    checkpoint: Checkpoint,
    *,
    cache_dir: str | Path | None = None,
    offline: bool | None = None,
    progress: bool = True,
) -> Fetched:
    """A checkpoint's file, from the cache or else from the first source that delivers it.

    Args:
        checkpoint: A row of the catalogue.
        cache_dir: Where files are kept. By default `$CONVNEXT_CACHE`; without that, `convnext` in
            `$XDG_CACHE_HOME` or `~/.cache`, and Hub files in the Hugging Face cache.
        offline: Whether to do without the network; by default as `$HF_HUB_OFFLINE` says.
        progress: Whether to show a bar when there is a terminal.

    Raises:
        WeightsUnavailableError: No source delivers; says why each one failed and what to do.
    """
    cache = _Cache.at(cache_dir)
    here = cache.find(checkpoint)
    if here:
        return here
    if offline is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
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
    """Where the checkpoint's file is on this machine, or None; touches no network."""
    here = _Cache.at(cache_dir).find(checkpoint)
    return here.path if here else None


@dataclass(frozen=True)
class _Cache:
    """Where files are kept: our own folder, and the Hub's (None for its default)."""

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

    def place(self, checkpoint: Checkpoint, source: Source) -> Path:
        """Where a file from this source is looked for, however it came there."""
        return self.root / checkpoint.name / source.layout / source.filename

    def find(self, checkpoint: Checkpoint) -> Fetched | None:
        for source in checkpoint.sources:
            place = self.place(checkpoint, source)
            path = place if place.is_file() else self._find_in_hub(source)
            if path:
                return Fetched(path, source)
        return None

    def _find_in_hub(self, source: Source) -> Path | None:
        if not isinstance(source, HubFile):
            return None
        from huggingface_hub import try_to_load_from_cache  # slow to import

        found = try_to_load_from_cache(
            source.repo, source.filename, cache_dir=self.hub, revision=source.revision
        )
        return Path(found) if isinstance(found, str) else None


def _download(checkpoint: Checkpoint, source: Source, cache: _Cache, progress: bool) -> Path:
    if isinstance(source, HubFile):
        return _download_from_hub(source, cache, progress)
    from convnext.weights.transfer import fetch_url  # imports the HTTP client, which is slow

    target = cache.place(checkpoint, source)
    return fetch_url(source.url, target, sha256=source.sha256, progress=progress)


def _download_from_hub(source: HubFile, cache: _Cache, progress: bool) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # slow to import
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # Where there is no network the download would try for 20 seconds, and complain. Any answer,
        # a refusal too, is for it to deal with.
        with suppress(HfHubHTTPError):
            get_hf_file_metadata(hf_hub_url(source.repo, source.filename, revision=source.revision))
        with _hub_progress(progress):
            path = hf_hub_download(
                source.repo, source.filename, revision=source.revision, cache_dir=cache.hub
            )
    # Everything, because the client went from requests to httpx to httpx2 as its versions passed,
    # and lets errors of each through.
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        if _status(error) in REFUSALS:
            reason = (
                f"the Hub answered {_status(error)}: if the repository is gated, its licence has "
                f"to be accepted first, at https://huggingface.co/{source.repo}; then log in with "
                "`hf auth login`, or set HF_TOKEN"
            )
        raise WeightsUnavailableError(reason) from error
    return Path(path)


def _status(error: BaseException | None) -> int | None:
    """What a server answered, if an error or one that it came from is about that."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return int(status)
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
        f"{cache.place(checkpoint, by_hand)}; or use a file you have, with --weights FILE or "
        'weights="FILE"; or copy the Hugging Face cache of a machine that holds the file '
        f"{copy}, and set HF_HUB_OFFLINE=1."
    )
