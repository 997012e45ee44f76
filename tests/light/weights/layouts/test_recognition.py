"""What a file turns out to be, and what is said of one that contradicts itself."""

from dataclasses import replace

import pytest

from convnext.architecture import VARIANTS
from convnext.errors import WeightsMismatchError
from convnext.weights.canonical import decoder_shapes, parameter_shapes
from convnext.weights.layouts import foreign_rows, recognise

TINY = VARIANTS["convnext_tiny"]


def spelled(layout, variant, shapes):
    rows = foreign_rows(shapes, layout, variant)
    return {row.foreign: row.move.written_shape(shapes[name]) for name, row in rows.items()}


@pytest.mark.parametrize(
    ("kind", "layout", "variant", "shapes"),
    [
        ("classifier of 1000 classes", "timm", TINY, parameter_shapes(TINY)),
        ("feature extractor", "timm", TINY, parameter_shapes(TINY, 0)),
        ("encoder without a head", "timm", TINY, parameter_shapes(replace(TINY, head="none"), 0)),
        (
            "FCMAE pretraining model",
            "fcmae",
            VARIANTS["convnextv2_atto"],
            parameter_shapes(replace(VARIANTS["convnextv2_atto"], head="none"), 0)
            | decoder_shapes(VARIANTS["convnextv2_atto"]),
        ),
    ],
)
def test_the_kind_of_a_file_is_recognised(kind, layout, variant, shapes):
    assert recognise(spelled(layout, variant, shapes)).kind == kind


def test_an_unpublished_size_is_described_by_its_numbers():
    variant = replace(TINY, depths=(1, 2, 1, 2), dims=(8, 8, 16, 24))
    found = recognise(spelled("timm", variant, parameter_shapes(variant))).variant
    assert (found.name, found.size) == ("convnext_custom", "custom")
    assert (found.depths, found.dims) == (variant.depths, variant.dims)


def test_the_input_channels_are_those_of_the_stem():
    assert recognise(spelled("facebook", TINY, parameter_shapes(TINY, 3, 5))).channels == 5


def test_a_published_fcmae_encoder_may_keep_its_grn_in_two_axes():
    variant = VARIANTS["convnextv2_atto"]
    names = spelled("facebook", variant, parameter_shapes(replace(variant, head="none"), 0))
    flat = {name: shape[-2:] if "grn" in name else shape for name, shape in names.items()}
    assert recognise(flat).shapes == recognise(names).shapes


def test_another_variant_than_asked_for_is_an_error_that_names_both():
    with pytest.raises(WeightsMismatchError, match="of convnext_tiny, not of convnext_base"):
        recognise(spelled("timm", TINY, parameter_shapes(TINY)), None, VARIANTS["convnext_base"])


def test_everything_that_does_not_fit_is_in_one_error():
    names = spelled("facebook", TINY, parameter_shapes(TINY))
    del names["stages.2.3.pwconv1.bias"]
    names["stages.1.0.pwconv2.weight"] = (192, 100)
    names["extra"] = (3,)
    with pytest.raises(WeightsMismatchError) as error:
        recognise(names)
    assert str(error.value) == (
        "These look like weights of convnext_tiny in the layout 'facebook', but they do not fit.\n"
        "  missing (1):\n"
        "    stage_2_block_3.pwconv1.bias\n"
        "  left over (1):\n"
        "    extra\n"
        "  wrong shape (1):\n"
        "    stages.1.0.pwconv2.weight: (192, 100), wanted (192, 768)"
    )


def test_long_lists_are_cut_and_counted():
    names = spelled("facebook", TINY, parameter_shapes(TINY))
    names |= {f"extra_{index}": (1,) for index in range(25)}
    with pytest.raises(WeightsMismatchError, match=r"left over \(25\):") as error:
        recognise(names)
    assert "... and 15 more" in str(error.value)
    assert len(str(error.value).splitlines()) == 13


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ({"optimizer.state.0": (3,), "epoch": ()}, "training state and no model"),
        ({}, "in no ConvNeXt layout"),
        ({"conv1.weight": (64, 3, 7, 7)}, "The first names are: conv1.weight"),
    ],
)
def test_other_networks_are_refused_with_a_reason(names, hint):
    with pytest.raises(WeightsMismatchError, match=hint):
        recognise(names)
