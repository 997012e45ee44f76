"""What every engine, graph, layout, export format and contender of a race does, held once.

A test module subclasses a contract, or calls a function, and says which its subject is.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from convnext.architecture import Architecture
from convnext.bench.runners import RunnerOptions
from convnext.engines import open_engine
from convnext.errors import ArgumentError
from convnext.images.recipe import Preprocess
from convnext.images.transform import normalise
from convnext.weights.layouts import recognise, to_canonical, to_foreign

SIDES = (8, 48, 77, *(pytest.param(side, marks=pytest.mark.slow) for side in (16, 32, 64)))


def noise(count: int, side: int = 32) -> np.ndarray:
    """Pictures of noise, other ones for each count."""
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def assert_close(ours: np.ndarray, theirs: np.ndarray, share: float = 1e-4) -> None:
    """The same shape, and no difference above a share of the largest value."""
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max(initial=0) <= share * np.abs(theirs).max(initial=0)


class EngineContract:
    """An engine, with the file of the fixture `weights_file`: a V2 of 10 classes."""

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {"threads": 1}
    streams: ClassVar[tuple[int | None, ...]] = (None, 2)
    refused: ClassVar[tuple[str, ...]] = ()  # precisions that it does not have

    def open(self, model, **options):
        defaults = {"size": 32, "precision": "float32", **self.options}
        return open_engine(model, self.name, **defaults | options)

    @pytest.mark.parametrize("count", [0, 1, 4, 9, 33])
    def test_a_batch_is_its_pictures(self, weights_file, count):
        batch = noise(count)
        for streams in self.streams:
            engine = self.open(weights_file, streams=streams, outputs=("embedding", "logits"))
            results = engine.predict_all(batch)
            assert tuple(results) == engine.outputs == ("embedding", "logits")
            assert [each.shape for each in results.values()] == [(count, 32), (count, 10)]
            alone = [engine.predict_all(picture[None])["logits"] for picture in batch]
            assert_close(results["logits"], np.concatenate([results["logits"][:0], *alone]))

    def test_every_output(self, weights_file):
        names = ("logits", "embedding", "tokens", "stage_0", "stage_3")
        results = self.open(weights_file, size=64, outputs=names).predict_all(noise(2, 64))
        maps = [(2, 4, 4, 32), (2, 32, 32, 8), (2, 4, 4, 32)]
        assert [results[name].shape for name in names] == [(2, 10), (2, 32), *maps]
        assert all(values.dtype == np.float32 for values in results.values())
        assert_close(self.open(weights_file, size=64).predict(noise(2, 64)), results["logits"])

    def test_pixels_and_what_they_are_normalised_to(self, weights_file):
        expected = self.open(weights_file).predict(noise(2))
        normalised = normalise(noise(2), Preprocess(size=32))
        assert_close(self.open(weights_file, input="float32").predict(normalised), expected)

    def test_results_stay_as_they_were_returned(self, weights_file):
        engine = self.open(weights_file)
        first = engine.predict(noise(1))
        before = first.copy()
        engine.predict(255 - noise(1))
        np.testing.assert_array_equal(first, before)

    def test_any_size(self, weights_file):
        engine = self.open(weights_file, size=None, any_size=True, outputs="stage_3")
        assert engine.predict(noise(5, 64)).shape == (5, 2, 2, 32)
        assert engine.predict(noise(1, 97)[:, :70]).shape == (1, 2, 3, 32)
        with pytest.raises(ArgumentError, match="each side must have 32 pixels or more"):
            engine.predict(noise(1, 31))

    def test_eight_callers_get_what_one_gets(self, weights_file):
        for streams in self.streams:
            engine = self.open(weights_file, streams=streams)
            batches = [noise(count) for count in (1, 2, 5, 8, 1, 3, 4, 9)]
            alone = [engine.predict(batch) for batch in batches]
            together = [[] for _ in batches]

            def call(number, engine=engine, batches=batches, together=together):
                for _ in range(5):
                    together[number].append(engine.predict(batches[number]))

            callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            for expected, results in zip(alone, together, strict=True):
                assert len(results) == 5
                for result in results:
                    np.testing.assert_array_equal(result, expected)

    def test_what_it_has_not_is_refused(self, weights_file):
        for precision in self.refused:
            with pytest.raises(ArgumentError, match=f"{precision}(?s:.*)float32"):
                self.open(weights_file, precision=precision)
        with pytest.raises(ArgumentError, match="NPU9"):
            self.open(weights_file, device="NPU9")


class GraphContract:
    """A graph of another runtime, held against the oracle of `tests/light/graphs/conftest.py`."""

    def build(self, network, *outputs, **options):
        """The graph of a network."""
        raise NotImplementedError

    def answers(self, graph, pictures):
        """Its outputs by name."""
        raise NotImplementedError

    def check(self, oracle, network, pictures, *outputs, **options):
        """The graph gives what the architecture gives as it is written."""
        ours = self.answers(self.build(network, *outputs, **options), pictures)
        expected = oracle.answers(network, pictures)
        assert set(ours) == set(outputs or ("logits",))
        for name, values in ours.items():
            assert_close(values, expected[name], 2e-5)

    @pytest.mark.parametrize("side", SIDES)
    def test_every_output_of_every_variant(self, oracle, side):
        """The smaller sides relax the strides: 8 and 16 down to the last downsampling but one."""
        for variant in oracle.variants:
            network = oracle.network(variant, side)
            self.check(oracle, network, oracle.pictures(network), *network.outputs)

    def test_any_size_and_any_number(self, oracle):
        network = oracle.network("test_v2", any_size=True)
        for count, side in ((1, 32), (3, 45), (2, 64)):
            pictures = oracle.pictures(network, count, side)
            self.check(oracle, network, pictures, "logits", "stage_1")

    def test_pictures_that_are_normalised_already_and_have_four_channels(self, oracle):
        network = oracle.network("test_v1", 32, channels=4)
        pictures = np.random.default_rng(5).standard_normal((2, 32, 32, 4), np.float32)
        self.check(oracle, network, pictures, input="float32")

    def test_probabilities_on_request(self, oracle):
        network = oracle.network()
        pictures = oracle.pictures(network)
        logits = oracle.answers(network, pictures)["logits"]
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        [ours] = self.answers(self.build(network, softmax=True), pictures).values()
        assert_close(ours, expected, 2e-5)

    def test_no_classifier_and_no_head(self, oracle):
        network = oracle.network("test_v1", num_classes=0)
        self.check(oracle, network, oracle.pictures(network), "embedding")
        bare = oracle.network("test_v1", num_classes=0, traits={"head": "none"})
        self.check(oracle, bare, oracle.pictures(bare), "stage_3")
        with pytest.raises(ArgumentError, match="It can give: embedding, stage_0"):
            self.build(network)

    def test_a_picture_of_one_colour(self, oracle):
        """Nothing divides by a deviation or a norm of zero."""
        network = oracle.network("test_v2", 64)
        for shade in (0, 255):
            self.check(oracle, network, np.full((1, 64, 64, 3), shade, np.uint8))


# ---- layouts of weights


def there_and_back(
    ours: dict[str, np.ndarray], layout: str, architecture: Architecture
) -> dict[str, np.ndarray]:
    """Weights in a layout, which is recognised and read as the same numbers in the same order."""
    theirs = to_foreign(ours, layout, architecture)
    found = recognise({name: array.shape for name, array in theirs.items()})
    assert (found.layout, found.architecture.dims) == (layout, architecture.dims)
    assert_same_weights(to_canonical(theirs), ours)
    return theirs


def assert_survives(theirs: dict[str, np.ndarray], layout: str) -> None:
    """A library's names and numbers through ours and back are the same."""
    architecture = recognise({name: array.shape for name, array in theirs.items()}).architecture
    back = to_foreign(to_canonical(theirs), layout, architecture)
    assert_same_weights({name: back[name] for name in theirs}, theirs)
    assert back.keys() == theirs.keys()


def assert_same_weights(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """The same names in the same order with the same numbers."""
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


# ---- export formats


def by_onnxruntime(path: Path, batch: np.ndarray) -> np.ndarray:
    """What an ONNX file answers."""
    session = pytest.importorskip("onnxruntime").InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def by_openvino(path: Path, batch: np.ndarray) -> np.ndarray:
    """What a file of OpenVINO's answers."""
    core = pytest.importorskip("convnext.graphs.untracked_openvino").core()
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(str(path)), "CPU", hint)([batch])[0]


def by_keras(path: Path, batch: np.ndarray) -> np.ndarray:
    """What a Keras file answers."""
    import keras

    return keras.saving.load_model(path).predict_on_batch(batch)


def by_litert(path: Path, batch: np.ndarray) -> np.ndarray:
    """What a LiteRT file answers."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_path=str(path))
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(taken["index"], batch)
    interpreter.invoke()
    return interpreter.get_tensor(given["index"])


RUN = {
    ".onnx": by_onnxruntime, ".xml": by_openvino, ".keras": by_keras, ".tflite": by_litert,
}  # fmt: skip


def exported(
    model: Any,
    path: Path,
    batch: np.ndarray,
    expected: np.ndarray,
    share: float = 1e-4,
    **options: Any,
) -> Any:
    """Export; the file's own runtime answers as expected, for one picture and for all."""
    from convnext import export

    report = export(model, path, **options)
    assert report.verdict.good
    for part in (batch[:1], batch):
        assert_close(RUN[path.suffix](path, part), expected[: len(part)], share)
    return report


# ---- contenders of a race


def contender_answers(opener: Any, material: Any, name: str, precision: str = "float32") -> Any:
    """The logits of a contender that was opened for a race, twice the same."""
    batch = material.pictures
    runner = opener(material, RunnerOptions(name, precision, len(batch), 2, 2))
    first, second = (np.array(runner.run(runner.ready(batch)), np.float32) for _ in range(2))
    assert runner.precision == precision
    assert first.shape == (len(batch), material.model.num_classes)
    np.testing.assert_array_equal(first, second)
    return first
