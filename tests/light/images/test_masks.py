import io

import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentError, ImageError
from convnext.images.masks import read_mask, write_mask
from convnext.images.read import Limits

NUMBERS = np.array([[0, 1, 2], [255, 3, 7]], np.uint8)
COLOURS = np.array([[0, 0, 0], [200, 10, 10], [10, 200, 10]], np.uint8)


def _saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def test_a_written_mask_is_read_again_and_shown_in_colour(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, NUMBERS, COLOURS)
    read = read_mask(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, NUMBERS)
    with Image.open(path) as image:
        assert image.convert("RGB").getpixel((1, 0)) == (200, 10, 10)


def test_numbers_above_255_are_written_in_16_bits(tmp_path):
    path = tmp_path / "mask.png"
    write_mask(path, np.array([[0, 300]]), COLOURS)
    read = read_mask(path)
    assert read.dtype == np.uint16
    assert read.tolist() == [[0, 300]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_few_bits_hold_the_same_numbers(bits):
    values = np.arange(min(4, 2**bits), dtype=np.uint8)[None]
    image = Image.fromarray(values)
    image.putpalette(COLOURS.tobytes())
    assert read_mask(_saved(image, bits=bits)).tolist() == values.tolist()


def _grey(bits: int, values: list[int]) -> bytes:
    """A PNG in grey of few bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packed = int("".join(f"{value:0{bits}b}" for value in values).ljust(8, "0"), 2)
    header = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, packed]))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(("bits", "values"), [(1, [0, 1, 1]), (2, [0, 1, 3]), (4, [2, 15])])
def test_grey_of_few_bits_is_not_stretched_to_255(bits, values):
    assert read_mask(_grey(bits, values)).tolist() == [values]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_saved(Image.new("RGB", (4, 4))), "in colour"),
        (_saved(Image.new("L", (4, 4)), "JPEG"), "JPEG file"),
        (b"no picture", "not a mask"),
        (_saved(Image.new("L", (4, 4)))[:40], "not a mask"),
    ],
)
def test_other_files_are_refused(data, message):
    with pytest.raises(ImageError, match=message):
        read_mask(data)


def test_a_large_mask_is_refused_before_decoding():
    with pytest.raises(ImageError, match="at most 3"):
        read_mask(_saved(Image.new("L", (2, 2))), Limits(pixels=3))


@pytest.mark.parametrize(
    "numbers", [np.zeros((2, 2, 3), int), np.zeros((2, 2)), -np.ones((2, 2), int)]
)
def test_what_is_no_mask_is_not_written(tmp_path, numbers):
    with pytest.raises(ArgumentError):
        write_mask(tmp_path / "mask.png", numbers, COLOURS)
    assert not list(tmp_path.iterdir())
