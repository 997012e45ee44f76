"""What goes with a teacher, with its stored answers, and without any."""

from __future__ import annotations

import pytest

from convnext.errors import ArgumentError
from convnext.train.distillation.choice import distilled
from convnext.train.recipe import load_recipe


@pytest.mark.parametrize(
    ("changes", "teacher", "store", "words"),
    [
        ([], None, "x.answers", "give --teacher"),
        (["distill.fixed=true"], None, None, r"\[distill\] is for a run with a teacher"),
        ([], "x.answers", "y.answers", "x.answers holds answers already"),
        ([], "x.parquet", "y.answers", "x.parquet holds answers already"),
        (["distill.fixed=true"], "convnext_tiny", None, "convnext_tiny is none"),
        (["distill.fixed=true"], "x.answers", None, "x.answers is none"),
        (["distill.loss=features", "distill.hard=0"], "x.answers", None, "without labels"),
        (["distill.loss=features", "distill.hard=0"], "x.onnx", "y.answers", "without labels"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, teacher, store, words):
    with pytest.raises(ArgumentError, match=words):
        distilled(load_recipe("cifar10", changes), teacher, store)


def test_fixed_answers_are_logits():
    with pytest.raises(ArgumentError, match="fixed has no effect on the loss"):
        load_recipe("cifar10", ["distill.fixed=true", "distill.loss=features"])


def test_soft_targets_are_the_default_loss_with_a_teacher():
    recipe = load_recipe("cifar10")
    assert distilled(recipe, None) is recipe
    assert distilled(recipe, "x.onnx").distill.loss == "kd"
    assert distilled(recipe, "x.onnx", "x.answers").distill.loss == "kd"
