"""What a run is besides its numbers: how it began, on what, and whether it may go on.

Why it exists: a result that nobody can repeat is none. The folder of a run says with which recipe,
data, versions, seed and state of the source it was made, and a run is never continued with another.
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
from convnext.train.checkpoints import disk_errors
from convnext.train.recipe import PretrainingRecipe, Recipe, load_recipe
from convnext.train.team import Team

__all__ = ["CHECKPOINTS", "Session", "join_session", "locked", "open_session"]

RECIPE, FACTS, CHECKPOINTS = "recipe.toml", "run.json", "checkpoints"
# What is there before the first checkpoint: nothing that would be missed.
EARLY = {RECIPE, FACTS, CHECKPOINTS, ".lock", "metrics.jsonl", "tensorboard"}
PACKAGES = ("convnext", "keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pillow")
# Of these, a run may have others when it goes on: they change no number.
FREE = ("run.checkpoint_minutes", "run.keep")
SHOWN_WITHIN = 30  # seconds after which a shared folder shows a new file on all hosts


@dataclass(frozen=True)
class Session:
    """How a run began.

    Attributes:
        recipe: Everything that was set.
        labels: What the classes are called.
        fingerprints: Of the data, to train on and to validate with.
        backend: What Keras ran on.
        init: Weights it started from; None for random ones.
        team: Who began it, in words. It may go on with others.
    """

    recipe: Recipe | PretrainingRecipe
    labels: tuple[str, ...]
    fingerprints: tuple[str, str]
    backend: str
    init: str | None = None
    team: str = "one device"

    def __str__(self) -> str:
        """Everything that has to be the same on all hosts."""
        return repr((self.recipe, self.labels, self.fingerprints, self.backend, self.init))


def open_session(folder: Path, session: Session, *, resume: bool) -> None:
    """Write how a run begins, or see that it goes on as it began.

    A run that was interrupted before its first checkpoint begins anew, with whatever is asked now.

    Raises:
        ArgumentError: There is a run already, or the one there is another.
        TrainingError: The folder cannot be written.
    """
    names = {file.name for file in folder.iterdir()} if folder.exists() else set()
    begun = FACTS in names and (not names <= EARLY or _has_checkpoint(folder))
    if begun and not resume:
        raise ArgumentError(
            f"{folder} holds a run already. Go on with it (--resume), or name another folder."
        )
    if begun:
        _check_same(folder, session)
        return
    if not names <= EARLY:
        raise ArgumentError(f"{folder} holds something else. Name a folder that is new or empty.")
    if resume and FACTS in names:
        _check_start(folder, session, _facts(folder))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "backend": session.backend,
        "init": session.init,
        "team": session.team,
        "seed": session.recipe.run.seed,
        "labels": session.labels,
        "data": session.fingerprints,
        "versions": _versions(),
        "source": _source_state(),
        "machine": f"{platform.system()} {platform.machine()}, {platform.processor() or 'unknown'}",
    }
    for name, text in ((RECIPE, session.recipe.to_toml()), (FACTS, json.dumps(facts, indent=1))):
        with disk_errors(folder / name):
            write_text(folder / name, text)


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / CHECKPOINTS).glob("step-*"))


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{folder} is no run that can be continued: {error}") from error
    return facts


def _check_start(folder: Path, session: Session, facts: Mapping[str, Any]) -> None:
    """Without a checkpoint, what a run started from is needed once more."""
    if facts.get("init") != session.init:
        began = f"--init {facts['init']}" if facts.get("init") else "random weights, without --init"
        raise ArgumentError(
            f"The run in {folder} began from {began}, and has no checkpoint yet. Begin from the "
            "same again, or leave out --resume to begin anew."
        )


def _check_same(folder: Path, session: Session) -> None:
    facts = _facts(folder)
    try:
        recipe = load_recipe(folder / RECIPE, kind=type(session.recipe))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{folder} is no run that can be continued: {error}") from error
    if not _has_checkpoint(folder):
        _check_start(folder, session, facts)
    other = [d for d in session.recipe.differences(recipe) if not d.startswith(FREE)]
    if other:
        raise ArgumentError(
            f"The run in {folder} began with another recipe: {'; '.join(other[:3])}. Resume with "
            f"{folder / RECIPE}, or begin anew in another folder."
        )
    if tuple(facts["data"]) != session.fingerprints or tuple(facts["labels"]) != session.labels:
        raise ArgumentError(
            f"The run in {folder} began with other data. Resume with the same pictures and classes."
        )
    if facts["backend"] != session.backend:
        raise ArgumentError(
            f"The run in {folder} began on {facts['backend']}, and this is {session.backend}: the "
            f"numbers would not be the same. Set KERAS_BACKEND={facts['backend']}."
        )


def join_session(
    stack: ExitStack, team: Team, folder: Path, session: Session, *, resume: bool
) -> None:
    """Open the session of a run: the first host does, and the others see that they share it.

    Args:
        stack: What is entered here is left with it: the lock.
        team: All hosts.
        folder: Of the run.
        session: How this host would begin or go on.
        resume: Whether to go on.

    Raises:
        ArgumentError: There is a run already, or the one there is another.
        TrainingError: The hosts differ, or do not see one folder, or it cannot be written.
    """
    team.same(
        f"{session} {resume}",
        "they were started with other settings, other pictures or other weights. Start all hosts "
        "with the same command, except for the rank, and with the same pictures.",
    )

    def begin() -> None:
        stack.enter_context(locked(folder))
        open_session(folder, session, resume=resume)

    team.first(begin)
    if team.count > 1:
        team.same(
            _begun(folder),
            f"they do not see the same files in {folder}. The folder of a run is one that all "
            "hosts share, such as one on NFS.",
        )


def _begun(folder: Path) -> str:
    """How the run in a folder began, as soon as it is seen here."""
    end = time.monotonic() + SHOWN_WITHIN
    while not (folder / FACTS).exists() and time.monotonic() < end:
        time.sleep(0.2)
    try:
        return (folder / FACTS).read_text("utf-8")
    except OSError:
        return ""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time works on a run."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ArgumentError(f"Another process works on {folder} at the moment.") from error
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
    """The commit that the package was run from, and whether anything was changed."""

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
