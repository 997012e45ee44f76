"""What fits, what may be left out, and what is said of the rest."""

from dataclasses import replace

import pytest

from convnext.architecture import VARIANTS
from convnext.errors import UnknownNameError, WeightsMismatchError
from convnext.segmentation import SegmentationHead
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


UPERNET = SegmentationHead("upernet", 8, auxiliary=4)


def segmenter(variant, classes, head=UPERNET):
    return parameter_shapes(variant, classes, segmentation=head)


def test_a_new_head_of_a_segmenter_is_both_of_its_classifiers():
    result = fit(segmenter(V1, 5), segmenter(V1, 7), "new")
    classifiers = [
        f"{name}_classify.{part}"
        for name in ("segment", "auxiliary")
        for part in ("kernel", "bias")
    ]
    assert sorted(result.fresh) == sorted(result.unused) == sorted(classifiers)
    assert set(result.filled) == segmenter(V1, 5).keys() - set(classifiers)


def test_other_classes_of_pixels_need_a_new_head():
    with pytest.raises(WeightsMismatchError, match="head has 7 classes, the model's 5: pass"):
        fit(segmenter(V1, 5), segmenter(V1, 7))


def test_a_segmenter_begins_from_a_classifier_with_its_encoder_alone():
    with pytest.raises(WeightsMismatchError) as error:
        fit(segmenter(V2, 5), whole(V2, 5))
    assert (
        "The file has no feature norms and no segmentation head and no classifier of pixels and no "
        "auxiliary head and no auxiliary classifier of pixels (classifier of 5 classes): pass "
        "head='new'"
    ) in str(error.value)
    result = fit(segmenter(V2, 5), whole(V2, 5), "new")
    assert result.filled == tuple(encoder(V2))
    assert result.unused == (*HEAD_NORM, *HEAD)


def test_a_classifier_begins_from_a_segmenter_with_its_encoder_alone():
    with pytest.raises(WeightsMismatchError, match=r"no head norm and no head \(segmentation"):
        fit(whole(V2, 5), segmenter(V2, 5))
    result = fit(whole(V2, 5), segmenter(V2, 5), "new")
    assert result.filled == tuple(encoder(V2))
    assert result.fresh == (*HEAD_NORM, *HEAD)


def test_an_auxiliary_head_may_stay_in_the_file():
    bare = replace(UPERNET, auxiliary=0)
    result = fit(segmenter(V1, 5, bare), segmenter(V1, 5))
    assert result.fresh == ()
    assert {name.partition("_")[0] for name in result.unused} == {"auxiliary"}


@pytest.mark.parametrize("head", ["keep", "new"])
def test_another_kind_of_segmentation_head_is_named(head):
    with pytest.raises(WeightsMismatchError, match="is upernet with 8 channels, the model's mlp"):
        fit(segmenter(V1, 5, SegmentationHead("mlp", 8)), segmenter(V1, 5), head)
