"""The drawing of a batch."""

import numpy as np
import pytest
from PIL import Image

from convnext.data.examples import open_examples, open_pictures
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.train.augment.mixing import Mixer, Mixing
from convnext.train.augment.transforms import Augment, Augmentation
from convnext.train.input.preview import COLUMNS, ROWS, contact_sheet


def test_the_sheet_shows_the_first_batch(examples, augmentation, tmp_path):
    out = tmp_path / "sheet.png"
    out.write_bytes(b"old")
    for _ in range(2):
        contact_sheet(examples, augmentation, Mixer(Mixing(cutmix=1.0), 2), 0, out)
    with Image.open(out) as sheet:
        assert sheet.width >= COLUMNS * 112
        assert sheet.height >= ROWS * 112
        assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["sheet.png"]


def test_colours_are_those_of_the_pictures(tmp_path):
    (tmp_path / "data").mkdir()
    Image.new("RGB", (20, 20), (200, 30, 90)).save(tmp_path / "data" / "a.png")
    plain = Augmentation(Augment(crop="center"), Preprocess(size=16))
    contact_sheet(open_pictures(tmp_path / "data"), plain, None, 0, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.getpixel((50, 50)) == (200, 30, 90)


def test_the_sheet_is_balanced_as_the_run_is(folder, augmentation, tmp_path):
    examples = open_examples(folder({"common": 60, "rare": 1}))
    shown = []
    for balanced in (False, True):
        sheet = tmp_path / f"{balanced}.png"
        contact_sheet(examples, augmentation, Mixer(Mixing(), 2), 0, sheet, balanced=balanced)
        shown.append(sheet.read_bytes())
    assert shown[0] != shown[1]


def test_a_place_that_takes_nothing(examples, augmentation, tmp_path):
    with pytest.raises(ArgumentError, match="cannot be written"):
        contact_sheet(examples, augmentation, None, 0, tmp_path / "no" / "sheet.png")
