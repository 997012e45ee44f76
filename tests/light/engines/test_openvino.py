"""What the OpenVINO engine does around its graph; the graph has tests of its own."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openvino")

from contracts import EngineContract, noise
from convnext.architecture import VARIANTS
from convnext.engines import open_engine, quantize, quantizing
from convnext.engines import openvino as module
from convnext.errors import ArgumentError, UnknownNameError, WeightsError
from convnext.graphs.untracked_openvino import core, ov
from convnext.weights.canonical import parameter_shapes
from convnext.weights.load import read_weights
from convnext.weights.save import save_weights


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "graphs"


class TestContract(EngineContract):
    name = "openvino"


def opened(model, **options):
    return TestContract().open(model, **options)


def test_auto_prefers_it(weights_file):
    assert open_engine(weights_file, size=32).name == "openvino"


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_batches_of_1_to_33(weights_file, threads):
    """With more threads than one, large batches are worked on in streams."""
    engine, whole = opened(weights_file, threads=threads), noise(33)
    expected = engine.predict(whole)
    for count in range(1, 34):
        np.testing.assert_allclose(engine.predict(whole[:count]), expected[:count], atol=1e-4)


def test_the_precision_is_never_openvinos_choice(weights_file, monkeypatch):
    chosen = []
    compile_model = ov.Core.compile_model

    def spy(core, model, device, settings):
        chosen.append(settings["INFERENCE_PRECISION_HINT"])
        return compile_model(core, model, device, settings)

    monkeypatch.setattr(ov.Core, "compile_model", spy)
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    auto = opened(weights_file, precision="auto")
    assert auto.precision == ("bfloat16" if "BF16" in able else "float32")
    assert opened(weights_file).precision == "float32"
    assert chosen == [module.PRECISIONS[auto.precision][0], ov.Type.f32]


def test_a_precision_that_the_device_has_not(weights_file, monkeypatch):
    monkeypatch.setattr(module, "INT8", "INT3")
    with pytest.raises(ArgumentError, match=r"does not compute in int8 on CPU .* float32"):
        opened(weights_file, precision="int8")


def test_int8_needs_to_know_how_to_round(weights_file):
    with pytest.raises(ArgumentError, match=r"int8 needs a calibration.*convnext quantize"):
        opened(weights_file, precision="int8")
    with pytest.raises(ArgumentError, match="for precision='int8', not 'float32'"):
        opened(weights_file, calibration=noise(2))


def test_int8(weights_file, tmp_path):
    """From pictures, from what they gave, and from its file: the same answers, near the exact."""
    exact = opened(weights_file).predict(noise(9))
    found = quantize(weights_file, noise(40), size=32)
    found.save(tmp_path / "c.safetensors")
    answers = [
        opened(weights_file, precision="int8", calibration=given).predict(noise(9))
        for given in (noise(40), found, tmp_path / "c.safetensors")
    ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])
    assert 0 < np.abs(answers[0] - exact).max() < 0.02 * np.abs(exact).max()
    assert found.agreement.pictures == 40
    assert 0 < found.agreement.max_difference < 0.02 * np.abs(exact).max()


def test_int8_from_a_folder(weights_file, tmp_path):
    for number, pixels in enumerate(noise(3, 40)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert quantize(weights_file, tmp_path, size=32).pictures == 3
    with pytest.raises(ArgumentError, match="No picture can be read"):
        quantize(weights_file, tmp_path / "broken.png", size=32)


def test_int8_from_pictures_that_the_model_does_not_take(weights_file, tmp_path):
    with pytest.raises(
        ArgumentError, match=r"shape \(4, 50, 50, 3\).*takes \(pictures, 32, 32, 3\)"
    ):
        quantize(weights_file, noise(4, 50), size=32)
    shapes = parameter_shapes(VARIANTS["test_v2"], num_classes=10, channels=1)
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_weights(weights, tmp_path / "grey.safetensors")
    for given in (noise(4), noise(4)[..., :1]):
        with pytest.raises(ArgumentError, match=r"takes 1 channels.*give float32"):
            quantize(tmp_path / "grey.safetensors", given, size=32)


def test_int8_from_more_pictures_than_help(weights_file, monkeypatch):
    monkeypatch.setattr(quantizing, "PICTURES", 5)
    assert quantize(weights_file, noise(9), size=32).pictures == 5


def test_int8_of_a_backbone(tmp_path):
    shapes = parameter_shapes(replace(VARIANTS["test_v1"], head="none"), 0)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    save_weights(weights, tmp_path / "w.safetensors")
    found = quantize(tmp_path / "w.safetensors", noise(3), size=32)
    assert found.agreement.pictures == 3


def test_a_calibration_of_other_weights(weights_file, tmp_path):
    found = quantize(weights_file, noise(2), size=32)
    shapes = parameter_shapes(VARIANTS["test_v2"], num_classes=10)
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    save_weights(weights, tmp_path / "w.safetensors")
    with pytest.raises(ArgumentError, match="of other weights"):
        opened(tmp_path / "w.safetensors", precision="int8", calibration=found)


def test_ctrl_c_after_engines_have_come_and_gone(weights_file):
    """OpenVINO sets the stack that signal handlers run on, where it uses AMX."""
    script = (
        "import gc, os, signal, sys, time\n"
        "import numpy as np\n"
        "from convnext.engines import open_engine\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def use(precision):\n"
        "    engine = open_engine(sys.argv[1], 'openvino', size=32, precision=precision)\n"
        "    engine.predict(np.zeros((1, 32, 32, 3), np.uint8))\n"
        "    return engine\n"
        "first, second = use('float32'), use('auto')\n"
        "del first\n"
        "gc.collect()\n"
        "del second\n"
        "gc.collect()\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(5)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    run = [sys.executable, "-c", script, str(weights_file)]
    process = subprocess.run(run, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "interrupted\n"), process.stderr


def test_half_precision_where_there_is_some(weights_file):
    exact = opened(weights_file).predict(noise(3))
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for name, (_, capability) in module.PRECISIONS.items():
        if name != "float32" and capability in able:
            engine = opened(weights_file, precision=name)
            assert engine.precision == name
            rounded = engine.predict(noise(3))
            assert rounded.dtype == np.float32
            assert 0 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


def test_a_device_that_is_not_there(weights_file):
    with pytest.raises(
        UnknownNameError, match="Unknown device of OpenVINO on this machine: 'NPU9'"
    ):
        opened(weights_file, device="NPU9")
    with pytest.raises(UnknownNameError, match=r"'CPU\.7'"):
        opened(weights_file, device="CPU.7")
    assert opened(weights_file, device="cpu").predict(noise(1)).shape == (1, 10)


def test_threads_are_those_of_the_quota(weights_file, monkeypatch):
    monkeypatch.setattr(module, "available_processors", lambda: 1)
    engine = opened(weights_file, threads=None)
    assert engine._graphs[1].compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize(("processors", "tied"), [(1, True), (2, False)])
def test_threads_are_tied_where_they_take_every_processor(
    weights_file, monkeypatch, processors, tied
):
    """Else two processes of one thread each would wait for each other on the first processor."""
    monkeypatch.setattr(module.os, "cpu_count", lambda: processors)
    compiled = opened(weights_file, threads=1)._graphs[1].compiled
    assert compiled.get_property("ENABLE_CPU_PINNING") is tied


def test_weights_that_are_no_numbers(weights_file, tmp_path):
    with read_weights(weights_file) as weights:
        broken = {name: np.array(tensor.read()) for name, tensor in weights.tensors.items()}
    broken["stage_1_block_0.grn.gamma"][0] = np.nan
    path = tmp_path / "broken.safetensors"
    save_weights(broken, path)
    with pytest.raises(WeightsError, match=r"stage_1_block_0\.grn\.gamma: some values are not"):
        opened(path)


def test_graphs_for_a_cpu_are_not_cached(weights_file, own_cache):
    opened(weights_file).predict(noise(5))
    assert not own_cache.exists()


def test_compiled_graphs_are_kept_and_read_back(weights_file, own_cache, monkeypatch, caplog):
    monkeypatch.setattr(module, "KEPT", ("CPU",))
    batch = noise(5)
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
