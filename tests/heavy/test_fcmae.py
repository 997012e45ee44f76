"""The masked autoencoder against a sparse one, NumPy, and the authors' files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from convnext.architecture import VARIANTS, Geometry
from convnext.errors import ArgumentError
from convnext.nn.model import Block, build_model
from convnext.nn.visible import find_positions, listed
from convnext.train import pretrain, reconstruct, train
from convnext.train.fcmae.model import autoencoder, draw_visible, encode_visible
from convnext.train.sections import Masking
from convnext.weights.canonical import canonical_variables, parameter_shapes
from convnext.weights.load import load_weights, read_weights
from convnext.weights.save import convert, save_weights

V2 = VARIANTS["test_v2"]
SIDE, STRIDES, MASKING = 32, (2, 2, 2, 1), Masking(decoder_width=24)  # stem and end overlap
PATCH = math.prod(STRIDES)
GRID = SIDE // PATCH


def _random(model, seed=0):
    """Numbers of order 1 in every parameter, GRN and norms included."""
    rng = np.random.default_rng(seed)
    for name, variable in canonical_variables(model).items():
        scale = 0.5 if name.endswith((".gamma", ".beta", ".bias")) else 0.2
        variable.assign(rng.normal(0, scale, variable.shape).astype(np.float32))
    return model


def _pictures(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, SIDE, SIDE, 3)).astype(np.float32)


def _visible(count, seed=2):
    return draw_visible(count, GRID, 0.6, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def model():
    return _random(autoencoder(V2, SIDE, STRIDES, MASKING))


@pytest.fixture(scope="module")
def encoded(model):
    """Features of the visible positions of pictures."""
    return keras.Model(model.inputs, model.get_layer("decoder_proj").input)


def _upsampled(visible, side):
    factor = side // visible.shape[1]
    return visible.repeat(factor, axis=1).repeat(factor, axis=2)


def test_hidden_patches_do_not_change_the_encoding(encoded):
    pictures, visible = _pictures(2), _visible(2)
    others = np.where(_upsampled(visible, SIDE) > 0, pictures, _pictures(2, seed=7))
    one, other = (np.asarray(encoded.predict_on_batch([p, visible])) for p in (pictures, others))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert one.shape[:3] == (2, int(visible[0].sum()), 1)
    assert np.abs(one).max() > 0.1


@pytest.mark.torch_first
def test_with_nothing_hidden_it_is_the_ordinary_encoder():
    pictures = _pictures(2)
    ordinary = build_model(
        V2, input_shape=(SIDE, SIDE, 3), geometry=Geometry(STRIDES), include_top=False,
    )  # fmt: skip
    _random(ordinary)
    visible = keras.Input((GRID, GRID, 1))
    features, _ = encode_visible(ordinary, ordinary.input, visible, GRID**2)
    encoded = keras.Model([ordinary.input, visible], features)
    found = encoded.predict_on_batch([pictures, np.ones((2, GRID, GRID, 1), np.float32)])
    expected = np.asarray(ordinary.predict_on_batch(pictures))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(
        np.asarray(found).reshape(expected.shape), expected, rtol=1e-5, atol=1e-5
    )


def _submanifold_block(sites, features, weights):
    """A block over listed positions, which see each other alone, as in a sparse engine."""
    where = {site: row for row, site in enumerate(sites)}
    kernel = weights["dwconv.kernel"][..., 0]
    branch = np.tile(weights["dwconv.bias"], (len(sites), 1)).astype(np.float64)
    for row, (y, x) in enumerate(sites):
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                neighbour = where.get((y + dy, x + dx))
                if neighbour is not None:
                    branch[row] += kernel[dy + 3, dx + 3] * features[neighbour]
    mean, var = branch.mean(-1, keepdims=True), branch.var(-1, keepdims=True)
    branch = (branch - mean) / np.sqrt(var + 1e-6) * weights["norm.gamma"] + weights["norm.beta"]
    hidden = branch @ weights["pwconv1.kernel"] + weights["pwconv1.bias"]
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    norm = np.sqrt((hidden**2).sum(0))  # over this picture's visible positions alone
    norm = norm / (norm.mean() + 1e-6)
    hidden = weights["grn.gamma"] * hidden * norm + weights["grn.beta"] + hidden
    return features + hidden @ weights["pwconv2.kernel"] + weights["pwconv2.bias"]


def test_a_masked_block_is_a_submanifold_convolution():
    rng = np.random.default_rng(0)
    block = Block(grn=True, name="block")
    x = rng.normal(size=(2, 9, 8, 6)).astype(np.float32)
    block(ops.convert_to_tensor(x))
    weights = {}
    for variable in block.weights:
        value = rng.normal(0, 0.4, variable.shape).astype(np.float32)
        variable.assign(value)
        weights[".".join(variable.path.split("/")[-2:])] = value
    visible = rng.permuted(np.arange(72)[None].repeat(2, axis=0), axis=1).reshape(2, 9, 8, 1) < 29
    positions = find_positions(ops.convert_to_tensor(visible.astype(np.float32)), 29)
    found = ops.convert_to_numpy(
        block(listed(ops.convert_to_tensor(x), positions), positions=positions)
    )
    for picture in range(2):
        sites = [tuple(site) for site in np.argwhere(visible[picture, ..., 0])]
        features = np.stack([x[picture][site] for site in sites]).astype(np.float64)
        sparse = _submanifold_block(sites, features, weights)
        np.testing.assert_allclose(found[picture, :, 0], sparse, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalise", [True, pytest.param(False, marks=pytest.mark.torch_first)])
def test_the_loss_is_the_papers(normalise, model):
    pictures, visible = _pictures(3), _visible(3)
    predicted = np.asarray(model.predict_on_batch([pictures, visible]))
    total, count = 0.0, 0
    for picture in range(3):
        for row in range(GRID):
            for column in range(GRID):
                if visible[picture, row, column, 0]:
                    continue
                patch = pictures[
                    picture, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH
                ].reshape(-1)  # rows, then columns, channels last
                if normalise:
                    patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
                total += ((predicted[picture, row, column] - patch) ** 2).mean()
                count += 1
    model.normalise = normalise
    loss = model.compute_loss(
        [ops.convert_to_tensor(pictures), ops.convert_to_tensor(visible)],
        None,
        ops.convert_to_tensor(predicted),
    )
    model.normalise = True
    assert float(ops.convert_to_numpy(loss)) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.torch_alone
def test_hidden_patches_are_drawn_as_the_authors_count_them():
    visible = draw_visible(50, 7, 0.6, np.random.default_rng(0))
    assert set(visible.sum(axis=(1, 2, 3))) == {19}
    assert 0.15 < visible.mean(axis=0).min() < visible.mean(axis=0).max() < 0.65
    assert len({v.tobytes() for v in visible}) == 50


@pytest.mark.torch_alone
@pytest.mark.parametrize(
    ("side", "strides", "ratio", "said"),
    [
        (72, (4, 2, 2, 2), 0.6, "multiple of 32"),
        (32, (4, 2, 2, 2), 0.6, "leaves 0 visible"),
        (64, (4, 2, 2, 2), 0.0, "leaves 4 visible"),
    ],
)
def test_sizes_and_ratios_that_cannot_be_masked_are_refused(side, strides, ratio, said):
    with pytest.raises(ArgumentError, match=said):
        autoencoder(V2, side, strides, Masking(ratio=ratio))


@pytest.mark.torch_alone
def test_files_in_the_authors_two_layouts(model, tmp_path):
    weights = {n: ops.convert_to_numpy(v.value) for n, v in canonical_variables(model).items()}
    save_weights(weights, tmp_path / "sparse.pth", layout="fcmae")
    encoder = {name: w for name, w in weights.items() if not name.startswith("decoder")}
    save_weights(encoder, tmp_path / "pt_only.pth", layout="facebook")
    convert(tmp_path / "sparse.pth", tmp_path / "back.safetensors")
    for name in ("sparse.pth", "back.safetensors"):
        other = autoencoder(V2, SIDE, STRIDES, MASKING)
        report = load_weights(other, tmp_path / name)
        assert not report.fit.fresh
        for key, variable in canonical_variables(other).items():
            np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), weights[key])
    with read_weights(tmp_path / "pt_only.pth") as read:
        assert read.found.kind == "encoder without a head"
        assert read.tensors.keys() == parameter_shapes(replace(V2, head="none"), 0).keys()


CHANGES = [
    *("model.variant=test_v2", "run.precision=float32", "run.batch_size=16", "run.log_every=4"),
    *("masking.decoder_width=32", "run.validate_every=1", "optimizer.warmup_epochs=0"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Waves, whose hidden patches follow from the visible ones; in nested folders."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(80):
        place = folder / f"album {number % 3}" / "deep"
        place.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[:32, :32]
        angle, phase = rng.uniform(0, math.pi), rng.uniform(0, 2 * math.pi)
        wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) / 4 + phase)
        pixels = np.rint(127 + 120 * wave[..., None].repeat(3, axis=2)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


@pytest.mark.slow
def test_pretraining_lowers_the_loss_and_its_encoder_is_fine_tuned(pictures, tmp_path):
    lines = []
    options = {"workers": 0, "progress": False, "say": lines.append}
    outcome = pretrain(
        "fcmae_cifar10",
        pictures,
        tmp_path / "run",
        changes=[*CHANGES, "run.epochs=12", "optimizer.learning_rate=2e-2"],
        **options,
    )
    records = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [record["loss"] for record in records if record["kind"] == "validation"]
    assert losses[-1] < 0.9 * losses[0]
    assert outcome.finished
    assert any("60% hidden in patches of 4" in line for line in lines)
    assert list((tmp_path / "run" / "reconstructions").glob("*.png"))
    drawn = reconstruct(tmp_path / "run", pictures / "album 0", tmp_path / "grid.png")
    with Image.open(drawn) as grid:
        assert grid.width > 300
    if keras.backend.backend() != "torch":  # the rest is the same on each
        return
    for label in ("one", "two"):
        (tmp_path / "labelled" / label).mkdir(parents=True)
    for number, path in enumerate(sorted(pictures.glob("*/*/*.png"))):
        (tmp_path / "labelled" / ("one", "two")[number % 2] / path.name).write_bytes(
            path.read_bytes()
        )
    lines.clear()
    tuned = train(
        "cifar10",
        tmp_path / "labelled",
        tmp_path / "tuned",
        changes=[*CHANGES[:4], "model.strides=[2,2,1,1]", "run.epochs=0.5"],
        init=tmp_path / "run",
        **options,
    )
    assert tuned.finished
    assert "NOT LOADED" in lines[0]
    assert "head_norm" in lines[0]
    assert "stage_" not in lines[0].split("NOT LOADED")[1].split("\n")[0]


@pytest.mark.torch_alone
def test_bad_input(pictures, tmp_path):
    with pytest.raises(ArgumentError, match="FCMAE pretrains ConvNeXt V2"):
        pretrain(
            "fcmae_cifar10", pictures, tmp_path / "run", changes=["model.variant=convnext_atto"]
        )
    with pytest.raises(ArgumentError, match="of a run of `convnext pretrain`"):
        reconstruct(tmp_path, pictures, tmp_path / "grid.png")
    with pytest.raises(ArgumentError, match="nowhere"):
        pretrain("fcmae_cifar10", tmp_path / "nowhere", tmp_path / "run")
