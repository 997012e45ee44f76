"""Records how a run started, and checks that it resumes with the same recipe, data and backend.

The folder of a run holds recipe, data, versions, seed and source revision, so that it can be
repeated.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from convnext.atomic import write_text
from convnext.errors import ArgumentError
from convnext.train.recipe import AnyRun, load_recipe
from convnext.train.run.run_states import disk_errors
from convnext.train.team.base import Team

__all__ = ["RUN_STATES", "RunRecord", "locked", "open_record", "share_record"]

RECIPE, FACTS, RUN_STATES = "recipe.toml", "run.json", "checkpoints"
# Files before the first run state; a new run may replace them.
EARLY = {RECIPE, FACTS, RUN_STATES, ".lock", "metrics.jsonl", "tensorboard"}
PACKAGES = ("convnext", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pillow")
# Settings that may change on resuming, as they change no result.
FREE = ("run.checkpoint_minutes", "run.keep")
SHOWN_WITHIN = 30  # seconds until a shared folder shows a new file on all hosts


@dataclass(frozen=True)
class RunRecord:
    """Record of a run's start.

    Attributes:
        recipe: The recipe.
        labels: Class names.
        fingerprints: Of the training data and the validation data.
        backend: Keras' backend.
        init: Weights it started from; None for random ones.
        team: Hosts and devices, as text. A run may resume on others.
        teacher: Name and digest of its teacher, if it has one.
    """

    recipe: AnyRun
    labels: tuple[str, ...]
    fingerprints: tuple[str, str]
    backend: str
    init: str | None = None
    team: str = "one device"
    teacher: tuple[str, str] | None = None

    def __str__(self) -> str:
        """All values that must be the same on all hosts."""
        taught = self.teacher and self.teacher[1]
        return repr((self.recipe, self.labels, self.fingerprints, self.backend, self.init, taught))


def open_record(folder: Path, record: RunRecord, *, resume: bool) -> None:
    """Write the record of a new run, or check that a run resumes as it started.

    A run that was interrupted before its first run state starts again, with the present options.

    Raises:
        ArgumentError: The folder has a run and `resume` is false, or a different run.
        TrainingError: The folder cannot be written.
    """
    names = {file.name for file in folder.iterdir()} if folder.exists() else set()
    begun = FACTS in names and (not names <= EARLY or _has_run_state(folder))
    if begun and not resume:
        raise ArgumentError(
            f"{folder} holds a run already. Resume it with --resume, or name another folder."
        )
    if begun:
        _check_same(folder, record)
        return
    if not names <= EARLY:
        raise ArgumentError(f"{folder} holds other files. Name a folder that is new or empty.")
    if resume and FACTS in names:
        _check_start(folder, record, _facts(folder))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "backend": record.backend,
        "init": record.init,
        "teacher": record.teacher,
        "team": record.team,
        "seed": record.recipe.run.seed,
        "labels": record.labels,
        "data": record.fingerprints,
        "versions": _versions(),
        "source": _source_state(),
        "machine": f"{platform.system()} {platform.machine()}, {platform.processor() or 'unknown'}",
    }
    for name, text in ((RECIPE, record.recipe.to_toml()), (FACTS, json.dumps(facts, indent=1))):
        with disk_errors(folder / name):
            write_text(folder / name, text)


def _has_run_state(folder: Path) -> bool:
    return any((folder / RUN_STATES).glob("step-*"))


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"The run in {folder} cannot be resumed: {error}") from error
    return facts


def _check_start(folder: Path, record: RunRecord, facts: Mapping[str, Any]) -> None:
    """Check that a run without a run state starts from the same weights again."""
    if facts.get("init") != record.init:
        start = f"--init {facts['init']}" if facts.get("init") else "random weights, without --init"
        raise ArgumentError(
            f"The run in {folder} started from {start}, and has no run state yet. Start from the "
            "same weights, or leave out --resume to start a new run."
        )


def _check_same(folder: Path, record: RunRecord) -> None:
    facts = _facts(folder)
    try:
        recipe = load_recipe(folder / RECIPE, kind=type(record.recipe))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"The run in {folder} cannot be resumed: {error}") from error
    if not _has_run_state(folder):
        _check_start(folder, record, facts)
    other = [d for d in record.recipe.differences(recipe) if not d.startswith(FREE)]
    if other:
        raise ArgumentError(
            f"The run in {folder} has another recipe: {'; '.join(other[:3])}. Resume with "
            f"{folder / RECIPE}, or start a new run in another folder."
        )
    if tuple(facts["data"]) != record.fingerprints or tuple(facts["labels"]) != record.labels:
        raise ArgumentError(
            f"The run in {folder} has other data. Resume with the same pictures and classes."
        )
    name, digest = facts.get("teacher") or ("", None)
    if digest != (record.teacher and record.teacher[1]):
        start = f"the teacher {name} ({digest})" if name else "no teacher"
        raise ArgumentError(f"The run in {folder} has {start}. Resume it with the same.")
    if facts["backend"] != record.backend:
        raise ArgumentError(
            f"The run in {folder} uses the backend {facts['backend']}, and this is "
            f"{record.backend}, whose results differ. Set KERAS_BACKEND={facts['backend']}."
        )


def share_record(
    stack: ExitStack, team: Team, folder: Path, record: RunRecord, *, resume: bool
) -> None:
    """Open the record on the first host, and check that all hosts have the same.

    Args:
        stack: Exit stack on which the lock is released.
        team: All hosts.
        folder: Of the run.
        record: Record of this host's options.
        resume: Whether to resume a run.

    Raises:
        ArgumentError: As for `open_record`.
        TrainingError: The hosts have different options or folders, or it cannot be written.
    """
    team.same(
        f"{record} {resume}",
        "they were started with different settings, pictures or weights. Start all hosts with the "
        "same command, except for the rank, and the same pictures.",
    )

    def begin() -> None:
        stack.enter_context(locked(folder))
        open_record(folder, record, resume=resume)

    team.first(begin)
    if team.count > 1:
        team.same(
            _begun(folder),
            f"they do not see the same files in {folder}. Use a folder that all hosts share, such "
            "as one on NFS.",
        )


def _begun(folder: Path) -> str:
    """Read the record of a run as soon as this host sees it."""
    end = time.monotonic() + SHOWN_WITHIN
    while not (folder / FACTS).exists() and time.monotonic() < end:
        time.sleep(0.2)
    try:
        return (folder / FACTS).read_text("utf-8")
    except OSError:
        return ""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run's folder against other processes."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ArgumentError(
                f"Another process is training in {folder}. Wait for it, or name another folder."
            ) from error
    try:
        yield
    finally:
        lock.release()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _source_state() -> str | None:
    """The git commit of the source, and whether files were changed; None outside of git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}{' with changes' if git('status', '--porcelain') else ''}"
    except (OSError, subprocess.SubprocessError):
        return None
