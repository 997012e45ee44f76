"""The whole collection as files: an archive for each module, its page, and the collection's page.

    DIR/convnext_tiny_1k_224.tar.gz
    DIR/docs/PUBLISHER/models/convnext_tiny_1k_224/1.md
    DIR/docs/PUBLISHER/collections/convnext/1.md

Archives that are there are kept, so a run that was interrupted goes on. Modules whose checkpoint is
not on this machine are left out and named; nothing is fetched unless asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.errors import ArgumentError, ConvNeXtError
from convnext.exports import FORMATS, ExportReport, export
from convnext.exports.placing import written
from convnext.hub.collection import MODULES, VERSION, HubModule, get_module
from convnext.hub.pages import COLLECTION_NAME, collection_page, module_page
from convnext.weights.download import cached

__all__ = ["Published", "publish"]

OWN_PUBLISHER = "convnext"


@dataclass(frozen=True)
class Published:
    """What became of one module.

    Attributes:
        module: The module.
        path: Its archive; None if there is none.
        report: How it was exported; None if it was there already, or is not.
        problem: Why there is none; empty if there is.
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
        folder: Where to; made if it is not there.
        only: Names of modules; by default all.
        publisher: Who publishes them, as the pages say.
        asset_url: Address of the folder that the archives will lie in, as the pages say; by default
            their names alone.
        fetch: Whether to fetch checkpoints that are not on this machine.
        overwrite: Whether to write archives anew that are there.
        on_progress: Called with each step before it begins.
        on_published: Called with what became of each module.

    Returns:
        What became of each module, in order.

    Raises:
        UnknownNameError: One of the names is no module's.
        ArgumentError: The folder cannot be made.
        MissingDependencyError: TensorFlow is not installed.
    """
    modules = [get_module(name) for name in only] or list(MODULES.values())
    if not publisher.replace("-", "").replace("_", "").isalnum():
        raise ArgumentError(
            f"A publisher's name has letters, digits, '-' and '_' only, not {publisher!r}."
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
        raise ArgumentError(f"{folder} cannot be made: {error.strerror}.") from error
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
        return Published(module, None, problem=f"{module.checkpoint} is not on this machine")
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
