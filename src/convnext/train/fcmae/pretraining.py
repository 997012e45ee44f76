"""`pretrain`: pretrains an encoder on pictures without labels; `reconstruct`.

RUN/model/                     the encoder, in the authors' format, to be fine-tuned
RUN/model/pretraining.safetensors   encoder and decoder, for `reconstruct`
RUN/reconstructions/           pictures, their visible patches and predictions, at each validation
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convnext.architecture import VARIANTS
from convnext.atomic import replaced_folder
from convnext.data.examples import Examples, hold_out, open_pictures
from convnext.data.random_streams import Purpose, stream
from convnext.errors import ArgumentError, ImageError
from convnext.images.batches import batches
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.train.augment.transforms import Augmentation
from convnext.train.fcmae.drawing import draw_reconstructions
from convnext.train.fcmae.model import autoencoder, draw_visible
from convnext.train.input.loader import TrainingBatch
from convnext.train.input.team_order import paired_rows
from convnext.train.optim.precision import with_actual_precision
from convnext.train.recipe import PretrainingRecipe, load_recipe
from convnext.train.run.learner import Learner, as_recipe_says, spread_by_fan_in
from convnext.train.run.loop import RunResult, Say
from convnext.train.run.model_folder import WEIGHTS
from convnext.train.run.objective import Numbers, Objective, Validation
from convnext.train.run.provenance import RECIPE
from convnext.train.run.run_states import disk_errors
from convnext.train.run.running import RunOptions, run_objective
from convnext.train.team.base import ALONE, Team
from convnext.weights.info import WeightsInfo
from convnext.weights.load import load_weights
from convnext.weights.save import save_weights

__all__ = ["PRETRAINING", "pretrain", "reconstruct"]

Array = NDArray[np.float32]

PRETRAINING = "pretraining.safetensors"
RECONSTRUCTIONS = "reconstructions"
SHOWN = 6  # pictures in a drawing
HELD_OUT = 5000  # validation pictures at most: more do not make the loss more precise


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
) -> RunResult:
    """Pretrain an encoder on pictures without reading labels.

    Args:
        recipe: Name of a published recipe, a TOML file, or a `PretrainingRecipe`.
        data: A folder of pictures, or any data that `train` takes.
        out: Folder of the run; a new one, or with `resume` that of an interrupted run.
        changes: Changes of settings: `"masking.ratio=0.75"`.
        init: Weights to start from.
        resume: Whether to resume a run; if there is none, one starts.
        workers: Processes that read pictures; by default one for each processor.
        devices: Number of this host's devices to use, on JAX; by default one, or with `hosts` all.
            See docs/scale_training.md.
        hosts: Address of the first host, rank of this one, and count, as `host:port,rank,count`.
            Not needed under torchrun.
        tensorboard: Whether to write for TensorBoard as well.
        progress: Whether to show a bar if there is a terminal.
        say: Called with each message.

    Returns:
        The result, whose folder `train` takes as `init`.

    Raises:
        ArgumentError: An argument is not allowed, or the data cannot be read.
        TrainingError: The run cannot continue; its last run state is intact.

    Example:
        result = pretrain("fcmae_cifar10", "photos/", "runs/mine")
        strides = "model.strides=[2,2,1,1]"  # as in pretraining
        train("cifar10", "cifar10/", "runs/tuned", changes=[strides], init=result.folder)
    """
    if not isinstance(recipe, PretrainingRecipe):
        recipe = load_recipe(recipe, changes, PretrainingRecipe)
    elif list(changes):
        raise ArgumentError(
            "changes need a recipe's name or file. Change a PretrainingRecipe with "
            "dataclasses.replace."
        )
    recipe = with_actual_precision(recipe)
    kept = recipe

    def objective(
        examples: Examples, validated: Examples | None, team: Team
    ) -> _MaskedAutoencoding:
        return _MaskedAutoencoding(kept, examples, validated, Path(out), team)

    shared = (Path(out), init, resume, workers, devices, hosts, tensorboard, progress, say)
    return run_objective(recipe, lambda: _open_data(kept, data), objective, RunOptions(*shared))


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
            f"FCMAE pretrains ConvNeXt V2, and {variant.name} is V1. Set model.variant to a V2 "
            "variant, such as convnextv2_atto."
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


class _MaskedAutoencoding(Objective[PretrainingRecipe, Examples]):
    """Objective of predicting hidden patches from visible ones."""

    def __init__(
        self,
        recipe: PretrainingRecipe,
        examples: Examples,
        validated: Examples | None,
        out: Path,
        team: Team,
    ) -> None:
        super().__init__(recipe, examples, validated, out, team)
        self.classes = ()
        self.transform = Augmentation(recipe.augment, recipe.model.preprocess)
        self.learner = _build(recipe, team)
        hidden = f"{recipe.masking.ratio:.0%} hidden"
        self.about = f"{hidden} in patches of {self.learner.model.patch}"
        self.rows = paired_rows(team.rank, team.count, recipe.run.batch_size)
        self.grid = int(self.learner.model.output_shape[1])

    def _visible(self, purpose: Purpose, number: int, count: int) -> Array:
        rng = stream(self.recipe.run.seed, purpose, number)
        return draw_visible(count, self.grid, self.recipe.masking.ratio, rng)

    def step(self, batch: TrainingBatch, learning_rate: float) -> Numbers:
        visible = self._visible(Purpose.MASKING, batch.step, self.recipe.run.batch_size)
        return self.learner.step([batch.pictures, visible[self.rows]], None, learning_rate)

    def validate(self) -> Validation | None:
        """Compute the loss on held-out pictures, with the same patches hidden each time."""
        if self.validated is None:
            return None
        with self.learner.averaged():
            loss = self._measure(self.validated)
        message = f"loss {loss:.4f} on held-out pictures"
        return Validation({"loss": round(loss, 6)}, -loss, message)

    def _measure(self, validated: Examples) -> float:
        total, seen = 0.0, 0
        own = validated.subset(self.own_rows())
        batches = self.batches(own, self.recipe.model.preprocess)
        for number, (pictures, _, count) in enumerate(batches):
            index = self.team.rank + number * self.team.count  # among the batches of all hosts
            visible = self._visible(Purpose.MASKING_TO_VALIDATE, index, count)
            total += count * self.learner.loss(pictures[:count], visible)
            seen += count
            if index == 0:
                shown = slice(0, min(SHOWN, count))
                self._draw(pictures[shown], visible[shown])
        total, all_seen = self.summed(total, seen=seen)
        return total / all_seen

    def _draw(self, pictures: Array, visible: Array) -> None:
        step = int(self.learner.optimizer.iterations)
        draw_reconstructions(
            pictures,
            visible,
            self.learner.answers(pictures, visible),
            self.recipe.model.preprocess,
            self.out / RECONSTRUCTIONS / f"step-{step:09d}.png",
            normalised=self.recipe.masking.normalise,
        )

    def write(self, folder: Path) -> None:
        """Write the encoder in the authors' format, and the whole model for `reconstruct`."""
        model = self.recipe.model
        info = WeightsInfo(
            name=self.out.name,
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
    """Draw a pretrained model's predictions of hidden patches; returns the PNG's path.

    Args:
        run: Folder of the run.
        pictures: Files, a folder or an archive.
        out: The PNG file.
        seed: Selects the patches to hide.

    Raises:
        ArgumentError: There is no such run, or no picture can be read.
    """
    run, out = Path(run), Path(out)
    weights = run / "model" / PRETRAINING
    if not weights.is_file():
        weights = run / "best" / PRETRAINING
    if not weights.is_file() or not (run / RECIPE).is_file():
        raise ArgumentError(
            f"{run} has no {PRETRAINING} in model/ or best/. Name the folder of a run of "
            "`convnext pretrain` that has been validated or finished."
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
        raise ArgumentError(
            f"There are no pictures in {pictures}. Name files or a folder of pictures."
        )
    batch_in = np.stack(arrays)
    grid = int(learner.model.output_shape[1])
    rng = stream(seed, Purpose.MASKING_TO_VALIDATE, 0)
    visible = draw_visible(len(batch_in), grid, recipe.masking.ratio, rng)
    draw_reconstructions(
        batch_in,
        visible,
        learner.answers(batch_in, visible),
        preprocess,
        out,
        normalised=recipe.masking.normalise,
        names=names,
    )
    return out
