"""The transform equals other libraries' to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentError, ImageError
from convnext.images.decode import decode
from convnext.images.recipe import Preprocess
from convnext.images.transform import (
    MAX_ASPECT_RATIO,
    center_crop,
    normalise,
    pixels,
    resize,
    resized_size,
)

CROP_FRACTIONS = (0.875, 224 / 256, 0.9, 0.95, 1.0)


def picture(random: np.random.Generator, width: int, height: int) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def random_cases(seed: int, count: int):
    """Small pictures and recipes, so that thousands take seconds."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        preprocess = Preprocess(
            size=int(random.integers(1, 48)),
            crop_fraction=float(random.choice(CROP_FRACTIONS)),
            mode="squash" if random.random() < 0.3 else "crop",
            interpolation="bilinear" if random.random() < 0.3 else "bicubic",
        )
        yield picture(random, *map(int, random.integers(1, 70, 2))), preprocess


def timm_transform(preprocess: Preprocess, **options: object):
    from timm.data.transforms_factory import transforms_imagenet_eval

    squash = preprocess.mode == "squash"
    return transforms_imagenet_eval(
        img_size=preprocess.size,
        crop_pct=1.0 if squash else preprocess.crop_fraction,
        crop_mode="squash" if squash else "center",
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        **options,
    )


@pytest.mark.upstream
def test_sizes_are_torchvisions():
    from torchvision.transforms.functional import _compute_resized_output_size

    random = np.random.default_rng(1)
    for width, height, side in random.integers(1, 5000, (20_000, 3)).tolist():
        expected = _compute_resized_output_size((height, width), [side])
        assert resized_size(width, height, side) == tuple(reversed(expected)), (width, height, side)


@pytest.mark.upstream
@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_pixels_are_timms(count: int):
    for image, preprocess in random_cases(seed=2, count=count):
        expected = timm_transform(preprocess, use_prefetcher=True)(image).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(
            pixels(image, preprocess), expected, err_msg=f"{image.size} {preprocess}"
        )


@pytest.mark.upstream
def test_numbers_are_timms():
    for image, preprocess in random_cases(seed=3, count=100):
        expected = timm_transform(preprocess)(image).permute(1, 2, 0).numpy()
        numbers = normalise(pixels(image, preprocess), preprocess)
        assert numbers.dtype == np.float32
        np.testing.assert_array_equal(numbers, expected, err_msg=f"{image.size} {preprocess}")


@pytest.mark.upstream
@pytest.mark.parametrize("size", [224, 384])
def test_numbers_of_photographs_are_those_of_the_authors_pipeline(
    size: int, photographs: list[Path]
):
    from torchvision.transforms import (
        CenterCrop,
        Compose,
        InterpolationMode,
        Normalize,
        Resize,
        ToTensor,
    )

    preprocess = Preprocess(size=size, mode="squash" if size >= 384 else "crop")
    squash = Resize((size, size), interpolation=InterpolationMode.BICUBIC)
    short_side = Resize(int(size / (224 / 256)), interpolation=InterpolationMode.BICUBIC)
    resizing = [squash] if size >= 384 else [short_side, CenterCrop(size)]
    authors = Compose([*resizing, ToTensor(), Normalize(preprocess.mean, preprocess.std)])
    assert len(photographs) > 30
    for path in photographs:
        expected = authors(Image.open(path).convert("RGB")).permute(1, 2, 0).numpy()
        numbers = normalise(pixels(decode(path, orientation=False), preprocess), preprocess)
        np.testing.assert_array_equal(numbers, expected, err_msg=path.name)


@pytest.mark.upstream
def test_rounding_down_gives_the_numbers_of_transformers():
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    for image, preprocess in random_cases(seed=4, count=100):
        if preprocess.mode == "squash":
            continue
        processor = ConvNextImageProcessorPil(
            size={"shortest_edge": preprocess.size},
            crop_pct=preprocess.crop_fraction,
            resample={"bilinear": 2, "bicubic": 3}[preprocess.interpolation],
            image_mean=preprocess.mean,
            image_std=preprocess.std,
        )
        [expected] = processor(image)["pixel_values"]
        numbers = normalise(pixels(image, preprocess, "down"), preprocess)
        np.testing.assert_array_equal(
            numbers, expected.transpose(1, 2, 0), err_msg=f"{image.size} {preprocess}"
        )


@pytest.mark.upstream
def test_squashing_gives_the_numbers_of_transformers():
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    preprocess = Preprocess(size=384, mode="squash")
    processor = ConvNextImageProcessorPil(
        size={"shortest_edge": 384}, image_mean=preprocess.mean, image_std=preprocess.std
    )
    for width, height in [(500, 375), (31, 400), (384, 384)]:
        image = picture(np.random.default_rng(5), width, height)
        [expected] = processor(image)["pixel_values"]
        numbers = normalise(pixels(image, preprocess), preprocess)
        np.testing.assert_array_equal(numbers, expected.transpose(1, 2, 0))


@pytest.mark.upstream
def test_center_crop_pads_as_its_models_do():
    from torchvision.transforms.functional import center_crop as torchvision_crop
    from transformers.image_transforms import center_crop as transformers_crop

    random = np.random.default_rng(6)
    for width, height, new_width, new_height in random.integers(4, 20, (1000, 4)).tolist():
        image = picture(random, width, height)
        sizes = f"{image.size} to {new_width} x {new_height}"
        np.testing.assert_array_equal(
            center_crop(image, new_width, new_height),
            torchvision_crop(image, [new_height, new_width]),
            err_msg=sizes,
        )
        np.testing.assert_array_equal(
            center_crop(image, new_width, new_height, "down"),
            transformers_crop(
                np.array(image), (new_height, new_width), input_data_format="channels_last"
            ),
            err_msg=sizes,
        )


@pytest.mark.parametrize(
    ("length", "half_even", "down"), [(5, 0, 0), (6, 1, 1), (7, 2, 1), (8, 2, 2), (9, 2, 2)]
)
def test_odd_remainders_round_to_even_or_down(length: int, half_even: int, down: int):
    """With a window of 4, the rules differ for remainders 1, 3 and 5."""
    ramp = Image.fromarray(np.arange(length, dtype=np.uint8)[None])
    assert np.array(center_crop(ramp, 4, 1))[0, 0] == half_even
    assert np.array(center_crop(ramp, 4, 1, "down"))[0, 0] == down


def test_the_published_sizes():
    assert Preprocess(size=224).resized_side == 256
    assert resized_size(640, 480, 256) == (341, 256)
    assert resized_size(480, 640, 256) == (256, 341)


def test_every_pixel_value_is_rescaled_as_a_division_by_255_would():
    plain = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    values = np.arange(256, dtype=np.uint8)
    expected = values.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(normalise(np.stack([values] * 3, -1), plain)[:, 0], expected)


@pytest.mark.parametrize("mode", ["crop", "squash"])
def test_a_strip_is_refused_before_it_costs_memory(mode):
    preprocess = Preprocess(size=32, mode=mode)
    longest = Image.new("RGB", (MAX_ASPECT_RATIO, 1))
    assert pixels(longest, preprocess).shape == (32, 32, 3)
    with pytest.raises(ImageError, match="257 x 1"):
        pixels(Image.new("RGB", (MAX_ASPECT_RATIO + 1, 1)), preprocess)
    with pytest.raises(ImageError, match="1 x 257"):
        resize(Image.new("RGB", (1, MAX_ASPECT_RATIO + 1)), 8, 8)


def test_pixels_takes_rgb_only():
    with pytest.raises(ArgumentError, match="'L'"):
        pixels(Image.new("L", (8, 8)), Preprocess())


def test_pixels_can_be_written_to():
    assert pixels(Image.new("RGB", (8, 8)), Preprocess(size=4)).flags.writeable


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((), np.uint8)],
)
def test_normalise_takes_8_bit_rgb_only(wrong: np.ndarray):
    with pytest.raises(ArgumentError, match=r"must not be rescaled again"):
        normalise(wrong, Preprocess())
