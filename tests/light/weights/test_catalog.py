"""The catalogue against what was published, and every way of finding a row in it."""

import ast
import csv
import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest

from convnext.architecture import VARIANTS, stated
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.weights.catalog import (
    CHECKPOINTS,
    DEFAULT_RECIPES,
    TASKS,
    TERMS,
    HubFile,
    Url,
    default_checkpoint,
    forbids_commerce,
    get_checkpoint,
    licence_notice,
    list_models,
)
from golden.networks import FOLDER

ROWS = list(CHECKPOINTS.values())
AUTHORS = ("facebookresearch/ConvNeXt", "facebookresearch/ConvNeXt-V2")
UNTRAINED = {"convnextv2_small.untrained", "convnext_atto_rms.untrained"}


def test_every_published_checkpoint_has_a_row():
    groups = Counter((row.origin, row.labels, row.sources[0].layout) for row in ROWS)
    assert groups == {
        ("facebookresearch/ConvNeXt", "imagenet-1k", "timm"): 4 + 10,
        ("facebookresearch/ConvNeXt", "imagenet-1k", "facebook"): 3,  # no averages over training
        ("facebookresearch/ConvNeXt", "imagenet-1k", "isotropic"): 3,
        ("facebookresearch/ConvNeXt", "imagenet-1k", "huggingface"): 2,  # 384 without 22k
        ("facebookresearch/ConvNeXt", "imagenet-22k", "timm"): 5,
        ("facebookresearch/ConvNeXt", "imagenet-1k", "keras_applications"): 5,
        ("facebookresearch/ConvNeXt", None, "keras_applications"): 5,
        ("facebookresearch/ConvNeXt-V2", "imagenet-1k", "timm"): 18,
        ("facebookresearch/ConvNeXt-V2", None, "timm"): 8,
        ("huggingface/pytorch-image-models", "imagenet-1k", "timm"): 4 + 3 + 2 + 1 + 7 + 3 + 9,
        ("huggingface/pytorch-image-models", "imagenet-12k", "timm"): 3 + 2 + 5,
        ("mlfoundations/open_clip", None, "timm"): 10,
        ("mlfoundations/open_clip", None, "open_clip"): 2,
        ("facebookresearch/dinov3", None, "timm"): 4,
        ("facebookresearch/EUPE", None, "timm"): 3,
        ("pytorch/vision", "imagenet-1k", "torchvision"): 4,
        ("open-mmlab/mmpretrain", "imagenet-1k", "mmpretrain"): 6 + 1,
        ("Hao840/vanillaKD", "imagenet-1k", "facebook"): 1,
    }


def test_every_name_means_one_checkpoint():
    names = Counter(name.lower() for row in ROWS for name in row.all_names)
    assert names.most_common(1)[0][1] == 1
    assert not set(names) & set(VARIANTS)
    assert len(names) > 700
    for row in ROWS:
        assert row.name.startswith(f"{row.variant}.")
        assert all(get_checkpoint(name.upper()) is row for name in row.all_names)


def test_addresses_and_digests_are_well_formed():
    for row in ROWS:
        for source in row.sources:
            assert str(source).startswith("https://")
            assert source.filename.endswith((".safetensors", ".bin", ".pth", ".pt", ".h5"))
            if isinstance(source, Url) and source.sha256:
                assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", source.sha256)
                # Those who shorten a digest put it at the end of the file's name.
                assert len(source.sha256) == 64 or source.sha256 in source.filename


def test_licences_follow_the_authors():
    licences = {(row.origin, row.licence, row.card_licence) for row in ROWS}
    assert licences == {
        ("facebookresearch/ConvNeXt", "MIT", "Apache-2.0"),
        ("facebookresearch/ConvNeXt", "MIT", None),  # Keras's copies, and what has no card
        ("facebookresearch/ConvNeXt-V2", "CC-BY-NC-4.0", "Apache-2.0"),
        ("facebookresearch/ConvNeXt-V2", "CC-BY-NC-4.0", None),
        ("huggingface/pytorch-image-models", "Apache-2.0", None),
        ("mlfoundations/open_clip", "MIT", "Apache-2.0"),
        ("mlfoundations/open_clip", "MIT", None),
        ("facebookresearch/dinov3", "DINOv3 License", None),
        ("facebookresearch/EUPE", "FAIR Noncommercial Research License", None),
        ("pytorch/vision", "BSD-3-Clause", None),
        ("open-mmlab/mmpretrain", "Apache-2.0", None),
        ("Hao840/vanillaKD", "none stated", None),
    }
    # The authors' cards disagree with their repositories, wherever there is one.
    for row in ROWS:
        theirs = any(
            str(source).startswith("https://huggingface.co/facebook/convnext")
            for source in row.sources
        )
        assert not theirs or row.card_licence == "Apache-2.0"


def test_every_licence_has_its_terms():
    assert {row.licence for row in ROWS} == set(TERMS)
    for licence, terms in TERMS.items():
        assert terms.commercial == ("commercial" not in terms.demands and licence != "none stated")
        assert "\n" not in terms.demands
        assert forbids_commerce(licence) == (not terms.commercial)
        assert forbids_commerce(terms.hub_id) == (not terms.commercial and licence != "none stated")
    assert forbids_commerce("CC-BY-NC-SA-4.0")
    assert not forbids_commerce(None)


def test_licence_notice_is_one_line_with_the_terms():
    assert licence_notice(get_checkpoint("convnextv2_tiny.fcmae")) == (
        "Weights convnextv2_tiny.fcmae from facebookresearch/ConvNeXt-V2, licence CC-BY-NC-4.0 "
        "(credit the authors; no commercial use)."
    )
    assert not any("\n" in licence_notice(row) for row in ROWS)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("atto", 3_386_760),
        ("femto", 4_847_472),
        ("pico", 8_552_256),
        ("nano", 14_981_520),
        ("tiny", 27_864_960),
        ("base", 87_690_752),
        ("large", 196_416_768),
        ("huge", 657_467_008),
    ],
)
def test_masked_pretraining_holds_the_encoder_only(size, parameters):
    row = get_checkpoint(f"convnextv2_{size}.fcmae")
    assert (row.num_classes, row.head_norm, row.parameters) == (0, False, parameters)


def test_counts_follow_from_the_label_set():
    row = get_checkpoint("convnext_tiny.fb_in22k")
    assert (row.num_classes, row.parameters) == (21841, 44_615_857)
    assert get_checkpoint("convnext_tiny.in12k").num_classes == 11821
    assert get_checkpoint("convnext_tiny.fb_in22k_ft_in1k_384").macs == pytest.approx(
        13.1e9, rel=5e-3
    )


# As the two READMEs print them, in their order.
AUTHORS_TOP1 = {
    "convnext_{}.fb_in1k": "tiny 82.1 small 83.1 base 83.8 large 84.3",
    "convnext_{}.fb_in1k_384": "base 85.1 large 85.5",
    "convnext_{}.fb_in22k_ft_in1k": "tiny 82.9 small 84.6 base 85.8 large 86.6 xlarge 87.0",
    "convnext_{}.fb_in22k_ft_in1k_384": "tiny 84.1 small 85.8 base 86.8 large 87.5 xlarge 87.8",
    "convnextv2_{}.fcmae_ft_in1k": (
        "atto 76.7 femto 78.5 pico 80.3 nano 81.9 tiny 83.0 base 84.9 large 85.8 huge 86.3"
    ),
    "convnextv2_{}.fcmae_ft_in22k_in1k": "nano 82.1 tiny 83.9 base 86.8 large 87.3",
    "convnextv2_{}.fcmae_ft_in22k_in1k_384": "nano 83.4 tiny 85.1 base 87.7 large 88.2 huge 88.7",
    "convnextv2_{}.fcmae_ft_in22k_in1k_512": "huge 88.9",
}


def test_top1_is_what_the_authors_published():
    published = {}
    for name, scores in AUTHORS_TOP1.items():
        words = scores.split()
        for size, top1 in zip(words[::2], words[1::2], strict=True):
            published[name.format(size)] = float(top1)
    ours = {
        row.name: row.top1
        for row in ROWS
        if row.top1
        and row.origin in AUTHORS
        and not re.search(r"\.keras|noema|isotropic", row.name)
    }
    assert ours == published


def test_only_imagenet_1k_classifiers_have_an_accuracy():
    others = [row for row in ROWS if row.labels != "imagenet-1k"]
    assert not any(row.top1 or row.timm_top1 or row.timm_top5 for row in others)
    assert {row.task for row in ROWS if row.zero_shot_top1} == {"clip"}


def test_a_row_without_a_classifier_says_what_it_is_good_for():
    tasks = Counter(row.task for row in ROWS)
    assert tasks == {"classification": 101, "embedding": 4 + 3 + 5, "clip": 12, "encoder": 8}
    assert set(tasks) == set(TASKS)
    for row in ROWS:
        assert (row.task == "classification") == bool(row.num_classes)
        assert (row.task == "clip") == bool(row.projection)
        assert row.head_width == row.num_classes + row.projection


def test_clip_towers_are_as_wide_as_they_were_published():
    found = Counter((row.variant, row.projection, row.resolution) for row in ROWS if row.projection)
    assert found == {
        ("convnext_base", 512, 224): 1,
        ("convnext_base", 640, 256): 3,
        ("convnext_base", 640, 320): 2,
        ("convnext_large_mlp", 768, 256): 1,
        ("convnext_large_mlp", 768, 320): 2,
        ("convnext_xxlarge", 1024, 256): 3,
    }


@pytest.mark.parametrize(
    ("size", "parameters", "gmacs"),
    [("small", 22_308_712, 4.3), ("base", 87_083_752, 16.9), ("large", 305_942_504, 59.7)],
)
def test_isotropic_models_count_as_the_authors_do(size, parameters, gmacs):
    row = get_checkpoint(f"convnext_iso_{size}_1k_224_ema.pth")
    assert (row.variant, row.parameters) == (f"convnext_isotropic_{size}", parameters)
    assert row.macs / 1e9 == pytest.approx(gmacs, abs=0.05)


def test_timm_accuracy_is_what_timm_published():
    with (FOLDER / "timm_accuracy.csv").open(newline="") as file:
        measured = {(line["model"], int(line["img_size"])): line for line in csv.DictReader(file)}
    compared = 0
    for row in ROWS:
        line = measured.get((row.name, row.resolution))
        if line is None:
            assert row.timm_top1 is None
            continue
        assert (row.timm_top1, row.timm_top5) == (float(line["top1"]), float(line["top5"]))
        assert row.preprocess.crop_fraction == float(line["crop_pct"])
        assert row.preprocess.interpolation == line["interpolation"]
        assert round(row.parameters / 1e6, 2) == float(line["param_count"])
        compared += 1
    assert compared == len(measured) - sum(size == 288 for _, size in measured) == 61


def timms_rows():
    """timm's own catalogue: name and configuration."""
    configurations = pytest.importorskip("timm.models.convnext").default_cfgs
    return {
        f"{architecture}.{tag}": theirs
        for architecture, default in configurations.items()
        for tag, theirs in default.cfgs.items()
    }


@pytest.mark.upstream
def test_every_row_of_timm_is_ours_with_its_inputs_and_sources():
    timms = timms_rows()
    assert len(timms) == 103
    assert {row.name for row in ROWS if row.sources[0].layout == "timm"} == timms.keys() - UNTRAINED
    for name in UNTRAINED:
        assert not timms[name].has_weights
        with pytest.raises(ArgumentError, match="No weights were ever published"):
            get_checkpoint(name)
    for name, theirs in timms.items():
        if name in UNTRAINED:
            continue
        row = CHECKPOINTS[name]
        recipe = row.preprocess
        assert theirs.input_size == (3, recipe.size, recipe.size)
        assert theirs.crop_pct == recipe.crop_fraction
        assert (theirs.crop_mode or "center") == {"crop": "center"}.get(recipe.mode, recipe.mode)
        assert theirs.interpolation == recipe.interpolation
        assert (theirs.mean, theirs.std) == (recipe.mean, recipe.std)
        assert theirs.num_classes == row.head_width
        hub = row.sources[0]
        assert hub == HubFile("timm", theirs.hf_hub_id + row.name, "model.safetensors")
        urls = [source.url for source in row.sources if isinstance(source, Url)]
        assert not theirs.url or urls[0] == theirs.url
        licences = {row.licence, row.card_licence} - {None}
        assert theirs.license in {TERMS[licence].hub_id for licence in licences}


@pytest.mark.upstream
def test_weights_of_torchvision_are_torchvisions():
    pytest.importorskip("torchvision.models")
    from torchvision import models

    for row in ROWS:
        if row.origin == "pytorch/vision":
            size = VARIANTS[row.variant].size.capitalize()
            theirs = getattr(models, f"ConvNeXt_{size}_Weights").IMAGENET1K_V1
            assert get_checkpoint(str(theirs)) is row
            [source] = row.sources
            assert (source.url, row.num_classes) == (theirs.url, len(theirs.meta["categories"]))
            assert row.top1 == theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"]
            transforms, recipe = theirs.transforms(), row.preprocess
            assert transforms.crop_size == [recipe.size]
            assert transforms.resize_size == [recipe.resized_side]
            assert transforms.interpolation.value == recipe.interpolation
            assert (transforms.mean, transforms.std) == (list(recipe.mean), list(recipe.std))


@pytest.mark.upstream
def test_towers_are_open_clips():
    open_clip = pytest.importorskip("open_clip")
    theirs = {
        (model, pretrained): open_clip.get_pretrained_cfg(model, pretrained)
        for model, pretrained in open_clip.list_pretrained()
        if model.startswith("convnext")
    }
    assert len(theirs) == 12
    for (model, pretrained), weights in theirs.items():
        row = get_checkpoint(f"{model}/{pretrained}")
        config, recipe = open_clip.get_model_config(model), row.preprocess
        vision = config["vision_cfg"]
        assert get_checkpoint(f"hf-hub:{weights['hf_hub']}") is row
        assert (row.projection, recipe.size) == (config["embed_dim"], vision["image_size"])
        known = stated(row.variant)
        assert known.same_encoder(stated(vision["timm_model_name"]))
        hidden = 2 * row.projection if vision["timm_proj"] == "mlp" else 0
        assert known.head_hidden == hidden
        assert (weights["mean"], weights["std"]) == (recipe.mean, recipe.std)
        assert (weights["interpolation"], weights["resize_mode"]) == ("bicubic", "shortest")
        assert (recipe.interpolation, recipe.mode, recipe.crop_fraction) == ("bicubic", "crop", 1)


@pytest.mark.upstream
def test_timms_deprecated_names_are_understood():
    pytest.importorskip("timm.models.convnext")
    renamed = pytest.importorskip("timm.models").get_deprecated_models("convnext")
    assert len(renamed) == 15
    assert all(get_checkpoint(old).name == new for old, new in renamed.items())


@pytest.mark.upstream
def test_keras_digests_are_keras_own():
    keras = importlib.util.find_spec("keras")
    if keras is None:
        pytest.skip("keras is not installed")
    # Read, not imported: importing Keras takes seconds and a backend.
    module = ast.parse((Path(keras.origin).parent / "src/applications/convnext.py").read_text())
    constants = {
        ast.unparse(node.targets[0]): node.value
        for node in module.body
        if isinstance(node, ast.Assign)
    }
    digests = ast.literal_eval(constants["WEIGHTS_HASHES"])
    base = ast.literal_eval(constants["BASE_WEIGHTS_PATH"])
    expected = {
        f"keras/{name}{suffix}": Url("keras_applications", f"{base}{name}{suffix}.h5", digest)
        for name, pair in digests.items()
        for suffix, digest in zip(("", "_notop"), pair, strict=True)
    }
    assert len(expected) == 10
    for alias, url in expected.items():
        assert get_checkpoint(alias).sources == (url,)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("facebook/convnext-tiny-224", "convnext_tiny.fb_in1k"),
        ("facebook/convnext-base-384", "convnext_base.fb_in1k_384"),
        ("facebook/convnext-large-224-22k", "convnext_large.fb_in22k"),
        ("facebook/convnext-xlarge-384-22k-1k", "convnext_xlarge.fb_in22k_ft_in1k_384"),
        ("facebook/convnextv2-tiny-1k-224", "convnextv2_tiny.fcmae_ft_in1k"),
        ("facebook/convnextv2-huge-22k-512", "convnextv2_huge.fcmae_ft_in22k_in1k_512"),
        ("timm/convnext_nano.in12k", "convnext_nano.in12k"),
        ("convnext_xlarge_22k_1k_224_ema.pth", "convnext_xlarge.fb_in22k_ft_in1k"),
        ("convnextv2_nano_22k_384_ema.pt", "convnextv2_nano.fcmae_ft_in22k_in1k_384"),
        ("convnextv2_atto_1k_224_fcmae.pt", "convnextv2_atto.fcmae"),
        ("convnext_tiny.h5", "convnext_tiny.keras"),
        ("keras/convnext_base_notop", "convnext_base.keras_notop"),
        ("convnext_tiny_1k_224", "convnext_tiny.fb_in1k"),
        ("convnext_base_21k_1k_384_fe", "convnext_base.fb_in22k_ft_in1k_384"),
        (
            "https://tfhub.dev/sayakpaul/convnext_large_21k_224_fe/1",
            "convnext_large.fb_in22k",
        ),
        (" ConvNeXt_Small_384_in22ft1k ", "convnext_small.fb_in22k_ft_in1k_384"),
        ("hf_hub:timm/convnext_nano.in12k", "convnext_nano.in12k"),
        ("https://huggingface.co/facebook/convnext-tiny-224/", "convnext_tiny.fb_in1k"),
        ("convnext_iso_large_1k_224_ema.pth", "convnext_isotropic_large.fb_in1k"),
        ("convnext_small_1k_224.pth", "convnext_small.fb_in1k_noema"),
        ("facebook/dinov3-convnext-tiny-pretrain-lvd1689m", "convnext_tiny.dinov3_lvd1689m"),
        ("dinov3_convnext_base_pretrain_lvd1689m-801f2ba9.pth", "convnext_base.dinov3_lvd1689m"),
        ("dinov3_convnext_large", "convnext_large.dinov3_lvd1689m"),
        ("facebook/EUPE-ConvNeXt-T", "convnext_tiny.eupe_lvd1689m"),
        ("EUPE-ConvNeXt-B.pt", "convnext_base.eupe_lvd1689m"),
        ("eupe_convnext_small", "convnext_small.eupe_lvd1689m"),
        ("laion/CLIP-convnext_base_w-laion2B-s13B-b82K", "convnext_base.clip_laion2b"),
        ("convnext_large_d.laion2b_s26b_b102k_augreg", "convnext_large_mlp.clip_laion2b_augreg"),
        ("convnext_tiny-983f1562.pth", "convnext_tiny.tv_in1k"),
        ("convnext-tiny_32xb128_in1k", "convnext_tiny.mm_in1k"),
        ("convnext-base_3rdparty_in21k", "convnext_base.fb_in22k"),
        ("convnext-base_3rdparty_in1k", "convnext_base.fb_in1k"),
        ("convnext-base_3rdparty-noema_in1k", "convnext_base.fb_in1k_noema"),
        (
            "convnext-v2-huge_fcmae-in21k-pre_3rdparty_in1k-512px",
            "convnextv2_huge.fcmae_ft_in22k_in1k_512",
        ),
        ("convnext-v2-atto_3rdparty-fcmae_in1k", "convnextv2_atto.fcmae"),
        ("convnextv2_tiny-85.030.pth", "convnextv2_tiny.vanillakd_in1k"),
        ("convnext_tiny", "convnext_tiny.fb_in1k"),
        ("convnextv2_huge", "convnextv2_huge.fcmae_ft_in1k"),
    ],
)
def test_a_checkpoint_answers_to_every_naming(alias, name):
    assert get_checkpoint(alias).name == name


def test_collections_are_complete():
    known = {name for row in ROWS for name in row.all_names}
    hugging_face = [name for name in known if name.startswith("facebook/convnext")]
    tf_hub = [name for name in known if name.startswith("https://tfhub.dev/")]
    assert Counter(name.split("-")[0] for name in hugging_face) == {
        "facebook/convnext": 15,
        "facebook/convnextv2": 18,
    }
    assert len(tf_hub) == 30
    assert sum(name.endswith("_fe/1") for name in tf_hub) == 15


def test_default_is_1000_classes_at_the_smallest_size_for_every_published_variant():
    published = {row.variant for row in ROWS}
    assert set(DEFAULT_RECIPES) == published
    assert set(VARIANTS) - published == {
        "convnextv2_small",
        "convnext_atto_rms",
        "test_v1",
        "test_v2",
    }
    for variant in DEFAULT_RECIPES:
        row = default_checkpoint(variant)
        classifiers = [r for r in ROWS if (r.variant, r.num_classes) == (variant, 1000)]
        assert row in classifiers
        assert row.resolution == min(r.resolution for r in classifiers)
    others = {row.resolution for row in map(default_checkpoint, DEFAULT_RECIPES)} - {224}
    assert others == {160, 256}


def test_default_is_what_keras_applications_serves():
    for size in ("tiny", "small", "base", "large", "xlarge"):
        default = default_checkpoint(f"convnext_{size}")
        assert default.top1 == get_checkpoint(f"keras/convnext_{size}").top1
        assert ("22k" in default.name) == (size in ("base", "large", "xlarge"))


def test_pixels_are_rescaled_alike_and_normalised_in_three_ways():
    assert {row.preprocess.rescale for row in ROWS} == {1 / 255}
    assert len({(row.preprocess.mean, row.preprocess.std) for row in ROWS}) == 3


def test_models_are_listed_v1_then_v2_small_to_large():
    names = list_models()
    assert names == [row.name for row in ROWS]
    variants = list(dict.fromkeys(get_checkpoint(name).variant for name in names))
    assert variants == [name for name in VARIANTS if name in DEFAULT_RECIPES]


def test_models_are_filtered_by_pattern_family_and_size():
    assert list_models("*.FCMAE", size="tiny") == ["convnextv2_tiny.fcmae"]
    assert list_models("convnext_xlarge.*") == list_models(size="xlarge")
    both = list_models(family="v1") + list_models(family="v2")
    assert sorted(both) == sorted(list_models())
    assert list_models(family="v2", size="small") == []
    assert list_models("resnet*") == []
    assert list_models(size="test_convnext2") == ["test_convnext2.r160_in1k"]


def test_models_are_filtered_by_task_and_licence():
    assert list_models(task="embedding", licence="dinov3 license", size="large") == [
        "convnext_large.dinov3_lvd1689m"
    ]
    assert sorted(name for task in TASKS for name in list_models(task=task)) == sorted(
        list_models()
    )
    free, bound = list_models(commercial=True), list_models(commercial=False)
    assert sorted(free + bound) == sorted(list_models())
    assert {get_checkpoint(name).licence for name in bound} == {
        "CC-BY-NC-4.0",
        "FAIR Noncommercial Research License",
        "none stated",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "v3"}, "Unknown family: 'v3'.* Allowed: v1, v2"),
        ({"size": "tinny"}, "Unknown size: 'tinny'. Did you mean 'tiny'"),
        ({"family": "v1", "size": "huge"}, "Unknown size: 'huge'.*xlarge"),
        ({"task": "clipp"}, "Unknown task: 'clipp'. Did you mean 'clip'"),
        ({"licence": "apache"}, "Unknown licence: 'apache'.*Apache-2.0"),
    ],
)
def test_a_filter_that_can_match_nothing_is_refused(arguments, message):
    with pytest.raises(UnknownNameError, match=message):
        list_models(**arguments)


@pytest.mark.parametrize("name", ["convnextv2_small", "convnextv2_small.fcmae_ft_in1k"])
def test_v2_small_was_never_published(name):
    with pytest.raises(ArgumentError, match="No weights were ever published") as caught:
        get_checkpoint(name)
    assert "Published near it: convnext_small, convnextv2_tiny, " in str(caught.value)
    assert "weights=None" in str(caught.value)
    with pytest.raises(ArgumentError, match="No weights were ever published"):
        default_checkpoint("convnextv2_small")


def test_a_misspelt_recipe_is_answered_with_the_architectures_own():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'convnext_tiny\.fb_in22k'") as caught:
        get_checkpoint("convnext_tiny.fb_in2k")
    assert str(caught.value).count("convnext_tiny.") == len(list_models("convnext_tiny.*")) + 2


def test_a_misspelt_alias_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'facebook/convnext-tiny-224'"):
        get_checkpoint("facebook/convnext-tny-224")


def test_half_a_name_is_answered_with_what_begins_like_it():
    with pytest.raises(UnknownNameError) as caught:
        get_checkpoint("convnext_xxlarge/laion2b")
    assert caught.value.suggestion == "convnext_xxlarge/laion2b_s34b_b82k_augreg"
    assert str(caught.value).endswith("convnext_xxlarge/laion2b_s34b_b82k_augreg_soup.")


def test_a_foreign_name_is_answered_with_the_architectures():
    with pytest.raises(UnknownNameError) as caught:
        get_checkpoint("swin_transformer_v2")
    assert caught.value.suggestion is None
    assert str(caught.value).endswith(
        "convnextv2_huge, test_convnext, test_convnext2, test_convnext3."
    )
    with pytest.raises(UnknownNameError, match="Unknown architecture: 'tiny'"):
        default_checkpoint("tiny")


def test_a_name_is_a_string():
    with pytest.raises(ArgumentTypeError, match="not int: 1"):
        get_checkpoint(1)
