"""What only PyTorch's modules can do: gradients, state dictionaries, trainers, pipelines."""

from __future__ import annotations

import copy
import pickle

import keras
import numpy as np
import pytest
from hf_models import FAMILIES, config_of, model_of, upstream_of

from convnext import hf
from peers import pictures, relative_error

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="modules are PyTorch's alone"
)


def batch(count=3, side=32, classes=10):
    return torch.from_numpy(pictures(count, 3, side, side)), torch.arange(count) % classes


@pytest.mark.upstream
@pytest.mark.parametrize("family", FAMILIES)
def test_state_dictionaries_losses_and_gradients_are_those_of_transformers(family):
    theirs = upstream_of(family, "ForImageClassification", num_labels=10)
    ours = getattr(hf, f"{family}ForImageClassification")(config_of(family, num_labels=10))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    images, labels = batch()
    for model in (ours, theirs):
        model.train()
        model(pixel_values=images, labels=labels).loss.backward()
    wanted = dict(theirs.named_parameters())
    errors = {
        name: relative_error(p.grad.numpy(), wanted[name].grad.numpy())
        for name, p in ours.named_parameters()
    }
    assert errors.keys() == wanted.keys()
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.upstream
def test_initial_values_are_distributed_as_those_of_transformers():
    import transformers

    values = {"initializer_range": 0.5, "layer_scale_init_value": 0.3, "num_labels": 2}
    theirs = transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[32, 32, 32, 64], **values)
    ).state_dict()
    torch.manual_seed(0)
    config = hf.ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[32, 32, 32, 64], **values)
    ours = hf.ConvNextForImageClassification(config).state_dict()
    for name, value in ours.items():
        np.testing.assert_allclose(value.mean(), theirs[name].mean(), atol=0.1, err_msg=name)
        np.testing.assert_allclose(value.std(), theirs[name].std(), rtol=0.2, err_msg=name)
    torch.manual_seed(0)
    again = hf.ConvNextForImageClassification(config).state_dict()
    assert all(torch.equal(ours[name], again[name]) for name in ours)


def test_an_optimizer_moves_what_the_model_answers_with():
    model = model_of("ConvNextV2", "ForImageClassification", num_labels=10).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    images, labels = batch()
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(images, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_drop_path_follows_the_mode_and_the_seed():
    model = model_of("ConvNext", "Model", drop_path_rate=0.9)
    images, _ = batch()
    resting = model(images).pooler_output
    assert torch.equal(model(images).pooler_output, resting)
    model.train()
    torch.manual_seed(1)
    first = model(images).pooler_output
    assert not torch.allclose(first, resting)
    assert not torch.equal(model(images).pooler_output, first)
    torch.manual_seed(1)
    assert torch.equal(model(images).pooler_output, first)
    assert torch.equal(model.eval()(images).pooler_output, resting)


def test_copies_pickles_and_frozen_parts():
    model = model_of("ConvNext", "ForImageClassification", num_labels=10)
    images, labels = batch()
    wanted = model(images).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(images).logits, wanted)
        with torch.no_grad():
            next(other.parameters()).zero_()
        assert torch.equal(model(images).logits, wanted)
    model.convnext.requires_grad_(False)
    model(images, labels=labels).loss.backward()
    assert model.classifier.weight.grad is not None
    assert all(p.grad is None for p in model.convnext.parameters())
    assert model.num_parameters(only_trainable=True) == 24 * 10 + 10


def computations(model, images, labels, monkeypatch):
    """The gradients of a training step, and how often it computed a block."""
    kind = type(model._blocks()[0])
    computed, count = kind._computed, []
    monkeypatch.setattr(
        kind, "_computed", lambda self, x: (count.append(self), computed(self, x))[1]
    )
    model.zero_grad()
    torch.manual_seed(0)
    model(images, labels=labels).loss.backward()
    monkeypatch.undo()
    return {name: p.grad for name, p in model.named_parameters()}, len(count)


@pytest.mark.parametrize("options", [None, {}, {"use_reentrant": True}])
@pytest.mark.parametrize("family", ["ConvNext", "ConvNextV2"])
def test_checkpointing_computes_blocks_again_and_keeps_the_gradients(family, options, monkeypatch):
    model = model_of(family, "ForImageClassification", num_labels=10, drop_path_rate=0.5).train()
    assert model.supports_gradient_checkpointing
    assert not model.is_gradient_checkpointing
    blocks = sum(model.config.depths)
    step = (*batch(), monkeypatch)
    wanted, count = computations(model, *step)
    assert count == blocks
    model.gradient_checkpointing_enable(options)
    assert model.is_gradient_checkpointing
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        gradients, count = computations(one, *step)
        assert count == 2 * blocks
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, wanted[name], msg=name)
    model.activation_checkpointing_enable(options, every_n_layers=2)
    assert computations(model, *step)[1] == blocks + (blocks + 1) // 2
    assert computations(model.eval(), *step)[1] == blocks
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    assert computations(model.train(), *step)[1] == blocks


def test_a_frozen_stem_before_blocks_that_are_computed_again():
    model = model_of("ConvNext", "Model").train()
    model.requires_grad_(False)
    last = model.encoder.stages[0].layers[-1].pwconv2.requires_grad_(True)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    images, _ = batch()
    model.enable_input_require_grads()
    model(images).pooler_output.sum().backward()
    assert last.weight.grad.abs().sum() > 0
    model.disable_input_require_grads()
    with pytest.warns(UserWarning, match="requires_grad"):
        assert not model(images).pooler_output.requires_grad


@pytest.mark.upstream
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision(family, dtype, tmp_path):
    theirs = upstream_of(family, "ForImageClassification", num_labels=10)
    theirs.save_pretrained(tmp_path)
    ours = getattr(hf, f"{family}ForImageClassification").from_pretrained(tmp_path, dtype=dtype)
    half = getattr(torch, dtype)
    assert ours.dtype == half
    images, _ = batch()
    with torch.no_grad():
        got = ours(images.to(half)).logits
        wanted = theirs(images).logits
        with torch.autocast("cpu", half):
            mixed = ours.float()(images).logits
    assert got.dtype == half
    # 8 or 11 bits of mantissa through ten layers.
    tolerance = 0.1 if dtype == "bfloat16" else 0.02
    assert relative_error(got.float().numpy(), wanted.numpy()) < tolerance
    assert relative_error(mixed.float().numpy(), wanted.numpy()) < tolerance
    ours.to(half).save_pretrained(tmp_path / "half")
    back = type(theirs).from_pretrained(tmp_path / "half", dtype="auto")
    assert back.dtype == half


def test_norms_and_biases_are_known_to_whoever_leaves_out_weight_decay():
    model = model_of("ConvNextV2", "Backbone", out_features=["stage1", "stage4"])
    norms = {
        f"{name}.{leaf}"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
        for leaf in ("weight", "bias")
    }
    assert "encoder.stages.1.downsampling_layer.0.weight" in norms
    assert "hidden_states_norms.stage4.bias" in norms
    assert not any("grn" in name or "conv" in name for name in norms)


@pytest.mark.upstream
def test_pipelines_and_auto_classes_read_a_saved_folder(tmp_path):
    import transformers

    model = model_of("ConvNextV2", "ForImageClassification", num_labels=3)
    model.config.id2label = {0: "cat", 1: "dog", 2: "pig"}
    model.config.label2id = {"cat": 0, "dog": 1, "pig": 2}
    processor = hf.ConvNextImageProcessor(size=32, resample=3)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    auto = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(auto).__name__ == "ConvNextV2ForImageClassification"
    pixels = processor(picture, return_tensors="pt").pixel_values
    scores = model(pixels).logits.softmax(-1)[0].detach().numpy()
    pipeline = transformers.pipeline("image-classification", str(tmp_path), device="cpu")
    said = {row["label"]: row["score"] for row in pipeline(picture)}
    assert max(said, key=said.get) == model.config.id2label[int(scores.argmax())]
    # The pipeline resizes with torchvision, which differs from Pillow in some pixels.
    np.testing.assert_allclose([said[n] for n in ("cat", "dog", "pig")], scores, atol=0.05)


@pytest.mark.upstream
def test_the_trainer_of_transformers_fine_tunes_a_model(tmp_path):
    pytest.importorskip("accelerate")
    import transformers

    images, labels = batch(8, classes=2)
    images += labels[:, None, None, None]
    rows = [{"pixel_values": i, "labels": n} for i, n in zip(images, labels, strict=True)]
    model = model_of("ConvNextV2", "ForImageClassification", num_labels=2)
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=4,
            num_train_epochs=12,
            lr_scheduler_type="constant",
            learning_rate=3e-3,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
        ),
        train_dataset=rows,
        eval_dataset=rows,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before / 2
    trainer.save_model(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
