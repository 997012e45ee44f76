"""The models of a server: loaded one by one, and reloaded when their files change.

Files are checked every few seconds. When they have changed and were the same in two checks, the new
model is loaded and warmed while the old one answers, and then replaces it; the old one still
answers the requests it accepted. If loading fails, the old model stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from convnext.engines import Engine
from convnext.errors import ConvNeXtError, WeightsFileError
from convnext.serve.batching import Batcher, Event
from convnext.serve.loading import OUTPUTS, load
from convnext.serve.metrics import Metrics
from convnext.serve.problems import Problem
from convnext.serve.settings import ModelSpec, Settings
from convnext.serve.zero_shot import ClassTexts, load_texts
from convnext.session import Session
from convnext.weights.files.shards import main_file

__all__ = ["Models", "ServedModel", "Slot", "expanded"]

logger = logging.getLogger("convnext.serve")

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz", ".h5", ".keras")
MOST_FILES = 1000  # of a folder that are checked for changes

Signature = tuple[tuple[str, int, int, int], ...]
Loader = Callable[[ModelSpec, Settings, int | None], Session]


@dataclass(eq=False)
class ServedModel:
    """A loaded model with its queue.

    Attributes:
        name: Its name in requests.
        version: Counts its loads, from 1.
        model: The session that computes answers.
        batcher: The queue in front of it.
        seconds: Time that loading and warming took.
        texts: The text tower, if it is a CLIP model with one.
    """

    name: str
    version: int
    model: Session
    batcher: Batcher
    seconds: float
    texts: ClassTexts | None = None

    @property
    def answers(self) -> list[str]:
        """The kinds of answers it gives."""
        kinds = {outputs: kind for kind, outputs in OUTPUTS.items()}
        return [kinds[outputs] for outputs in self.model.engines]

    @property
    def engine(self) -> Engine:
        """One of its engines, to describe them."""
        return next(iter(self.model.engines.values()))


@dataclass(eq=False)
class Slot:
    """A configured model and its state.

    Attributes:
        spec: Its name and source.
        state: Whether it is loaded.
        served: The loaded model; None if there is none.
        error: Why the latest load failed, if it did.
        signature: Of the files that the latest load read.
        candidate: Of changed files that may still be written to.
        loads: Number of successful loads.
    """

    spec: ModelSpec
    state: Literal["loading", "ready", "failed"] = "loading"
    served: ServedModel | None = None
    error: str | None = None
    signature: Signature = ()
    candidate: Signature = ()
    loads: int = field(default=0)


class Models:
    """All models of one process."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        threads: int | None = None,
        loader: Loader = load,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._threads = threads
        self._load = loader
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._retiring: set[asyncio.Task[None]] = set()
        self._looking = asyncio.Lock()
        self._tried = False
        self.slots = {spec.name: Slot(spec) for spec in expanded(settings.models)}

    @property
    def ready(self) -> bool:
        """Whether the first load of all models has ended, and at least one works."""
        served = [slot.served for slot in self.slots.values() if slot.served is not None]
        return self._tried and any(one.batcher.working for one in served)

    async def start(self) -> None:
        """Load all models; those that fail are marked so.

        Raises:
            ConvNeXtError: None could be loaded.
        """
        async with self._looking:
            for slot in list(self.slots.values()):
                await self._reload(slot)
        self._tried = True
        if not any(slot.served for slot in self.slots.values()):
            reasons = "; ".join(f"{name}: {slot.error}" for name, slot in self.slots.items())
            raise ConvNeXtError(f"No model could be loaded. {reasons or 'The folder is empty.'}")

    def get(self, name: str | None) -> ServedModel:
        """The model of this name, or the first.

        Raises:
            Problem: There is no such model, or it is not loaded.
        """
        if not name:
            return self._default()
        slot = self.slots.get(name)
        if slot is None:
            known = ", ".join(self.slots)
            raise Problem(
                404, "model-unknown", f"Unknown model {name[:100]!r}. There are: {known}."
            )
        if slot.served is None:
            text = "is being loaded" if slot.state == "loading" else "could not be loaded"
            raise Problem(503, "model-not-ready", f"The model {name} {text}.", retry_after=2)
        return slot.served

    def _default(self) -> ServedModel:
        first = next(iter(self.slots.values()), None)
        if first is None or first.served is None:
            raise Problem(
                503,
                "no-model",
                "The default model is not ready. Name another from /v1/models, or try again later.",
                retry_after=2,
            )
        return first.served

    async def look(self) -> None:
        """Check the files: load new and changed models, unload those whose files are gone."""
        async with self._looking:
            loop = asyncio.get_running_loop()
            specs = await loop.run_in_executor(
                self._executor, lambda: {s.name: s for s in expanded(self._settings.models)}
            )
            for name in [name for name in self.slots if name not in specs]:
                slot = self.slots.pop(name)
                logger.info("model %s: its file is gone", name)
                self._metrics.forget("convnext_model_ready", model=name)
                self._metrics.forget("convnext_queue_limit", model=name)
                self._retire(slot.served)
            for name, spec in specs.items():
                slot = self.slots.setdefault(name, Slot(spec))
                slot.spec = spec  # its file may have got another suffix
                now = await loop.run_in_executor(self._executor, signature, spec.source)
                if now == slot.signature or not now:
                    slot.candidate = ()
                elif now != slot.candidate:
                    slot.candidate = now  # may still be written to: wait for the next check
                else:
                    await self._reload(slot)

    async def close(self) -> None:
        """Unload all models after they answered the accepted requests."""
        for slot in self.slots.values():
            self._retire(slot.served)
        await asyncio.gather(*self._retiring)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _reload(self, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        name = slot.spec.name
        slot.signature, slot.candidate = signature(slot.spec.source), ()
        begun = time.monotonic()
        try:
            loaded = await loop.run_in_executor(
                self._executor, self._load, slot.spec, self._settings, self._threads
            )
            options = (slot.spec, self._settings, loaded, self._threads)
            texts = await loop.run_in_executor(self._executor, load_texts, *options)
        except Exception as error:  # a damaged file may make a runtime raise anything
            slot.error = str(error) if isinstance(error, ConvNeXtError) else type(error).__name__
            slot.state = "ready" if slot.served else "failed"
            self._metrics.count("convnext_model_loads_total", model=name, outcome="failed")
            self._metrics.set("convnext_model_ready", int(slot.served is not None), model=name)
            logger.error("model %s cannot be loaded: %s", name, error)
            return
        slot.loads += 1
        old, slot.served = slot.served, self._served(name, slot.loads, loaded, begun)
        slot.served.texts = texts
        slot.state, slot.error = "ready", None
        self._metrics.count("convnext_model_loads_total", model=name, outcome="loaded")
        self._metrics.set("convnext_model_ready", 1, model=name)
        self._metrics.set("convnext_model_load_seconds", slot.served.seconds, model=name)
        self._metrics.set("convnext_queue_limit", self._settings.max_queue, model=name)
        logger.info("model %s, version %d: ready in %.1f s", name, slot.loads, slot.served.seconds)
        if loaded.info.notice:
            logger.info("model %s: %s", name, loaded.info.notice)
        if loaded.num_classes and not loaded.has_names:
            logger.warning("model %s: its classes have no names; give them by --labels", name)
        self._retire(old)

    def _served(self, name: str, version: int, loaded: Session, begun: float) -> ServedModel:
        metrics, queued = self._metrics, [0.0]

        def watch(event: Event, number: float) -> None:
            if event == "queue":  # the sum, while two versions are loaded
                metrics.count("convnext_queue_pictures", number - queued[0], model=name)
                queued[0] = number
            elif event == "batch":
                metrics.observe("convnext_batch_pictures", number, model=name)
            elif event == "seconds":
                metrics.observe("convnext_inference_seconds", number, model=name)
            else:
                metrics.count("convnext_dropped_pictures_total", number, model=name)

        batcher = Batcher(
            lambda kind, batch: loaded.run(batch, OUTPUTS[kind]),
            max_batch=self._settings.max_batch,
            max_wait=self._settings.max_wait_ms / 1000,
            max_queue=self._settings.max_queue,
            watch=watch,
        )
        return ServedModel(name, version, loaded, batcher, time.monotonic() - begun)

    def _retire(self, served: ServedModel | None) -> None:
        if served is not None:
            task = asyncio.get_running_loop().create_task(served.batcher.close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


def expanded(specs: tuple[ModelSpec, ...]) -> list[ModelSpec]:
    """The models, with each folder that is not itself a model replaced by the models in it."""
    found: dict[str, ModelSpec] = {}
    for spec in specs:
        path = Path(spec.source)
        if not path.is_dir() or _is_model(path):
            found.setdefault(spec.name, spec)
            continue
        with suppress(OSError):
            for entry in sorted(path.iterdir())[:MOST_FILES]:
                is_file = entry.suffix in SUFFIXES and entry.is_file()
                if not entry.name.startswith(".") and (is_file or _is_model(entry)):
                    name = entry.stem if is_file else entry.name
                    found.setdefault(name, ModelSpec(name, str(entry)))
    return list(found.values())


def _is_model(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if (folder / "variables" / "variables.index").is_file():
        return True
    try:
        main_file(folder)
    except WeightsFileError:
        return False
    return True


def signature(source: str) -> Signature:
    """Names, times, sizes and inodes of a model's files; empty for published checkpoints."""
    path = Path(source)
    try:
        if path.is_file():
            return (_stamp(path),)
        files = sorted(file for file in path.rglob("*") if file.is_file())[:MOST_FILES]
        return tuple(_stamp(file) for file in files)
    except OSError:
        return ()


def _stamp(path: Path) -> tuple[str, int, int, int]:
    found = path.stat()
    return path.name, found.st_mtime_ns, found.st_size, found.st_ino
