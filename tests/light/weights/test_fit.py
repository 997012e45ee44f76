"""What fits, what may be left out, and what is said of the rest."""

from dataclasses import replace

import pytest

from convnext.architecture import VARIANTS
from convnext.errors import UnknownNameError, WeightsMismatchError
from convnext.weights.canonical import decoder_shapes, feature_norm_shapes, parameter_shapes
from convnext.weights.fit import fit

V1, V2 = VARIANTS["test_v1"], VARIANTS["test_v2"]
HEAD = ("head.kernel", "head.bias")
HEAD_NORM = ("head_norm.gamma", "head_norm.beta")

whole = parameter_shapes


def encoder(variant):
    return parameter_shapes(replace(variant, head="none"), 0)


def test_equal_names_and_shapes_fit():
    result = fit(whole(V1, 5), whole(V1, 5))
    assert (result.filled, result.fresh, result.unused) == (tuple(whole(V1, 5)), (), ())


@pytest.mark.parametrize("classes", [5, 7])
def test_a_new_head_is_kept_whatever_the_file_has(classes):
    result = fit(whole(V1, 5), whole(V1, classes), "new")
    assert (result.fresh, result.unused) == (HEAD, HEAD)
    assert result.filled == tuple(whole(V1, 0))


def test_a_new_head_on_an_encoder_without_a_norm_has_a_fresh_norm():
    result = fit(whole(V2, 5), encoder(V2), "new")
    assert result.fresh == (*HEAD_NORM, *HEAD)
    assert result.filled == tuple(encoder(V2))


def test_the_norm_is_not_kept_where_the_file_has_one():
    assert fit(whole(V2, 5), whole(V2, 0), "new").fresh == HEAD


def test_a_model_without_a_top_leaves_the_files_top_in_the_file():
    result = fit(encoder(V1), whole(V1, 5))
    assert (result.fresh, result.unused) == ((), (*HEAD_NORM, *HEAD))


def test_a_decoder_is_left_in_the_file():
    file = encoder(V2) | decoder_shapes(V2, 12, width=8)
    assert fit(encoder(V2), file).unused == tuple(decoder_shapes(V2, 12, width=8))


def test_norms_of_a_backbone_begin_fresh_only_with_a_new_head():
    norms = feature_norm_shapes(V1)
    with pytest.raises(WeightsMismatchError, match=r"no feature norms .* pass head='new'"):
        fit(encoder(V1) | norms, whole(V1, 5))
    assert fit(encoder(V1) | norms, whole(V1, 5), "new").fresh == tuple(norms)


@pytest.mark.parametrize(
    ("model", "file", "cause"),
    [
        (whole(V1, 5), whole(V2, 5), "This is a V2 checkpoint; the model is V1."),
        (whole(V2, 5), whole(V1, 5), "This is a V1 checkpoint; the model is V2."),
        (
            whole(VARIANTS["convnext_base"]),
            whole(VARIANTS["convnext_tiny"]),
            "The file holds convnext_tiny; the model is convnext_base.",
        ),
        (
            whole(replace(V1, depths=(1, 1, 1, 1))),
            whole(V1),
            "the model is an unpublished V1 (depths (1, 1, 1, 1), dims (8, 16, 24, 32)).",
        ),
        (whole(V1, 5, 1), whole(V1, 5, 3), "The file takes pictures with 3 channels, the model w"),
        (
            whole(V1, 10),
            whole(V1, 21841),
            "The file's head has 21841 classes, the model's 10: pass head='new'",
        ),
        (
            whole(V2, 10),
            encoder(V2),
            "The file has no head norm and no head (encoder without a head): pass head='new'",
        ),
        (
            whole(replace(V1, layer_scale=False), 5),
            whole(V1, 5),
            "The file has layer scale: build the mod",
        ),
        (
            whole(V1, 5),
            whole(replace(V1, layer_scale=False), 5),
            "The file has no layer scale: build the",
        ),
    ],
)
def test_the_likely_cause_is_named(model, file, cause):
    with pytest.raises(WeightsMismatchError) as error:
        fit(model, file)
    assert cause in str(error.value).splitlines()[1]


def test_everything_that_does_not_fit_is_listed_with_both_shapes():
    model, file = whole(V1, 5), whole(V1, 5)
    del file["stage_1_block_0.pwconv1.bias"]
    file["stage_1_block_9.pwconv1.bias"] = (3,)
    file["head.kernel"] = (32, 6)
    with pytest.raises(WeightsMismatchError) as error:
        fit(model, file)
    assert str(error.value).splitlines() == [
        "These weights do not fit the model.",
        "  missing (1):",
        "    stage_1_block_0.pwconv1.bias",
        "  left over (1):",
        "    stage_1_block_9.pwconv1.bias",
        "  wrong shape (1):",
        "    head.kernel: (32, 6), wanted (32, 5)",
    ]


def test_a_single_tensor_of_a_part_may_not_be_missing():
    file = whole(V1, 5)
    del file["head.bias"]
    with pytest.raises(WeightsMismatchError, match=r"missing \(1\):\n    head\.bias"):
        fit(whole(V1, 5), file)


def test_only_two_ways_to_treat_the_head():
    with pytest.raises(UnknownNameError, match="Allowed: keep, new"):
        fit(whole(V1, 5), whole(V1, 5), "drop")
