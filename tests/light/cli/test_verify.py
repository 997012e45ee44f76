"""The command with a fake model; `tests/heavy/test_loading.py` has it on every backend."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from convnext.cli import verify
from convnext.cli.main import main
from convnext.weights import download
from convnext.weights.catalog import CHECKPOINTS, get_checkpoint
from convnext.weights.published_logits import (
    PICTURE_SIZE,
    PICTURE_TILES,
    PUBLISHED_LOGITS,
    TOLERANCE,
)

TINY = "convnextv2_tiny.fcmae_ft_in1k"


@pytest.fixture
def picture(tmp_path):
    """A picture with the colours of the cats."""
    tiles = Image.fromarray(np.array(PICTURE_TILES, np.uint8))
    tiles.resize(PICTURE_SIZE, Image.Resampling.NEAREST).save(tmp_path / "cats.png")
    return tmp_path / "cats.png"


@pytest.fixture
def answer(monkeypatch):
    """Replaces the model by one with the published logits plus these differences."""

    def answer(*differences):
        def logits(checkpoint, weights, picture):
            assert (checkpoint.name, weights.name) == (TINY, "some.pth")
            assert picture.size == PICTURE_SIZE
            return [*np.add(PUBLISHED_LOGITS[TINY], differences), *range(995)]

        monkeypatch.setattr(verify, "_logits", logits)

    return answer


def test_logits_as_published(answer, picture, capsys):
    answer(0, 1e-3, 0, -1.9e-3, 0)
    assert main(["verify", "convnextv2_tiny", f"--picture={picture}", "--weights=some.pth"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        f"Weights {TINY} from facebookresearch/ConvNeXt-V2, licence CC-BY-NC-4.0 (credit the "
        "authors; no commercial use).",
        "LOGIT     OURS  PUBLISHED  DIFFERENCE",
        "    0   0.9996     0.9996      0.0000",
        "    1   0.1976     0.1966      0.0010",
        "    2  -0.4386    -0.4386      0.0000",
        "    3  -0.3491    -0.3472      0.0019",
        "    4   0.6661     0.6661      0.0000",
        f"{TINY} answers as published: the largest difference is 0.0019, allowed are 0.002.",
    ]


def test_logits_that_differ_from_the_published_ones_fail(answer, picture, capsys):
    answer(0, 0, 0, 0, 1.1 * TOLERANCE)
    assert main(["verify", "convnextv2_tiny", f"--picture={picture}", "--weights=some.pth"]) == 1
    output = capsys.readouterr().out
    assert "DOES NOT ANSWER AS PUBLISHED: the largest difference is 0.0022" in output


def test_an_answer_that_is_no_number_is_not_as_published(answer, picture, capsys):
    answer(0, np.nan, 0, 0, 0)
    assert main(["verify", "convnextv2_tiny", f"--picture={picture}", "--weights=some.pth"]) == 1
    assert "DOES NOT" in capsys.readouterr().out


def error_of(capsys, *arguments):
    assert main(["verify", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_another_picture(tmp_path, picture, capsys):
    with Image.open(picture) as cats:
        others = {
            "smaller": cats.resize((320, 240)),
            "mirrored": cats.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            "dark": cats.point(lambda value: value // 2),
        }
    for name, other in others.items():
        other.save(tmp_path / f"{name}.png")
        error = error_of(capsys, TINY, "--picture", tmp_path / f"{name}.png")
        assert f"{name}.png is another picture ({other.width} x {other.height} pixels)" in error
        assert "COCO val2017 000000039769 (two cats), 640 x 480 pixels" in error
    assert "cannot be read" in error_of(capsys, TINY, "--picture", tmp_path / "absent.png")


def test_no_weights_and_no_network(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = error_of(capsys, TINY, "--picture", picture)
    assert error.startswith(f"convnext: Could not get the weights {TINY}. Tried https://")
    assert "Three ways out" in error
    assert error.count("\n") == 1


def test_the_cached_file_is_taken(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    row = get_checkpoint(TINY)
    place = download._Cache.at(None).path(row, row.sources[0])
    place.parent.mkdir(parents=True)
    place.touch()
    monkeypatch.setattr(verify, "_logits", lambda _, weights, __: [float(weights == place)] * 1000)
    assert main(["verify", TINY, "--picture", str(picture)]) == 1
    assert "    0  1.0000     0.9996" in capsys.readouterr().out


def test_a_checkpoint_without_published_logits_is_refused(picture, capsys):
    error = error_of(capsys, "convnext_base.fb_in1k", "--picture", picture)
    assert "Unknown checkpoint with published logits: 'convnext_base.fb_in1k'" in error


def test_every_row_names_a_classifier():
    assert all(CHECKPOINTS[name].num_classes == 1000 for name in PUBLISHED_LOGITS)


def test_the_real_picture_is_known(shared_data):
    png = shared_data / "photos" / "000000039769.png"
    with Image.open(png) as cats:
        verify._check_picture(cats, "the PNG")
        encoded = io.BytesIO()
        cats.convert("RGB").save(encoded, "JPEG", quality=95)
        with Image.open(encoded) as jpeg:
            verify._check_picture(jpeg, "a JPEG")


def test_the_numbers_are_those_of_the_reference(shared_data):
    text = (shared_data / "references" / "published_expected_outputs.json").read_text()
    of_v2 = json.loads(text)["transformers_v2_conversion_script"]["logits_0_5"]
    assert len(of_v2) == 18
    for address, logits in of_v2.items():
        assert PUBLISHED_LOGITS[get_checkpoint(address).name] == tuple(logits), address
