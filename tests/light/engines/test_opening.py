import pytest

from convnext.engines import open_engine, opening
from convnext.engines.mock import MockEngine
from convnext.errors import (
    ArgumentError,
    ArgumentTypeError,
    MissingDependencyError,
)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "kears"}, "Did you mean 'keras'?"),
        ({"threads": 0}, "threads must be 1 or more"),
        ({"streams": "2"}, "streams must be 1 or more"),
        ({"precision": "int4"}, "Unknown precision: 'int4'"),
        ({"input": "uint16"}, "Unknown input: 'uint16'"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ArgumentError) as caught:
        open_engine("convnext_tiny", **options)
    assert words in str(caught.value)


def test_a_device_that_is_no_name():
    with pytest.raises(ArgumentTypeError, match="got None"):
        open_engine("convnext_tiny", device=None)


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ArgumentTypeError, match="not int"):
        open_engine(7)


def test_an_unknown_model_is_named():
    with pytest.raises(ArgumentError, match="neither a file on this machine nor"):
        open_engine("convnext_tyni")


def test_auto_takes_the_first_that_is_installed(monkeypatch, weights_file):
    runtimes = {
        name: opening.Runtime(lambda there=there: there, ("jax",), lambda *_: MockEngine())
        for name, there in {"absent": False, "there": True}.items()
    }
    monkeypatch.setattr(opening, "ENGINES", runtimes)
    assert isinstance(open_engine(weights_file), MockEngine)
    with pytest.raises(MissingDependencyError, match="is not installed"):
        open_engine(weights_file, "absent")
    del runtimes["there"]
    with pytest.raises(MissingDependencyError, match=r"pip install 'convnext\[jax\]'"):
        open_engine(weights_file)


def test_int8_is_for_an_engine_that_has_it(monkeypatch, weights_file):
    """Another is not calibrated for: it refuses by itself."""
    present, absent = MockEngine(), MockEngine()
    runtimes = {
        "float": opening.Runtime(lambda: True, ("jax",), lambda *_: present),
        "eight": opening.Runtime(lambda: installed, ("openvino",), lambda *_: absent, int8=True),
    }
    monkeypatch.setattr(opening, "ENGINES", dict(reversed(runtimes.items())))
    monkeypatch.setattr(opening, "calibration_of", lambda *_: calibrated.append(True))
    calibrated, installed = [], False
    int8 = {"precision": "int8", "calibration": "photos/"}
    with pytest.raises(MissingDependencyError, match=r"An engine for int8.*convnext\[openvino\]"):
        open_engine(weights_file, **int8)
    assert open_engine(weights_file, "float", **int8) is present
    assert calibrated == []
    installed = True
    assert open_engine(weights_file, **int8) is absent
    assert calibrated == [True]


def test_an_output_that_the_weights_have_not(monkeypatch, weights_file):
    monkeypatch.setattr(
        opening, "ENGINES", {"mock": opening.Runtime(lambda: True, (), lambda *_: MockEngine())}
    )
    with pytest.raises(ArgumentError, match="It can give: logits, embedding, stage_0"):
        open_engine(weights_file, outputs="probabilities")
