"""The evaluation loop: labels, unreadable pictures and interruptions."""

from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from convnext.data.classes import Classes
from convnext.data.datasets import open_dataset
from convnext.engines.mock import MockEngine
from convnext.errors import ArgumentError
from convnext.evaluate.journal import open_journal
from convnext.evaluate.run import READ, evaluate


def test_answers_are_those_of_the_pictures(animals, classes, recipe, engine, logits):
    data = open_dataset(animals, classes)
    found = evaluate(engine, recipe, data, 16)
    good = [number for number in range(70) if number != 13]
    right = sum(int(logits[number].argmax()) == number // 10 for number in good)
    assert (found.accuracy.pictures, found.accuracy.correct) == (69, right)
    assert found.accuracy.within_5 == sum(
        number // 10 in np.argsort(-logits[number])[:5] for number in good
    )
    [bad] = found.bad
    assert bad.id == "bee/13.png"
    assert "not a picture in a supported format" in bad.error
    assert engine.batch_sizes == [15, 16, 16, 16, 6]
    assert found.seconds > 0


def test_a_batch_without_a_readable_picture(paint, classes, recipe, engine, tmp_path):
    for number in range(4):
        paint(tmp_path / "ant" / f"{number}.png", number)
    for number in (0, 1, 3):
        (tmp_path / "ant" / f"{number}.png").write_bytes(b"")
    found = evaluate(engine, recipe, open_dataset(tmp_path, classes), 2)
    assert (found.accuracy.pictures, len(found.bad)) == (1, 3)
    assert engine.batch_sizes == [1]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_run_goes_on_with_the_same_numbers(
    animals, classes, recipe, engine, tmp_path, after
):
    data = open_dataset(animals, classes)
    with open_journal(tmp_path / "whole", {}) as journal:
        whole = evaluate(engine, recipe, data, 16, journal=journal)

    class Interrupted(MockEngine):
        def run(self, batch):
            if len(self.batch_sizes) == after:
                raise KeyboardInterrupt
            self.batch_sizes.append(len(batch))
            return engine.run(batch)

    path = tmp_path / "parts"
    with open_journal(path, {}) as journal, pytest.raises(KeyboardInterrupt):
        evaluate(Interrupted(size=8), recipe, data, 16, journal=journal)
    with path.open("ab") as file:
        file.write(b'{"id": "torn')
    engine.batch_sizes.clear()
    with open_journal(path, {}, "resume") as journal:
        assert len(journal.records) == 16 * after
        found = evaluate(engine, recipe, data, 16, journal=journal)
    assert len(engine.batch_sizes) == 5 - after
    assert (found.accuracy, found.bad) == (whole.accuracy, whole.bad)
    with open_journal(path, {}, "resume") as journal:
        again = evaluate(engine, recipe, data, 16, journal=journal)
    assert len(engine.batch_sizes) == 5 - after
    assert (again.accuracy, again.seconds) == (whole.accuracy, found.seconds)


def test_a_subset_competes(animals, classes, recipe, engine, logits, tmp_path):
    (tmp_path / "two.txt").write_text("ant\nfox\n")
    data = open_dataset(animals, classes, subset=tmp_path / "two.txt")
    found = evaluate(engine, recipe, data).accuracy
    numbers = [*range(10), *range(50, 60)]
    right = sum((logits[n][0] >= logits[n][5]) == (n < 10) for n in numbers)
    assert (found.pictures, found.correct, found.within_5) == (20, right, None)


def test_pictures_are_read_as_the_authors_do(tmp_path):
    image = Image.new("RGBA", (2, 1), (200, 100, 50, 0))
    image.putpixel((1, 0), (1, 2, 3, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "x.png", exif=exif)
    expected = np.asarray(Image.open(tmp_path / "x.png").convert("RGB"))
    np.testing.assert_array_equal(np.asarray(READ(tmp_path / "x.png")), expected)
    assert expected.shape == (1, 2, 3)


def test_a_model_with_other_classes_is_refused(animals, recipe, engine):
    data = open_dataset(animals, Classes(7), sort_folders=True)
    odd = MockEngine(num_classes=8, size=8)
    with pytest.raises(ArgumentError, match=r"outputs have shape \(8,\), but there are 7"):
        evaluate(odd, recipe, data)
    assert engine.batch_sizes == []


def test_progress(animals, classes, recipe, engine, capsys):
    data = open_dataset(animals, classes)
    evaluate(engine, recipe, data, progress=True)
    assert capsys.readouterr().err == ""  # no terminal
    with patch("sys.stderr.isatty", return_value=True, create=True):
        evaluate(engine, recipe, data, progress=True)
    output = capsys.readouterr().err
    assert "70/70" in output
    assert "1 bad" in output
