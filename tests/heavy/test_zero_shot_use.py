"""The commands and the server with a CLIP model: any class names, search, neighbours."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clips import clip, picture
from convnext import Classifier, ZeroShot
from convnext.cli.main import main
from convnext.session import Session

pytestmark = [pytest.mark.upstream, pytest.mark.torch_first, pytest.mark.torch_alone]

LABELS = ["cat", "dog", "red car"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, importable_torchvision):
    del importable_torchvision
    pytest.importorskip("open_clip")
    found = tmp_path_factory.mktemp("clip")
    clip(found)
    return found


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(5):
        picture(seed).save(tmp_path / "photos" / f"{seed}.png")
    return tmp_path / "photos"


def run(*arguments):
    return main([*map(str, arguments)])


def test_predict_and_head_give_the_answers_of_zero_shot(folder, photos, tmp_path, capsys):
    options = ["--precision", "float32", "--json", "--top", 3]
    prompts = ["--template", "a {} here", "--template", "no {}"]
    names = tmp_path / "names.txt"
    names.write_text("\n".join(LABELS))
    answers = []
    assert (
        run(
            "predict",
            photos,
            "--model",
            folder,
            "--classes",
            "cat, dog,red car",
            *prompts,
            *options,
        )
        == 0
    )
    answers.append(json.loads(capsys.readouterr().out))
    out = tmp_path / "pets.safetensors"
    assert run("head", folder, "--classes", names, *prompts, "--out", out) == 0
    assert "3 classes, of 2 prompts each" in capsys.readouterr().err
    assert run("predict", photos, "--model", out, *options) == 0
    answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    zero_shot = ZeroShot(folder, precision="float32")
    expected = list(zero_shot.stream(photos, LABELS, ["a {} here", "no {}"]))
    for row, prediction in zip(answers[0], expected, strict=True):
        assert row["id"] == prediction.id
        for found, score in zip(row["classes"], prediction.classes, strict=True):
            assert (found["label"], found["index"]) == (score.label, score.index)
            assert found["probability"] == pytest.approx(score.probability, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "cat,,dog"], "Label 2 is empty"),
        (["--classes", "none.txt"], "cannot be read"),
        (["--classes", "cat,dog", "--template", "x"], "has {} once"),
        (["--template", "a {}"], "prompt for the names of --classes"),
        (["--classes", "cat,dog", "--labels", "imagenet-1k"], "leave out --labels"),
        (["--classes", "cat,dog", "--out", "x/"], "`convnext head`"),
    ],
)
def test_bad_options_of_predict(folder, photos, capsys, arguments, message):
    assert run("predict", photos, "--model", folder, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_texts(photos, capsys, tmp_path):
    assert run("predict", photos, "--model", "convnext_tiny", "--classes", "a,b") == 2
    assert "published without a text tower" in capsys.readouterr().err
    assert run("head", "convnext_tiny", "--classes", "a,b", "--out", tmp_path / "x.npz") == 2
    assert "ends in .safetensors" in capsys.readouterr().err


def test_a_long_class_name_is_cut_and_that_is_said(folder, photos, capsys):
    assert (
        run("predict", photos / "0.png", "--model", folder, "--classes", "cat," + "dog " * 90) == 0
    )
    assert capsys.readouterr().err.count("longer than the 77 tokens") == 1


@pytest.mark.parametrize("out", ["v.npz", "v.parquet", "shards/"])
def test_search_by_text_and_by_picture(folder, photos, tmp_path, capsys, out, monkeypatch):
    if out != "v.npz":
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    assert run("embed", photos, "--model", folder, "--out", out, "--precision", "float32") == 0
    zero_shot = ZeroShot(folder, precision="float32")
    vectors = np.array([zero_shot.pictures.embed(photos / f"{n}.png") for n in range(5)])
    options = ["--model", folder, "--precision", "float32"]
    capsys.readouterr()
    for query, vector in (
        ("a red bicycle", zero_shot.texts(["a red bicycle"])[0]),
        (str(photos / "3.png"), vectors[3]),
    ):
        assert run("search", out, query, *options, "--json", "--top", 4) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        order = np.argsort(-(vectors @ vector))[:4]
        assert [row["id"].rsplit("/", 1)[-1] for row in rows] == [f"{n}.png" for n in order]
        assert np.allclose([row["score"] for row in rows], (vectors @ vector)[order], atol=1e-5)


def test_a_sheet_of_what_was_found(folder, photos, tmp_path, capsys):
    from PIL import Image

    out, sheet = tmp_path / "v.npz", tmp_path / "sheet.png"
    run("embed", photos, "--model", folder, "--out", out)
    assert run("search", out, "a dog", "--model", folder, "--out", sheet) == 0
    with Image.open(sheet) as drawn:
        assert drawn.size[0] > 5 * 192
    (photos / "0.png").unlink()
    assert run("search", out, "a dog", "--model", folder, "--out", sheet, "--overwrite") == 0
    assert "not drawn" in capsys.readouterr().err
    assert run("search", out, "--near-duplicates", "0.9") == 0
    assert len(capsys.readouterr().out.splitlines()) == 10  # random networks see all alike


def test_search_refuses_vectors_of_another_model(folder, photos, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    clip(other, kind="CustomTextCLIP")
    out = tmp_path / "v.npz"
    run("embed", photos, "--model", folder, "--out", out)
    from safetensors.numpy import load_file, save_file

    path = other / "open_clip_model.safetensors"
    tensors = load_file(path)
    assert run("search", out, "a dog", "--model", other) == 0  # the same numbers in another file
    tensors["visual.head.proj.weight"] = tensors["visual.head.proj.weight"] * np.float32(1.001)
    save_file(tensors, path)
    for query in ("a dog", photos / "0.png"):
        assert run("search", out, query, "--model", other) == 2
        assert "cannot be compared with those of" in capsys.readouterr().err
    for arguments, message in (
        ([out, " ", "--model", folder], "query is empty"),
        ([out, "a dog"], "give --model"),
        ([out], "Give a QUERY"),
        ([out, "a", "--near-duplicates", "0.9"], "Give a QUERY"),
        ([out, "a", "--out", "x.gif", "--model", folder], "a sheet ends in"),
    ):
        assert run("search", *arguments) == 2
        assert message in capsys.readouterr().err


def test_a_fingerprint_is_of_the_embedding(folder, tmp_path):
    from convnext.classifier import save_head
    from convnext.weights.save import convert

    save_head(folder, LABELS, tmp_path / "head.safetensors")
    convert(folder, tmp_path / "ours.safetensors", progress=False)
    own = Session.open(folder).fingerprint
    for name in ("head.safetensors", "ours.safetensors"):
        assert Classifier(tmp_path / name).facts["fingerprint"] == own
