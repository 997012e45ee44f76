"""The options that commands share, and their old spellings."""

import pytest

from convnext.cli.main import main

OLD = {
    "evaluate": (["evaluate", "missing.safetensors", "--data", "x"], "--model missing.safetensors"),
    "export": (["export", "missing.safetensors", "--out", "a.onnx"], "--model missing.safetensors"),
    "quantize": (
        ["quantize", "missing.safetensors", "photos/", "--out", "q.safetensors"],
        "--model missing.safetensors",
    ),
    "train": (["train", "--list"], "convnext train list"),
    "pretrain": (["pretrain", "--settings"], "convnext pretrain settings"),
    "table": (["evaluate", "--table", "."], "convnext evaluate table"),
}


@pytest.mark.parametrize("command", OLD)
def test_an_old_spelling_works_and_names_the_new_one(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line, new = OLD[command]
    main(line)
    err = capsys.readouterr().err
    assert "the old spelling works until the next release" in err
    assert new in err


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_two_models_are_refused(command, capsys):
    assert main([command, "a", "--model", "b", "--out", "c.onnx"]) == 2
    assert "Two models are given: b and a" in capsys.readouterr().err


def test_a_missing_model_is_an_error_that_shows_the_option(capsys):
    assert main(["export", "--out", "a.onnx"]) == 2
    assert "convnext export --model MODEL" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["train", "pretrain"])
def test_recipes_and_settings_are_listed(kind, capsys):
    assert main([kind, "list"]) == 0
    assert "Command:" in capsys.readouterr().out
    assert main([kind, "settings"]) == 0
    assert "learning_rate" in capsys.readouterr().out
