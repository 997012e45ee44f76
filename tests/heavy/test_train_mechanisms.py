"""Each mechanism of training against another library's numbers."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from convnext.architecture import VARIANTS
from convnext.errors import TrainingError
from convnext.images.labels import labels_for
from convnext.train.optim.adamw import AdamW
from convnext.train.optim.groups import Group, parameter_groups
from convnext.train.optim.muon import Muon, orthogonal
from convnext.train.optim.schedule import LearningRate
from convnext.train.recipe import load_recipe
from convnext.train.run.learner import classifier, initialise
from convnext.weights.canonical import canonical_variables, parameter_shapes
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import LAYOUTS
from convnext.weights.layouts.table import expand
from convnext.weights.save import save_weights

pytestmark = pytest.mark.torch_first

SHAPES = [(3, 4), (4,), (2, 5, 3), (1,)]
GROUPS = [Group(1.0, True), Group(0.5, False), Group(0.25, True), Group(1.0, False)]
TINY = ["model.variant=test_v2", "model.drop_path=0", "run.precision=float32", "run.batch_size=16"]


def _numbers(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def _ours(values, gradients, rates, **options):
    variables = [keras.Variable(value, name=f"v{n}") for n, value in enumerate(values)]
    optimizer = AdamW(GROUPS, **options)
    optimizer.build(variables)
    for rate, gradient in zip(rates, gradients, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradient], variables)
    averages = [keras.ops.convert_to_numpy(a.value) for a in optimizer.averages]
    return [keras.ops.convert_to_numpy(v.value) for v in variables], averages


def _torchs(values, gradients, rates, *, clip=0.0, ema=0.0):
    torch = pytest.importorskip("torch")
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in values]
    groups = [
        {"params": [p], "weight_decay": 0.1 if g.decays else 0.0, "scale": g.scale}
        for p, g in zip(parameters, GROUPS, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.8, 0.99), eps=1e-6)
    averages = [p.detach().clone() for p in parameters]
    for rate, gradient in zip(rates, gradients, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        for parameter, value in zip(parameters, gradient, strict=True):
            parameter.grad = torch.tensor(value)
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        for average, parameter in zip(averages, parameters, strict=True):
            average.mul_(ema).add_(parameter.detach(), alpha=1 - ema)
    return [p.detach().numpy() for p in parameters], [a.numpy() for a in averages]


@pytest.mark.parametrize("clip", [0.0, 0.7])
def test_adamw_with_groups_clipping_and_averages_is_pytorchs(clip):
    rates = [0.1, 0.05, 0.02, 0.3, 0.01, 0.2]
    gradients = [_numbers(seed) for seed in range(1, 7)]
    options = {"weight_decay": 0.1, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6}
    ours, averages = _ours(_numbers(0), gradients, rates, ema=0.9, clip_norm=clip, **options)
    theirs, their_averages = _torchs(_numbers(0), gradients, rates, clip=clip, ema=0.9)
    for a, b in zip(ours + averages, theirs + their_averages, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_a_mean_without_memory_is_the_gradient():
    [[first, *_], _] = _ours(_numbers(0), [_numbers(1)], [0.1], weight_decay=0.0, beta_1=0.0)
    expected = _numbers(0)[0] - 0.1 * np.sign(_numbers(1)[0])
    np.testing.assert_allclose(first, expected, rtol=1e-5)


@pytest.mark.each_backend
def test_accumulated_gradients_are_one_large_batch():
    gradients = [_numbers(seed) for seed in range(1, 5)]
    options = {"weight_decay": 0.1, "epsilon": 1e-6, "ema": 0.9, "clip_norm": 1.0}
    parts = _ours(_numbers(0), gradients, [0.1, 0.1, 0.2, 0.2], accumulate=2, **options)
    means = [
        [(a + b) / 2 for a, b in zip(gradients[n], gradients[n + 1], strict=True)] for n in (0, 2)
    ]
    whole = _ours(_numbers(0), means, [0.1, 0.2], **options)
    for a, b in zip(parts[0] + parts[1], whole[0] + whole[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7)])
def test_muons_update_is_nearly_orthogonal_and_equals_that_of_keras(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 1e-3
    ours = keras.ops.convert_to_numpy(orthogonal(keras.ops.convert_to_tensor(matrix)))
    theirs = keras.optimizers.Muon().zeropower_via_newtonschulz5(
        keras.ops.convert_to_tensor(matrix), 5
    )
    np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(theirs), rtol=1e-4, atol=2e-5)
    values = np.linalg.svd(ours, compute_uv=False)
    assert 0.5 < values.min() <= values.max() < 1.3


def test_muon_is_keras_for_matrices_and_adamw_for_the_rest():
    rng = np.random.default_rng(0)
    shapes = [(4, 9), (9, 4), (2, 2, 3, 5), (4,), (6, 5)]  # including a downsampling's kernel
    matrices = [True, True, True, False, False]
    start = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    gradients = [[rng.normal(size=s).astype(np.float32) for s in shapes] for _ in range(4)]
    groups = [Group(1.0, True), Group(0.5, False), Group(1.0, True)] + [Group(0.5, True)] * 2
    options = {"weight_decay": 0.1, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6}
    variables = [keras.Variable(value) for value in start]
    ours = Muon(groups, matrices=matrices, **options)
    plain = [keras.Variable(value) for value in start[3:]]
    adamw = AdamW(groups[3:], **options)
    single = [keras.Variable(v.reshape(-1, v.shape[-1])) for v in start[:3]]
    keras_own = [
        keras.optimizers.Muon(0.0, weight_decay=0.1 if group.decays else None, exclude_layers=[])
        for group in groups[:3]
    ]
    ours.build(variables)
    adamw.build(plain)
    for number, rate in enumerate([0.1, 0.05, 0.02, 0.03]):
        given = [keras.ops.convert_to_tensor(g) for g in gradients[number]]
        ours.learning_rate = adamw.learning_rate = rate
        ours.apply(given, variables)
        adamw.apply(given[3:], plain)
        for gradient, variable, group, other in zip(given, single, groups, keras_own, strict=False):
            other.learning_rate = rate * group.scale
            other.apply([keras.ops.reshape(gradient, variable.shape)], [variable])
    for variable, expected in zip(variables, single + plain, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable.value).reshape(expected.shape),
            keras.ops.convert_to_numpy(expected.value),
            rtol=1e-4,
            atol=2e-5,
        )


@pytest.mark.torch_alone
def test_a_recipe_of_muon_turns_the_matrices_of_blocks_and_downsamplings_alone():
    learner = classifier(load_recipe("cifar10", [*TINY, "optimizer.method=muon"]), 10)
    names = {id(v): n for n, v in canonical_variables(learner.model).items()}
    trained = [names[id(v)] for v in learner.model.trainable_variables]
    turned = {n for n, is_one in zip(trained, learner.optimizer.matrices, strict=True) if is_one}
    assert turned == {n for n in trained if "pwconv" in n and "kernel" in n} | {
        f"downsample_{n}_conv.kernel" for n in (1, 2, 3)
    }
    before = learner.weights()
    adamw = classifier(load_recipe("cifar10", TINY), 10)
    spared = sum(before[name].size for name in turned)  # matrices have no second moment
    assert _kept(learner) == _kept(adamw) - spared
    pictures = np.random.default_rng(0).normal(size=(16, 32, 32, 3)).astype(np.float32)
    learner.step([pictures], np.eye(10, dtype=np.float32)[np.arange(16) % 10], 1e-3)
    after = learner.weights()
    for name in turned:  # the largest singular value of a step is its learning rate times its size
        step = (after[name] - before[name] * (1 - 0.05e-3)).reshape(-1, before[name].shape[-1])
        values = np.linalg.svd(step / (1e-3 * 0.2 * max(step.shape) ** 0.5), compute_uv=False)
        assert 0.7 < values.max() < 1.3, name


def _kept(learner):
    return sum(math.prod(variable.shape) for variable in learner.optimizer.variables)


@pytest.mark.torch_alone
@pytest.mark.upstream
def test_averages_are_timms():
    import torch
    from timm.utils import ModelEmaV2

    layer = torch.nn.Linear(3, 4)
    average = ModelEmaV2(layer, decay=0.9)
    values = [layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()]
    variables = [keras.Variable(value) for value in values]
    optimizer = AdamW([Group(1.0, True)] * 2, ema=0.9)
    optimizer.build(variables)
    for step in range(5):
        for parameter, variable in zip(layer.parameters(), variables, strict=True):
            value = np.random.default_rng(step).normal(size=parameter.shape).astype(np.float32)
            parameter.data = torch.tensor(value)
            variable.assign(value)
        average.update(layer)
        optimizer._update_model_variables_moving_average(variables)
    for ours, theirs in zip(optimizer.averages, average.module.parameters(), strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours.value), theirs.detach().numpy(), rtol=1e-6, atol=1e-7
        )


@pytest.mark.torch_alone
@pytest.mark.upstream
@pytest.mark.parametrize(("warmup", "total"), [(20, 100), (0, 50), (7, 9)])
def test_the_schedule_is_timms(warmup, total):
    import torch
    from timm.scheduler import CosineLRScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.004)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=total - warmup,
        lr_min=1e-6,
        warmup_t=warmup,
        warmup_lr_init=0.0,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    ours = LearningRate(peak=0.004, final=1e-6, warmup=warmup, total=total)
    for update in range(total + 1):
        theirs.step_update(update)
        assert ours(update) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


@pytest.mark.torch_alone
@pytest.mark.upstream
@pytest.mark.parametrize("family", ["convnext", "convnextv2"])
def test_weight_decay_applies_to_the_same_parameters_as_in_timm(family):
    import timm
    from timm.optim import param_groups_weight_decay

    model = timm.create_model(f"{family}_atto", num_classes=7)
    names = {id(p): name for name, p in model.named_parameters()}
    kept, decaying = param_groups_weight_decay(model, weight_decay=0.1)
    assert (kept["weight_decay"], decaying["weight_decay"]) == (0.0, 0.1)
    theirs = {names[id(p)] for p in decaying["params"]}
    variant = VARIANTS[f"{family}_atto"]
    ours = parameter_groups(parameter_shapes(variant, 7), variant)
    rows = expand(LAYOUTS["timm"].rows, variant.depths)
    called = {row.canonical: row.foreign for row in rows}
    assert {called[name] for name, group in ours.items() if group.decays} == theirs


@pytest.mark.parametrize("method", ["adamw", "muon"])
def test_a_learner_takes_its_state_back_to_the_bit(method):
    recipe = load_recipe("cifar10", [*TINY, "model.drop_path=0.3", f"optimizer.method={method}"])
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(3, 16, 32, 32, 3)).astype(np.float32)
    targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, (3, 16))]
    learner = classifier(recipe, 10)
    learner.step([pictures[0]], targets[0], 1e-3)
    state = learner.state()
    first = [learner.step([pictures[n]], targets[n], 1e-3) for n in (1, 2)]
    after = learner.state()
    learner.restore(state)
    assert [learner.step([pictures[n]], targets[n], 1e-3) for n in (1, 2)] == first
    for name, value in learner.state().items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    fresh = classifier(recipe, 10)
    fresh.restore(state)
    for name, value in fresh.state().items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)
    assert state.keys() - {f"model.{name}" for name in canonical_variables(learner.model)}


def test_a_state_of_another_network_is_refused():
    learner = classifier(load_recipe("cifar10", TINY), 10)
    other = classifier(load_recipe("cifar10", TINY), 5)
    with pytest.raises(TrainingError, match="another network"):
        other.restore(learner.state())


@pytest.mark.torch_alone
def test_only_the_head_learns_in_a_linear_probe():
    recipe = load_recipe("linear_probe", [*TINY, "model.resolution=32"])
    learner = classifier(recipe, 10)
    before = learner.weights()
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(16, 32, 32, 3)).astype(np.float32)
    learner.step([pictures], np.eye(10, dtype=np.float32)[rng.integers(0, 10, 16)], 1e-2)
    changed = {n for n, v in learner.weights().items() if not np.array_equal(v, before[n])}
    assert changed == {"head.kernel", "head.bias"}


@pytest.mark.torch_alone
def test_averaged_weights_take_the_place_and_give_it_back():
    learner = classifier(load_recipe("cifar10", [*TINY, "optimizer.ema=0.5"]), 10)
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(16, 32, 32, 3)).astype(np.float32)
    before = learner.weights()["head.kernel"]
    learner.step([pictures], np.eye(10, dtype=np.float32)[rng.integers(0, 10, 16)], 1e-2)
    after = learner.weights()["head.kernel"]
    with learner.averaged():
        np.testing.assert_allclose(
            learner.weights()["head.kernel"], (before + after) / 2, rtol=1e-5, atol=1e-7
        )
    np.testing.assert_array_equal(learner.weights()["head.kernel"], after)


@pytest.mark.torch_alone
def test_weights_of_pictures_multiply_their_loss():
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(16, 32, 32, 3)).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 16)]
    losses = []
    for weights in (None, np.full(16, 2, np.float32)):
        learner = classifier(load_recipe("cifar10", TINY), 2)
        losses.append(learner.step([pictures], targets, 0.0, weights)["loss"])
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-5)


@pytest.mark.torch_alone
def test_canonical_names_cover_what_is_trained():
    learner = classifier(load_recipe("cifar10", TINY), 10)
    assert len(canonical_variables(learner.model)) == len(learner.model.trainable_variables)


@pytest.mark.torch_alone
def test_a_published_classifier_of_the_same_classes_stays(tmp_path):
    names = labels_for("imagenet-1k").names
    recipe = load_recipe("cifar10", TINY)
    source = classifier(recipe, len(names))
    info = WeightsInfo(labels="imagenet-1k", strides=(4, 2, 2, 2))
    save_weights(source.model, tmp_path / "a.safetensors", info=info)
    head = source.weights()["head.kernel"]
    for classes, stays in ((names, True), (names[::-1], False)):
        learner = classifier(load_recipe("cifar10", [*TINY, "run.seed=1"]), len(names))
        said = initialise(learner, tmp_path / "a.safetensors", classes, (2, 2, 2, 2))
        assert np.array_equal(learner.weights()["head.kernel"], head) is stays
        assert "trained with model.strides = [4, 2, 2, 2]" in said
    assert "strides" not in initialise(learner, tmp_path / "a.safetensors", names, (4, 2, 2, 2))


@pytest.mark.torch_alone
def test_weights_spread_by_fan_in_keep_the_variance_and_are_the_same_draw():
    published, wide = (
        classifier(load_recipe("cifar10", [*TINY, f"model.initial={how}"]), 10).weights()
        for how in ("published", "fan_in")
    )
    for name, values in wide.items():
        if values.ndim < 2 or name.startswith("head"):
            np.testing.assert_array_equal(values, published[name])
            continue
        inputs = 49 if "dwconv" in name else np.prod(values.shape[:-1])
        np.testing.assert_allclose(values, published[name] / (0.02 * inputs**0.5), rtol=1e-6)
        assert abs((values.astype(float) ** 2).mean() * inputs - 1) < 0.2
