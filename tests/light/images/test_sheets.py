"""Captions, legends and sheets of pictures."""

import numpy as np
import pytest
from PIL import Image

from convnext.images.sheets import PAPER, captioned, contact_sheet, legend, shown


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 200), (100, 50)), ((10, 20), (50, 100)), ((2000, 1), (100, 1))]
)
def test_pictures_are_brought_to_one_size(size, expected):
    assert shown(Image.new("RGB", size), 100).size == expected


def test_long_captions_stay_inside():
    picture = Image.new("RGB", (100, 40))
    panel = np.asarray(captioned([picture, picture], "word " * 99, "/folder" * 99 + "/cat.jpg"))
    assert panel.shape == (40 + 4 + 36, 208, 3)
    assert (panel[44:].reshape(-1, 3).min(axis=0) < 150).all()
    title = panel[44:62, :, 0] < 100
    last = np.flatnonzero(title.any(axis=0)).max()
    dots = title[:, last - 6 : last + 1]  # which stand low on the line
    assert dots[9:].any()
    assert not dots[:9].any()
    assert captioned([picture], "\u732b\n" * 9, "").size == (100, 80)


def test_the_end_of_a_long_name_is_kept():
    picture = Image.new("RGB", (100, 40))
    dog, cat, other = (
        np.asarray(captioned([picture], "", text))
        for text in ("/x" * 99 + "dog.jpg", "/x" * 99 + "cat.jpg", "/y" + "/x" * 98 + "cat.jpg")
    )
    assert (dog != cat).any()
    assert (cat == other).all()


def test_a_sheet_holds_every_panel():
    panels = [Image.new("RGB", (20 + n, 10 + n), (n * 40, 0, 0)) for n in range(5)]
    sheet = contact_sheet(panels, columns=2)
    assert sheet.size == (8 + 24 + 8 + 23 + 8, 8 + 11 + 8 + 13 + 8 + 14 + 8)
    array = np.asarray(sheet)
    for number, panel in enumerate(panels):
        found = (array == (number * 40, 0, 0)).all(-1).sum()
        assert found == panel.width * panel.height
    assert tuple(array[0, 0]) == PAPER
    assert contact_sheet(panels[:1], columns=3).size == (36, 26)


def test_a_legend_has_a_line_for_each_colour():
    drawn = np.asarray(legend([((200, 0, 0), "road"), ((0, 0, 200), "sky " * 99)], 100))
    assert drawn.shape == (36, 100, 3)
    for half, colour in ((drawn[:18], (200, 0, 0)), (drawn[18:], (0, 0, 200))):
        assert (half == colour).all(-1).sum() > 80
        assert (half[:, 22:] < 100).any()
