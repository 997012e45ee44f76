"""Runs with a teacher: their loss, what they learn, resuming, and refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest

from colours import write_colours
from convnext.engines import open_engine
from convnext.errors import ArgumentError, TrainingError
from convnext.train import train
from convnext.train.distillation.student import student
from convnext.train.recipe import load_recipe
from convnext.train.run.run_states import RunStates
from convnext.weights.load import read_weights
from onnx_files import write_means
from peers import backward

pytest.importorskip("onnx")
pytestmark = pytest.mark.torch_first

CHANGES = [
    *("model.variant=test_v2", "run.precision=float32", "run.batch_size=16", "run.epochs=2"),
    *("run.log_every=1", "run.validate_every=1", "optimizer.warmup_epochs=0"),
    *("optimizer.learning_rate=0.02", "optimizer.ema=0.5", "mixing.probability=1"),
]
STATED = ("distill.mean=[0,0,0]", "distill.std=[1,1,1]")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_colours(tmp_path_factory.mktemp("colours"), train=48, val=16)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Tells red from blue, and names them in that order."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.onnx"
    metadata = {"convnext.labels": '["red", "blue"]'}
    return write_means(path, shape=("n", 3, 32, 32), metadata=metadata)


def _train(pictures, out, teacher, *changes, **options):
    options = {"workers": 0, "progress": False, "say": lambda _: None} | options
    changes = [*CHANGES, *STATED, *changes] if teacher else [*CHANGES, *changes]
    return train("cifar10", pictures, out, changes=changes, teacher=teacher, **options)


def _records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = ("pictures_per_second", "waiting", "teacher")
    return [{k: v for k, v in json.loads(x).items() if k not in timed} for x in lines]


class _Applied(keras.Layer):
    """A function as a layer, for `backward`."""

    def __init__(self, function):
        super().__init__(dtype="float32")
        self.function = function
        self.built = True

    def call(self, x):
        return self.function(x)


@pytest.mark.each_backend
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradient_are_those_of_pytorch(weighted):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, answers = rng.normal(scale=3, size=(2, 6, 4)).astype(np.float32)
    targets = rng.dirichlet(np.ones(4), 6).astype(np.float32)
    weights = rng.uniform(0.5, 2, 6).astype(np.float32) if weighted else None
    model = student(
        load_recipe(
            "cifar10",
            [*CHANGES, "distill.loss=kd", "distill.temperature=3", "distill.hard=0.3"],
        ),
        4,
        4,
    ).model
    joined = np.concatenate([targets, answers], 1)
    given = {"y": joined, "sample_weight": weights}
    given = {k: v if v is None else keras.ops.convert_to_tensor(v) for k, v in given.items()}
    layer = _Applied(lambda x: model.compute_loss(y_pred=x, **given)[None])
    loss = float(layer(keras.ops.convert_to_tensor(logits))[0])
    [gradient] = backward(layer, logits, np.ones(1, np.float32))

    theirs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    hard = torch.nn.functional.cross_entropy(theirs, torch.tensor(targets), reduction="none")
    soft = torch.nn.functional.kl_div(
        torch.log_softmax(theirs / 3, -1),
        torch.log_softmax(torch.tensor(answers, dtype=torch.float64) / 3, -1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    each = 0.3 * hard + 0.7 * 9 * soft
    wanted = (each * (1 if weights is None else torch.tensor(weights))).mean()
    wanted.backward()
    assert loss == pytest.approx(wanted.item(), rel=1e-6)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(gradient), theirs.grad.numpy(), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("loss", ["kd", "dist"])
def test_a_model_learns_from_its_teacher_alone(pictures, teacher, tmp_path, loss):
    """No label counts, and the teacher's classes are in another order than the run's."""
    said = []
    changes = (f"distill.loss={loss}", "distill.hard=0", "run.epochs=5")
    result = _train(pictures, tmp_path / "run", teacher, *changes, say=said.append)
    assert result.accuracy == 1.0
    assert said[1].startswith(f"The teacher is {teacher} (")
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert all(0 <= r["teacher"] < 2 for r in records if r["kind"] == "train")
    assert {"loss", "accuracy"} <= records[0].keys()
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["teacher"][0] == str(teacher)


def test_an_encoder_learns_from_pictures_without_labels(pictures, teacher, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, path in enumerate(sorted(pictures.glob("train/*/*.png"))):
        shutil.copy(path, folder / f"{number}.png")
    changes = ("distill.loss=features", "distill.hard=0", "run.epochs=5", "data.hold_out=0.25")
    result = _train(folder, tmp_path / "run", teacher, *changes)
    losses = [r["loss"] for r in _records(tmp_path / "run") if r["kind"] == "validation"]
    assert losses[-1] < losses[0] / 2
    with read_weights(result.model / "model.safetensors") as weights:
        assert not weights.num_classes
        assert not any(name.startswith("decoder") for name in weights.tensors)
        assert weights.info.strides == (2, 2, 2, 2)
    engine = open_engine(result.model / "model.safetensors", outputs="embedding")
    assert engine.predict(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 32)
    tuned = _train(pictures, tmp_path / "tuned", None, init=result.folder)
    assert tuned.accuracy == 1.0


@pytest.mark.torch_alone
def test_an_encoder_teaches_encoders(pictures, tmp_path):
    """Its weights have no classes, as DINOv3's."""
    names = ("model.variant=test_v1", "model.resolution=48")
    stated = (*CHANGES, "distill.loss=features", "distill.hard=0", "run.epochs=1")
    options = {"workers": 0, "progress": False, "say": lambda _: None}
    first = train("cifar10", pictures, tmp_path / "a", changes=stated, teacher="bundled", **options)
    changes = (*stated, *names)
    second = train(
        "cifar10", pictures, tmp_path / "b", changes=changes, teacher=first.folder, **options
    )
    assert _records(second.folder)[-1]["loss"] < _records(second.folder)[0]["loss"]


@pytest.mark.torch_alone
def test_labels_and_embeddings_are_learned_together(pictures, teacher, tmp_path):
    changes = ("distill.loss=features", "distill.distance=smooth_l1", "distill.hard=0.5")
    result = _train(pictures, tmp_path / "run", teacher, *changes, "run.epochs=4")
    assert result.accuracy == 1.0
    with read_weights(result.model / "model.safetensors") as weights:
        assert weights.info.labels == ("blue", "red")
        assert not any(name.startswith("decoder") for name in weights.tensors)
    again = _train(pictures, tmp_path / "more", teacher, *changes, init=result.folder)
    assert _records(again.folder)[0]["accuracy"] > 0.9  # the classifier was taken over


@pytest.mark.each_backend
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(pictures, teacher, tmp_path):
    settings = ("mixing.cutmix=1", "mixing.mixup=0.8", "distill.loss=features")
    whole = _train(pictures, tmp_path / "whole", teacher, *settings)

    def interrupt(line):
        if line.startswith("epoch 1:"):
            os.kill(os.getpid(), signal.SIGINT)

    part = _train(pictures, tmp_path / "part", teacher, *settings, say=interrupt)
    assert not part.finished
    assert _train(pictures, tmp_path / "part", teacher, *settings, resume=True).finished
    one, other = (RunStates(run.folder / "checkpoints").latest() for run in (whole, part))
    assert one.step == other.step == 6
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)
    assert _records(whole.folder) == _records(part.folder)


@pytest.mark.torch_alone
def test_a_run_resumes_with_its_own_teacher_alone(pictures, teacher, tmp_path):
    _train(pictures, tmp_path / "run", teacher, "run.epochs=0.4")
    labels = {"convnext.labels": '["red", "blue"]'}
    matrix = np.eye(3, 2, dtype=np.float32)
    other = write_means(
        tmp_path / "other.onnx", shape=("n", 3, 32, 32), matrix=matrix, metadata=labels
    )
    with pytest.raises(ArgumentError, match=r"has the teacher .*teacher\.onnx"):
        _train(pictures, tmp_path / "run", other, "run.epochs=0.4", resume=True)
    moved = shutil.copy(teacher, tmp_path / "moved.onnx")
    assert _train(pictures, tmp_path / "run", moved, "run.epochs=0.4", resume=True).finished


@pytest.mark.torch_alone
def test_a_run_is_a_teacher(pictures, teacher, tmp_path):
    first = _train(pictures, tmp_path / "first", teacher, "run.epochs=4")
    said = []
    train(
        "cifar10",
        pictures,
        tmp_path / "second",
        changes=[*CHANGES, "model.resolution=48"],
        teacher=first.folder,
        workers=0,
        progress=False,
        say=said.append,
    )
    assert any(line.startswith("The teacher is first (") for line in said)


@pytest.mark.torch_alone
def test_wrong_teachers_are_refused_before_training(pictures, teacher, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ArgumentError, match="There is no file"):
        _train(pictures, out, tmp_path / "nowhere.onnx")
    with pytest.raises(ArgumentError, match="neither a file"):
        _train(pictures, out, "nowhere")
    with pytest.raises(ArgumentError, match=r"section \[distill\] is for a run with a teacher"):
        _train(pictures, out, None, "distill.temperature=3")
    with pytest.raises(ArgumentError, match="A teacher is for classifiers"):
        train("segment_small_data", pictures, out, teacher=teacher)
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\n")
    with pytest.raises(ArgumentError, match="does not know 1 of the 2 classes: blue"):
        _train(pictures, out, teacher, f"distill.classes={names}")
    encoder = _train(
        pictures, tmp_path / "encoder", teacher, "distill.loss=features", "distill.hard=0"
    )
    with pytest.raises(ArgumentError, match="without classes for a picture"):
        _train(pictures, out, encoder.folder)
    assert not out.exists()


@pytest.mark.torch_alone
def test_a_teacher_whose_answers_are_not_finite_ends_the_run(pictures, tmp_path):
    matrix = np.full((3, 2), np.nan, np.float32)
    ill = write_means(tmp_path / "ill.onnx", shape=("n", 3, 32, 32), matrix=matrix)
    with pytest.raises(TrainingError, match="not finite"):
        _train(pictures, tmp_path / "run", ill, "distill.classes=same")
