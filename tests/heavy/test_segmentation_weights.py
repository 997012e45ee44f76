"""transformers' UPerNets, read by us; ours, read by transformers; and our Keras model of them.

All parameters are random, the statistics of batch norms too.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.backend import backend

from convnext.architecture import ARCHITECTURES, VARIANTS
from convnext.engines import open_engine
from convnext.images.class_maps import class_map
from convnext.images.transform import pixels
from convnext.nn.segmenter import build_segmenter
from convnext.segmentation import SegmentationHead
from convnext.session import Session
from convnext.weights.canonical import canonical_variables, parameter_shapes
from convnext.weights.load import load_weights
from convnext.weights.save import convert, save_weights

SIDE = 96
CLASSES = 7
TOLERANCE = 1e-4
HEADS = {
    "upernet": SegmentationHead("upernet", 8, auxiliary=4),
    "mlp": SegmentationHead("mlp", 8),
}
# The graph engines know no Keras, so that one backend's run shows all there is of them.
ENGINES = ("keras", "openvino", "onnxruntime") if backend() == "torch" else ("keras",)
CASES = [("convnext", (1, 2, 3, 6)), ("convnextv2", (1, 2, 3, 6)), ("convnextv2", (1, 2, 4))]


def upernet(kind, bins):
    """A random UPerNet of transformers."""
    import torch
    from transformers import AutoConfig, UperNetConfig, UperNetForSemanticSegmentation

    encoder = AutoConfig.for_model(
        kind,
        depths=[1, 1, 2, 1],
        hidden_sizes=[8, 16, 24, 32],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = UperNetConfig(
        backbone_config=encoder,
        hidden_size=32,
        pool_scales=list(bins),
        num_labels=CLASSES,
        auxiliary_in_channels=24,
        auxiliary_channels=16,
    )
    torch.manual_seed(0)
    model = UperNetForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for name, values in model.state_dict().items():
            if name.endswith("running_var"):
                values.copy_(torch.rand_like(values) + 0.5)
            elif name.endswith("norm.weight"):
                values.copy_(1 + 0.25 * torch.randn_like(values))
            elif name.endswith("num_batches_tracked"):
                values.fill_(3)
            elif values.ndim > 1:
                values.copy_(torch.randn_like(values) / values[0].numel() ** 0.5)
            else:
                values.copy_(0.3 * torch.randn_like(values))
    return model


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{len(case[1])}")
def theirs(request, tmp_path_factory, importable_torchvision):
    """A folder that transformers saved, its model, pictures and their logits."""
    del importable_torchvision
    import torch
    from transformers import SegformerImageProcessor

    folder = tmp_path_factory.mktemp("theirs")
    model = upernet(*request.param)
    model.save_pretrained(folder)
    SegformerImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    pictures = np.random.default_rng(0).standard_normal((2, SIDE, SIDE, 3), np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())).logits
    return folder, model, pictures, logits.numpy().transpose(0, 2, 3, 1)


@pytest.mark.upstream
def test_logits_of_transformers_in_every_engine(theirs):
    folder, _, pictures, logits = theirs
    assert np.abs(logits).max() > 0.5
    for engine in ENGINES:
        opened = open_engine(
            folder, engine, precision="float32", input="float32", outputs=("segmentation",)
        )
        np.testing.assert_allclose(opened.predict(pictures), logits, atol=TOLERANCE)


@pytest.mark.upstream
def test_a_keras_model_with_the_weights_of_transformers(theirs):
    folder, model, pictures, logits = theirs
    family = (
        "test_v2" if "convnextv2" in str(model.config.backbone_config.model_type) else "test_v1"
    )
    head = SegmentationHead("upernet", 32, tuple(model.config.pool_scales), auxiliary=16)
    ours = build_segmenter(ARCHITECTURES[family], head, CLASSES, input_shape=(SIDE, SIDE, 3))
    report = load_weights(ours, folder)
    assert report.fit.fresh == report.fit.unused == ()
    answer, auxiliary = ours.predict_on_batch(pictures)
    np.testing.assert_allclose(answer, logits, atol=TOLERANCE)
    assert auxiliary.shape == (2, SIDE // 16, SIDE // 16, CLASSES)


@pytest.mark.upstream
@pytest.mark.torch_alone
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_back_to_transformers_bit_for_bit(theirs, tmp_path, suffix):
    import torch
    from safetensors.torch import load_file

    folder, model, *_ = theirs
    if suffix == ".bin" and model.config.pool_scales != [1, 2, 3, 6]:
        pytest.skip("a .bin file has no place for other grids")
    ours, back = tmp_path / "ours.safetensors", tmp_path / f"back{suffix}"
    convert(folder, ours)
    convert(ours, back, to_layout="huggingface")
    state = torch.load(back, weights_only=True) if suffix == ".bin" else load_file(back)
    assert state.keys() == model.state_dict().keys()
    for name, values in model.state_dict().items():
        counter = name.endswith("num_batches_tracked")  # of the training, without effect
        assert torch.equal(state[name], torch.zeros_like(values) if counter else values), name
    model.load_state_dict(state, strict=True)


@pytest.mark.upstream
@pytest.mark.torch_alone
def test_a_folder_of_ours_runs_in_the_pipeline_of_transformers(theirs, tmp_path):
    from PIL import Image
    from transformers import UperNetForSemanticSegmentation, pipeline

    source, *_ = theirs
    ours, folder = tmp_path / "ours.safetensors", tmp_path / "folder"
    convert(source, ours)
    convert(ours, folder, to_layout="huggingface")
    _, loaded = UperNetForSemanticSegmentation.from_pretrained(folder, output_loading_info=True)
    assert not any(loaded.values())
    # Of the model's own size: the two resize pixels by other code, which rounds otherwise.
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    picture = Image.fromarray(noise)
    answers = pipeline("image-segmentation", str(folder))(picture)
    map_of_theirs = np.full((SIDE, SIDE), 255, np.uint8)
    for answer in answers:
        map_of_theirs[np.array(answer["mask"]) > 0] = int(answer["label"].removeprefix("class "))
    with Session.open(ours, precision="float32") as session:
        batch = pixels(picture, session.preprocess)[None]
        [scores] = session.run(batch, ("scores",))["scores"]
    map_of_ours = class_map(scores, (SIDE, SIDE)).numbers
    assert len(np.unique(map_of_ours)) > 1
    assert (map_of_ours != map_of_theirs).mean() < 1e-3, "but for ties"


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(
    "name", [row.name for row in VARIANTS.values() if row.num_blocks < 20 and len(row.depths) == 4]
)
def test_parameters_of_keras_are_those_of_the_steps_in_order(name, kind):
    architecture, head = VARIANTS[name], HEADS[kind]
    with keras.device("cpu"):
        model = build_segmenter(architecture, head, 5, input_shape=(64, 64, 3))
    found = {name: tuple(v.shape) for name, v in canonical_variables(model).items()}
    expected = parameter_shapes(architecture, 5, segmentation=head)
    assert found.keys() == expected.keys()
    assert found == expected
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trained == head.parameter_count(architecture, 5)


def test_grids_of_a_saved_keras_model_stay(tmp_path):
    head = SegmentationHead("upernet", 8, bins=(6, 1, 4))
    model = build_segmenter(ARCHITECTURES["test_v1"], head, 3, input_shape=(64, 64, 3))
    save_weights(model, tmp_path / "a.safetensors")
    with Session.open(tmp_path / "a.safetensors") as session:
        assert session.network.segmentation == head
    with Session.open(model) as session:
        assert session.network.segmentation == head
        assert session.info.task == "segmentation"
