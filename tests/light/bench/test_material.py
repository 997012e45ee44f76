import json
from pathlib import Path

import numpy as np
import pytest

from convnext import VARIANTS
from convnext.bench.material import LAYOUT_FILES, Material, write_material, write_weights
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.weights.info import WeightsInfo
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights

PICTURES = np.zeros((2, 128, 128, 3), np.uint8)


def test_material_is_read_as_it_was_written(material):
    found = Material.read(material.folder)
    assert found == material
    assert found.pictures.shape == (6, 64, 64, 3)
    recipe = material.model.preprocess
    np.testing.assert_array_equal(
        found.normalised(found.pictures), normalise(found.pictures, recipe)
    )


def test_material_of_a_file_has_its_weights_and_recipe(named_weights, tmp_path):
    model = write_weights(str(named_weights), tmp_path)
    assert (model.name, model.variant, model.num_classes) == ("shades", VARIANTS["test_v2"], 10)
    assert model.preprocess == Preprocess(size=32, mean=(0.5, 0.5, 0.5))
    with read_weights(tmp_path / "convnext.safetensors") as ours, read_weights(named_weights) as w:
        assert ours.info.preprocess == model.preprocess
        for name, tensor in w.tensors.items():
            np.testing.assert_array_equal(ours.tensors[name].read(), tensor.read())


def test_material_can_have_another_size(named_weights, tmp_path):
    model = write_weights(str(named_weights), tmp_path, size=96)
    assert model.preprocess.size == 96
    with read_weights(tmp_path / "convnext.safetensors") as ours:
        assert ours.info.preprocess.size == 96


def test_chosen_strides_stay(named_weights, tmp_path):
    """Strides of a trained model, say; peers have the published ones only."""
    source = tmp_path / "mine.safetensors"
    with read_weights(named_weights) as w:
        save_weights(w.tensors, source, info=WeightsInfo(strides=(2, 2, 2, 2)))
    model = write_weights(str(source), tmp_path, size=224)
    with read_weights(tmp_path / "convnext.safetensors") as ours:
        assert ours.info.strides == (2, 2, 2, 2)
    write_material(tmp_path, model, PICTURES, ["timm"])
    with pytest.raises(ArgumentError, match="pictures of 224 pixels this model has 2-2-2-2"):
        Material.read(tmp_path).peer_weights("timm")


def test_material_of_a_file_without_metadata_has_defaults(weights_file, tmp_path):
    model = write_weights(str(weights_file), tmp_path)
    assert model.name == Path(weights_file).name
    assert model.preprocess == Preprocess()


def test_material_of_weights_without_a_classifier_is_refused(headless_weights, tmp_path):
    with pytest.raises(ArgumentError, match="it has no classes"):
        write_weights(str(headless_weights), tmp_path)


def test_peers_find_the_same_weights(tmp_path):
    model = write_weights("test_v2", tmp_path, random=True, size=128)
    material = write_material(tmp_path, model, PICTURES, ["timm", "huggingface", "timm"])
    with read_weights(material.weights) as ours:
        for layout in ("timm", "huggingface"):
            path = material.peer_weights(layout)
            assert path == tmp_path / LAYOUT_FILES[layout]
            with read_weights(path) as theirs:
                assert theirs.layout == layout
                kernel = "stage_2_block_1.pwconv1.kernel"
                np.testing.assert_array_equal(
                    theirs.tensors[kernel].read(), ours.tensors[kernel].read()
                )
    config = json.loads((tmp_path / "huggingface/config.json").read_text())
    assert config["model_type"] == "convnextv2"
    assert config["hidden_sizes"] == [8, 16, 24, 32]


def test_a_layout_without_a_place_for_them(tmp_path):
    model = write_weights("test_v2", tmp_path, random=True, size=128)
    material = write_material(tmp_path, model, PICTURES, ["keras_applications"])
    with pytest.raises(ArgumentError, match="keras_applications"):
        material.peer_weights("keras_applications")


def test_peers_run_at_published_strides_only(material):
    with pytest.raises(ArgumentError, match="pictures of 64 pixels this model has 2-2-2-2"):
        material.peer_weights("timm")
