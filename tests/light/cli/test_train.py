from __future__ import annotations

import pytest

from convnext.cli.main import main
from convnext.train.recipe import published_recipes


def test_recipes_are_listed_with_their_headers(capsys):
    assert main(["train", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name}\n" in f"\n{listed}" for name in published_recipes())
    assert "82.1 % top-1" in listed


def test_settings_are_listed(capsys):
    assert main(["train", "--settings"]) == 0
    listed = capsys.readouterr().out
    assert "optimizer.layer_decay" in listed
    assert "augment.rand_augment" in listed


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["train"], "RECIPE is missing"),
        (["train", "cifar10"], "--data is missing"),
        (["train", "cifar10", "--data", "x"], "--out is missing"),
    ],
)
def test_a_missing_argument_is_named(arguments, missing, capsys):
    assert main(arguments) == 2
    assert missing in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "convnext train cifar10 --data cifar10/ --out runs/cifar10 --resume" in (
        capsys.readouterr().out
    )


def test_a_wrong_recipe_is_one_line(tmp_path, capsys):
    arguments = ["train", "cifar", "--data", str(tmp_path), "--show-batch", str(tmp_path / "b.png")]
    assert main(arguments) == 2
    assert "Did you mean 'cifar10'" in capsys.readouterr().err


def test_recipes_and_settings_of_pretraining_are_listed(capsys):
    assert main(["pretrain", "--list"]) == 0
    assert "fcmae_imagenet1k\n" in capsys.readouterr().out
    assert main(["pretrain", "--settings"]) == 0
    listed = capsys.readouterr().out
    assert "masking.ratio" in listed
    assert "mixing." not in listed
    assert main(["pretrain", "fcmae_cifar10"]) == 2
    assert "--data is missing" in capsys.readouterr().err
