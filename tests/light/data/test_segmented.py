"""Pictures with masks, found in folders and archives; wrong masks are named."""

from __future__ import annotations

import logging
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from convnext.data.masked import IGNORED, MaskReading, survey
from convnext.data.segmented import open_segmented
from convnext.errors import ArgumentError
from convnext.images.masks import write_mask
from convnext.images.palettes import palette


def _write(root, names, kinds=("pictures", "masks"), size=(6, 4), numbers=(0, 1, 2, 255)):
    """Write pictures and masks; `{}` in a name stands for the kind."""
    for count, name in enumerate(names):
        path = root / name.format(kinds[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (count, 0, 0)).save(path.with_suffix(".png"))
        mask = np.resize(np.array(numbers), size[::-1])
        path = root / name.format(kinds[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path.with_suffix(".png"), mask, palette(3))
    return root


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (["{}/train/a", "{}/train/b", "{}/val/a"], ("pictures", "masks")),
        (["{}/training/a", "{}/training/b", "{}/validation/a"], ("images", "annotations")),
        (["train/{}/a", "train/{}/b", "val/{}/a"], ("pictures", "masks")),
        (["all/{}/train/deep/a", "all/{}/train/b", "all/{}/test/a"], ("img_dir", "ann_dir")),
    ],
)
def test_splits_are_found_above_and_below(tmp_path, names, kinds):
    found = open_segmented(_write(tmp_path, names, kinds))
    assert (len(found.train), len(found.validation)) == (2, 1)
    assert found.train.classes == ("0", "1", "2")
    picture, mask = found.train.pair(1)
    assert picture.size == (6, 4)
    assert mask.tolist()[0] == [0, 1, 2, IGNORED, 0, 1]


def test_archives_of_splits(tmp_path):
    _write(tmp_path / "files", ["{}/a", "{}/b"])
    for name in ("train", "val"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for path in sorted((tmp_path / "files").rglob("*.png")):
                archive.write(path, path.relative_to(tmp_path / "files"))
    found = open_segmented(tmp_path)
    again = pickle.loads(pickle.dumps(found.validation))
    assert again.mask(1).tolist() == found.train.mask(1).tolist()
    assert again.mask_name(1) == "masks/b.png"
    assert len(open_segmented(tmp_path / "train.zip").train) == 2


def test_a_fraction_is_held_out(tmp_path):
    root = _write(tmp_path, [f"{{}}/{number}" for number in range(10)])
    found = open_segmented(root, held_out=0.2, limit=5)
    assert (len(found.train), len(found.validation)) == (4, 1)
    given = open_segmented(root, root, held_out=0.2)
    assert (len(given.train), len(given.validation)) == (10, 10)


def test_names_and_numbers_of_classes(tmp_path):
    root = _write(tmp_path, ["{}/a", "{}/b"])
    assert open_segmented(root, classes=5).train.classes == ("0", "1", "2", "3", "4")
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    assert open_segmented(root).train.classes == ("sky", "road", "car")
    assert len(open_segmented(root, names="ade20k").train.classes) == 150
    with pytest.raises(ArgumentError, match=r"3 class names, and masks\.classes is 4"):
        open_segmented(root, classes=4)


def test_zero_and_another_number_may_have_no_class(tmp_path):
    root = _write(tmp_path, ["{}/a"], numbers=(0, 1, 2, 7))
    found = open_segmented(root, reading=MaskReading(7, reduce_zero_label=True)).train
    assert found.classes == ("0", "1")
    assert found.mask(0)[0].tolist() == [IGNORED, 0, 1, IGNORED, IGNORED, 0]
    assert survey(found).tolist() == [6, 6]


def test_unknown_numbers_are_named_with_their_file(tmp_path):
    root = _write(tmp_path, ["{}/a", "{}/b"], numbers=(0, 1, 9, 11))
    found = open_segmented(root, classes=3).train
    with pytest.raises(ArgumentError, match=r"masks/a.png has the numbers 9, 11, and there are 3"):
        found.mask(0)
    with pytest.raises(ArgumentError, match=r"a\.png(.|\n)*b\.png"):
        survey(found)


def test_masks_of_another_size_are_named(tmp_path):
    root = _write(tmp_path, ["{}/a", "{}/b"])
    write_mask(root / "masks" / "b.png", np.zeros((5, 6), int), palette(3))
    found = open_segmented(root).train
    for read in (lambda: found.pair(1), lambda: survey(found)):
        with pytest.raises(
            ArgumentError, match=r"masks/b.png has 6 x 5 .*pictures/b.png has 6 x 4"
        ):
            read()


def test_missing_masks_and_pictures(tmp_path, caplog):
    root = _write(tmp_path, ["{}/a", "{}/b"])
    (root / "pictures" / "b.png").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(open_segmented(root).train) == 1
    assert "1 masks in" in caplog.text
    (root / "masks" / "a.png").unlink()
    with pytest.raises(ArgumentError, match=r"1 of 1 pictures .* no mask .*: pictures/a.png"):
        open_segmented(root)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat/a", "dog/b"], "0 pictures and 0 masks"),
        (["{}/train/a", "{}/b"], "outside of them"),
    ],
)
def test_other_data_is_refused(tmp_path, names, message):
    with pytest.raises(ArgumentError, match=message):
        open_segmented(_write(tmp_path, names))


def test_masks_without_any_class_are_refused(tmp_path):
    found = open_segmented(_write(tmp_path, ["{}/a"], numbers=(255,)), classes=2).train
    with pytest.raises(ArgumentError, match=r"masks\.ignore"):
        survey(found)
