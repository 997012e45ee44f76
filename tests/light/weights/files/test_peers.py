"""The frameworks themselves write what we read and read what we write."""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest

from convnext.weights.files import open_weights, write_weights
from crafted_files import lazy

pytestmark = pytest.mark.upstream


def as_numpy(tensor):
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().numpy()


@pytest.fixture
def checkpoint():
    """A checkpoint as trainers write them, with everything in it that a reader stumbles over."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "model": model.state_dict(),
        "model_ema": OrderedDict(gamma=torch.ones(3)),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-3, data_path="x", device=torch.device("cpu")),
        "epoch": 299,
        "scaler": {"scale": 65536.0, "dtype": torch.float16},
        "rng": np.random.default_rng(0).bit_generator.state,
        "shape": torch.Size([1, 2]),
        "odd": {
            "half": torch.rand(3, 2).half(),
            "bfloat16": torch.rand(5).bfloat16(),
            "transposed": base.T,
            "part": base[1:3, ::2],
            "same": base,
            "parameter": torch.nn.Parameter(torch.rand(2)),
            "scalar": torch.tensor(3),
            "empty": torch.zeros(0, 4),
            "flags": torch.tensor([True, False]),
            "expanded": torch.ones(1).expand(3),
            "complex": torch.ones(2, dtype=torch.complex64),
            "uint16": torch.ones(2, dtype=torch.uint16),
            "float8": torch.ones(2).to(torch.float8_e4m3fn),
        },
    }


def tensors_in(value, prefix=""):
    import torch

    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in items:
            yield from tensors_in(child, f"{prefix}.{key}" if prefix else str(key))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_checkpoints_are_read(zipped, protocol, checkpoint, tmp_path):
    import torch

    torch.save(
        checkpoint,
        tmp_path / "a.pth",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    wanted = dict(tensors_in(checkpoint))
    with open_weights(tmp_path / "a.pth") as file:
        assert list(file.tensors) == list(wanted)
        assert "optimizer.state.0.exp_avg" in file.tensors
        for name, tensor in wanted.items():
            values = file.tensors[name].read()
            if name == "odd.float8":
                values, tensor = values.view(np.uint8), tensor.view(torch.uint8)
            np.testing.assert_array_equal(values, as_numpy(tensor), strict=True)


def test_torch_reads_what_we_write(tmp_path, arrays):
    torch = pytest.importorskip("torch")
    arrays["bfloat16"] = np.arange(3).astype(ml_dtypes.bfloat16)
    arrays["caf\u00e9"] = np.zeros((1, 1))
    write_weights(tmp_path / "a.pth", lazy(arrays))
    write_weights(tmp_path / "b.pth", lazy(arrays), nested_under="model")
    plain = torch.load(tmp_path / "a.pth", weights_only=True)
    mapped = torch.load(tmp_path / "a.pth", weights_only=True, mmap=True)
    nested = torch.load(tmp_path / "b.pth", weights_only=True)
    assert nested.keys() == {"model"}
    for loaded in (plain, mapped, nested["model"]):
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(as_numpy(loaded[name]), array, strict=True)


def test_safetensors_of_torch_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    state = {"a": torch.rand(2, 3), "b": torch.rand(4).bfloat16(), "c": torch.tensor(3)}
    save_file(state, tmp_path / "a.safetensors", metadata={"format": "pt"})
    with open_weights(tmp_path / "a.safetensors") as file:
        assert file.metadata == {"format": "pt"}
        for name, tensor in state.items():
            np.testing.assert_array_equal(file.tensors[name].read(), as_numpy(tensor), strict=True)
        write_weights(tmp_path / "b.safetensors", file.tensors, file.metadata)
    for name, tensor in load_file(tmp_path / "b.safetensors").items():
        assert torch.equal(tensor, state[name])


@pytest.fixture
def model():
    """A Keras model with a nested model in it, as keras.applications nests the stem."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    stem = keras.Sequential(
        [keras.layers.Conv2D(4, 2, name="stem_conv"), keras.layers.LayerNormalization(name="ln")],
        name="stem",
    )
    inputs = keras.Input((6, 6, 3))
    features = keras.layers.GlobalAveragePooling2D()(stem(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(features), name="net")
    for index, variable in enumerate(model.variables):
        variable.assign(np.full(variable.shape, index, np.float32))
    return model


LEGACY_NAMES = [
    "stem/stem/stem_conv/kernel",
    "stem/stem/stem_conv/bias",
    "stem/stem/ln/gamma",
    "stem/stem/ln/beta",
    "head/head/kernel",
    "head/head/bias",
]


def values_of(file):
    return [tensor.read().flat[0] for tensor in file.tensors.values()]


def test_legacy_files_of_keras_are_read(model, tmp_path):
    from keras.src.legacy.saving import legacy_h5_format

    legacy_h5_format.save_model_to_hdf5(model, tmp_path / "a.h5", include_optimizer=False)
    with open_weights(tmp_path / "a.h5") as file:
        assert file.format == "h5"
        assert list(file.tensors) == LEGACY_NAMES
        assert values_of(file) == [0, 1, 2, 3, 4, 5]
        assert '"stem_conv"' in file.metadata["model_config"]


def test_keras_reads_what_we_write(model, tmp_path):
    wanted = [variable.numpy() + 10 for variable in model.variables]
    write_weights(tmp_path / "a.h5", lazy(dict(zip(LEGACY_NAMES, wanted, strict=True))))
    model.load_weights(tmp_path / "a.h5")
    for variable, values in zip(model.variables, wanted, strict=True):
        np.testing.assert_array_equal(variable.numpy(), values)


@pytest.mark.parametrize("kind", ["weights.h5", "keras"])
def test_files_of_keras_3_are_read(kind, model, tmp_path):
    path = tmp_path / f"a.{kind}"
    (model.save if kind == "keras" else model.save_weights)(path)
    with open_weights(path) as file:
        assert file.format == kind
        prefix = "layers/sequential/layers"
        assert {
            f"{prefix}/conv2d/vars/0": 0,
            f"{prefix}/conv2d/vars/1": 1,
            f"{prefix}/layer_normalization/vars/0": 2,
            f"{prefix}/layer_normalization/vars/1": 3,
            "layers/dense/vars/0": 4,
            "layers/dense/vars/1": 5,
        } == {name: tensor.read().flat[0] for name, tensor in file.tensors.items()}
        assert file.metadata[f"{prefix}/conv2d/vars@name"] == "stem_conv"
        assert ("config.json" in file.metadata) == (kind == "keras")


def test_bfloat16_of_keras_is_read(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    model.layers[0].kernel.assign(np.full((3, 2), 1.5))
    model.save_weights(tmp_path / "a.weights.h5")
    with open_weights(tmp_path / "a.weights.h5") as file:
        values = file.tensors["layers/dense/vars/0"].read()
    assert values.dtype == ml_dtypes.bfloat16
    assert values.astype(float).tolist() == [[1.5, 1.5]] * 3
