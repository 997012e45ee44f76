"""Stored answers of a teacher: those to a run, and those to plain pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from convnext.cli.vectors import npz_file, parquet_file
from convnext.data.examples import open_examples
from convnext.errors import ArgumentError, ConvNeXtError, TrainingError
from convnext.images.recipe import Preprocess
from convnext.train.augment.mixing import Mixer
from convnext.train.augment.transforms import Augmentation
from convnext.train.distillation import stored
from convnext.train.distillation.fixed import FixedAnswers, are_fixed
from convnext.train.distillation.stored import StoredAnswers, views_of
from convnext.train.input.loader import Loader
from convnext.train.input.order import Order
from convnext.train.recipe import load_recipe
from convnext.train.sections import Distill
from convnext.weights.info import WeightsInfo

SMALL = ["model.resolution=8", "run.batch_size=8", "augment.padding=0", "run.seed=3"]
PLAIN = ["mixing.mixup=0", "mixing.cutmix=0", "mixing.smoothing=0"]
MIXED = ["mixing.mixup=0.8", "mixing.cutmix=1.0"]
COUNT = 20  # pictures of each class


def recipe_of(*changes):
    return load_recipe("cifar10", [*SMALL, *PLAIN, *changes])


@pytest.fixture
def data(folder):
    return folder({"cat": COUNT, "dog": COUNT})


class Sums:
    """A teacher whose answers are sums of the pictures' values."""

    name, digest, about, width = "sums", "5" * 64, "by hand", 2

    def __init__(self, scale=0.1):
        self.scale = scale
        self.steps = []

    def answers(self, batch):
        self.steps.append(batch.step)
        sums = batch.pictures.sum(axis=(1, 2, 3)) * np.float32(self.scale)
        return np.stack([sums, -sums], axis=1)


def batches(recipe, data, start=0, stop=6, host=(0, 1)):
    examples = open_examples(data)
    augmentation = Augmentation(recipe.augment, recipe.model.preprocess)
    order = Order(examples.labels, seed=recipe.run.seed, balanced=recipe.data.balanced)
    mixer = Mixer(recipe.mixing, 2)
    options = {"batch_size": recipe.run.batch_size, "seed": recipe.run.seed, "workers": 0}
    with Loader(examples, augmentation, mixer, order, host=host, **options) as loader:
        return list(loader.batches(start, stop))


def views(recipe, data):
    return views_of(recipe, open_examples(data))


@pytest.fixture
def run(data, tmp_path):
    """A stored run of six steps: its recipe, its file, and what was answered."""
    recipe, path = recipe_of(*MIXED), tmp_path / "x.answers"
    answers = StoredAnswers(path, views(recipe, data), Sums())
    found = [answers.answers(batch) for batch in batches(recipe, data)]
    return recipe, path, found


def test_answers_are_read_as_they_were_stored(run, data):
    recipe, path, found = run
    again = StoredAnswers(path, views(recipe, data))
    assert (again.name, again.digest) == ("sums", f"{Sums.digest} in float16")
    assert again.about == f"answers to 6 steps in {path}"
    again.check_steps(6)
    for batch, expected in zip(batches(recipe, data), found, strict=True):
        answers = again.answers(batch)
        assert (answers.dtype, answers.shape) == (np.float32, (8, 2))
        np.testing.assert_array_equal(answers, expected)
        exact = Sums().answers(batch)
        np.testing.assert_array_equal(answers, exact.astype(np.float16).astype(np.float32))


def test_an_interrupted_run_keeps_what_it_has(run, data):
    recipe, path, found = run
    whole = path.read_bytes()
    path.write_bytes(whole[:-11])  # killed while it wrote the last record
    teacher = Sums()
    answers = StoredAnswers(path, views(recipe, data), teacher)
    assert answers.about == f"by hand; answers to 5 steps in {path}"
    for batch, expected in zip(batches(recipe, data, 2), found[2:], strict=True):
        np.testing.assert_array_equal(answers.answers(batch), expected)
    assert teacher.steps == [5]
    assert path.read_bytes() == whole


def test_a_damaged_record_is_computed_again(run, data):
    recipe, path, found = run
    whole = path.read_bytes()
    size = (len(whole) - whole.index(b"\n") - 1) // 6
    for offset in (-size - 1, -2 * size, -2 * size + 9, -size - 20):  # end, step, sum, means
        damaged = bytearray(whole)
        damaged[offset] ^= 4
        path.write_bytes(damaged)
        reading = StoredAnswers(path, views(recipe, data))
        fourth = batches(recipe, data, 4, 5)[0]
        with pytest.raises(TrainingError, match="no answers to step 4, or they are damaged"):
            reading.answers(fourth)
        teacher = Sums()
        mended = StoredAnswers(path, views(recipe, data), teacher)
        np.testing.assert_array_equal(mended.answers(fourth), found[4])
        assert teacher.steps == [4]
        assert path.read_bytes() == whole


def test_a_run_that_begins_later_leaves_what_it_skipped(run, data, tmp_path):
    recipe, _, found = run
    path = tmp_path / "late.answers"
    answers = StoredAnswers(path, views(recipe, data), Sums())
    for batch in batches(recipe, data, 3):
        answers.answers(batch)
    reading = StoredAnswers(path, views(recipe, data))
    np.testing.assert_array_equal(reading.answers(batches(recipe, data, 5)[0]), found[5])
    with pytest.raises(TrainingError, match=r"no answers to step 0.*--teacher sums --store"):
        reading.answers(batches(recipe, data)[0])


def test_a_file_that_ends_before_the_run_is_refused_at_once(run, data):
    recipe, path, _ = run
    path.write_bytes(path.read_bytes()[:-11])
    with pytest.raises(ArgumentError, match=r"5 of the 6 steps.*--store-answers"):
        StoredAnswers(path, views(recipe, data)).check_steps(6)
    StoredAnswers(path, views(recipe, data), Sums()).check_steps(6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("augment.flip=0.25", "augment.flip is 0.25 here and 0.5 there"),
        ("mixing.mixup=0.1", "mixing.mixup is 0.1 here and 0.8 there"),
        ("run.seed=4", "run.seed is 4 here and 3 there"),
        ("run.batch_size=4", "run.batch_size is 4 here and 8 there"),
        ("model.resolution=16", "model.resolution is 16 here and 8 there"),
        ("model.mean=[0, 0, 0]", "model.mean is [0.0, 0.0, 0.0] here"),
        ("data.balanced=true", "data.balanced is True here and False there"),
    ],
)
@pytest.mark.parametrize("teacher", [None, Sums()])
def test_another_view_of_the_pictures_is_refused_by_name(run, data, change, words, teacher):
    _, path, _ = run
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=re.escape(words)):
        StoredAnswers(path, views(recipe_of(*MIXED, change), data), teacher)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    ["optimizer.learning_rate=1e-2", "mixing.smoothing=0.3", "run.epochs=3", "distill.hard=0.5"],
)
def test_settings_that_change_no_picture_may_differ(run, data, change):
    recipe, path, found = run
    reading = StoredAnswers(path, views(recipe_of(*MIXED, change), data))
    np.testing.assert_array_equal(reading.answers(batches(recipe, data)[0]), found[0])


def test_other_pictures_are_refused(run, data):
    recipe, path, _ = run
    (data / "cat" / "0.png").rename(data / "cat" / "00.png")
    with pytest.raises(ArgumentError, match="the pictures or their labels are others"):
        StoredAnswers(path, views(recipe, data))
    (data / "cat" / "00.png").rename(data / "cat" / "0.png")
    (data / "dog").rename(data / "dogs")
    with pytest.raises(ArgumentError, match=r"its classes are cat, dog, here cat, dogs"):
        StoredAnswers(path, views(recipe, data))


def test_a_picture_that_was_changed_under_its_name_is_noticed(run, data):
    recipe, path, _ = run
    Image.new("RGB", (12, 10), (250, 250, 250)).save(data / "cat" / "0.png")
    reading = StoredAnswers(path, views(recipe, data))
    with pytest.raises(TrainingError, match="answers to other pictures at step"):
        list(map(reading.answers, batches(recipe, data)))


def test_pictures_that_differ_by_their_decoder_alone_are_not_refused(run, data):
    recipe, path, found = run
    batch = batches(recipe, data)[0]
    near = replace(batch, pictures=batch.pictures + np.float32(0.01))
    np.testing.assert_array_equal(StoredAnswers(path, views(recipe, data)).answers(near), found[0])


def test_answers_of_another_teacher_are_refused(run, data):
    recipe, path, _ = run

    class Other(Sums):
        digest = "6" * 64

    with pytest.raises(ArgumentError, match="another teacher, sums: digest is"):
        StoredAnswers(path, views(recipe, data), Other())
    with pytest.raises(ArgumentError, match=r"distill\.precision is 'float32' here"):
        StoredAnswers(path, views(recipe, data), Sums(), Distill(precision="float32"))


def test_several_hosts_read_their_rows(run, data):
    recipe, path, found = run
    for rank in range(2):
        reading = StoredAnswers(path, views(recipe, data), host=(rank, 2))
        rows = stored.paired_rows(rank, 2, 8)
        for batch, expected in zip(batches(recipe, data, host=(rank, 2)), found, strict=True):
            np.testing.assert_array_equal(reading.answers(batch), expected[rows])
    with pytest.raises(ArgumentError, match="Several hosts cannot store answers"):
        StoredAnswers(path, views(recipe, data), Sums(), host=(0, 2))


def test_answers_beyond_float16_are_not_stored(data, tmp_path):
    recipe = recipe_of()
    answers = StoredAnswers(tmp_path / "x.answers", views(recipe, data), Sums(scale=1e6))
    with pytest.raises(TrainingError, match=r"beyond float16.*leave out --store-answers"):
        answers.answers(batches(recipe, data)[0])
    assert not (tmp_path / "x.answers").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"PK\x03\x04", b"[]\n", b'{"format": 1}\n', b'{"format": "convnext-answers-1"}\n'],
)
@pytest.mark.parametrize("teacher", [None, Sums()])
def test_files_of_other_kinds_are_refused(content, teacher, data, tmp_path):
    path = tmp_path / "x.answers"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match="is no file of --store-answers"):
        StoredAnswers(path, views(recipe_of(), data), teacher)
    assert path.read_bytes() == content


def test_a_truncated_header_is_refused(run, data):
    recipe, path, _ = run
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArgumentError, match="is no file of --store-answers"):
        StoredAnswers(path, views(recipe, data))


def test_names_of_files_that_cannot_be(data, tmp_path):
    asked = views(recipe_of(), data)
    with pytest.raises(ArgumentError, match=r"There is no file .*--store-answers"):
        StoredAnswers(tmp_path / "x.answers", asked)
    with pytest.raises(ArgumentError, match=r"ends in \.answers"):
        StoredAnswers(tmp_path / "x.npz", asked, Sums())
    with pytest.raises(ArgumentError, match=r"does not exist. Create it first"):
        StoredAnswers(tmp_path / "absent" / "x.answers", asked, Sums())


def test_a_full_disk_is_an_error(run, data, monkeypatch):
    recipe, path, _ = run
    answers = StoredAnswers(path, views(recipe, data), Sums())

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored, "_checksum", lambda *_: fail() if path.exists() else 0)
    with pytest.raises(ConvNeXtError, match=r"cannot be .*: No space left on device"):
        answers.answers(batches(recipe, data, 6, 7)[0])


# ----------------------------------------------------------------- answers to plain pictures


def logits_of(examples):
    """Some logits for each picture, by name."""
    rng = np.random.default_rng(7)
    names = [examples.name(number) for number in range(len(examples))]
    return dict(zip(names, rng.normal(size=(len(names), 2)).astype(np.float32), strict=True))


@pytest.fixture(params=["npz", "parquet"])
def write(request, data, tmp_path):
    """Writes a file of `convnext predict --logits`."""
    if request.param == "parquet":
        pytest.importorskip("pyarrow")

    def written(logits, labels=("cat", "dog"), start=f"{data}/"):
        path = tmp_path / f"plain.{request.param}"
        info = WeightsInfo(name="plain", labels=labels, preprocess=Preprocess(size=8))
        facts = {"model": "plain", "annotations": json.dumps(info.to_metadata())}
        opened = npz_file if request.param == "npz" else parquet_file
        with opened(path, 2, facts, "logits") as file:
            for name, vector in logits.items():
                file.add(f"{start}{name}", vector)
        return path

    return written


def fixed(path, recipe, data, host=(0, 1)):
    examples = open_examples(data)
    order = Order(examples.labels, seed=recipe.run.seed, balanced=recipe.data.balanced)
    mixer = Mixer(recipe.mixing, 2)
    return FixedAnswers(path, recipe, examples, order, mixer, host)


def test_fixed_answers_are_those_of_each_picture_whatever_its_view(write, data):
    examples, recipe = open_examples(data), recipe_of("distill.fixed=true")
    logits = logits_of(examples)
    path = write(dict(reversed(logits.items())))
    assert are_fixed(path)
    teacher = fixed(path, recipe, data)
    assert teacher.name == "plain"
    order = Order(examples.labels, seed=recipe.run.seed)
    for batch in batches(recipe, data):
        names = [examples.name(number) for number in order.indices(8 * batch.step, 8)]
        np.testing.assert_array_equal(teacher.answers(batch), [logits[name] for name in names])


def test_columns_are_those_of_the_runs_classes(write, data):
    recipe = recipe_of("distill.fixed=true")
    logits = logits_of(open_examples(data))
    batch = batches(recipe, data)[0]
    expected = fixed(write(logits), recipe, data).answers(batch)
    swapped = fixed(write(logits, labels=("dog", "cat")), recipe, data).answers(batch)
    np.testing.assert_array_equal(swapped, expected[:, ::-1])
    with pytest.raises(ArgumentError, match="does not know 1 of the 2 classes: dog"):
        fixed(write(logits, labels=("cat", "horse")), recipe, data)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_answers_to_mixed_pictures_are_mixed_as_labels_are(write, data, temperature):
    recipe = recipe_of(
        "distill.fixed=true", "mixing.mixup=0.8", f"distill.temperature={temperature}"
    )
    examples = open_examples(data)
    names = logits_of(examples)
    hot = {n: np.float32([60, 0] if n.startswith("cat") else [0, 60]) for n in names}
    teacher = fixed(write(hot), recipe, data)
    for batch in batches(recipe, data):
        answers = teacher.answers(batch) / temperature
        probabilities = np.exp(answers) / np.exp(answers).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities, batch.targets, atol=1e-5)


def test_replaced_pictures_have_the_answers_of_those_that_replace_them(write, data):
    recipe = recipe_of("distill.fixed=true")
    examples = open_examples(data)
    hot = {
        examples.name(n): np.float32([60, 0] if examples.labels[n] == 0 else [0, 60])
        for n in range(len(examples))
    }
    for number in range(0, COUNT, 2):
        (data / "cat" / f"{number}.png").write_bytes(b"no picture")
    teacher = fixed(write(hot), recipe, data)
    bad = 0
    for batch in batches(recipe, data, 0, 10):
        answers = teacher.answers(batch)
        np.testing.assert_array_equal(answers.argmax(axis=1), batch.targets.argmax(axis=1))
        bad += len(batch.bad)
    assert bad > 5


def test_fixed_answers_on_several_hosts(write, data):
    recipe = recipe_of("distill.fixed=true", *MIXED)
    path = write(logits_of(open_examples(data)))
    alone = [fixed(path, recipe, data).answers(batch) for batch in batches(recipe, data)]
    for rank in range(2):
        teacher, rows = fixed(path, recipe, data, (rank, 2)), stored.paired_rows(rank, 2, 8)
        for batch, expected in zip(batches(recipe, data, host=(rank, 2)), alone, strict=True):
            np.testing.assert_allclose(teacher.answers(batch), expected[rows], rtol=1e-6)


@pytest.mark.parametrize("start", ["", "data/", "elsewhere/train.zip/", "./"])
def test_pictures_are_known_by_the_end_of_their_path(write, data, start):
    recipe = recipe_of("distill.fixed=true")
    logits = logits_of(open_examples(data))
    batch = batches(recipe, data)[0]
    expected = fixed(write(logits), recipe, data).answers(batch)
    others = {f"../other/{name}": vector + 1 for name, vector in list(logits.items())[3:]}
    teacher = fixed(write(others | logits, start=start), recipe, data)
    np.testing.assert_array_equal(teacher.answers(batch), expected)


def test_pictures_without_an_answer_are_an_error(write, data):
    recipe = recipe_of("distill.fixed=true")
    logits = logits_of(open_examples(data))
    del logits["dog/3.png"]
    with pytest.raises(ArgumentError, match=r"no answers to 1 of the 40 pictures .*dog/3\.png"):
        fixed(write(logits), recipe, data)
    with pytest.raises(ArgumentError, match="no answers to 40 of the 40"):
        fixed(write({}), recipe, data)
    with pytest.raises(ArgumentError, match="no answers to 40 of the 40"):
        fixed(write(logits, start="x"), recipe, data)


def test_fixed_answers_are_used_on_request_alone(write, data):
    logits = logits_of(open_examples(data))
    with pytest.raises(ArgumentError, match=r"Set distill\.fixed=true"):
        fixed(write(logits), recipe_of(), data)


def test_logits_without_names_need_distill_classes(write, data):
    path = write(logits_of(open_examples(data)), labels=None)
    with pytest.raises(ArgumentError, match=r"Set distill\.classes"):
        fixed(path, recipe_of("distill.fixed=true"), data)
    fixed(path, recipe_of("distill.fixed=true", "distill.classes=same"), data)


def test_infinite_and_damaged_logits_are_refused(write, data):
    recipe, logits = recipe_of("distill.fixed=true"), logits_of(open_examples(data))
    path = write(logits | {"cat/0.png": np.float32([np.nan, 0])})
    with pytest.raises(ArgumentError, match="no finite numbers"):
        fixed(path, recipe, data)
    path = write(logits)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArgumentError, match="damaged"):
        fixed(path, recipe, data)


def test_weights_are_not_taken_for_answers(tmp_path):
    np.savez(tmp_path / "weights.npz", kernel=np.ones(3))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("weights.npz", "text.npz", "absent.npz", "convnext_tiny", "x.onnx"):
        assert not are_fixed(tmp_path / name)
