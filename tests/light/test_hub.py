"""The collection: every module, by every name, with its checkpoint."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convnext import hub
from convnext.architecture import VARIANTS
from convnext.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from convnext.evaluate.table import COLLECTION
from convnext.hub.pages import collection_page, module_page
from convnext.weights.catalog import CHECKPOINTS, get_checkpoint

# As the collection's page lists them.
PUBLISHED = [
    *(f"convnext_{size}_1k_224" for size in ("tiny", "small", "base", "large")),
    *(f"convnext_{size}_1k_384" for size in ("base", "large")),
    *(f"convnext_{size}_21k_1k_{n}" for size in ("base", "large", "xlarge") for n in (224, 384)),
    *(f"convnext_{size}_21k_224" for size in ("base", "large", "xlarge")),
]


def test_the_collection_has_fifteen_classifiers_and_fifteen_feature_extractors():
    there = [module for module in hub.MODULES.values() if module.in_collection]
    expected = {*PUBLISHED, *(f"{name}_fe" for name in PUBLISHED)}
    assert {module.name for module in there} == expected
    assert len(there) == 30
    assert sum(module.feature_extractor for module in there) == 15


def test_twelve_have_a_published_accuracy_and_keep_it():
    found = {m.name: m.keras_top1 for m in hub.MODULES.values() if m.keras_top1 is not None}
    assert found == {name: top1 for name, top1 in COLLECTION.items() if top1 is not None}
    assert len(found) == 12
    assert found["convnext_tiny_1k_224"] == 81.312
    assert hub.MODULES["convnext_tiny_1k_224"].original_top1 == 82.1


def test_every_module_stands_for_a_checkpoint_with_what_its_name_says():
    for module in hub.MODULES.values():
        architecture, _, rest = module.name.removesuffix("_fe").partition("_")
        size, *trained, side = rest.split("_")
        variant = VARIANTS[module.architecture]
        assert variant.name == f"{architecture}_{size}"
        assert int(side) == module.resolution
        classes = 21841 if trained == ["21k"] else 1000
        assert module.row.num_classes == classes
        assert module.num_classes == (0 if module.feature_extractor else classes)
        pretrained = "22k" in module.checkpoint
        assert pretrained == ("21k" in trained)
        assert module.row.head_norm


def test_names_of_the_collection_agree_with_the_catalogue():
    for name in PUBLISHED:
        assert hub.MODULES[name].checkpoint == get_checkpoint(name).name
        assert hub.MODULES[f"{name}_fe"].checkpoint == get_checkpoint(f"{name}_fe").name


def test_new_modules_are_what_the_collection_never_had():
    new = [m for m in hub.MODULES.values() if not m.in_collection and not m.feature_extractor]
    assert {"convnext_tiny_21k_224", "convnext_small_21k_1k_384"} <= {m.name for m in new}
    sizes = {VARIANTS[m.architecture].size for m in new if m.architecture.startswith("convnextv2")}
    assert sizes == {"atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"}
    classifying_v2 = [
        row.name
        for row in CHECKPOINTS.values()
        if row.origin == "facebookresearch/ConvNeXt-V2" and row.num_classes
    ]
    assert {m.checkpoint for m in new} >= set(classifying_v2)
    assert all(m.handle is None for m in new)


@pytest.mark.parametrize(
    "spelling",
    [
        "{name}",
        " {name} ",
        "sayakpaul/{name}/1",
        "https://tfhub.dev/sayakpaul/{name}/1",
        "https://tfhub.dev/sayakpaul/{name}/1/",
        "http://www.tfhub.dev/sayakpaul/{name}/1",
    ],
)
@pytest.mark.parametrize("name", ["convnext_tiny_1k_224", "convnext_xlarge_21k_1k_384_fe"])
def test_a_module_is_found_by_name_and_by_handle(name, spelling):
    module = hub.get_module(spelling.format(name=name))
    assert module.name == name
    assert module.handle == f"https://tfhub.dev/sayakpaul/{name}/1"
    assert (
        hub.get_module(spelling.format(name=name.upper()).replace("//TFHUB", "//tfhub")) == module
    )


def test_an_unknown_name_gets_suggestions():
    with pytest.raises(UnknownNameError, match="Did you mean 'convnext_tiny_1k_224'") as caught:
        hub.get_module("convnext_tiny_1k_244")
    assert "convnext_tiny_1k_384" not in hub.MODULES
    assert len(str(caught.value)) < 500
    with pytest.raises(UnknownNameError, match="convnext_base_1k_384"):
        hub.get_module("https://tfhub.dev/sayakpaul/convnext_base_1k_385/1")
    with pytest.raises(UnknownNameError, match="Allowed: convnext_tiny_1k_224, "):
        hub.get_module("resnet50")


def test_other_publishers_and_versions_are_refused():
    with pytest.raises(ArgumentError, match="a handle of 'google'"):
        hub.get_module("https://tfhub.dev/google/convnext_tiny_1k_224/1")
    with pytest.raises(ArgumentError, match="version 1 only"):
        hub.get_module("sayakpaul/convnext_tiny_1k_224/2")
    with pytest.raises(ArgumentTypeError, match="not int"):
        hub.get_module(3)


def test_names_are_listed_by_pattern_and_kind():
    assert hub.list_modules("*_512") == ["convnextv2_huge_21k_1k_512"]
    extractors = hub.list_modules(feature_extractors=True)
    assert extractors == [f"{name}_fe" for name in hub.list_modules(feature_extractors=False)]
    assert len(extractors) * 2 == len(hub.list_modules()) == len(hub.MODULES)


def test_listing_imports_no_framework():
    program = (
        "import sys, convnext; convnext.hub.list_modules(); print(*sys.modules); "
        "from convnext import hub; assert hub is convnext.hub"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "convnext.hub" in loaded
    assert not {"keras", "tensorflow", "jax", "torch"} & set(loaded)


def test_without_keras_loading_says_what_to_install():
    program = (
        "import sys; sys.modules['keras'] = None; import convnext\n"
        "try: convnext.hub.load('convnext_tiny_1k_224')\n"
        "except convnext.MissingDependencyError as error: print(error)"
    )
    message = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert "pip install 'convnext[tensorflow]'" in message


@pytest.mark.parametrize("name", hub.MODULES)
def test_every_page_says_what_tf_hub_wants_to_know(name):
    module = hub.MODULES[name]
    page = module_page(module, "me", f"https://example.org/{name}.tar.gz")
    lines = page.splitlines()
    assert lines[0] == f"# Module me/{name}/1"
    assert lines[1] == "" != lines[2]  # one sentence
    comments = dict(
        line.removeprefix("<!-- ").removesuffix(" -->").split(": ", 1)
        for line in lines
        if line.startswith("<!-- ")
    )
    kind = "image-feature-vector" if module.feature_extractor else "image-classification"
    assert comments["asset-path"] == f"https://example.org/{name}.tar.gz"
    assert comments["task"] == kind
    assert comments["format"] == "saved_model_2"
    assert comments["fine-tunable"] == "true"
    assert comments["license"] == ("cc-by-nc-4.0" if "v2" in name else "mit")
    assert ("no commercial use" in page) == ("v2" in name)
    assert "## Overview" in lines
    assert "## Usage" in lines
    assert f"(batch, {module.resolution}, {module.resolution}, 3)" in page
    usage = page.split("```python\n")[1].split("```")[0]
    compile(usage, name, "exec")
    assert max(map(len, lines)) < 150


def test_a_feature_extractors_page_speaks_of_vectors_and_a_classifiers_of_logits():
    vector = module_page(hub.MODULES["convnext_tiny_1k_224_fe"], "me", "a")
    assert "vector of 768 numbers" in vector
    assert "trainable=True" in vector
    assert "parameters: 27,820,128" in vector
    classifier = module_page(hub.MODULES["convnext_base_21k_224"], "me", "a")
    assert "21,841 logits" in classifier
    assert "short side" in " ".join(classifier.split())
    assert "trained on ImageNet-22k." in classifier
    tuned = module_page(hub.MODULES["convnext_base_21k_1k_384"], "me", "a")
    assert "ImageNet-22k and fine-tuned on ImageNet-1k" in tuned
    assert "whatever their proportions" in tuned


def test_the_collections_page_has_its_table_and_every_module():
    modules = [m for m in hub.MODULES.values() if m.in_collection]
    page = collection_page(modules, "me")
    assert page.startswith("# Collection me/convnext/1\n")
    row = next(line for line in page.splitlines() if line.startswith("| convnext_tiny_1k_224 "))
    assert [cell.strip() for cell in row.split("|")[1:4]] == [
        "convnext_tiny_1k_224",
        "82.1",
        "81.312",
    ]
    for module in modules:
        assert f"- [{module.name}](https://tfhub.dev/me/{module.name}/1)" in page
    without = next(
        line for line in page.splitlines() if line.startswith("| convnext_base_21k_224 ")
    )
    assert without.split("|")[2].strip() == "-"
