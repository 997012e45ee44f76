"""Every layout and every pair of layouts, there and back, bit for bit; and names never clash."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import there_and_back
from convnext.architecture import ARCHITECTURES, Architecture
from convnext.errors import ArgumentError, UnknownNameError, WeightsMismatchError
from convnext.segmentation import SegmentationHead
from convnext.weights.canonical import decoder_shapes, feature_norm_shapes, parameter_shapes
from convnext.weights.layouts import LAYOUTS, foreign_rows, recognise, to_canonical, to_foreign


def has_the_usual_parts(row):
    """Whether every library has names for its parts."""
    usual = Architecture("", "", row.depths, row.dims, row.grn)
    return row.same_encoder(usual) and (row.head, row.head_hidden) == ("pool_norm", 0)


WRITABLE = [layout for layout in LAYOUTS.values() if layout.writable]
V1_DENSE = {"dinov3", "dinov3_facebook"}  # no classifier
V1_ONLY = V1_DENSE | {"torchvision", "keras_applications"}
SPECIAL = V1_DENSE | {"fcmae", "isotropic", "open_clip"}  # not for every classifier of 4 stages
CLASSIFIERS = [
    (layout.name, family)
    for layout in WRITABLE
    for family in ("v1", "v2")
    if layout.name not in SPECIAL and not (family == "v2" and layout.name in V1_ONLY)
]
PAIRS = [
    (one, other, family)
    for one, family in CLASSIFIERS
    for other, other_family in CLASSIFIERS
    if one < other and family == other_family
]
HAS_ALL_PARTS = ("timm", "convnext", "isotropic", "open_clip")
PUBLISHED = [
    (layout.name, row.name)
    for layout in WRITABLE
    for row in ARCHITECTURES.values()
    if layout.computes(row)
    and not (row.grn and layout.name in V1_ONLY)
    and (row.grn or layout.name != "fcmae")
    and (layout.name in HAS_ALL_PARTS or has_the_usual_parts(row))
]


@pytest.mark.parametrize(("layout", "family"), CLASSIFIERS)
def test_tensors_survive_a_round_trip_through_a_layout(layout, family, odd_variant, numbered):
    variant = odd_variant(family)
    ours = numbered(parameter_shapes(variant, 13, 4))
    assert len(there_and_back(ours, layout, variant)) == len(ours)


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_dinov3_there_and_back_with_and_without_a_prefix(
    prefix, odd_variant, numbered, same_weights
):
    variant = odd_variant("v1")
    ours = numbered(parameter_shapes(variant, 0))
    theirs = there_and_back(ours, "dinov3", variant)
    outside = {"layer_norm.weight", "layer_norm.bias"}
    assert {name for name in theirs if not name.startswith("model.")} == outside
    named = {prefix + name.removeprefix("model."): array for name, array in theirs.items()}
    named |= {name.removeprefix(prefix): named.pop(prefix + name) for name in outside}
    assert recognise({name: array.shape for name, array in named.items()}).layout == "dinov3"
    same_weights(to_canonical(named), ours)


@pytest.mark.parametrize("hidden", [0, 26])
def test_a_tower_of_clip_there_and_back_among_other_tensors(
    hidden, odd_variant, numbered, same_weights
):
    variant = replace(odd_variant("v1"), head_hidden=hidden)
    ours = numbered(parameter_shapes(variant, 13))
    ours["head.bias"] = np.zeros_like(ours["head.bias"])
    theirs = there_and_back(ours, "open_clip", variant)
    assert len(theirs) == len(ours) - 1
    text = {"logit_scale": np.ones(()), "text.ln_final.bias": np.ones(3), "attn_mask": np.ones(1)}
    found = recognise({name: array.shape for name, array in (theirs | text).items()})
    assert (found.layout, found.ignored) == ("open_clip", tuple(text))
    same_weights(to_canonical(theirs | text), ours)
    same_weights(to_canonical({n.removeprefix("visual."): a for n, a in theirs.items()}), ours)
    ours["head.bias"] = ours["head.bias"] + 1
    with pytest.raises(ArgumentError, match=r"no head\.bias, and this one is not zero"):
        to_foreign(ours, "open_clip", variant)


def test_a_norm_that_is_there_twice(odd_variant, numbered, same_weights):
    variant = odd_variant("v1")
    ours = numbered(parameter_shapes(variant, 0))
    theirs = there_and_back(ours, "dinov3_facebook", variant)
    assert theirs["norms.3.bias"] is theirs["norm.bias"]
    alone = {name: array for name, array in theirs.items() if not name.startswith("norm.")}
    same_weights(to_canonical(alone), ours)
    theirs["norms.3.bias"] = theirs["norm.bias"] + 1
    with pytest.raises(WeightsMismatchError, match=r"'norms.3.bias' and 'norm.bias' are one"):
        to_canonical(theirs)


@pytest.mark.parametrize(("one", "other", "family"), PAIRS)
def test_tensors_survive_a_round_trip_between_two_layouts(
    one, other, family, odd_variant, numbered, same_weights
):
    variant = odd_variant(family)
    start = to_foreign(numbered(parameter_shapes(variant, 13)), one, variant)
    between = to_foreign(to_canonical(start, one), other, variant)
    same_weights(to_foreign(to_canonical(between, other), one, variant), start)


@pytest.mark.parametrize(("layout", "variant"), PUBLISHED)
def test_names_of_a_published_variant_are_unique(layout, variant):
    variant = ARCHITECTURES[variant]
    classes = {"dinov3": 0, "dinov3_facebook": 0, "open_clip": 768}.get(layout, 1000)
    shapes = parameter_shapes(variant, classes)
    if layout == "fcmae":
        variant = replace(variant, head="none")
        shapes = parameter_shapes(variant, 0) | decoder_shapes(variant)
    rows = foreign_rows(shapes, layout, variant)
    foreign = {row.foreign: row.move.written_shape(shapes[name]) for name, row in rows.items()}
    assert len(foreign) == len(shapes) - (layout == "open_clip")  # which has no bias in its head
    foreign |= {twin: foreign[name] for twin, name in LAYOUTS[layout].twins.items()}
    recognised = recognise(foreign, given=variant)
    assert (recognised.layout, recognised.architecture) == (layout, variant)
    assert recognised.shapes == shapes


@settings(max_examples=60)
@given(
    layout=st.sampled_from([name for name, family in CLASSIFIERS if family == "v2"]),
    depths=st.tuples(*[st.integers(1, 4)] * 4),
    dims=st.tuples(*[st.integers(2, 9)] * 4),
    num_classes=st.integers(0, 12),
    channels=st.integers(1, 5),
    head_norm=st.booleans(),
    layer_scale=st.booleans(),
)
def test_any_size_with_or_without_any_part(
    layout, depths, dims, num_classes, channels, head_norm, layer_scale
):
    head = "pool_norm" if head_norm else "none"
    traits = {"grn": True, "layer_scale": layer_scale, "head": head}
    variant = Architecture("convnextv2_custom", "custom", depths, dims, **traits)
    shapes = parameter_shapes(variant, num_classes, channels)
    ours = {name: np.full(shape, index) for index, (name, shape) in enumerate(shapes.items())}
    theirs = to_foreign(ours, layout, variant)
    recognised = recognise({name: array.shape for name, array in theirs.items()}, layout)
    assert recognised.variant == variant
    assert recognised.shapes == shapes
    assert (recognised.num_classes, recognised.channels) == (num_classes, channels)
    assert (recognised.head_norm, recognised.layer_scale) == (head_norm, layer_scale)
    back = to_canonical(theirs, layout, variant)
    assert all((back[name] == ours[name]).all() for name in shapes)


@pytest.mark.parametrize("layout", ["facebook", "huggingface", "mmpretrain", "convnext"])
def test_norms_of_a_dense_prediction_backbone(layout, odd_variant, numbered):
    variant = odd_variant("v1")
    features = ("0", "1", "2", "3")
    shapes = parameter_shapes(replace(variant, head="none"), 0)
    ours = numbered(shapes | feature_norm_shapes(variant, features))
    theirs = there_and_back(ours, layout, variant)
    recognised = recognise({name: array.shape for name, array in theirs.items()})
    assert recognised.features == features
    assert recognised.kind == "dense-prediction backbone"


def test_the_same_name_for_two_norms_is_refused(odd_variant, numbered):
    variant = odd_variant("v1")
    ours = numbered(parameter_shapes(variant) | feature_norm_shapes(variant, ("3",)))
    with pytest.raises(ArgumentError, match="one name for the norm of the last feature map"):
        to_foreign(ours, "mmpretrain", variant)


def test_reading_gives_views(odd_variant, numbered):
    variant = odd_variant("v2")
    theirs = to_foreign(numbered(parameter_shapes(variant)), "facebook", variant)
    rows = foreign_rows(parameter_shapes(variant), "facebook", variant)
    for name, array in to_canonical(theirs).items():
        assert np.shares_memory(array, theirs[rows[name].foreign]), name


def test_half_precision_stays_half_precision(odd_variant):
    variant = odd_variant("v1")
    ours = {name: np.zeros(shape, np.float16) for name, shape in parameter_shapes(variant).items()}
    theirs = to_foreign(ours, "timm", variant)
    assert {array.dtype for array in theirs.values()} == {np.dtype(np.float16)}


@pytest.mark.parametrize("layout", ["torchvision", "keras_applications"])
def test_a_layout_without_names_for_v2_says_which_have_them(layout, odd_variant, numbered):
    variant = odd_variant("v2")
    with pytest.raises(
        ArgumentError, match="Layouts that can be written: convnext, dinov3_facebook, facebook"
    ):
        to_foreign(numbered(parameter_shapes(variant)), layout, variant)


def test_a_layout_without_a_name_for_a_tensor_says_for_which(odd_variant, numbered):
    variant = odd_variant("v2")
    ours = numbered(parameter_shapes(variant) | decoder_shapes(variant, 12, width=4))
    with pytest.raises(ArgumentError, match=r"no name for decoder_proj\.kernel"):
        to_foreign(ours, "timm", variant)


def test_a_layout_that_is_read_only_is_not_written(odd_variant, numbered):
    variant = odd_variant("v1")
    with pytest.raises(ArgumentError, match="'tf_hub'"):
        to_foreign(numbered(parameter_shapes(variant)), "tf_hub", variant)


def test_an_unknown_layout_is_an_error_that_suggests():
    with pytest.raises(UnknownNameError, match="Did you mean 'huggingface'"):
        to_canonical({}, "hugginface")


ISOTROPIC = Architecture(
    "convnext_custom", "custom", (3,), (5,), layer_scale=False, patch=16, stem_norm=False
)


@pytest.mark.parametrize("variant", [ISOTROPIC, replace(ISOTROPIC, layer_scale=True)])
@pytest.mark.parametrize("layout", ["isotropic", "convnext"])
def test_networks_of_one_stage_survive_a_round_trip(layout, variant, numbered):
    ours = numbered(parameter_shapes(variant, 13, 4))
    theirs = there_and_back(ours, layout, variant)
    found = recognise({name: array.shape for name, array in theirs.items()})
    assert found.architecture == variant


@pytest.mark.parametrize("layout", [layout.name for layout in WRITABLE])
def test_one_stage_is_written_where_there_can_be_one_alone(layout, numbered):
    if layout in ("isotropic", "convnext"):
        return
    with pytest.raises(ArgumentError, match="cannot be written in the layout"):
        to_foreign(numbered(parameter_shapes(ISOTROPIC)), layout, ISOTROPIC)


def test_four_stages_are_not_written_as_one(odd_variant, numbered):
    variant = odd_variant("v1")
    with pytest.raises(ArgumentError, match="Its library has no network like it"):
        to_foreign(numbered(parameter_shapes(variant)), "isotropic", variant)


@pytest.mark.parametrize("norm", ["rms", "simple"])
def test_a_norm_without_beta_is_not_written_for_who_has_but_the_other(norm, odd_variant, numbered):
    variant = replace(odd_variant("v1"), norm=norm)
    for layout in ("huggingface", "facebook", "torchvision"):
        with pytest.raises(ArgumentError, match="no network like it"):
            to_foreign(numbered(parameter_shapes(variant)), layout, variant)


def test_a_renamed_variant_keeps_its_own_name_in_keras_names(odd_variant, numbered):
    variant = replace(odd_variant("v1"), name="mine")
    names = to_foreign(numbered(parameter_shapes(variant)), "keras_applications", variant)
    assert "mine_stage_2_block_1_depthwise_conv/kernel" in names


@pytest.mark.parametrize("family", ["v1", "v2"])
@pytest.mark.parametrize("auxiliary", [0, 6])
@pytest.mark.parametrize("layout", ["huggingface", "mmpretrain", "facebook", "convnext"])
def test_a_upernet_there_and_back(layout, auxiliary, family, odd_variant, numbered, same_weights):
    variant = replace(odd_variant(family), head="none")
    head = SegmentationHead("upernet", 5, auxiliary=auxiliary)
    ours = numbered(parameter_shapes(variant, 13, segmentation=head))
    theirs = to_foreign(ours, layout, variant)
    found = recognise({name: array.shape for name, array in theirs.items()})
    assert (found.layout, found.segmentation, found.num_classes) == (layout, head, 13)
    same_weights(to_canonical(theirs), ours)


def test_the_light_head_has_only_our_own_names(odd_variant, numbered, same_weights):
    variant = replace(odd_variant("v2"), head="none")
    head = SegmentationHead("mlp", 5)
    ours = numbered(parameter_shapes(variant, 13, segmentation=head))
    assert recognise({name: array.shape for name, array in ours.items()}).segmentation == head
    same_weights(to_canonical(to_foreign(ours, "convnext", variant)), ours)
    with pytest.raises(ArgumentError, match=r"no name for segment_project_0\.kernel"):
        to_foreign(ours, "huggingface", variant)


def test_batch_norms_are_written_with_pytorchs_counters(odd_variant, numbered):
    variant = replace(odd_variant("v1"), head="none")
    ours = numbered(parameter_shapes(variant, 3, segmentation=SegmentationHead("upernet", 5)))
    theirs = to_foreign(ours, "mmpretrain", variant)
    counters = [name for name in theirs if name.endswith(".bn.num_batches_tracked")]
    assert len(counters) == sum(name.endswith("moving_variance") for name in ours) == 12
    assert {(theirs[name].shape, theirs[name].dtype.name) for name in counters} == {((), "int64")}
