"""The image processor, to the bit that of transformers on Pillow."""

import json

import numpy as np
import pytest
from PIL import Image

from convnext.errors import ArgumentError, ArgumentTypeError, ConvNeXtError, ImageError
from convnext.hf import ConvNextFeatureExtractor, ConvNextImageProcessor


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def upstream(**options):
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    return ConvNextImageProcessorPil(**options)


OPTIONS = [
    {},
    {"size": {"shortest_edge": 20}, "crop_pct": 0.875},
    {"size": {"shortest_edge": 21}, "crop_pct": 0.95, "resample": 3},
    {"size": {"shortest_edge": 20}, "crop_pct": 1.3},  # the crop is larger than what was resized
    {"size": {"shortest_edge": 384}, "resample": 0},
    {
        "size": {"shortest_edge": 30},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.2, 0.3, 0.1],
    },
    {"size": {"shortest_edge": 30}, "do_normalize": False},
    {"size": {"shortest_edge": 30}, "do_rescale": False},
    {"do_resize": False},
    {
        "size": {"shortest_edge": 30},
        "rescale_factor": 1 / 127.5,
        "image_mean": 1.0,
        "image_std": 1.0,
    },
]


@pytest.mark.upstream
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(40, 61), (61, 40), (33, 33), (400, 30)], ids=str)
def test_equal_to_the_bit(options, shape):
    options = {"resample": 2, **options}
    picture = Image.fromarray(noise(*shape))
    for given in (picture, np.array(picture), np.array(picture).transpose(2, 0, 1)):
        ours = ConvNextImageProcessor(**options)(given, return_tensors="np").pixel_values
        theirs = upstream(**options)(given, return_tensors="np").pixel_values
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.upstream
def test_floats_equal_to_the_bit():
    whole = noise(40, 61).astype(np.float32)
    fractions = np.random.default_rng(0).random((3, 40, 61), np.float32)
    for given, options in ((whole, {}), (fractions, {"do_rescale": False})):
        options = {"resample": 2, "size": {"shortest_edge": 20}, **options}
        ours = ConvNextImageProcessor(**options)(given, return_tensors="np").pixel_values
        theirs = upstream(**options)(given, return_tensors="np").pixel_values
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.upstream
def test_files_go_both_ways(tmp_path):
    ours = ConvNextImageProcessor(size=224, crop_pct=0.9, resample=3, image_mean=[0.1, 0.2, 0.3])
    ours.save_pretrained(tmp_path / "ours")
    picture = Image.fromarray(noise(300, 400))
    theirs = type(upstream()).from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back = ConvNextImageProcessor.from_pretrained(tmp_path / "theirs")
    for processor in (theirs, back):
        np.testing.assert_array_equal(
            processor(picture, return_tensors="np")["pixel_values"],
            ours(picture, return_tensors="np")["pixel_values"],
        )


def test_defaults():
    processor = ConvNextImageProcessor()
    assert processor.to_dict() == {
        "do_resize": True,
        "size": {"shortest_edge": 384},
        "crop_pct": 224 / 256,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "ConvNextImageProcessor",
    }


def test_round_trips_keep_what_they_do_not_know(tmp_path):
    processor = ConvNextImageProcessor.from_dict({"size": 42, "favourite": "colour"})
    assert processor.size == {"shortest_edge": 42}
    assert ConvNextImageProcessor.from_dict({"size": 42}, size={"shortest_edge": 8}).size == {
        "shortest_edge": 8
    }
    processor.save_pretrained(tmp_path)
    processor.to_json_file(tmp_path / "same.json")
    for place in (tmp_path, tmp_path / "same.json"):
        assert ConvNextImageProcessor.from_pretrained(place).to_dict() == processor.to_dict()
    assert json.loads(processor.to_json_string())["favourite"] == "colour"
    again = ConvNextImageProcessor.from_json_file(tmp_path / "same.json")
    assert again.to_dict() == processor.to_dict()


def test_a_switch_that_is_none_stays_off_in_a_file(tmp_path):
    ConvNextImageProcessor(do_resize=None).save_pretrained(tmp_path)
    assert ConvNextImageProcessor.from_pretrained(tmp_path).do_resize is None


def test_arguments_of_auto_classes_are_not_saved(tmp_path):
    ConvNextImageProcessor().save_pretrained(tmp_path)
    read = ConvNextImageProcessor.from_pretrained(tmp_path, _from_auto=True)
    assert read.to_dict() == ConvNextImageProcessor().to_dict()


def test_published_names_bring_their_recipe():
    processor = ConvNextImageProcessor.from_pretrained("convnext_tiny.fb_in1k")
    assert processor.size == {"shortest_edge": 224}
    assert processor.resample == Image.Resampling.BICUBIC
    assert processor.image_mean == [0.485, 0.456, 0.406]


def test_options_of_one_call_hold_for_one_call():
    processor = ConvNextImageProcessor(size=20)
    picture = Image.fromarray(noise(40, 50))
    assert processor(picture, size=10, return_tensors="np").pixel_values.shape == (1, 3, 10, 10)
    assert processor(picture, return_tensors="np").pixel_values.shape == (1, 3, 20, 20)
    plain = processor(picture, do_normalize=False, do_rescale=False, return_tensors="np")
    assert plain.pixel_values.dtype == np.uint8
    with pytest.raises(ArgumentError, match="crop_pct"):
        processor(picture, crop_percent=1)


def test_every_form_of_pictures(tmp_path):
    processor = ConvNextImageProcessor(size=8)
    array = noise(10, 12)
    Image.fromarray(array).save(tmp_path / "a.png")
    batch = np.stack([array, array])
    forms = [
        [array, array],
        (Image.fromarray(array), array),
        [[array], [array]],
        batch,
        batch.transpose(0, 3, 1, 2),
        [tmp_path / "a.png", str(tmp_path / "a.png")],
        [(tmp_path / "a.png").read_bytes(), array],
    ]
    first = processor(forms[0], return_tensors="np").pixel_values
    assert first.shape == (2, 3, 8, 8)
    for form in forms[1:]:
        np.testing.assert_array_equal(processor(form, return_tensors="np").pixel_values, first)
    last = processor(batch, return_tensors="np", data_format="channels_last").pixel_values
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), first)
    listed = processor(batch).pixel_values
    assert isinstance(listed, list)
    np.testing.assert_array_equal(listed[1], first[1])
    grey = processor(Image.fromarray(noise(10, 12, 0)), return_tensors="np").pixel_values
    assert grey.shape == (1, 3, 8, 8)


def test_input_data_format_gives_the_axis_of_channels():
    processor = ConvNextImageProcessor(do_resize=False, do_normalize=False, image_mean=0.5)
    ambiguous = noise(3, 5)  # (3, 5, 3)
    said = processor(ambiguous, input_data_format="channels_last", return_tensors="np")
    assert said.pixel_values.shape == (1, 3, 3, 5)
    with pytest.raises(ArgumentError, match="input_data_format"):
        processor(np.zeros((5, 6, 7), np.uint8))


@pytest.mark.parametrize(
    ("kind", "module"), [("pt", "torch"), ("tf", "tensorflow"), ("jax", "jax")]
)
def test_tensors_of_a_framework(kind, module):
    pytest.importorskip(module)
    given = noise(10, 12)
    made = ConvNextImageProcessor(size=8)(given, return_tensors=kind).pixel_values
    assert type(made).__module__.startswith((module, "jaxlib"))
    wanted = ConvNextImageProcessor(size=8)(given, return_tensors="np").pixel_values
    np.testing.assert_array_equal(np.asarray(made), wanted)
    np.testing.assert_array_equal(
        ConvNextImageProcessor(size=8, do_rescale=False)(
            made * 0 + 7, return_tensors="np"
        ).pixel_values.shape,
        wanted.shape,
    )


def test_pictures_of_other_channels_are_not_resized():
    with pytest.raises(ArgumentError, match="5 channels"):
        ConvNextImageProcessor()(noise(9, 9, 5), input_data_format="channels_last")


def test_a_second_rescaling_is_refused():
    fractions = np.random.default_rng(0).random((10, 12, 3), np.float32)
    with pytest.raises(ArgumentError, match="do_rescale=False"):
        ConvNextImageProcessor(size=8)(fractions)
    black = np.zeros((10, 12, 3), np.float32)
    assert ConvNextImageProcessor(size=8)(black).pixel_values[0].max() == -1


@pytest.mark.parametrize(
    ("options", "given", "error"),
    [
        ({"size": {"height": 3, "width": 3}}, None, ArgumentError),
        ({"size": 0}, None, ArgumentError),
        ({"resample": 77}, None, ArgumentError),
        ({"do_center_crop": True}, None, ArgumentError),
        ({"image_mean": [0.5]}, noise(9, 9), ArgumentError),
        ({}, 5, ArgumentTypeError),
        ({}, np.zeros((1, 2, 3, 4, 5), np.uint8), ArgumentError),
        ({"do_rescale": False}, np.full((9, 9, 3), 999.0), ArgumentError),
        ({}, np.full((9, 9, 3), np.nan), ArgumentError),
        ({"crop_pct": 0}, None, ArgumentError),
        ({}, np.zeros((0, 9, 3), np.uint8), ArgumentError),
        ({"size": 224}, Image.new("L", (1, 257)), ImageError),
        ({}, b"no picture", ConvNeXtError),
    ],
)
def test_wrong_values_are_refused(options, given, error):
    with pytest.raises(error):
        ConvNextImageProcessor(**options)(given)


@pytest.mark.parametrize("content", [{"image_mean": "abc"}, {"preprocess": 1}, {"crop_pct": "1"}])
def test_files_with_unusable_values_are_refused(content):
    with pytest.raises(ArgumentError, match="the file or dictionary"):
        ConvNextImageProcessor.from_dict(content)


def test_pictures_of_different_sizes_are_no_batch():
    pictures = [noise(9, 9), noise(9, 10)]
    processor = ConvNextImageProcessor(do_resize=False)
    with pytest.raises(ArgumentError, match="different sizes"):
        processor(pictures, return_tensors="np")
    with pytest.raises(ArgumentError, match="kind of tensors"):
        processor(pictures[:1], return_tensors="mx")
    assert len(processor(pictures).pixel_values) == 2


def test_the_old_name_warns():
    with pytest.warns(FutureWarning, match="ConvNextImageProcessor"):
        old = ConvNextFeatureExtractor(size=20)
    assert old.to_dict()["image_processor_type"] == "ConvNextImageProcessor"
