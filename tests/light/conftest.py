"""A model without a framework: weights in a file, and an engine that answers by mean colour."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from convnext.architecture import ARCHITECTURES
from convnext.data.classes import Classes
from convnext.data.examples import open_examples
from convnext.engines import opening
from convnext.engines.mock import MockEngine
from convnext.images.labels import Labels
from convnext.images.recipe import SEGMENTATION, Preprocess
from convnext.segmentation import SegmentationHead
from convnext.text.tower import TextTower, parameters, to_open_clip
from convnext.weights import load
from convnext.weights.canonical import parameter_shapes
from convnext.weights.info import WeightsInfo
from convnext.weights.layouts import to_foreign
from convnext.weights.random_weights import random_weights
from convnext.weights.save import save_weights

CLASSES = 10
STEP = 25  # a grey picture of shade `STEP * k` is of class k


def grey(shade, size=(16, 16)):
    return Image.new("RGB", size, (shade,) * 3)


def _write_weights(path, num_classes=CLASSES, head="pool_norm", **facts):
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(replace(ARCHITECTURES["test_v2"], head=head), num_classes)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    save_weights(weights, path, info=WeightsInfo(**facts))
    return path


@pytest.fixture(scope="session")
def write_weights():
    """Writes random weights of a small V2 into a file."""
    return _write_weights


@pytest.fixture(scope="session")
def named_weights(tmp_path_factory):
    """Random weights of a small V2 in a file that says everything about itself."""
    return _write_weights(
        tmp_path_factory.mktemp("weights") / "named.safetensors",
        name="shades",
        licence="MIT",
        labels=tuple(f"shade {number}, nuance {number}" for number in range(CLASSES)),
        preprocess=Preprocess(size=32, mean=(0.5, 0.5, 0.5)),
    )


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A small CLIP model with random weights, as on the Hub, and a vocabulary of CLIP's size."""
    pytest.importorskip("tokenizers")
    pytest.importorskip("ftfy")
    folder = tmp_path_factory.mktemp("clip")
    architecture, tower = ARCHITECTURES["test_v1"], TextTower(16, heads=2, layers=1, outputs=12)
    rng = np.random.default_rng(0)
    text = {name: rng.standard_normal(s, np.float32) / 4 for name, s in parameters(tower).items()}
    image = random_weights(architecture, tower.outputs)
    image["head.bias"][:] = 0
    tensors = to_foreign(image, "open_clip", architecture) | to_open_clip(tower, text)
    tensors["logit_scale"] = np.array(3, np.float32)
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(whole, folder / "open_clip_model.safetensors")
    config = {
        "embed_dim": tower.outputs,
        "vision_cfg": {"timm_model_name": architecture.name, "image_size": 32},
        "text_cfg": {"width": tower.width, "heads": tower.heads, "layers": tower.layers},
    }
    content = json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    (folder / "open_clip_config.json").write_text(content)
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 324))]
    merges = [f"{first} {second}" for first in letters for second in letters][:48_894]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")
    return folder


@pytest.fixture(scope="session")
def headless_weights(tmp_path_factory):
    """Without a classifier."""
    return _write_weights(tmp_path_factory.mktemp("weights") / "headless.safetensors", 0)


@pytest.fixture(scope="session")
def segmentation_weights(tmp_path_factory):
    """Random weights of a small segmentation model of three classes."""
    path = tmp_path_factory.mktemp("weights") / "segmentation.safetensors"
    head = SegmentationHead("upernet", 8, auxiliary=4)
    weights = random_weights(ARCHITECTURES["test_v2"], 3, segmentation=head)
    info = WeightsInfo(labels=("sky", "tree", "road"), preprocess=replace(SEGMENTATION, size=64))
    save_weights(weights, path, info=info)
    return path


@dataclass
class Opened:
    """What was opened: networks, options, and the engines themselves."""

    networks: list = field(default_factory=list)
    options: list = field(default_factory=list)
    engines: list = field(default_factory=list)


def answers(batch, network, outputs):
    """Every output of a model that sees nothing but the mean colour."""
    means = batch.mean((1, 2, 3), dtype=np.float32)
    dims = network.variant.dims

    def output(name):
        if name == "logits":
            shades = STEP * np.arange(network.num_classes, dtype=np.float32)
            return -((means[:, None] - shades) ** 2) / 50
        if name == "embedding":
            return np.repeat(means[:, None], dims[-1], axis=1)
        stage = int(name.removeprefix("stage_"))
        height, width = network.feature_sizes()[stage]
        rng = np.random.default_rng(stage)
        return rng.standard_normal((len(batch), height, width, dims[stage]), np.float32)

    return [output(name) for name in outputs]


@pytest.fixture
def mock_engine(monkeypatch):
    """Has every engine be the mock."""
    opened = Opened()

    def open_mock(network, options):
        opened.networks.append(network)
        opened.options.append(options)
        opened.engines.append(
            MockEngine(
                lambda batch: answers(batch, network, options.outputs),
                size=network.preprocess.size,
                outputs=options.outputs,
            )
        )
        return opened.engines[-1]

    runtime = opening.Runtime(lambda: True, (), open_mock, int8=True)
    monkeypatch.setattr(opening, "ENGINES", {"mock": runtime, "other": runtime})
    return opened


@pytest.fixture
def counted(monkeypatch):
    """How often weights files were opened and recognised."""
    counts = Counter()

    def count(name):
        call = getattr(load, name)

        def counting(*arguments, **options):
            counts[name] += 1
            return call(*arguments, **options)

        monkeypatch.setattr(load, name, counting)

    for name in ("open_weights", "recognise"):
        count(name)
    return counts


@pytest.fixture
def pictures(tmp_path):
    """A folder of nine pictures, `shade-1.png` to `shade-9.png`, and one that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(1, CLASSES):
        grey(STEP * number).save(folder / f"shade-{number}.png")
    (folder / "shade-4b.png").write_bytes(b"no picture")
    return folder


def _picture(seed, size=(12, 10)):
    """Noise that differs from seed to seed."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


@pytest.fixture
def picture():
    """Makes an RGB picture of noise, of any size."""
    return _picture


@pytest.fixture
def png():
    """Makes the bytes of a PNG file."""

    def encode(seed=0, size=(12, 10)):
        stream = io.BytesIO()
        _picture(seed, size).save(stream, "PNG")
        return stream.getvalue()

    return encode


@pytest.fixture
def folder(tmp_path, png):
    """Writes class folders: `folder({"cat": 3, "dog": 2})` has cat/0.png to cat/2.png and so on."""

    def write(counts, name="data", size=(12, 10)):
        root = tmp_path / name
        for number, (label, count) in enumerate(counts.items()):
            (root / label).mkdir(parents=True)
            for position in range(count):
                data = png(1000 * number + position, size)
                (root / label / f"{position}.png").write_bytes(data)
        return root

    return write


@pytest.fixture
def zipped():
    """Packs a folder into a zip archive beside it."""

    def pack(root, method=zipfile.ZIP_STORED):
        path = root.with_name(f"{root.name}-{method}.zip")
        with zipfile.ZipFile(path, "w", method) as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(root))
        return path

    return pack


@pytest.fixture
def examples(folder):
    """Twenty pictures of cats and ten of dogs, all noise."""
    return open_examples(folder({"cat": 20, "dog": 10}))


def encoded(shade, size=(16, 16), form="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, (shade,) * 3).save(stream, form)
    return stream.getvalue()


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def write_table(path, columns, **options):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)
    return path


class Make:
    """Writers of pictures, archives and tables, in one fixture."""

    encoded = staticmethod(encoded)
    tar = staticmethod(write_tar)
    zip = staticmethod(write_zip)
    table = staticmethod(write_table)


@pytest.fixture(scope="session")
def make():
    return Make


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


ANIMALS = ("ant", "bee", "cat, house cat", "dog", "eel", "fox", "gnu")


@pytest.fixture
def classes():
    """The classes of a model that knows seven animals."""
    return Classes(len(ANIMALS), Labels(ANIMALS), "a test")


def paint_red(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(path)


@pytest.fixture
def paint():
    """Writes a red picture of a shade, `paint(path, shade)`."""
    return paint_red


@pytest.fixture
def animals(tmp_path):
    """70 pictures in 7 class folders, one damaged; the n-th is of shade n."""
    root = tmp_path / "data"
    for number in range(70):
        name = ANIMALS[number // 10].split(",")[0]
        paint_red(root / name / f"{number:02}.png", number)
    (root / "bee" / "13.png").write_bytes(b"not a picture")
    return root


SIDE, POSITIONS, KINDS = 64, 16, 5  # of a segmentation model: input, scores, classes


def _write_segmenter(path, head, num_classes=KINDS, **facts):
    architecture = ARCHITECTURES["test_v2"]
    weights = random_weights(architecture, num_classes, segmentation=head)
    info = WeightsInfo(
        name="small",
        labels=tuple(f"class {number}, a kind" for number in range(num_classes)),
        preprocess=replace(SEGMENTATION, size=SIDE),
        **facts,
    )
    save_weights(weights, path, info=info)
    return path


@pytest.fixture(scope="session")
def upernet(tmp_path_factory):
    """Random weights of a small V2 with UPerNet."""
    return _write_segmenter(
        tmp_path_factory.mktemp("upernet") / "u.safetensors", SegmentationHead(width=16)
    )


@pytest.fixture(scope="session")
def light(tmp_path_factory):
    """The same with the light head."""
    head = SegmentationHead("mlp", width=16)
    return _write_segmenter(tmp_path_factory.mktemp("mlp") / "m.safetensors", head)


def mock_scores(batch):
    """Scores that depend on each pixel, and on its position in the window."""
    pixels = batch.astype(np.float32) / 64
    rows = np.arange(SIDE, dtype=np.float32)[None, :, None, None] / SIDE
    maps = np.concatenate([pixels, pixels[..., :2] * (1 + rows)], axis=-1)
    shape = (len(batch), POSITIONS, SIDE // POSITIONS, POSITIONS, SIDE // POSITIONS, KINDS)
    return maps.reshape(shape).mean((2, 4))


@dataclass
class Mock:
    """The model, and the sizes of the batches that it was given."""

    scores: Callable = mock_scores
    sizes: list = field(default_factory=list)


@pytest.fixture
def mock_segmenter(monkeypatch):
    """Has every engine give `mock_scores`."""
    mock = Mock()

    def answer(batch):
        mock.sizes.append(len(batch))
        return (mock_scores(batch),)

    def open_mock(network, options):
        return MockEngine(answer, size=network.preprocess.size, outputs=options.outputs)

    runtime = opening.Runtime(lambda: True, (), open_mock, int8=True)
    monkeypatch.setattr(opening, "ENGINES", {"mock": runtime})
    return mock
