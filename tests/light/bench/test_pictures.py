import pytest
from PIL import Image

from convnext.bench import pictures
from convnext.bench.pictures import pictures_from
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess

RECIPE = Preprocess(size=16)


def test_pictures_of_a_folder_are_read_and_bad_ones_counted(tmp_path):
    for shade in (10, 200):
        Image.new("RGB", (20, 30), (shade,) * 3).save(tmp_path / f"{shade}.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    found, said = pictures_from(tmp_path, RECIPE)
    assert found.shape == (2, 16, 16, 3)
    assert [picture.mean() for picture in found] == [10, 200]
    assert said == f"2 pictures of {tmp_path} (1 cannot be read)"


def test_the_number_of_pictures_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PICTURES", 3)
    for number in range(5):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{number}.png")
    found, said = pictures_from(tmp_path, RECIPE)
    assert len(found) == 3
    assert said == f"3 pictures of {tmp_path}"


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_a_folder_without_pictures(tmp_path, content):
    if content:
        (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(
        ArgumentError, match=r"has no picture that can be read: .*(no file name ends|bad)"
    ):
        pictures_from(tmp_path, RECIPE)
