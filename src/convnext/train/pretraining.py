"""`pretrain`: from a recipe and pictures without labels to an encoder, and `reconstruct`.

RUN/model/                     the encoder, as the authors publish theirs: to be fine-tuned
RUN/model/pretraining.safetensors   encoder and decoder, for `reconstruct`
RUN/reconstructions/           pictures, what was seen of them, what was thought; as it learns
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convnext.architecture import VARIANTS
from convnext.atomic import replaced_folder
from convnext.errors import ArgumentError, ImageError, TrainingError
from convnext.images.batches import batches
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.train.augment import Augmentation
from convnext.train.checkpoints import disk_errors
from convnext.train.examples import Examples, hold_out, open_pictures
from convnext.train.fcmae import autoencoder, draw_visible
from convnext.train.folder import WEIGHTS
from convnext.train.journal import Journal
from convnext.train.learner import Learner, as_recipe_says, initialise, spread_by_fan_in
from convnext.train.loader import Batch, Loader, evaluation_batches
from convnext.train.loop import Loop, Numbers, Outcome, Say, Validation, stopping
from convnext.train.order import Order
from convnext.train.precision import with_actual_precision
from convnext.train.recipe import PretrainingRecipe, load_recipe
from convnext.train.reconstruction import draw_reconstructions
from convnext.train.schedule import Plan
from convnext.train.session import RECIPE, Session, join_session
from convnext.train.streams import Purpose, stream
from convnext.train.team import ALONE, Team
from convnext.train.team_hosts import form_team
from convnext.train.team_order import paired_rows
from convnext.weights.info import WeightsInfo
from convnext.weights.load import load_weights
from convnext.weights.save import save_weights

__all__ = ["PRETRAINING", "pretrain", "reconstruct"]

Array = NDArray[np.float32]

PRETRAINING = "pretraining.safetensors"
RECONSTRUCTIONS = "reconstructions"
SHOWN = 6  # pictures in a drawing
VALIDATION_BATCH = 256
HELD_OUT = 5000  # pictures to validate with at most: the loss of more says nothing more


def pretrain(  # noqa: PLR0913
    recipe: str | Path | PretrainingRecipe,
    data: str | Path,
    out: str | Path,
    *,
    changes: Iterable[str] = (),
    init: str | Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    devices: int | None = None,
    hosts: str | None = None,
    tensorboard: bool = False,
    progress: bool = True,
    say: Say = print,
) -> Outcome:
    """Pretrain an encoder on pictures, of which no label is ever read.

    Args:
        recipe: One that comes along, a TOML file, or a `PretrainingRecipe`.
        data: Any folder of pictures, or whatever `train` takes.
        out: Folder of the run; new, or with `resume` that of a run that was interrupted.
        changes: Settings to have another value: `"masking.ratio=0.75"`.
        init: Weights to start from.
        resume: Whether to go on with a run; one that has not begun begins.
        workers: Processes that read pictures; by default one for each processor.
        devices: How many of this host's devices take part, on JAX; by default one, or with `hosts`
            all. See docs/scale_training.md.
        hosts: Which of several hosts this is, as `host:port,rank,count`. Under torchrun nothing
            need be said.
        tensorboard: Whether to write for TensorBoard as well.
        progress: Whether to show a bar where there is a terminal.
        say: Called with each line of what happens.

    Returns:
        How it ended. `train` takes its folder as `init`.

    Raises:
        ArgumentError: Something that was given cannot be.
        TrainingError: The run cannot go on; its last checkpoint is whole.

    Example:
        outcome = pretrain("fcmae_cifar10", "photos/", "runs/mine")
        strides = "model.strides=[2,2,1,1]"  # as in pretraining
        train("cifar10", "cifar10/", "runs/tuned", changes=[strides], init=outcome.folder)
    """
    if not isinstance(recipe, PretrainingRecipe):
        recipe = load_recipe(recipe, changes, PretrainingRecipe)
    elif list(changes):
        raise ArgumentError("changes go with a recipe's name or file; replace the recipe's own.")
    out = Path(out)
    with ExitStack() as stack:
        team = stack.enter_context(form_team(keras.backend.backend(), devices, hosts))
        recipe = with_actual_precision(recipe)
        run = recipe.run
        team.check(run.batch_size, run.accumulate)
        examples, validated = _open_data(recipe, data)
        session = Session(
            recipe,
            (),
            (examples.fingerprint, validated.fingerprint if validated else ""),
            keras.backend.backend(),
            None if init is None else str(init),
            str(team),
        )
        task = _Masking(recipe, validated, out, team)
        join_session(stack, team, out, session, resume=resume)
        journal = Journal(out, tensorboard=tensorboard, writes=team.is_first)
        stack.callback(journal.close)
        say = team.voice(say)
        plan = Plan.of(run, recipe.optimizer, len(examples))
        loop = Loop(out, task, run, plan, journal, say, team)
        if not loop.resume() and init is not None:
            say(initialise(task.learner, init, (), recipe.model.actual_strides))
        task.learner.check_same()
        also = f", {len(validated):,} to validate with" if validated else ""
        where = "" if team is ALONE else f", {team}"
        say(
            f"{recipe.model.variant} at {recipe.model.resolution} pixels on "
            f"{keras.backend.backend()}, {run.precision}{where}; {len(examples):,} pictures{also}, "
            f"{recipe.masking.ratio:.0%} hidden in patches of {task.learner.model.patch}; "
            f"{plan.total:,} steps of {run.batch_size}, learning rate {plan.schedule.peak:.3g}."
        )
        loader = Loader(
            examples,
            Augmentation(recipe.augment, recipe.model.preprocess),
            None,
            Order(examples.labels, seed=run.seed),
            batch_size=run.batch_size,
            seed=run.seed,
            workers=team.workers if workers is None else workers,
            shard=(team.rank, team.count),
        )
        stack.enter_context(loader)
        stop = stack.enter_context(stopping())
        return loop.go(loader, stop, progress=progress)


def _open_data(recipe: PretrainingRecipe, data: str | Path) -> tuple[Examples, Examples | None]:
    examples = open_pictures(data, limit=recipe.data.limit)
    part = min(recipe.data.hold_out, HELD_OUT / len(examples))
    if not part * len(examples) >= 1:
        return examples, None
    return hold_out(examples, part, recipe.run.seed)


def _build(recipe: PretrainingRecipe, team: Team = ALONE) -> Learner:
    model, variant = recipe.model, VARIANTS[recipe.model.variant]
    if not variant.has_grn:
        raise ArgumentError(
            f"FCMAE pretrains V2; {variant.name} is V1. Set model.variant to one of V2's."
        )
    with as_recipe_says(recipe.run):
        network = autoencoder(
            variant,
            model.resolution,
            model.actual_strides,
            recipe.masking,
            drop_path_rate=model.drop_path,
        )
    if model.initial == "fan_in":
        spread_by_fan_in(network)
    return Learner(network, variant, recipe.optimizer, recipe.run, team=team)


class _Masking:
    """The task: what is hidden, from what is not."""

    def __init__(
        self, recipe: PretrainingRecipe, validated: Examples | None, folder: Path, team: Team
    ) -> None:
        self.recipe = recipe
        self.validated = validated.cached() if validated else None
        self.folder = folder
        self.team = team
        self.learner = _build(recipe, team)
        self.rows = paired_rows(team.rank, team.count, recipe.run.batch_size)
        self.grid = int(self.learner.model.output_shape[1])

    def _visible(self, purpose: Purpose, number: int, count: int) -> Array:
        rng = stream(self.recipe.run.seed, purpose, number)
        return draw_visible(count, self.grid, self.recipe.masking.ratio, rng)

    def step(self, batch: Batch, learning_rate: float) -> Numbers:
        everywhere = self._visible(Purpose.MASKING, batch.step, self.recipe.run.batch_size)
        visible = everywhere[self.rows]
        return self.learner.step([batch.pictures, visible], None, learning_rate)

    def state(self) -> Mapping[str, Any]:
        return self.learner.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.learner.restore(state)

    def validate(self) -> Validation | None:
        """The loss on pictures that were held out, always with the same parts hidden."""
        if self.validated is None:
            return None
        with self.learner.averaged():
            loss = self._measure(self.validated)
        said = f"loss {loss:.4f} on pictures that were held out"
        return Validation({"loss": round(loss, 6)}, -loss, said)

    def _measure(self, validated: Examples) -> float:
        batch = min(VALIDATION_BATCH, self.recipe.run.batch_size, len(validated))
        total, seen = 0.0, 0
        preprocess = self.recipe.model.preprocess
        own = validated.subset(self.team.share(len(validated), batch))
        for number, (pictures, _, count) in enumerate(evaluation_batches(own, preprocess, batch)):
            place = self.team.rank + number * self.team.count  # among the batches of all hosts
            visible = self._visible(Purpose.MASKING_TO_VALIDATE, place, count)
            total += count * self.learner.loss(pictures[:count], visible)
            seen += count
            if place == 0:
                shown = slice(0, min(SHOWN, count))
                self._draw(pictures[shown], visible[shown])
        total, all_seen = self.team.sum([total, seen])
        if not all_seen:
            raise TrainingError("No picture of those that were held out can be read.")
        return total / all_seen

    def _draw(self, pictures: Array, visible: Array) -> None:
        step = int(self.learner.optimizer.iterations)
        draw_reconstructions(
            pictures,
            visible,
            self.learner.answers(pictures, visible),
            self.recipe.model.preprocess,
            self.folder / RECONSTRUCTIONS / f"step-{step:09d}.png",
            normalised=self.recipe.masking.normalise,
        )

    def write(self, folder: Path) -> None:
        """Write the encoder as the authors do, and all of it for `reconstruct`."""
        model = self.recipe.model
        info = WeightsInfo(
            name=self.folder.name,
            origin="pretrained with convnext",
            preprocess=model.preprocess,
            strides=model.actual_strides,
        )
        weights = self.learner.weights(averaged=True)
        encoder = {name: w for name, w in weights.items() if not name.startswith("decoder_")}
        with disk_errors(folder), replaced_folder(folder) as temporary:
            save_weights(encoder, temporary / WEIGHTS, layout="facebook", info=info)
            save_weights(weights, temporary / PRETRAINING, info=info)


def reconstruct(
    run: str | Path, pictures: str | Path | Iterable[str | Path], out: str | Path, *, seed: int = 0
) -> Path:
    """Draw what a pretrained model thinks of the hidden parts of pictures.

    Args:
        run: Folder of the run.
        pictures: Files, a folder or an archive.
        out: The PNG file.
        seed: Which parts are hidden.

    Raises:
        ArgumentError: There is no such run, or no picture can be read.
    """
    run, out = Path(run), Path(out)
    weights = run / "model" / PRETRAINING
    if not weights.is_file():
        weights = run / "best" / PRETRAINING
    if not weights.is_file() or not (run / RECIPE).is_file():
        raise ArgumentError(
            f"{run} is no run of `convnext pretrain` that has written a model yet: {PRETRAINING} "
            "is not there."
        )
    recipe = load_recipe(run / RECIPE, kind=PretrainingRecipe)
    learner = _build(recipe)
    load_weights(learner.model, weights)
    preprocess: Preprocess = recipe.model.preprocess
    names: list[str] = []
    arrays: list[Array] = []
    for batch in batches(pictures, preprocess, 1):
        for name, value in batch.outcomes(list(normalise(batch.pixels, preprocess))):
            if isinstance(value, ImageError):
                raise value
            names.append(Path(name).name)
            arrays.append(value)
    if not arrays:
        raise ArgumentError(f"There are no pictures in {pictures}.")
    batch_of = np.stack(arrays)
    grid = int(learner.model.output_shape[1])
    rng = stream(seed, Purpose.MASKING_TO_VALIDATE, 0)
    visible = draw_visible(len(batch_of), grid, recipe.masking.ratio, rng)
    draw_reconstructions(
        batch_of,
        visible,
        learner.answers(batch_of, visible),
        preprocess,
        out,
        normalised=recipe.masking.normalise,
        names=names,
    )
    return out
