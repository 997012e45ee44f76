"""Names and shapes against the peers' own models, built small or without memory."""

import pytest

from contracts import assert_survives
from convnext.architecture import VARIANTS, sizes
from convnext.weights.layouts import foreign_rows, recognise

pytestmark = pytest.mark.upstream

PUBLISHED = [row.name for row in VARIANTS.values() if row.size != "test" and row.stem_norm]
SMALL = {"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]}


def shapes_of(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def assert_spelled_alike(theirs, layout, variant):
    """Our table and their model agree on every name and shape, and we recognise theirs."""
    recognised = recognise(theirs)
    assert (recognised.layout, recognised.variant.name) == (layout, variant)
    rows = foreign_rows(recognised.shapes, layout, recognised.variant)
    ours = {row.foreign: row.move.written_shape(recognised.shapes[n]) for n, row in rows.items()}
    assert ours == theirs


def assert_tensors_survive(state, layout):
    assert_survives({name: tensor.numpy() for name, tensor in state.items()}, layout)


@pytest.mark.parametrize("name", PUBLISHED)
def test_timm(name):
    import timm
    import torch

    with torch.device("meta"):
        model = timm.create_model(name)
    assert_spelled_alike(shapes_of(model.state_dict()), "timm", name)


@pytest.mark.parametrize("name", ["test_convnext2", "convnextv2_atto"])
def test_numbers_of_timm(name):
    import timm

    assert_tensors_survive(timm.create_model(name, num_classes=3).state_dict(), "timm")


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_torchvision(size):
    import torch
    from torchvision import models

    with torch.device("meta"):
        model = getattr(models, f"convnext_{size}")()
    assert_spelled_alike(shapes_of(model.state_dict()), "torchvision", f"convnext_{size}")


def test_numbers_of_torchvision():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    widths = [8, 16, 24, 32, None]
    config = [
        CNBlockConfig(widths[i], widths[i + 1], depth) for i, depth in enumerate((1, 1, 2, 1))
    ]
    assert_tensors_survive(ConvNeXt(config, num_classes=5).state_dict(), "torchvision")


@pytest.mark.parametrize(("generation", "variant"), [("", "test_v1"), ("V2", "test_v2")])
@pytest.mark.parametrize("kind", ["ForImageClassification", "Model", "Backbone"])
def test_transformers(generation, variant, kind):
    import transformers

    config = getattr(transformers, f"ConvNext{generation}Config")
    options = {
        "ForImageClassification": {"num_labels": 5},
        "Model": {},
        "Backbone": {"out_features": ["stem", "stage2", "stage4"]},
    }[kind]
    model = getattr(transformers, f"ConvNext{generation}{kind}")(config(**SMALL, **options))
    assert_spelled_alike(shapes_of(model.state_dict()), "huggingface", variant)
    assert_tensors_survive(model.state_dict(), "huggingface")


@pytest.mark.parametrize("kind", ["Model", "Backbone"])
def test_dinov3_of_transformers(kind):
    import transformers

    config = transformers.DINOv3ConvNextConfig(
        depths=SMALL["depths"], hidden_sizes=SMALL["hidden_sizes"]
    )
    model = getattr(transformers, f"DINOv3ConvNext{kind}")(config)
    assert_spelled_alike(shapes_of(model.state_dict()), "dinov3", "test_v1")
    assert_tensors_survive(model.state_dict(), "dinov3")


def keras_applications_model(**options):
    from keras.src.applications.convnext import ConvNeXt

    return ConvNeXt(
        depths=(1, 1, 2, 1),
        projection_dims=(8, 16, 24, 32),
        weights=None,
        input_shape=(64, 64, 3),
        name="test_v1",
        **options,
    )


@pytest.mark.parametrize("classes", [5, 0])
def test_keras_applications(classes):
    options = {"classes": classes} if classes else {"include_top": False, "pooling": "avg"}
    model = keras_applications_model(**options)
    theirs = {variable.path: tuple(variable.shape) for variable in model.weights}
    recognised = recognise(theirs)
    assert (recognised.layout, recognised.variant.name) == ("keras_applications", "test_v1")
    assert (recognised.num_classes, recognised.head_norm) == (classes, True)
    # Both go in the order in which data flows.
    assert [source.name for source in recognised.sources.values()] == list(theirs)


def test_every_published_size_has_a_peer_to_be_compared_with():
    isotropic = [size for size in sizes("v1") if size.startswith("isotropic")]
    assert len(sizes("v1")) + len(sizes("v2")) - len(isotropic) == 28
    assert len(PUBLISHED) == 28 + 3  # and timm's for tests
