from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.train.recipe import (
    PretrainingRecipe,
    Recipe,
    load_recipe,
    published_recipes,
    recipe_header,
)
from convnext.train.settings import describe, from_table, parse, to_table


def _peak(recipe):
    settings = recipe.optimizer
    return settings.learning_rate * recipe.run.batch_size / settings.reference_batch


@pytest.mark.parametrize("name", published_recipes())
def test_a_published_recipe_says_what_it_is_and_can_be_read_back(name):
    recipe = load_recipe(name)
    assert from_table(Recipe, tomllib.loads(recipe.to_toml())) == recipe
    header = recipe_header(name)
    assert f"convnext train {name} " in header
    assert "Accuracy:" in header
    assert ("Paper:" in header) or ("Recipe: our own" in header)


@pytest.mark.parametrize("name", published_recipes(PretrainingRecipe))
def test_a_recipe_for_pretraining_says_what_it_is(name):
    recipe = load_recipe(name, kind=PretrainingRecipe)
    assert from_table(PretrainingRecipe, tomllib.loads(recipe.to_toml())) == recipe
    header = recipe_header(name, PretrainingRecipe)
    assert f"convnext pretrain {name} " in header
    assert ("Paper:" in header) or ("Recipe: our own" in header)


def test_pretraining_is_the_authors():
    recipe = load_recipe("fcmae_imagenet1k", kind=PretrainingRecipe)
    assert _peak(recipe) == pytest.approx(2.4e-3)
    assert (recipe.optimizer.beta_1, recipe.optimizer.beta_2) == (0.9, 0.95)
    assert (recipe.run.epochs, recipe.optimizer.warmup_epochs) == (1600, 40)
    assert recipe.augment.crop_scale == (0.2, 1.0)


@pytest.mark.parametrize(
    ("name", "rate", "drop_path", "decay", "epochs"),
    [
        ("v1_tiny_imagenet1k", 4e-3, 0.1, 1.0, 300),
        ("v1_large_imagenet1k", 4e-3, 0.5, 1.0, 300),
        ("v1_xlarge_imagenet22k", 4e-3, 0.2, 1.0, 90),
        ("v1_base_finetune_384", 5e-5, 0.8, 0.7, 30),
        ("v1_xlarge_finetune_22k_384", 5e-5, 0.4, 0.8, 30),
        ("v2_atto_finetune_fcmae", 8e-4, 0.1, 0.9, 600),
        ("v2_tiny_finetune_fcmae", 3.2e-3, 0.2, 0.9, 300),
        ("v2_base_finetune_fcmae", 2.5e-3, 0.1, 0.6, 100),
    ],
)
def test_the_papers_numbers(name, rate, drop_path, decay, epochs):
    recipe = load_recipe(name)
    assert _peak(recipe) == pytest.approx(rate)
    assert recipe.model.drop_path == drop_path
    assert recipe.optimizer.layer_decay == decay
    assert recipe.run.epochs == epochs


def test_the_learning_rate_follows_the_batch():
    recipe = load_recipe("v1_tiny_imagenet1k", ["run.batch_size=1024"])
    assert _peak(recipe) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ("run.epoch=3", UnknownNameError, "Did you mean 'epochs'"),
        ("optimiser.ema=0", UnknownNameError, "Did you mean 'optimizer'"),
        ("run.epochs=many", ArgumentTypeError, r"\[run\] epochs is a number, not 'many'"),
        ("run.batch_size=1.5", ArgumentTypeError, "batch_size is a whole number"),
        ("run.batch_size=0", ArgumentError, "at least 1"),
        ("model.drop_path=1", ArgumentError, "from 0 to 0.99"),
        ("model.mode=stretch", UnknownNameError, "crop, squash"),
        ("model.strides=[3,2,2,2]", ArgumentError, "4, 2 or 1"),
        ("model.variant=convnext_tony", UnknownNameError, "Did you mean 'convnext_tiny'"),
        ("run.accumulate=7", ArgumentError, "equal parts"),
        ("run.epochs=inf", ArgumentError, "epochs is a finite number"),
        ("optimizer.beta_1=1", ArgumentError, "from 0 to 0.999999"),
        ("data.balanced=1", ArgumentTypeError, "true or false"),
        ("model.mean=[0.5,0.5]", ArgumentTypeError, "a list of 3 values"),
        ("epochs=3", ArgumentError, "section.setting=value"),
    ],
)
def test_a_wrong_setting_is_named(change, kind, said):
    with pytest.raises(kind, match=said):
        load_recipe("cifar10", [change])


@pytest.mark.parametrize("change", ["model.train=head", "model.head_scale=2", "data.balanced=true"])
def test_settings_without_effect_in_pretraining_are_refused(change):
    with pytest.raises(ArgumentError, match=f"{change.split('=')[0]} has no effect in pretraining"):
        load_recipe("fcmae_cifar10", [change], PretrainingRecipe)


def test_a_wrong_file_is_named(tmp_path):
    file = tmp_path / "mine.toml"
    with pytest.raises(ArgumentError, match=r"mine.toml cannot be read"):
        load_recipe(file)
    file.write_text("[run\nepochs = 1")
    with pytest.raises(ArgumentError, match="not valid TOML"):
        load_recipe(file)
    file.write_text("run = 3")
    with pytest.raises(ArgumentTypeError, match=r"\[run\] is a table"):
        load_recipe(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ArgumentError, match="cannot be read"):
        load_recipe(file)
    with pytest.raises(UnknownNameError, match="Did you mean 'cifar10'"):
        load_recipe("cifar")


def test_differences_are_spelled_out():
    recipe = load_recipe("cifar10")
    other = replace(recipe, model=replace(recipe.model, strides=None, drop_path=0.2))
    assert recipe.differences(recipe) == []
    assert sorted(recipe.differences(other)) == [
        "model.drop_path is 0.05 here and 0.2 there",
        "model.strides is [2, 2, 2, 2] here and None there",
    ]


def test_every_setting_is_described():
    rows = describe(Recipe)
    names = [f"{s}.{n}" for s, values in to_table(load_recipe("cifar10")).items() for n in values]
    assert {row.name for row in rows} >= set(names)
    assert all(row.about for row in rows)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1e-3", 1e-3), ("false", False), ("bicubic", "bicubic"), ("[1, 2]", [1, 2])],
)
def test_a_command_lines_values(text, value):
    assert parse(text) == value
