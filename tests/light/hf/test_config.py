"""Configurations: what they hold and refuse, and that transformers' files and ours go both ways."""

import json

import pytest

from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConvNeXtError,
    WeightsFileError,
    WeightsUnavailableError,
)
from convnext.hf import ConvNextConfig, ConvNextImageProcessor, ConvNextV2Config

BOTH = [ConvNextConfig, ConvNextV2Config]
UNUSUAL = {
    "num_channels": 4,
    "patch_size": 2,
    "num_stages": 3,
    "hidden_sizes": (8, 16, 24),
    "depths": (1, 2, 1),
    "hidden_act": "relu",
    "initializer_range": 0.1,
    "layer_norm_eps": 1e-5,
    "drop_path_rate": 0.2,
    "image_size": (64, 32),
    "out_features": ["stem", "stage2"],
    "id2label": {0: "cat", 1: "dog", 2: "pig"},
    "label2id": {"cat": 0, "dog": 1, "pig": 2},
    "problem_type": "multi_label_classification",
    "output_hidden_states": True,
}


@pytest.mark.parametrize("cls", BOTH)
def test_defaults_are_those_of_tiny(cls):
    config = cls()
    assert config.hidden_sizes == [96, 192, 384, 768]
    assert config.depths == [3, 3, 9, 3]
    assert (config.num_channels, config.patch_size, config.num_stages) == (3, 4, 4)
    assert (config.hidden_act, config.initializer_range) == ("gelu", 0.02)
    assert (config.layer_norm_eps, config.drop_path_rate, config.image_size) == (1e-12, 0.0, 224)
    assert config.stage_names == ["stem", "stage1", "stage2", "stage3", "stage4"]
    assert (config.out_features, config.out_indices) == (["stage4"], [4])
    assert config.num_hidden_layers == config.num_stages == 4
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert hasattr(config, "layer_scale_init_value") == (cls is ConvNextConfig)


@pytest.mark.upstream
@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("values", [{}, UNUSUAL, {"num_labels": 10}, {"num_labels": 0}])
def test_transformers_reads_ours_and_we_read_theirs(cls, values, tmp_path):
    import transformers

    theirs_class = getattr(transformers, cls.__name__)
    theirs, ours = theirs_class(**values), cls(**values)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    back = theirs_class.from_pretrained(tmp_path / "ours")
    again = cls.from_pretrained(tmp_path / "theirs")
    wanted = theirs.to_dict()
    for name, value in ours.to_dict().items():
        if name in ("_name_or_path", "transformers_version"):
            continue
        assert wanted[name] == value, name
        assert back.to_dict()[name] == value, name
        assert again.to_dict()[name] == value, name


@pytest.mark.parametrize("cls", BOTH)
def test_round_trips(cls, tmp_path):
    config = cls(**UNUSUAL, favourite="colour")
    assert config.patch_size == 2
    assert config.image_size == [64, 32]
    assert cls.from_dict(config.to_dict()) == config
    config.save_pretrained(tmp_path)
    assert cls.from_json_file(tmp_path / "config.json") == config
    loaded = cls.from_pretrained(tmp_path)
    assert loaded.name_or_path == ""
    assert loaded.favourite == "colour"
    config.to_json_file(tmp_path / "all.json", use_diff=False)
    assert cls.from_pretrained(tmp_path / "all.json").hidden_sizes == [8, 16, 24]
    assert json.loads(config.to_json_string())["id2label"]["2"] == "pig"


def test_tuples_are_lists():
    assert ConvNextConfig(depths=(1, 2, 3, 4)) == ConvNextConfig(depths=[1, 2, 3, 4])


def test_a_way_to_compute_attention_is_taken_and_not_saved():
    config = ConvNextConfig(attn_implementation="eager")
    assert config._attn_implementation == "eager"
    assert config.to_dict() == ConvNextConfig().to_dict()


def test_labels_follow_their_number():
    config = ConvNextConfig(num_labels=3)
    assert config.id2label[2] == "LABEL_2"
    config.num_labels = 5
    assert config.label2id["LABEL_4"] == 4
    assert (
        ConvNextConfig.from_dict(ConvNextConfig(num_labels=7).to_dict(), num_labels=3).num_labels
        == 3
    )
    renamed = ConvNextConfig.from_dict(config.to_dict(), id2label={0: "a", 1: "b"})
    assert renamed.label2id == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("given", "features", "indices"),
    [
        ({"out_features": ["stage2", "stage3"]}, ["stage2", "stage3"], [2, 3]),
        ({"out_indices": (1, -1)}, ["stage1", "stage4"], [1, -1]),
        ({"out_features": ["stem"], "out_indices": [0]}, ["stem"], [0]),
    ],
)
def test_stages_by_name_and_by_number(given, features, indices):
    config = ConvNextConfig(**given)
    assert (config.out_features, config.out_indices) == (features, indices)
    config.out_features = None
    assert config.out_indices == [4]
    config.out_indices = [1]
    assert config.out_features == ["stage1"]
    config.out_features = ["stage3"]
    assert config.out_indices == [3]


@pytest.mark.parametrize(
    "given",
    [
        {"out_features": ["stage9"]},
        {"out_features": ["stage2", "stage1"]},
        {"out_features": ["stage1", "stage1"]},
        {"out_features": "stage1"},
        {"out_features": []},
        {"out_indices": [5]},
        {"out_indices": [-6]},
        {"out_indices": [2, 1]},
        {"out_indices": [4, -1]},
        {"out_features": ["stage1"], "out_indices": [2]},
    ],
)
def test_wrong_stages_are_refused(given):
    with pytest.raises(ValueError, match="out_"):
        ConvNextConfig(**given)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"depths": "3393"}, ArgumentTypeError),
        ({"depths": [1.5]}, ArgumentTypeError),
        ({"hidden_sizes": [0, 1, 2, 3]}, ArgumentError),
        ({"problem_type": "ranking"}, ArgumentError),
        ({"num_labels": -1}, ArgumentError),
        ({"num_labels": 3, "id2label": {0: "a"}}, ArgumentError),
        ({"num_labels": 1, "problem_type": "single_label_classification"}, ArgumentError),
    ],
)
def test_wrong_values_are_refused(given, error):
    with pytest.raises(error):
        ConvNextConfig(**given)


@pytest.mark.parametrize(
    "content",
    [
        {"id2label": ["a", "b"]},
        {"id2label": {"a": "b"}},
        {"patch_size": None},
        {"image_size": None},
        {"use_return_dict": True},
        {"to_dict": 1},
    ],
)
def test_files_with_unusable_values_are_refused(content):
    with pytest.raises(ArgumentError, match="the file or dictionary"):
        ConvNextConfig.from_dict(content)


@pytest.mark.parametrize("cls", [ConvNextConfig, ConvNextImageProcessor])
def test_a_subfolder_is_read(cls, tmp_path):
    cls(image_mean=0.25).save_pretrained(tmp_path / "other")
    cls(image_mean=0.75).save_pretrained(tmp_path)
    assert cls.from_pretrained(tmp_path, subfolder="other").image_mean == 0.25
    with pytest.raises(WeightsUnavailableError, match="no such folder"):
        cls.from_pretrained(tmp_path, subfolder="absent")


def test_the_other_family_is_refused():
    with pytest.raises(ArgumentError, match="ConvNextV2 classes"):
        ConvNextConfig.from_dict(ConvNextV2Config().to_dict())


def test_a_function_has_no_place_in_a_file(tmp_path):
    config = ConvNextConfig(hidden_act=abs)
    with pytest.raises(ArgumentError, match="Name the activation"):
        config.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_missing_and_damaged_files_say_so(tmp_path):
    with pytest.raises(WeightsUnavailableError, match=r"no config\.json in it"):
        ConvNextConfig.from_pretrained(tmp_path)
    with pytest.raises(WeightsUnavailableError, match="no such folder"):
        ConvNextConfig.from_pretrained(tmp_path / "absent")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(WeightsFileError, match="no JSON object"):
        ConvNextConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConvNeXtError):
        ConvNextConfig.from_pretrained(tmp_path)


def test_a_repository_is_asked_for_its_file(tmp_path, monkeypatch):
    asked = []
    ConvNextConfig(num_labels=7).save_pretrained(tmp_path)

    def download(repo, name, **options):
        asked.append((repo, name, options["revision"], options["token"]))
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    config = ConvNextConfig.from_pretrained("owner/name", revision="v1", token="secret")
    assert config.num_labels == 7
    assert asked == [("owner/name", "config.json", "v1", "secret")]


def test_an_unreachable_repository_says_what_to_do(monkeypatch):
    def download(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(WeightsUnavailableError, match=r"no route.*give a folder"):
        ConvNextConfig.from_pretrained("owner/name")
