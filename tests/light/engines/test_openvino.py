"""What the OpenVINO engine does around its graph; the graph has tests of its own."""

import threading

import numpy as np
import pytest

ov = pytest.importorskip("convnext.graphs.untracked_openvino").ov

from convnext.engines import open_engine  # noqa: E402
from convnext.engines import openvino as module  # noqa: E402
from convnext.errors import ArgumentError, UnknownNameError, WeightsError  # noqa: E402
from convnext.weights.load import read_weights  # noqa: E402
from convnext.weights.save import save_weights  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


def opened(weights_file, **options):
    defaults = {"size": 32, "precision": "float32", "threads": 1}
    return open_engine(weights_file, "openvino", **defaults | options)


def pictures(count, side=32):
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def test_auto_prefers_it(weights_file):
    assert open_engine(weights_file, size=32).name == "openvino"


@pytest.mark.parametrize("streams", [None, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 4, 9, 33])
def test_a_batch_is_its_pictures(weights_file, count, streams):
    engine = opened(weights_file, streams=streams, outputs=("embedding", "logits"))
    batch = pictures(count)
    results = engine.predict_all(batch)
    assert [results[name].shape for name in engine.outputs] == [(count, 32), (count, 10)]
    for picture, logits in zip(batch, results["logits"], strict=True):
        np.testing.assert_allclose(
            engine.predict_all(picture[None])["logits"][0], logits, atol=1e-4
        )


def test_batches_of_1_to_33(weights_file):
    engine, whole = opened(weights_file), pictures(33)
    expected = engine.predict(whole)
    for count in range(1, 34):
        np.testing.assert_allclose(engine.predict(whole[:count]), expected[:count], atol=1e-4)


def test_results_stay_as_they_were_returned(weights_file):
    engine = opened(weights_file)
    first = engine.predict(pictures(1))
    before = first.copy()
    engine.predict(255 - pictures(1))
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("options", [{}, {"streams": 2, "threads": 2}, {"any_size": True}])
def test_eight_callers_get_what_one_gets(weights_file, options):
    engine = opened(weights_file, **options)
    batches = [pictures(count) for count in (1, 2, 5, 8, 1, 3, 4, 9)]
    alone = [engine.predict(batch) for batch in batches]
    together = [[] for _ in batches]

    def call(number):
        for _ in range(10):
            together[number].append(engine.predict(batches[number]))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for expected, results in zip(alone, together, strict=True):
        assert len(results) == 10
        for result in results:
            np.testing.assert_array_equal(result, expected)


def test_any_size(weights_file):
    engine = opened(weights_file, size=None, any_size=True, outputs="stage_3")
    assert engine.predict(pictures(5, 64)).shape == (5, 2, 2, 32)
    assert engine.predict(pictures(1, 97)).shape == (1, 3, 3, 32)
    with pytest.raises(ArgumentError, match="each side must have 32 pixels or more"):
        engine.predict(pictures(1, 31))


def test_the_precision_is_never_openvinos_choice(weights_file, monkeypatch):
    chosen = []
    compile_model = ov.Core.compile_model

    def spy(core, model, device, settings):
        chosen.append(settings["INFERENCE_PRECISION_HINT"])
        return compile_model(core, model, device, settings)

    monkeypatch.setattr(ov.Core, "compile_model", spy)
    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    auto = opened(weights_file, precision="auto")
    assert auto.precision == ("bfloat16" if "BF16" in able else "float32")
    assert opened(weights_file).precision == "float32"
    assert chosen == [module.PRECISIONS[auto.precision][0], ov.Type.f32]


def test_a_precision_that_the_device_has_not(weights_file):
    with pytest.raises(ArgumentError, match=r"does not compute in int8 on CPU .* float32"):
        opened(weights_file, precision="int8")


def test_half_precision_where_there_is_some(weights_file):
    exact = opened(weights_file).predict(pictures(3))
    able = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for name, (_, capability) in module.PRECISIONS.items():
        if name != "float32" and capability in able:
            engine = opened(weights_file, precision=name)
            assert engine.precision == name
            rounded = engine.predict(pictures(3))
            assert rounded.dtype == np.float32
            assert 0 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


def test_a_device_that_is_not_there(weights_file):
    with pytest.raises(
        UnknownNameError, match="Unknown device of OpenVINO on this machine: 'NPU9'"
    ):
        opened(weights_file, device="NPU9")
    assert opened(weights_file, device="cpu").predict(pictures(1)).shape == (1, 10)


def test_threads_are_those_of_the_quota(weights_file, monkeypatch):
    monkeypatch.setattr(module, "available_processors", lambda: 1)
    engine = opened(weights_file, threads=None)
    assert engine._compiled[1].get_property("INFERENCE_NUM_THREADS") == 1


def test_weights_that_are_no_numbers(weights_file, tmp_path):
    with read_weights(weights_file) as weights:
        broken = {name: np.array(tensor.read()) for name, tensor in weights.tensors.items()}
    broken["stage_1_block_0.grn.gamma"][0] = np.nan
    path = tmp_path / "broken.safetensors"
    save_weights(broken, path)
    with pytest.raises(WeightsError, match=r"stage_1_block_0\.grn\.gamma: some values are not"):
        opened(path)


def test_what_a_cpu_compiles_is_not_kept(weights_file, own_cache):
    opened(weights_file).predict(pictures(5))
    assert not own_cache.exists()


def test_compiled_graphs_are_kept_and_read_back(weights_file, own_cache, monkeypatch, caplog):
    monkeypatch.setattr(module, "KEPT", ("CPU",))
    batch = pictures(5)
    expected = opened(weights_file).predict(batch)
    kept = sorted(own_cache.iterdir())
    assert len(kept) == 2  # for one picture and for four

    def refuse(*_):
        raise AssertionError("it was compiled again")

    with monkeypatch.context() as patched:
        patched.setattr(ov.Core, "compile_model", refuse)
        np.testing.assert_array_equal(opened(weights_file).predict(batch), expected)
    for path in kept:
        path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(opened(weights_file).predict(batch), expected)
    assert caplog.text.count("is damaged") == 2
    opened(weights_file, outputs="embedding")
    opened(weights_file, size=40)
    assert len(list(own_cache.iterdir())) == 4
