"""Whole runs: they learn, survive interruptions, and their models work with every command."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from colours import write_colours
from convnext.atomic import temporary_name
from convnext.classifier import Classifier
from convnext.cli.main import main
from convnext.errors import ArgumentError, ImageError, TrainingError
from convnext.train import train
from convnext.train.recipe import load_recipe
from convnext.train.run.learner import Learner, classifier
from convnext.train.run.run_states import RunStates
from convnext.weights.load import read_weights

KILLS = int(os.environ.get("CONVNEXT_KILLS", "1"))  # 20 take minutes, and are run by hand
CHANGES = [
    "model.variant=test_v2",
    "run.precision=float32",
    "run.batch_size=16",
    "run.epochs=2",
    "run.log_every=4",
    "run.validate_every=1",
    "optimizer.warmup_epochs=0",
    "optimizer.learning_rate=0.02",
    "optimizer.ema=0.5",
    "mixing.probability=0",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours"), train=96, val=20)


def _train(pictures, out, *changes, **options):
    options = {"workers": 0, "progress": False, "say": lambda _: None} | options
    return train("cifar10", pictures, out, changes=[*CHANGES, *changes], **options)


@pytest.fixture(scope="module")
def outcome(pictures, tmp_path_factory):
    return _train(pictures, tmp_path_factory.mktemp("runs") / "colours", "run.epochs=6")


@pytest.mark.slow
def test_a_test_variant_learns_real_pictures(shared_data, tmp_path):
    # A constant prediction has 10 %.
    said = []
    result = train(
        "cifar10",
        shared_data / "cifar10",
        tmp_path / "run",
        changes=[
            *("model.variant=test_v2", "model.drop_path=0", "run.precision=float32"),
            *("data.limit=1500", "run.epochs=6", "run.batch_size=50", "run.validate_every=6"),
            *("augment.rand_augment=", "augment.erase=0", "mixing.probability=0"),
            *("optimizer.learning_rate=1e-2", "optimizer.warmup_epochs=0.5", "optimizer.ema=0"),
        ],
        workers=0,
        progress=False,
        say=said.append,
    )
    assert result.finished
    assert result.accuracy > 0.25
    assert said[0].startswith("test_v2 at 32 pixels on " + keras.backend.backend())


def test_a_run_leaves_everything_behind(outcome):
    assert outcome.finished
    assert outcome.accuracy == 1.0
    assert {file.name for file in outcome.folder.iterdir()} >= {
        *("recipe.toml", "run.json", "metrics.jsonl", "metrics.csv", "curves.png"),
        *("checkpoints", "model", "best"),
    }
    lines = (outcome.folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    steps = [record["step"] for record in records if record["kind"] == "train"]
    assert steps == sorted(set(steps))
    assert records[-1]["kind"] == "validation"
    assert {"loss", "accuracy", "average_loss", "average_accuracy"} <= records[-1].keys()


def test_the_losses_are_those_of_timm_and_pytorch(tmp_path, importable_torchvision):
    """With the same weights, pictures and settings, backends differ by rounding."""
    del importable_torchvision
    import torch
    from timm.models.convnext import ConvNeXt

    from convnext.weights.save import save_weights

    changes = [
        *CHANGES,
        *("model.drop_path=0", "optimizer.clip_norm=1", "optimizer.learning_rate=5e-4"),
        *("optimizer.reference_batch=16", "model.strides=[4,2,2,2]"),
    ]
    recipe = load_recipe("cifar10", changes)
    learner = classifier(recipe, 10)
    rng = np.random.default_rng(0)
    values = {
        name: value + rng.normal(size=value.shape).astype(np.float32) * 0.05
        for name, value in learner.weights().items()
    }
    for name, variable in _variables(learner).items():
        variable.assign(values[name])
    learner.adopt()
    save_weights(values, tmp_path / "start.pth", layout="timm")
    theirs = ConvNeXt(
        num_classes=10, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), use_grn=True, ls_init_value=None
    )
    theirs.load_state_dict(torch.load(tmp_path / "start.pth", weights_only=True))
    decaying = [p for p in theirs.parameters() if p.ndim > 1]
    rest = [p for p in theirs.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    )
    for step in range(20):
        batch = rng.normal(size=(16, 32, 32, 3)).astype(np.float32)
        targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 16)]
        rate = 5e-4 * (20 - step) / 20
        ours = learner.step([batch], targets, rate)["loss"]
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = theirs(torch.tensor(batch.transpose(0, 3, 1, 2)))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(targets))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        assert ours == pytest.approx(float(loss.detach()), abs=1e-3), f"step {step}"


def _variables(learner):
    from convnext.weights.canonical import canonical_variables

    return canonical_variables(learner.model)


LONGER = ["run.checkpoint_minutes=0", f"run.epochs={8 * KILLS}", "model.drop_path=0.2"]
RUN = """
import sys
from convnext.train import train
train("cifar10", sys.argv[1], sys.argv[2], changes=sys.argv[3:], resume=True, workers=1,
      progress=False)
"""


def _process(pictures, out):
    command = [sys.executable, "-c", RUN, str(pictures), str(out), *CHANGES, *LONGER]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.torch_alone
@pytest.mark.slow
def test_a_run_that_is_killed_ends_as_if_nothing_had_happened(pictures, tmp_path):
    assert _process(pictures, tmp_path / "whole").wait() == 0
    drawn = random.Random(0)
    kills = 0
    while kills < KILLS:
        process = _process(pictures, tmp_path / "killed")
        folder = tmp_path / "killed" / "checkpoints"
        before = set(folder.glob("step-*")) if folder.exists() else set()
        while process.poll() is None:
            now = set(folder.glob("step-*")) if folder.exists() else set()
            if now - before:
                break
            time.sleep(0.01)
        time.sleep(drawn.uniform(0, 0.5))
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    last = _process(pictures, tmp_path / "killed")
    assert last.wait() == 0
    one = RunStates(tmp_path / "whole" / "checkpoints").latest()
    other = RunStates(tmp_path / "killed" / "checkpoints").latest()
    assert one.step == other.step == 48 * KILLS
    for name, value in one.arrays.items():
        np.testing.assert_array_equal(value, other.arrays[name], err_msg=name)
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "killed")]
    with read_weights(files[0]) as a, read_weights(files[1]) as b:
        for name, tensor in a.tensors.items():
            np.testing.assert_array_equal(tensor.read(), b.tensors[name].read())
    records = [_numbers(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert records[0] == records[1]


def _numbers(path):
    """A run's records without their times."""
    timed = ("pictures_per_second", "waiting")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in timed} for record in records]


@pytest.mark.torch_alone
def test_an_interrupted_run_keeps_a_checkpoint_and_says_how_to_go_on(pictures, tmp_path):
    lines = []

    def say(line):
        lines.append(line)
        if line.startswith("epoch 1:"):
            os.kill(os.getpid(), signal.SIGINT)

    result = _train(pictures, tmp_path / "run", say=say)
    assert not result.finished
    assert lines[-1].startswith("Interrupted after step 6; resume with --resume")
    assert not (tmp_path / "run" / "model").exists()
    again = _train(pictures, tmp_path / "run", resume=True, say=lines.append)
    assert again.finished
    assert "Resuming after step 6 of 12." in lines


@pytest.mark.torch_alone
def test_a_checkpoint_of_another_version_is_named(pictures, tmp_path):
    _train(pictures, tmp_path / "run", "run.epochs=0.2")
    [facts] = (tmp_path / "run" / "checkpoints").glob("*/progress.json")
    facts.write_text('{"step": 1, "window": {"loss": 3}}')
    with pytest.raises(TrainingError, match="another version"):
        _train(pictures, tmp_path / "run", "run.epochs=0.2", resume=True)


@pytest.mark.torch_alone
def test_a_loss_that_is_no_number_ends_the_run_with_its_checkpoint_whole(
    pictures, tmp_path, monkeypatch
):
    result = Learner.step

    def broken(learner, *arguments):
        said = result(learner, *arguments)
        return {"loss": float("nan")} if int(learner.optimizer.iterations) > 8 else said

    monkeypatch.setattr(Learner, "step", broken)
    with pytest.raises(TrainingError, match=r"became nan at step 8.*learning_rate"):
        _train(pictures, tmp_path / "run")
    monkeypatch.undo()
    left = tmp_path / "run" / temporary_name("model")
    left.mkdir()  # as after a kill
    assert _train(pictures, tmp_path / "run", resume=True).finished
    assert not left.exists()


@pytest.mark.torch_alone
def test_a_batch_too_large_says_what_to_do(pictures, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 TB")

    monkeypatch.setattr(keras.Model, "train_on_batch", full)
    with pytest.raises(TrainingError, match=r"16 pictures at once.*run.accumulate"):
        _train(pictures, tmp_path / "run")


@pytest.mark.torch_alone
def test_invalid_data_or_settings_are_refused_before_training(pictures, tmp_path):
    with pytest.raises(ArgumentError, match="nowhere"):
        _train(tmp_path / "nowhere", tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(ArgumentError, match="layer_groups"):
        _train(
            pictures, tmp_path / "run", "optimizer.layer_decay=0.5", "optimizer.layer_groups=twelve"
        )
    assert not (tmp_path / "run").exists()
    _train(pictures, tmp_path / "run", "run.epochs=0.2")
    with pytest.raises(ArgumentError, match="--resume"):
        _train(pictures, tmp_path / "run")
    with pytest.raises(ArgumentError, match="another recipe"):
        _train(pictures, tmp_path / "run", "run.seed=5", resume=True)


@pytest.mark.torch_alone
def test_pictures_that_cannot_be_read_are_counted(pictures, tmp_path):
    archive = tmp_path / "some.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((pictures / "train").glob("*/*.png")):
            file.write(path, f"{path.parent.name}/{path.name}")
        file.writestr("red/broken.png", b"no picture")
    lines = []
    result = _train(archive, tmp_path / "run", "run.epochs=2", say=lines.append)
    assert list(result.bad) == ["red/broken.png"]
    assert any("1 pictures could not be read" in line for line in lines)


@pytest.mark.torch_alone
def test_the_model_is_there_before_anything_is_said_that_cannot_be_printed(pictures, tmp_path):
    def say(line):
        if "could not be read" in line:
            line.encode("ascii")

    for label in ("red", "blue"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for path in (pictures / "train" / label).glob("?.png"):
            (tmp_path / "data" / label / path.name).write_bytes(path.read_bytes())
    (tmp_path / "data" / "red" / "schön.png").write_bytes(b"no picture")
    with pytest.raises(UnicodeEncodeError):
        _train(tmp_path / "data", tmp_path / "run", "run.batch_size=4", say=say)
    assert (tmp_path / "run" / "model").is_dir()


@pytest.mark.torch_alone
@pytest.mark.slow
def test_the_result_is_what_every_door_takes(outcome, pictures, tmp_path):
    from convnext.exports import export
    from convnext.hf import ConvNextImageProcessor, ConvNextV2ForImageClassification

    red = pictures / "val" / "red" / "0.png"
    classifier = Classifier(outcome.model, engine="keras")
    assert classifier(red).best.label == "red"
    assert classifier.preprocess.size == 32
    assert classifier.embed(red).shape == (32,)
    assert classifier.explain(red).target.label == "red"
    report = export(outcome.model, tmp_path / "model.onnx")
    assert report.path.exists()
    with pytest.raises(ImageError):
        classifier(outcome.model / "config.json")
    out = tmp_path / "report"
    assert main(["evaluate", "--model", str(outcome.model), "--data", str(pictures / "val"),
                 "--engine", "keras", "--out", str(out)]) == 0  # fmt: skip
    assert json.loads((out / "report.json").read_text())["results"]["top1"]["percent"] == 100
    apart = outcome.model / "unaveraged.safetensors"
    assert Classifier(apart, engine="keras").labels.names == ("blue", "red")
    model = ConvNextV2ForImageClassification.from_pretrained(outcome.model)
    processor = ConvNextImageProcessor.from_pretrained(outcome.model)
    inputs = processor(images=Image.open(red), return_tensors="pt")["pixel_values"]
    logits = np.asarray(model(inputs).logits.detach())
    scores = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert scores[1] == pytest.approx(classifier(red).best.probability, abs=1e-4)
    assert model.config.id2label == {0: "blue", 1: "red"}


@pytest.mark.torch_alone
@pytest.mark.slow
def test_a_run_starts_from_another(outcome, pictures, tmp_path):
    lines = []
    result = _train(
        *(pictures, tmp_path / "run", "run.epochs=0.5", "optimizer.learning_rate=0"),
        init=outcome.folder,
        say=lines.append,
    )
    assert "tensors loaded" in lines[0]
    assert "NOT LOADED" not in lines[0]
    assert result.accuracy == 1.0  # with the classifier, as the classes are the same
    other = tmp_path / "others"
    for old, new in (("red", "warm"), ("blue", "cold")):
        (other / new).mkdir(parents=True)
        for path in (pictures / "train" / old).iterdir():
            (other / new / path.name).write_bytes(path.read_bytes())
    _train(other, tmp_path / "new", "run.epochs=0.5", init=outcome.model, say=lines.append)
    assert any("NOT LOADED" in line and "head" in line for line in lines)


def test_validation_counts_every_picture_once(outcome):
    """20 validation pictures in batches of 16."""
    numbers = outcome.validation
    assert numbers["accuracy"] * 20 == pytest.approx(round(numbers["accuracy"] * 20))
    assert outcome.accuracy == numbers["average_accuracy"]
