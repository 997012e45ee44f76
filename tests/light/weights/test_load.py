"""Loading: any file or name into anything with variables, all of it or nothing."""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    WeightsFileError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from convnext.images.recipe import NORMALISATIONS, Preprocess
from convnext.weights import load
from convnext.weights.beside import Beside, read_beside
from convnext.weights.canonical import parameter_shapes
from convnext.weights.catalog import get_checkpoint
from convnext.weights.download import Fetched
from convnext.weights.files import LazyTensor, write_weights
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import to_foreign
from convnext.weights.load import assign, load_weights, read_weights

V1 = VARIANTS["test_v1"]


@dataclass
class Variable:
    path: str
    value: np.ndarray
    assigned: list = field(default_factory=list)

    @property
    def shape(self):
        return self.value.shape

    def assign(self, value):
        self.assigned.append(value)


def model_of(variables):
    """What Keras's model looks like to us: layers, their names, and their weights' paths."""
    layers = {}
    for name, variable in variables.items():
        layers.setdefault(name.partition(".")[0], []).append(variable)
    return SimpleNamespace(
        layers=[SimpleNamespace(name=name, weights=weights) for name, weights in layers.items()]
    )


def variables_of(shapes):
    return {
        name: Variable("outer/" + name.replace(".", "/"), np.zeros(shape))
        for name, shape in shapes.items()
    }


def random_weights(shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def write(path, arrays, **options):
    write_weights(path, {n: LazyTensor.from_array(a) for n, a in arrays.items()}, **options)
    return path


@pytest.fixture
def weights():
    return random_weights(parameter_shapes(V1, 5))


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("convnext", "w.safetensors"),
        ("facebook", "w.pth"),
        ("huggingface", "pytorch_model.bin"),
        ("timm", "model.safetensors"),
        ("torchvision", "w.npz"),
        ("keras_applications", "w.h5"),
        ("kecam", "w.h5"),
    ],
)
def test_a_file_in_any_layout_and_format(tmp_path, weights, layout, file):
    path = write(tmp_path / file, to_foreign(weights, layout, V1))
    variables = variables_of(parameter_shapes(V1, 5))
    report = load_weights(model_of(variables), path)
    assert (report.found.layout, report.found.variant) == (layout, V1)
    assert report.fit.filled == tuple(weights)
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable.assigned, [weights[name]], err_msg=name)


def test_a_folder_as_hubs_have_them(tmp_path, weights):
    write(tmp_path / "model.safetensors", to_foreign(weights, "huggingface", V1))
    with read_weights(tmp_path) as read:
        assert (read.layout, read.num_classes) == ("huggingface", 5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_variables_get_float32_of_their_own(tmp_path, dtype):
    weights = random_weights(parameter_shapes(V1, 5), dtype)
    path = write(tmp_path / "w.safetensors", to_foreign(weights, "timm", V1))
    variables = variables_of(parameter_shapes(V1, 5))
    load_weights(model_of(variables), path)
    for name, variable in variables.items():
        (value,) = variable.assigned
        assert (value.dtype, value.flags.writeable, value.flags.c_contiguous) == ("f4", True, True)
        np.testing.assert_array_equal(value, weights[name].astype(np.float32))


def test_a_new_head_is_not_touched_and_the_report_says_so(tmp_path, weights):
    path = write(tmp_path / "w.safetensors", weights)
    variables = variables_of(parameter_shapes(V1, 7))
    report = load_weights(model_of(variables), path, head="new")
    assert [name for name, variable in variables.items() if not variable.assigned] == [
        "head.kernel",
        "head.bias",
    ]
    assert str(report) == (
        f"test_v1, classifier of 5 classes, from {path} (layout convnext): 63 tensors loaded.\n"
        "NOT LOADED, still random and to be trained: head.kernel, head.bias.\n"
        "Left in the file: head.kernel, head.bias."
    )


def test_weights_that_do_not_fit_leave_every_variable_as_it_was(tmp_path, weights):
    path = write(tmp_path / "w.safetensors", weights)
    variables = variables_of(parameter_shapes(V1, 7))
    with pytest.raises(WeightsMismatchError, match=f"^{path}: .*\n.*head='new'"):
        load_weights(model_of(variables), path)
    assert not any(variable.assigned for variable in variables.values())


def test_a_report_tells_what_was_passed_over_and_the_licence(tmp_path, weights):
    info = WeightsInfo(name="mine", licence="CC-BY-NC-4.0")
    state = {f"optimizer.state.{index}.exp_avg": np.ones(2) for index in range(6)}
    path = write(tmp_path / "w.safetensors", weights | state, metadata=info.to_metadata())
    report = load_weights(model_of(variables_of(parameter_shapes(V1, 5))), path)
    assert report.info == info
    assert "Passed over as no part of it: optimizer.state.0.exp_avg, " in str(report)
    assert "and 2 more.\nLicence of the weights: CC-BY-NC-4.0." in str(report)


@pytest.mark.parametrize(("licence", "level"), [("CC-BY-NC-4.0", "WARNING"), ("MIT", "INFO")])
def test_terms_are_said_once_and_loudly_where_they_restrict(
    tmp_path, weights, caplog, licence, level
):
    metadata = WeightsInfo(licence=licence).to_metadata()
    path = write(tmp_path / "w.safetensors", weights, metadata=metadata)
    load._announce.cache_clear()
    with caplog.at_level("INFO", "convnext"):
        for _ in range(2):
            with read_weights(path):
                pass
    assert [(r.levelname, r.message) for r in caplog.records] == [
        (level, f"Licence of the weights: {licence}.")
    ]


def test_arrays_can_be_assigned_without_a_file(weights):
    variables = variables_of(parameter_shapes(V1, 5))
    assign(variables, weights)
    np.testing.assert_array_equal(variables["head.bias"].assigned, [weights["head.bias"]])


def test_an_array_that_its_owner_has_mapped_and_changed_stays_so(tmp_path, weights):
    (tmp_path / "zeros").write_bytes(bytes(4 * 32 * 5))
    mapped = np.memmap(tmp_path / "zeros", np.float32, "c", shape=(32, 5))
    mapped[:] = weights["head.kernel"]
    assign(variables_of(parameter_shapes(V1, 5)), weights | {"head.kernel": mapped})
    np.testing.assert_array_equal(mapped, weights["head.kernel"])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is counted by Linux")
@pytest.mark.slow
@pytest.mark.parametrize("file", ["w.safetensors", "w.pth", "w.npz"])
def test_the_pages_of_a_file_do_not_pile_up(tmp_path, file):
    """Every tensor is read once, so all that was mapped before can go."""
    variant = VARIANTS["convnext_atto"]
    weights = {n: np.ones(s, np.float32) for n, s in parameter_shapes(variant).items()}
    path = write(tmp_path / file, to_foreign(weights, "facebook", variant))
    largest = max(array.nbytes for array in weights.values())
    mapped = []

    class Forgetful(Variable):
        def assign(self, _):
            lines = Path("/proc/self/smaps").read_text().split(str(path))[1:]
            rss = (re.search(r"Rss: +(\d+) kB", line)[1] for line in lines)
            mapped.append(1024 * sum(map(int, rss)))

    shapes = parameter_shapes(variant)
    variables = {n: Forgetful(n.replace(".", "/"), np.empty(s)) for n, s in shapes.items()}
    load_weights(model_of(variables), path)
    assert 0 < max(mapped) < largest + 2**20 < path.stat().st_size / 4


def test_a_published_checkpoint_by_name(tmp_path, monkeypatch):
    checkpoint = get_checkpoint("convnextv2_atto")
    variant = VARIANTS[checkpoint.variant]
    shapes = parameter_shapes(variant)
    foreign = to_foreign({n: np.zeros(s, np.float16) for n, s in shapes.items()}, "timm", variant)
    path = write(tmp_path / "w.safetensors", foreign)
    monkeypatch.setattr(load, "fetch", lambda row: Fetched(path, row.sources[0]))
    with read_weights("convnextv2_atto") as read:
        assert read.variant == variant
        assert read.info == WeightsInfo.of_checkpoint(checkpoint)
        assert (read.info.licence, read.info.labels) == ("CC-BY-NC-4.0", "imagenet-1k")
    with pytest.raises(WeightsMismatchError, match="of convnextv2_atto, not of convnextv2_femto"):
        read_weights("convnextv2_femto").__enter__()


def test_a_file_of_a_checkpoints_name_wins(tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "w.safetensors", weights).rename("convnext_tiny.fb_in1k")
    with read_weights("convnext_tiny.fb_in1k") as read:
        assert read.variant == V1


def test_a_source_that_is_no_file_and_no_name_is_refused():
    with pytest.raises(ArgumentError, match=r"neither a file .* nor a published .* Did you mean"):
        load_weights(model_of({}), "convnext_tiny.fb_in1")


@pytest.mark.parametrize("name", ["n" * 300, "a\0b"])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(ArgumentError, match="is neither a file on this machine nor a published"):
        load_weights(model_of({}), name)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(WeightsUnavailableError, match="No such file"):
        load_weights(model_of({}), tmp_path / "w.pth")


def test_an_array_is_refused_as_source():
    with pytest.raises(ArgumentTypeError, match="not ndarray"):
        load_weights(model_of({}), np.zeros(3))


def test_a_string_is_refused_as_model(tmp_path, weights):
    path = write(tmp_path / "w.safetensors", weights)
    with pytest.raises(ArgumentTypeError, match="a Keras model of ours, not str"):
        load_weights("x", path)


def test_an_error_says_which_file_it_is_about(tmp_path):
    path = write(tmp_path / "w.safetensors", {"conv1.weight": np.zeros(3)})
    with pytest.raises(WeightsMismatchError, match=f"^{path}: These 1 tensors are in no ConvNeXt"):
        read_weights(path).__enter__()


@pytest.mark.upstream
@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("name", ["test_v1", "test_v2"])
def test_files_saved_by_keras_hold_the_weights_of_our_models(tmp_path, name, file):
    import keras

    from convnext.nn.model import build_model

    model = build_model(
        VARIANTS[name],
        input_shape=(64, 64, 3),
        num_classes=4,
        drop_path_rate=0.2,
        layer_scale_init_value=0.5,
    )
    values = random_weights({v.path: v.shape for v in model.weights})
    for variable in model.weights:
        variable.assign(values[variable.path])
    model.compile(keras.optimizers.AdamW(), "mse")
    model.optimizer.build(model.trainable_variables)
    getattr(model, "save_weights" if "weights" in file else "save")(tmp_path / file)
    variables = load.canonical_variables(model)
    with read_weights(tmp_path / file) as read:
        assert (read.layout, read.variant.name) == ("convnext", name)
        assert read.tensors.keys() == variables.keys()
        for name, tensor in read.tensors.items():
            np.testing.assert_array_equal(tensor.read(), variables[name].numpy(), err_msg=name)


def beside(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    return read_beside(folder)


def test_an_open_clip_config_beside_a_file_is_read(tmp_path):
    tower = {"timm_model_name": "convnext_large", "timm_proj": "mlp", "image_size": 320}
    config = {"model_cfg": {"embed_dim": 768, "vision_cfg": tower}}
    found = beside(tmp_path, "open_clip_config.json", config)
    assert found.architecture == VARIANTS["convnext_large_mlp"]
    mean, std = NORMALISATIONS["clip"]
    recipe = Preprocess(320, crop_fraction=1.0, mean=mean, std=std)
    assert found.info == WeightsInfo(preprocess=recipe, task="clip")
    tower |= {"timm_model_name": "convnext_xxlarge", "timm_proj": "linear"}
    own = {"size": [256, 256], "resize_mode": "squash", "interpolation": "bilinear"}
    found = beside(tmp_path, "open_clip_config.json", config | {"preprocess_cfg": own})
    assert found.architecture == VARIANTS["convnext_xxlarge"]
    assert found.info.preprocess == replace(
        recipe, size=256, mode="squash", interpolation="bilinear"
    )
    with pytest.raises(WeightsFileError, match=r"open_clip_config\.json cannot be .*longest"):
        beside(
            tmp_path,
            "open_clip_config.json",
            config | {"preprocess_cfg": {"resize_mode": "longest"}},
        )
    tower["timm_model_name"] = "vit_base_patch16_224"
    assert beside(tmp_path, "open_clip_config.json", config) == Beside()


def test_timms_config_says_what_its_published_weights_are_for(tmp_path):
    config = {"architecture": "convnext_base", "pretrained_cfg": {"tag": "clip_laion2b"}}
    assert beside(tmp_path, "config.json", config).info.task == "clip"
