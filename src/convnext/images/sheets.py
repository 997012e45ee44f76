"""Arrange pictures: with captions, with a legend of colours, and on sheets."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["captioned", "contact_sheet", "legend", "shown"]

GAP = 8
TEXT_HEIGHT = 18
INK, FAINT, PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)
SWATCH = 12


def shown(picture: Image.Image, side: int) -> Image.Image:
    """Resize a picture to the longer side `side`."""
    scale = side / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def captioned(pictures: Sequence[Image.Image], title: str, subtitle: str) -> Image.Image:
    """Arrange pictures side by side above two lines of text, shortened to fit.

    Args:
        pictures: At least one, in mode RGB.
        title: The first line.
        subtitle: The second line, shortened at its beginning.
    """
    height = max(picture.height for picture in pictures)
    width = max(sum(picture.width + GAP for picture in pictures) - GAP, 2 * TEXT_HEIGHT)
    panel = Image.new("RGB", (width, height + GAP // 2 + 2 * TEXT_HEIGHT), PAPER)
    left = 0
    for picture in pictures:
        panel.paste(picture, (left, 0))
        left += picture.width + GAP
    draw = ImageDraw.Draw(panel)
    top = height + GAP // 2
    draw.text((0, top), _fitting(title, width), INK, _font())
    draw.text((0, top + TEXT_HEIGHT), _fitting(subtitle, width, keep_end=True), FAINT, _font())
    return panel


def contact_sheet(panels: Sequence[Image.Image], columns: int) -> Image.Image:
    """Arrange panels in rows; columns and rows have the size of their largest panel."""
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    widths = [max(panel.width for panel in panels[at::columns]) for at in range(len(rows[0]))]
    heights = [max(panel.height for panel in row) for row in rows]
    size = (sum(widths) + GAP * (len(widths) + 1), sum(heights) + GAP * (len(heights) + 1))
    sheet = Image.new("RGB", size, PAPER)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for panel, width in zip(row, widths, strict=False):
            sheet.paste(panel, (left, top))
            left += width + GAP
        top += height + GAP
    return sheet


def legend(entries: Sequence[tuple[tuple[int, int, int], str]], width: int) -> Image.Image:
    """Draw a swatch and a line of text for each colour.

    Args:
        entries: Colours and texts.
        width: Width of the legend; longer texts are shortened.
    """
    panel = Image.new("RGB", (width, max(1, TEXT_HEIGHT * len(entries))), PAPER)
    draw = ImageDraw.Draw(panel)
    for row, (colour, text) in enumerate(entries):
        top = row * TEXT_HEIGHT
        box = (0, top + 3, SWATCH, top + 3 + SWATCH)
        draw.rectangle(box, colour, outline=FAINT)
        left = SWATCH + GAP
        draw.text((left, top), _fitting(text, width - left), INK, _font())
    return panel


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)


def _fitting(text: str, width: int, keep_end: bool = False) -> str:
    """Shorten a line of text to a width, with dots for the missing part."""
    text = " ".join(text.split())
    whole = text
    while text and _font().getlength(text) > width:
        whole = whole[1:] if keep_end else whole[:-1]
        text = f"...{whole}" if keep_end else f"{whole}..."
        if not whole:
            return ""
    return text
