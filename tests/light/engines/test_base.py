import numpy as np
import pytest

from convnext.engines import Engine, InputSpec
from convnext.engines.mock import MockEngine
from convnext.errors import ArgumentError, ArgumentTypeError


class Mean(Engine):
    def __init__(self, dtype="uint8"):
        self.input = InputSpec((None, 8, 3), dtype)
        self.outputs = ("logits", "embedding")

    def run(self, batch):
        means = batch.mean((1, 2), dtype=np.float32)
        return means, 2 * means


def test_an_engine_of_ten_lines():
    batch = np.full((2, 5, 8, 3), 7, np.uint8)
    engine = Mean()
    assert engine.predict(batch).tolist() == [[7, 7, 7]] * 2
    assert engine.predict_all(batch)["embedding"].tolist() == [[14, 14, 14]] * 2
    assert repr(engine) == "<custom engine, float32, logits, embedding>"


def test_no_pictures_give_no_results():
    assert Mean().predict(np.zeros((0, 9, 8, 3), np.uint8)).shape == (0, 3)


def test_a_batch_that_is_not_contiguous():
    batch = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 3, 8, 8).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(Mean().predict(batch), Mean().predict(batch.copy()))


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ([[1]], ArgumentTypeError, "not list"),
        (np.zeros((1, 8, 8, 3), np.float32), ArgumentTypeError, "pixels in 0..255"),
        (np.zeros((1, 8, 9, 3), np.uint8), ArgumentError, "(pictures, any, 8, 3)"),
        (np.zeros((8, 8, 3), np.uint8), ArgumentError, "(pictures, any, 8, 3)"),
        (np.zeros((1, 3, 8, 8), np.uint8), ArgumentError, "(1, 3, 8, 8)"),
    ],
)
def test_invalid_batches_are_refused(batch, error, words):
    with pytest.raises(error) as caught:
        Mean().predict(batch)
    assert words in str(caught.value)


def test_normalised_pictures_are_asked_for_as_such():
    with pytest.raises(ArgumentTypeError, match="normalised pictures as float32"):
        Mean("float32").predict(np.zeros((1, 8, 8, 3), np.uint8))


def test_the_mock_remembers_its_batches():
    engine = MockEngine(num_classes=5, size=4)
    grey = np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (0, 100)])
    first, second = engine.predict(grey)
    assert first.shape == (5,)
    assert not np.allclose(first, second)
    assert engine.batch_sizes == [2]
