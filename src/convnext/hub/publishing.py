"""Write the collection: an archive and a page for each module, and a page for the collection.

    DIR/convnext_tiny_1k_224.tar.gz
    DIR/docs/PUBLISHER/models/convnext_tiny_1k_224/1.md
    DIR/docs/PUBLISHER/collections/convnext/1.md

Existing archives are kept, so an interrupted run can be resumed. Modules whose checkpoint is not in
the cache are skipped, unless downloading is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.errors import ArgumentError, ConvNeXtError
from convnext.exports import FORMATS, ExportReport, export
from convnext.exports.target import written
from convnext.hub.collection import MODULES, VERSION, HubModule, get_module
from convnext.hub.pages import COLLECTION_NAME, collection_page, module_page
from convnext.weights.download import cached

__all__ = ["Published", "publish"]

OWN_PUBLISHER = "convnext"


@dataclass(frozen=True)
class Published:
    """The result for one module.

    Attributes:
        module: The module.
        path: Its archive; None if it was not written.
        report: The export report; None if the archive existed already or was not written.
        problem: Why the archive was not written, or an empty string.
    """

    module: HubModule
    path: Path | None
    report: ExportReport | None = None
    problem: str = ""


def publish(  # noqa: PLR0913
    folder: str | Path,
    only: Sequence[str] = (),
    *,
    publisher: str = OWN_PUBLISHER,
    asset_url: str = "",
    fetch: bool = False,
    overwrite: bool = False,
    on_progress: Callable[[str], object] = lambda _: None,
    on_published: Callable[[Published], object] = lambda _: None,
) -> list[Published]:
    """Write the collection into a folder.

    Args:
        folder: The folder; created if missing.
        only: Names of modules; by default all.
        publisher: Name of the publisher in the pages.
        asset_url: URL of the archives' folder in the pages; by default file names only.
        fetch: Whether to download checkpoints that are not in the cache.
        overwrite: Whether to overwrite existing archives.
        on_progress: Called with a message before each step.
        on_published: Called with the result for each module.

    Returns:
        The result for each module, in order.

    Raises:
        UnknownNameError: A name is not that of a module.
        ArgumentError: The folder cannot be created.
        MissingDependencyError: TensorFlow is not installed.
    """
    modules = [get_module(name) for name in only] or list(MODULES.values())
    if not publisher.replace("-", "").replace("_", "").isalnum():
        raise ArgumentError(
            f"A publisher's name may have letters, digits, '-' and '_' only; got {publisher!r}."
        )
    FORMATS["saved_model"].check_installed()
    folder = _made(Path(folder))
    results = []
    for module in modules:
        result = _published(module, folder, fetch, overwrite, on_progress)
        if result.path is not None:
            _write_page(
                folder / "docs" / publisher / "models" / module.name / f"{VERSION}.md",
                module_page(module, publisher, _asset_path(asset_url, result.path)),
            )
        results.append(result)
        on_published(result)
    there = [result.module for result in results if result.path is not None]
    if there:
        page = folder / "docs" / publisher / "collections" / COLLECTION_NAME / f"{VERSION}.md"
        _write_page(page, collection_page(there, publisher))
    return results


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"The folder {folder} cannot be created: {error.strerror}. Give another."
        ) from error
    return folder


def _asset_path(url: str, path: Path) -> str:
    return f"{url.rstrip('/')}/{path.name}" if url else path.name


def _published(
    module: HubModule,
    folder: Path,
    fetch: bool,
    overwrite: bool,
    on_progress: Callable[[str], object],
) -> Published:
    path = folder / f"{module.name}.tar.gz"
    if path.exists() and not overwrite:
        return Published(module, path)
    if not fetch and cached(module.row) is None:
        return Published(module, None, problem=f"{module.checkpoint} is not in the cache")
    try:
        report = export(
            module.checkpoint,
            path,
            format="saved_model",
            resolution=module.resolution,
            output="embedding" if module.feature_extractor else "logits",
            overwrite=overwrite,
            on_progress=lambda step: on_progress(f"{module.name}: {step}"),
        )
    except ConvNeXtError as error:
        return Published(module, None, problem=str(error))
    return Published(module, path, report)


def _write_page(path: Path, text: str) -> None:
    _made(path.parent)
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
