"""Decoding of every kind of source, and of wrong ones."""

from __future__ import annotations

import functools
import io
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from convnext.errors import ArgumentError, ArgumentTypeError, ImageError
from convnext.images import decode as decode_module
from convnext.images.decode import decode
from convnext.images.read import Limits

RAMP = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def ramp_in(mode: str) -> Image.Image:
    return Image.fromarray(RAMP).convert(mode)


def assert_same(image: Image.Image, expected: Image.Image) -> None:
    assert image.mode == "RGB"
    np.testing.assert_array_equal(image, expected)


# What a picture can come as


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path,
        lambda path: str(path),
        lambda path: path.read_bytes(),
        lambda path: bytearray(path.read_bytes()),
        lambda path: memoryview(path.read_bytes()),
        lambda path: io.BytesIO(path.read_bytes()),
        lambda path: Image.open(path),
        lambda path: np.array(Image.open(path)),
    ],
    ids=["path", "str", "bytes", "bytearray", "memoryview", "stream", "image", "array"],
)
def test_every_kind_of_source_gives_the_same_pixels(make, tmp_path: Path):
    path = tmp_path / "ramp.png"
    path.write_bytes(encoded(ramp_in("RGB"), "PNG"))
    source = make(path)
    assert_same(decode(source), ramp_in("RGB"))
    if isinstance(source, Image.Image):
        source.close()


def test_a_source_of_a_wrong_type_is_a_type_error():
    with pytest.raises(ArgumentTypeError, match="from int: give a path"):
        decode(3)


# Formats and colour modes


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("PNG", "1", {}),
        ("PNG", "L", {}),
        ("PNG", "P", {}),
        ("GIF", "RGB", {}),
        ("WEBP", "RGB", {}),
        ("BMP", "P", {}),
        ("PPM", "RGB", {}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "YCbCr", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("AVIF", "RGB", {}),
    ],
)
def test_a_format_gives_what_pillow_converts_it_to(form: str, mode: str, options: dict):
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    data = encoded(ramp_in(mode), form, **options)
    try:
        expected = Image.open(io.BytesIO(data)).convert("RGB")
    except OSError:
        pytest.skip("this Pillow cannot read what it wrote itself")
    assert_same(decode(data), expected)


def test_a_large_jpeg_is_decoded_in_full_and_not_at_a_fraction():
    smooth = Image.radial_gradient("L").resize((1600, 1200))
    data = encoded(smooth, "JPEG")
    assert_same(decode(data), Image.open(io.BytesIO(data)).convert("RGB"))


def test_real_photographs_are_what_pillow_decodes(photographs: list[Path]):
    assert len(photographs) > 30
    for path in photographs:
        assert_same(decode(path, orientation=False), Image.open(path).convert("RGB"))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_read(form: str):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data).getpixel((4, 4)) in [(255, 0, 0), (254, 0, 0)]


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_keeps_its_high_byte(form: str):
    values = np.array([[0, 255, 256, 0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    image = decode(encoded(Image.fromarray(values), form))
    np.testing.assert_array_equal(np.array(image)[0, :, 0], [0, 0, 1, 127, 128, 255])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pictures_of_32_bit_numbers_need_their_range(mode: str):
    image = Image.fromarray(np.array([[0, 500, 1000]], np.int32)).convert(mode)
    data = encoded(image, "TIFF")
    with pytest.raises(ImageError, match="of unknown range"):
        decode(data)
    read = decode(data, value_range=(0, 1000))
    np.testing.assert_array_equal(np.array(read)[0, :, 0], [0, 128, 255])


# Transparency


def see_through(mode: str) -> Image.Image:
    """A picture of black, half transparent black and fully transparent grey."""
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    image.putpixel((2, 0), (90, 90, 90, 0))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_show_the_background(mode: str):
    data = encoded(see_through(mode), "PNG")
    np.testing.assert_array_equal(np.array(decode(data))[0, :, 0], [0, 127, 255])
    red = np.array(decode(data, background=(200, 0, 0)))[0]
    np.testing.assert_array_equal(red, [[0, 0, 0], [100, 0, 0], [200, 0, 0]])


def test_without_a_background_transparency_is_dropped_as_timm_does():
    data = encoded(see_through("RGBA"), "PNG")
    assert_same(decode(data, background=None), Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    ("mode", "form", "transparency"),
    [
        ("P", "PNG", 0),
        ("P", "PNG", b"\0\xff"),
        ("P", "GIF", 0),
        ("L", "PNG", 0),
        ("RGB", "PNG", (0, 0, 0)),
    ],
)
def test_a_transparent_colour_shows_the_background(mode: str, form: str, transparency: object):
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), 1 if mode == "P" else image.getpixel((0, 0)))
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    left = decode(encoded(image, form, transparency=transparency)).getpixel((0, 0))
    assert left == (255, 255, 255)


def png(depth: int, kind: int, samples: bytes, clear: bytes) -> bytes:
    """A PNG of two pixels in a mode that Pillow cannot write."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, kind, 0, 0, 0)),
        (b"tRNS", clear),
        (b"IDAT", zlib.compress(b"\0" + samples)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize("kind", [0, 2], ids=["grey", "colour"])
def test_a_transparent_colour_of_16_bits_shows_the_background(kind: int):
    channels = 3 if kind else 1
    clear, other = struct.pack(">H", 0x1234) * channels, struct.pack(">H", 0x5678) * channels
    data = png(16, kind, clear + other, clear)
    assert np.array(decode(data))[0, :, 0].tolist() == [255, 0x56]
    assert np.array(decode(data, background=None))[0, :, 0].tolist() == [0x12, 0x56]


# Orientation


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("code", range(10))
def test_orientation_is_applied_or_not(form: str, code: int):
    exif = Image.Exif()
    exif[0x0112] = code
    data = encoded(ramp_in("RGB"), form, exif=exif)
    plain = Image.open(io.BytesIO(data))
    assert_same(decode(data, orientation=False), plain)
    assert_same(decode(data), ImageOps.exif_transpose(plain))
    assert_same(decode(plain), ImageOps.exif_transpose(plain))


def test_a_turned_tiff_is_not_turned_twice():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(ramp_in("RGB"), "TIFF", exif=exif)
    assert_same(decode(data), ramp_in("RGB").transpose(Image.Transpose.ROTATE_270))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff"])
def test_damaged_exif_data_do_not_matter(form: str, exif: bytes):
    assert decode(encoded(ramp_in("RGB"), form, exif=exif)).size == (24, 16)


# What was decoded


def turned(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(ramp_in("RGB"), form, exif=exif)


def turned_by_xmp() -> bytes:
    return encoded(ramp_in("RGB"), "JPEG", xmp=b'<x:xmpmeta tiff:Orientation="6"/>')


@pytest.mark.parametrize("options", [{}, {"orientation": False}])
@pytest.mark.parametrize("data", [turned("JPEG"), turned("PNG"), turned("TIFF"), turned_by_xmp()])
def test_a_decoded_picture_is_not_turned_again(data: bytes, options: dict):
    first = decode(data, **options)
    assert_same(decode(first), first)


@pytest.mark.parametrize(
    ("mode", "form", "transparency"),
    [("P", "GIF", 0), ("P", "PNG", b"\0\xff"), ("L", "PNG", 0), ("RGB", "PNG", (0, 0, 0))],
)
def test_transparency_that_was_dropped_stays_away(mode: str, form: str, transparency: object):
    data = encoded(Image.new(mode, (2, 1)), form, transparency=transparency)
    first = decode(data, background=None)
    assert first.getpixel((0, 0)) == (0, 0, 0)
    assert_same(decode(first), first)


def test_a_given_picture_keeps_its_metadata():
    plain = Image.open(io.BytesIO(turned("JPEG")))
    decode(plain, orientation=False)
    assert plain.getexif()[0x0112] == 6


# Arrays


def test_arrays_of_8_bits_need_no_range():
    grey = RAMP[..., 0]
    np.testing.assert_array_equal(decode(grey), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(decode(grey[..., None]), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(decode(RAMP[::-1, ::2]), RAMP[::-1, ::2])
    clear = np.concatenate([RAMP, np.zeros((16, 24, 1), np.uint8)], -1)
    assert np.array(decode(clear)).min() == 255


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint16, bool])
def test_other_numbers_are_never_guessed(dtype: type):
    with pytest.raises(ImageError, match=r"value_range=\(0, 1\)"):
        decode(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1), (0, 255), (0, 65535)])
def test_a_stated_range_gives_back_the_8_bits(value_range: tuple[float, float]):
    low, high = value_range
    floats = low + RAMP.astype(np.float64) / 255 * (high - low)
    np.testing.assert_array_equal(decode(floats, value_range=value_range), RAMP)
    np.testing.assert_array_equal(decode(floats.astype(np.float32), value_range=value_range), RAMP)


@pytest.mark.parametrize("wrong", [1.01, -0.01, 255.0, np.nan, np.inf])
def test_numbers_outside_the_stated_range_are_refused(wrong: float):
    array = np.zeros((4, 4), np.float32)
    array[1, 2] = wrong
    with pytest.raises(ImageError, match=r"outside value_range=\(0, 1\)"):
        decode(array, value_range=(0, 1))


@pytest.mark.parametrize("shape", [(3, 8, 8), (8,), (2, 8, 8, 3), (8, 8, 2), (0, 8, 3), (8, 0)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]):
    with pytest.raises(ImageError, match=r"shape|at least one"):
        decode(np.zeros(shape, np.uint8))


def test_arrays_of_no_numbers_are_refused():
    with pytest.raises(ImageError, match="numbers are needed"):
        decode(np.full((4, 4), "x"), value_range=(0, 1))


@pytest.mark.parametrize(
    "background", [(0, 0), (0, 0, 256), (-1, 0, 0), (0, 0, 0, 0), 5, ("a", "b", "c"), (0.5, 0, 0)]
)
def test_a_background_is_a_colour(background: object):
    with pytest.raises(ArgumentError, match="red, green, blue"):
        decode(RAMP, background=background)


@pytest.mark.parametrize(
    "value_range", [(1, 0), (0, 0), (0, float("nan")), (0, float("inf")), 1, (0, 1, 2), "01"]
)
def test_a_range_needs_two_ends(value_range: object):
    with pytest.raises(ArgumentError, match="black < white"):
        decode(np.zeros((4, 4)), value_range=value_range)


# Limits


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    return start + struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 99) + b"IDAT"


def gif_header(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\x02"
    return b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6) + frame


@pytest.mark.parametrize(
    "data",
    [
        png_header(8192, 6145),
        png_header(1, 2**31 - 1),
        gif_header(65535, 65535),
        gif_header(9999, 9999),
    ],
    ids=[
        "a row too many",
        "a strip",
        "frame beyond Pillow's limit",
        "frame larger than the screen",
    ],
)
def test_too_many_pixels_are_refused_by_the_header(data: bytes):
    with pytest.raises(ImageError, match=r"50,331,648|exceeds limit"):
        decode(data)


def test_the_pixel_limit_is_the_callers():
    data = encoded(ramp_in("RGB"), "PNG")
    assert decode(data, limits=Limits(pixels=24 * 16)).size == (24, 16)
    for source in (data, Image.open(io.BytesIO(data)), RAMP):
        with pytest.raises(ImageError, match=r"24 x 16 pixels.*at most 383.*Limits"):
            decode(source, limits=Limits(pixels=24 * 16 - 1))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"])
def test_truncated_files_are_refused(form: str):
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    for kept in (len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError):
            decode(data[:kept])


@pytest.mark.parametrize(
    "data", [b"not a picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_bytes_that_are_no_picture_are_refused(data: bytes):
    with pytest.raises(ImageError, match=r"not a picture in a supported format \(JPEG, PNG"):
        decode(data)


def repeated_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated many times."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + b"\xff\xd9"


def test_a_small_jpeg_that_takes_minutes_is_refused():
    assert decode(repeated_scans(100, 200)).size == (100, 100)
    with pytest.raises(ImageError, match="passes: 3010"):
        decode(repeated_scans(100, 3000))


def test_scans_of_other_pictures_in_the_same_file_do_not_count():
    thumbnail = encoded(Image.new("RGB", (8, 8)), "JPEG")
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    data = encoded(ramp_in("RGB"), "JPEG", progressive=True)
    film = thumbnail * 500
    assert decode_module._jpeg_scans(data) == 10
    assert decode_module._jpeg_scans(data[:2] + comment + data[2:] + film) == 10
    assert decode(data[:2] + comment + data[2:] + film).size == (24, 16)


def test_a_large_run_length_bitmap_is_refused():
    body = b"\0\1"
    info = struct.pack("<IiiHHIIIIII", 40, 6000, 6000, 1, 4, 2, len(body), 0, 0, 16, 0)
    data = b"BM" + struct.pack("<IHHI", 118 + len(body), 0, 0, 118) + info + bytes(64) + body
    with pytest.raises(ImageError, match="passes: 256"):
        decode(data)


# Warnings


@functools.cache
def warning_file() -> bytes:
    """A PNG with more pixels than Pillow's warning limit; a small file, as all are black."""
    return encoded(Image.new("1", (20_000, 5_000)), "PNG")


def test_pillows_warnings_do_not_come_through(recwarn: pytest.WarningsRecorder):
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(warning_file()))
    recwarn.clear()
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(ImageError):
            decode(warning_file())
    assert not recwarn
    assert list(warnings.filters) == before


def test_warnings_are_ignored_until_the_last_thread_is_out():
    rule = decode_module._PillowQuiet._RULE
    with decode_module._PILLOW_QUIET:
        with decode_module._PILLOW_QUIET:
            pass
        assert rule in warnings.filters
    assert rule not in warnings.filters


def test_filters_of_other_threads_stay_as_they_were():
    """Two threads decode with overlap, while this one changes the filters."""
    stop = threading.Event()
    data = warning_file()

    def work() -> None:
        while not stop.is_set():
            with pytest.raises(ImageError):
                decode(data)

    before = list(warnings.filters)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning):
                warnings.warn("mine", UserWarning, stacklevel=1)
    stop.set()
    for thread in threads:
        thread.join()
    with pytest.raises(ImageError):
        decode(data)
    assert list(warnings.filters) == before
