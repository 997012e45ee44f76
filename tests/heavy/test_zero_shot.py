"""CLIP's two towers and classifiers of class names, against open_clip itself."""

from __future__ import annotations

import gzip
import json
import logging
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from clips import SIDE, VOCABULARY, clip, encoded, picture, prepared
from convnext import Classifier, ZeroShot
from convnext.classifier import save_head, zero_shot_weights
from convnext.classifier.results import softmax
from convnext.engines import open_engine
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    UnstatedError,
    WeightsError,
    WeightsFileError,
    WeightsMismatchError,
)
from convnext.text import TextEncoder
from convnext.text.templates import class_vectors, imagenet_templates
from convnext.text.tokenizer import read_tokenizer
from convnext.text.tower import parameters, read_text_tower, to_open_clip

pytestmark = [pytest.mark.upstream, pytest.mark.torch_first]

VECTORS = 1e-5  # largest difference of a number in a vector of length 1
ENGINES = ("openvino", "onnxruntime", "keras")
TEXTS = [
    "a photo of a cat",
    "",
    "été, naïve Ångström",
    "a 😀👨‍👩‍👧 (emoji)",
    "long " * 100,
    "x" * 300,
]
LABELS = ["a cat", "a dog", "a red bicycle"]
SIZES = {
    # timm's name, projection, width of the vectors, of the text tower, its heads
    "convnext_base": ("convnext_base", "linear", 512, 512, 8),
    "convnext_base_w": ("convnext_base", "linear", 640, 640, 10),
    "convnext_large_d": ("convnext_large", "mlp", 768, 768, 12),
    "convnext_xxlarge": ("convnext_xxlarge", "linear", 1024, 1024, 16),
}


@pytest.fixture
def shallow(monkeypatch, importable_torchvision):
    """Lets open_clip build timm's towers with one block in each stage."""
    del importable_torchvision
    timm_model = pytest.importorskip("open_clip.timm_model")
    create = timm_model.timm.create_model
    monkeypatch.setattr(
        timm_model.timm, "create_model", lambda *a, **k: create(*a, depths=(1, 1, 1, 1), **k)
    )


@pytest.fixture(scope="module")
def tower(tmp_path_factory, importable_torchvision):
    """A small model, and the folder it is saved in."""
    del importable_torchvision
    pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("clip")
    return clip(folder), folder


@pytest.mark.torch_alone
@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_both_towers_at_published_widths(tmp_path, shallow, name):
    del shallow
    timm_name, proj, width, text_width, heads = SIZES[name]
    text = {"width": text_width, "heads": heads, "layers": 2}
    model = clip(tmp_path, timm_name, proj, width, text)
    epsilon = 1e-5 if name == "convnext_xxlarge" else 1e-6
    pictures = [picture(seed) for seed in range(3)]
    options = {"precision": "float32", "architecture": f"epsilon={epsilon}"}
    import torch

    with torch.inference_mode():
        images = model.encode_image(prepared(*pictures), normalize=True).numpy()
        logits = model.get_logits(prepared(*pictures), _tokens(LABELS))[0].numpy()
    for engine in ("openvino", "onnxruntime"):
        zero_shot = ZeroShot(tmp_path, engine, **options)
        found = np.array([zero_shot.pictures.embed(each) for each in pictures])
        assert np.abs(found - images).max() < VECTORS
        assert np.abs(zero_shot.texts(TEXTS) - encoded(model, TEXTS)).max() < VECTORS
        _, matrix = zero_shot._classes(LABELS, "{}")
        ours = np.array([zero_shot._logits(vector, matrix) for vector in found])
        assert np.abs(ours - logits).max() < 100 * VECTORS


def _tokens(texts):
    import open_clip

    return open_clip.tokenizer.tokenize(texts)


@pytest.mark.each_backend
@pytest.mark.parametrize("engine", ENGINES)
def test_vectors_of_texts(tower, engine):
    model, folder = tower
    encoder = TextEncoder(folder, engine)
    assert np.abs(encoder(TEXTS) - encoded(model, TEXTS)).max() < VECTORS
    assert encoder([]).shape == (0, encoder.width)
    assert encoder.scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-6)


@pytest.mark.torch_alone
def test_a_text_tower_under_a_prefix_and_back(tmp_path, tower):
    """CustomTextCLIP's names; and ours, which open_clip reads."""
    import torch

    model, folder = tower
    (tmp_path / "custom").mkdir()
    custom = clip(tmp_path / "custom", kind="CustomTextCLIP")
    found = TextEncoder(tmp_path / "custom", "openvino")(TEXTS)
    assert np.abs(found - encoded(custom, TEXTS)).max() < VECTORS
    with read_text_tower(folder) as weights:
        arrays = {name: weights.values(name) for name in parameters(weights.tower)}
        state = to_open_clip(weights.tower, arrays)
    state = {f"text.{name}": torch.from_numpy(array.copy()) for name, array in state.items()}
    missing, unexpected = custom.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith(("visual.", "logit_scale")) for name in missing)
    assert np.array_equal(encoded(custom, TEXTS), encoded(model, TEXTS))


@pytest.mark.torch_alone
def test_texts_in_any_company_and_order_have_the_same_vectors(tower):
    """Short ones are computed at their own length."""
    _, folder = tower
    encoder = TextEncoder(folder, "openvino")
    alone = np.concatenate([encoder([text]) for text in TEXTS])
    assert np.abs(encoder(TEXTS * 30)[-len(TEXTS) :] - alone).max() < 1e-6


@pytest.mark.torch_alone
def test_tokens_are_those_of_open_clip_for_ten_thousand_strings(tower):
    _, folder = tower
    from open_clip.tokenizer import SimpleTokenizer

    rng = random.Random(0)
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz    ",
        "ABC xyz 0123456789 .,;:!?'\"()[]<>&#@-_/\\\t\n\r",
        "äöüßéèñçøåæœšžłİıǅſ ﬁﬂ ÀÉÎÕÜ “”‘’…–—",
        "😀😂👍🏽👨‍👩‍👧🇩🇪❤️🏳️‍🌈 ☃★→∞½²³№",
        "日本語 中文字符 한국어 العربية עברית हिन्दी ไทย Ελληνικά Кириллица",
        "\x00\x07\x1b\u200b\u200d\ufeff\u00a0\u3000\u2028ＡＢＣ１２３",
    ]
    words = ["don't", "we'll", "I'VE", "&amp;", "&lt;b&gt;", "&amp;amp;", "schÃ¶n", "it's", "photo"]
    strings = ["", " ", "a", *TEXTS, *imagenet_templates()]
    clean = SimpleTokenizer().clean_fn
    while len(strings) < 10_000:
        parts = [
            rng.choice(words)
            if rng.random() < 0.2
            else "".join(rng.choices(rng.choice(alphabets), k=rng.randint(1, 12)))
            for _ in range(rng.choice([1, 2, 5, 10, 60]))
        ]
        text = rng.choice([" ", "", ", "]).join(parts)
        # ftfy may take a text for mojibake of a character that Unicode does not have, some of which
        # open_clip's regex counts as letters.
        if "Cn" not in map(unicodedata.category, clean(text)):
            strings.append(text)
    tokens, ends = read_tokenizer(folder / VOCABULARY)(strings)
    theirs = SimpleTokenizer()(strings).numpy()
    different = [
        text for text, a, b in zip(strings, tokens, theirs, strict=True) if list(a) != list(b)
    ]
    assert different == []
    assert np.array_equal(ends, theirs.argmax(1))
    assert (ends == 76).sum() > 100  # cut ones are among them


@pytest.mark.torch_alone
def test_every_form_of_the_vocabulary(tmp_path, tower):
    _, folder = tower
    text = gzip.decompress((folder / VOCABULARY).read_bytes()).decode()
    merges = text.split("\n")[1:48895]
    forms = {
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "tokenizer.json": json.dumps({"model": {"merges": merges}}),
    }
    expected, _ = read_tokenizer(folder / VOCABULARY)(TEXTS)
    for name, content in forms.items():
        (tmp_path / name).write_text(content, "utf-8")
        assert np.array_equal(read_tokenizer(tmp_path / name)(TEXTS)[0], expected)
    pairs = [each.split(" ") for each in merges]  # as newer versions of tokenizers write them
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"merges": pairs}}), "utf-8")
    assert np.array_equal(read_tokenizer(tmp_path / "tokenizer.json")(TEXTS)[0], expected)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges[:99]), "utf-8")
    with pytest.raises(WeightsFileError, match="another vocabulary"):
        read_tokenizer(tmp_path / "merges.txt")
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(WeightsFileError, match="cannot be read"):
        read_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.torch_alone
def test_a_long_text_is_cut_and_that_is_said_once(tower, caplog):
    _, folder = tower
    encoder = TextEncoder(folder, "openvino")
    with caplog.at_level(logging.WARNING, "convnext.text"):
        first = encoder(["one " * 200])
        assert np.array_equal(encoder(["one " * 200 + "two"]), first)
    assert [record.message[:24] for record in caplog.records] == ["A text is longer than the"[:24]]


@pytest.mark.torch_alone
def test_class_vectors_are_means_over_templates(tower):
    from open_clip import build_zero_shot_classifier
    from open_clip.tokenizer import SimpleTokenizer

    model, folder = tower
    encoder = TextEncoder(folder, "openvino")
    for ours, theirs in (
        ("a photo of a {}.", ["a photo of a {}."]),
        ("imagenet", list(imagenet_templates())),
    ):
        expected = build_zero_shot_classifier(
            model, SimpleTokenizer(), LABELS, theirs, num_classes_per_batch=None
        )
        found = class_vectors(encoder, LABELS, ours)
        assert np.abs(found.T - expected.detach().numpy()).max() < VECTORS


def test_a_head_of_class_names_is_an_ordinary_classifier(tmp_path, tower):
    """On every engine, for every output; equal to open_clip and to ZeroShot."""
    import torch

    model, folder = tower
    path = tmp_path / "pets.safetensors"
    report = save_head(folder, LABELS, path, "a photo of {}")
    assert report.info.labels == tuple(LABELS)
    texts = [f"a photo of {label}" for label in LABELS]
    with torch.inference_mode():
        logits, _ = model.get_logits(prepared(picture()), _tokens(texts))
        image = model.encode_image(prepared(picture()), normalize=True).numpy()
    expected = softmax(logits.numpy()[0])
    zero_shot = ZeroShot(folder, "openvino", precision="float32")
    answers = [zero_shot(picture(), LABELS, "a photo of {}")]
    for engine in ENGINES:
        classifier = Classifier(path, engine, precision="float32")
        assert np.abs(classifier.embed(picture()) - image[0]).max() < VECTORS
        answers.append(classifier(picture()))
    with zero_shot_weights(folder, LABELS, "a photo of {}") as weights:
        answers.append(Classifier(weights, precision="float32")(picture()))
    for answer in answers:
        assert [score.label for score in answer.classes] == [
            LABELS[index] for index in np.argsort(-expected)
        ]
        for score in answer.classes:
            assert score.probability == pytest.approx(expected[score.index], abs=1e-4)


@pytest.mark.torch_alone
def test_bad_labels_and_templates(tower):
    _, folder = tower
    zero_shot = ZeroShot(folder, "openvino")
    for labels, message in (
        ([], "1 to 25,000 labels, not 0"),
        (["cat"] * 25_001, "not 25,001"),
        (["cat", " "], "Label 2 is empty"),
        (["x" * 1001], "1,001 characters"),
        (["cat", "cat "], "'cat' is given twice"),
    ):
        with pytest.raises(ArgumentError, match=message):
            zero_shot(picture(), labels)
    for labels in ("cat,dog", ["cat", 3]):
        with pytest.raises(ArgumentTypeError):
            zero_shot(picture(), labels)
    for template in ("a photo", "{} and {}", ["{}", "no"], []):
        with pytest.raises(ArgumentError, match="template"):
            zero_shot(picture(), LABELS, template)
    with pytest.raises(ArgumentTypeError, match="list of strings"):
        zero_shot.texts("cat")


@pytest.mark.torch_alone
def test_models_without_a_usable_text_tower(tmp_path, tower):
    from safetensors.numpy import load_file, save_file

    _, folder = tower
    tensors = load_file(folder / "open_clip_model.safetensors")

    def saved(changed, config=True):
        save_file(changed, tmp_path / "model.safetensors")
        for name in ("open_clip_config.json", VOCABULARY):
            if config:
                (tmp_path / name).write_bytes((folder / name).read_bytes())
            else:
                (tmp_path / name).unlink(missing_ok=True)
        return tmp_path / "model.safetensors"

    visual = {name: array for name, array in tensors.items() if name.startswith("visual.")}
    with pytest.raises(WeightsMismatchError, match="has no text tower"):
        ZeroShot(saved(visual))
    with pytest.raises(WeightsMismatchError, match="published without a text tower"):
        ZeroShot("convnext_tiny.fb_in1k")
    name = "transformer.resblocks.1.ln_1.bias"
    with pytest.raises(WeightsMismatchError, match=f"{name}.*lacks it"):
        TextEncoder(saved({n: a for n, a in tensors.items() if n != name}))
    with pytest.raises(WeightsError, match="not finite"):
        TextEncoder(saved(tensors | {"ln_final.bias": np.full(64, np.nan, np.float32)}))
    with pytest.raises(WeightsError, match="scale of its logits"):
        TextEncoder(saved(tensors | {"logit_scale": np.array(np.nan, np.float32)}))
    with pytest.raises(WeightsMismatchError, match="no logit_scale"):
        TextEncoder(saved({n: a for n, a in tensors.items() if n != "logit_scale"}))
    path = saved(tensors)
    (tmp_path / VOCABULARY).unlink()
    with pytest.raises(ArgumentError, match=r"no vocabulary beside .* tokenizer\.json"):
        TextEncoder(path)
    with pytest.raises(UnstatedError, match="how many heads"):
        TextEncoder(saved(tensors, config=False))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    path = saved(tensors)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsMismatchError, match="quick_gelu"):
        TextEncoder(path)


@pytest.mark.torch_alone
def test_exports_and_the_engine_of_a_head(tmp_path, tower):
    from convnext import export

    _, folder = tower
    path = tmp_path / "pets.safetensors"
    save_head(folder, LABELS, path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    expected = open_engine(path, "openvino", precision="float32").predict(pixels)
    assert expected.shape == (2, 3)
    for name in ("pets.onnx", "pets.xml"):
        export(path, tmp_path / name)  # compares its answers itself
    assert Path(tmp_path / "pets.onnx").stat().st_size > 1e6
