"""`convnext info`, as text and as JSON."""

import json

import pytest

from convnext.cli.main import main
from convnext.weights.catalog import get_checkpoint


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)


def test_page(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["info", "convnext_atto"]) == 0
    assert (
        capsys.readouterr().out
        == """\
convnext_atto.d2_in1k
  task             classification: to give the class of a picture
  architecture     convnext_atto: depths 2, 2, 6, 2; channels 40, 80, 160, 320
  parameters       3,695,520
  multiply-adds    0.55 G at 224x224
  classifier       1,000 classes, imagenet-1k
  accuracy         top-1 75.672, top-5 92.914 as timm measured
  preprocessing    resize the short side to 256 (bicubic), crop 224x224 at the
                   centre; mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225 on
                   a scale of 0 to 1
  licence          Weights convnext_atto.d2_in1k from
                   huggingface/pytorch-image-models, licence Apache-2.0 (keep
                   the licence and notices).
                   Commercial use: allowed.
  sources          https://huggingface.co/timm/convnext_atto.d2_in1k/resolve/main/model.safetensors
                   (timm layout)
                   https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-rsb-weights/convnext_atto_d2-01bb0f51.pth
                   (timm layout)
  on this machine  no
  also known as    timm/convnext_atto.d2_in1k, convnext_atto_d2-01bb0f51.pth
"""
    )


def test_page_without_classifier(capsys):
    assert main(["info", "convnextv2_atto.fcmae"]) == 0
    out = capsys.readouterr().out
    assert "  classifier       none\n  accuracy         not published\n" in out
    assert "(credit the authors; no commercial use)" in out
    assert "Commercial use: NOT allowed.\n" in out
    assert "model card" not in out


def test_page_says_so_where_a_card_states_another_licence(capsys):
    assert main(["info", "facebook/convnextv2-tiny-1k-224"]) == 0
    assert (
        "Commercial use: NOT allowed.\n"
        "                   The model card on the Hugging Face Hub states Apache-2.0; CC-BY-NC-4.0 "
        "is the licence stated by facebookresearch/ConvNeXt-V2.\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("convnext_tiny.dinov3_lvd1689m", "no military or ITAR-controlled use"),
        ("convnext_tiny.eupe_lvd1689m", "noncommercial research only"),
        ("convnextv2_tiny.vanillakd_in1k", "licence none stated (ask the authors"),
    ],
)
def test_page_says_in_a_line_what_a_rare_licence_forbids(capsys, name, terms):
    assert main(["info", name]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if terms in line]
    assert line.startswith("  licence")


def test_page_of_a_clip_tower(capsys):
    assert main(["info", "convnext_base_w/laion2b_s13b_b82k"]) == 0
    out = capsys.readouterr().out
    assert "task             clip: to give a vector" in out
    assert "classifier       none; the head's output is a vector of 640 numbers\n" in out
    assert "accuracy         top-1 70.78 zero-shot\n" in out


def test_page_of_a_squashed_input_and_both_accuracies(capsys):
    assert main(["info", "facebook/convnextv2-huge-22k-512"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("convnextv2_huge.fcmae_ft_in22k_in1k_512\n")
    assert "resize to 512x512, ignoring the aspect ratio (bicubic); mean" in out
    assert "top-1 88.9 as published\n" in out
    assert "top-1 88.860, top-5 98.740 as timm measured\n" in out
    assert "multiply-adds    600." in out


def test_page_says_what_is_on_this_machine(capsys, tmp_path):
    row = get_checkpoint("keras/convnext_tiny")
    assert main(["info", row.name]) == 0
    assert "  on this machine  no\n" in capsys.readouterr().out
    file = tmp_path / row.name / "keras_applications" / "convnext_tiny.h5"
    file.parent.mkdir(parents=True)
    file.touch()
    assert main(["info", row.name]) == 0
    assert f"  on this machine  {file}\n" in capsys.readouterr().out


def test_record(capsys):
    assert main(["info", "convnext_tiny.keras_notop", "--json"]) == 0
    url = "https://storage.googleapis.com/tensorflow/keras-applications/convnext/"
    assert json.loads(capsys.readouterr().out) == {
        "name": "convnext_tiny.keras_notop",
        "variant": "convnext_tiny",
        "labels": None,
        "preprocess": {
            "size": 224,
            "crop_fraction": 0.875,
            "mode": "crop",
            "interpolation": "bicubic",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "rescale": 1 / 255,
        },
        "licence": "MIT",
        "origin": "facebookresearch/ConvNeXt",
        "sources": [
            {
                "layout": "keras_applications",
                "url": f"{url}convnext_tiny_notop.h5",
                "sha256": "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
            }
        ],
        "aliases": [
            "keras/convnext_tiny_notop",
            "convnext_tiny_notop.h5",
            f"{url}convnext_tiny_notop.h5",
        ],
        "projection": 0,
        "head_norm": True,
        "card_licence": None,
        "top1": None,
        "timm_top1": None,
        "timm_top5": None,
        "zero_shot_top1": None,
        "segmentation": None,
        "miou": None,
        "miou_multi_scale": None,
        "task": "embedding",
        "commercial": True,
        "num_classes": 0,
        "resolution": 224,
        "parameters": 27_820_128,
        "macs": get_checkpoint("convnext_tiny.keras_notop").macs,
        "file": None,
    }


def test_page_of_a_segmentation_model(capsys):
    assert main(["info", "openmmlab/upernet-convnext-tiny"]) == 0
    out = capsys.readouterr().out
    assert "a head for segmentation, upernet with 512 channels, gives each pixel one of 150" in out
    assert "mIoU 46.11 at one scale, 46.62 at several and flipped, as published" in out
    assert main(["info", "openmmlab/upernet-convnext-tiny", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["task"], record["miou"], record["segmentation"]["bins"]) == (
        "segmentation",
        46.11,
        [1, 2, 3, 6],
    )
