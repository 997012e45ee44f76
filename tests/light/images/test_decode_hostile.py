"""Damaged and hostile files are decoded or refused quickly and in little memory."""

from __future__ import annotations

import io
import resource
import struct
import time

import numpy as np
import pytest
from PIL import Image, features

from convnext.errors import ImageError
from convnext.images.decode import decode
from convnext.images.read import Limits

SECONDS = 5
MEMORY = 2**30


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    ramp = np.arange(24 * 17 * 3, dtype=np.uint8).reshape(17, 24, 3)
    stream = io.BytesIO()
    Image.fromarray(ramp).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def animated(form: str) -> bytes:
    frames = [Image.new("RGB", (24, 17), (shade, 90, 255 - shade)) for shade in (0, 80, 160)]
    stream = io.BytesIO()
    frames[0].save(stream, form, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def with_exif(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    return encoded(form, exif=exif)


SEEDS = {
    "jpeg": lambda: encoded("JPEG"),
    "jpeg-progressive": lambda: encoded("JPEG", progressive=True),
    "jpeg-cmyk": lambda: encoded("JPEG", "CMYK"),
    "jpeg-grey": lambda: encoded("JPEG", "L"),
    "jpeg-exif": lambda: with_exif("JPEG"),
    "mpo": lambda: animated("MPO"),
    "png": lambda: encoded("PNG"),
    "png-palette": lambda: encoded("PNG", "P", transparency=3),
    "png-alpha": lambda: encoded("PNG", "RGBA"),
    "png-16": lambda: encoded("PNG", "I;16"),
    "apng": lambda: animated("PNG"),
    "gif": lambda: encoded("GIF"),
    "gif-animated": lambda: animated("GIF"),
    "webp": lambda: encoded("WEBP"),
    "webp-lossless": lambda: encoded("WEBP", "RGBA", lossless=True),
    "webp-animated": lambda: animated("WEBP"),
    "tiff": lambda: encoded("TIFF"),
    "tiff-exif": lambda: with_exif("TIFF"),
    "tiff-lzw": lambda: encoded("TIFF", compression="tiff_lzw"),
    "tiff-deflate": lambda: encoded("TIFF", compression="tiff_adobe_deflate"),
    "tiff-jpeg": lambda: encoded("TIFF", compression="jpeg"),
    "bmp": lambda: encoded("BMP"),
    "bmp-rle": lambda: run_length_bmp(24, 17, 8, bytes([24, 7, 0, 0]) * 17 + b"\0\1"),
    "ppm": lambda: encoded("PPM"),
    "avif": lambda: encoded("AVIF"),
}


def run_length_bmp(width: int, height: int, bits: int, body: bytes) -> bytes:
    colours = bytes(1 << (bits + 2))
    start = 54 + len(colours)
    header = struct.pack("<IHHI", start + len(body), 0, 0, start)
    compression = {8: 1, 4: 2}[bits]
    info = (40, width, height, 1, bits, compression, len(body), 0, 0, 1 << bits, 0)
    return b"BM" + header + struct.pack("<IiiHHIIIIII", *info) + colours + body


def mutated(seed: bytes, random: np.random.Generator) -> bytes:
    """One to eight changes of bytes, mostly in the headers."""
    data = bytearray(seed)
    for _ in range(random.integers(1, 9)):
        reach = len(data) if random.random() < 0.4 else min(len(data), 64)
        at = int(random.integers(max(reach, 1)))
        length = int(random.integers(1, 9))
        change = random.integers(6)
        if change == 0:
            data[at : at + 1] = random.bytes(1)
        elif change == 1:
            data[at : at + length] = random.bytes(length)
        elif change == 2:
            data[at : at + length] = [b"\xff", b"\0", b"\x7f"][random.integers(3)] * length
        elif change == 3:
            del data[at : at + length]
        elif change == 4:
            data[at:at] = data[at : at + 8 * length]
        elif random.random() < 0.3:
            del data[at + 16 :]
    return bytes(data)


@pytest.mark.parametrize("kind", SEEDS)
def test_a_mutated_file_is_decoded_or_refused(kind: str) -> None:
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    seed = SEEDS[kind]()
    decode(seed)
    random = np.random.default_rng(list(kind.encode()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for number in range(200):
        data = mutated(seed, random)
        started = time.perf_counter()
        try:
            image = decode(data)
        except ImageError:
            refused += 1
        else:
            assert image.mode == "RGB"
            assert image.width * image.height <= Limits().pixels
        assert time.perf_counter() - started < SECONDS, f"mutation {number} took too long"
    assert refused > 0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < MEMORY
