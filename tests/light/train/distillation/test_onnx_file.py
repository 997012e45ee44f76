"""ONNX files of other networks as teachers."""

from __future__ import annotations

import numpy as np
import pytest

from convnext.errors import ArgumentError, UnknownNameError
from convnext.train.distillation.onnx_file import PIECE, open_onnx
from onnx_files import TO_CLASSES, write_means

pytest.importorskip("onnx")


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def pictures():
    return np.random.default_rng(0).normal(size=(PIECE + 3, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "axes"), [(("n", 3, 8, 8), (2, 3)), (("n", 8, 8, 3), (1, 2)), ((4, 3, 8, 8), (2, 3))]
)
def test_every_picture_is_answered_in_either_layout_and_any_batch(
    tmp_path, engine, pictures, shape, axes
):
    file = open_onnx(
        write_means(tmp_path / "a.onnx", shape=shape, axes=axes), engine=engine, precision="float32"
    )
    assert (file.size, file.width) == (8, 2)
    expected = pictures.mean(axis=(1, 2)) @ TO_CLASSES
    for count in (1, PIECE, len(pictures)):
        answers = file.run(pictures[:count])
        np.testing.assert_allclose(answers, expected[:count], atol=2e-5)
        assert answers.dtype == np.float32


def test_answers_do_not_depend_on_the_rest_of_the_batch(tmp_path, engine, pictures):
    file = open_onnx(write_means(tmp_path / "a.onnx"), engine=engine)
    np.testing.assert_array_equal(file.run(pictures)[5:9], file.run(pictures[5:9]))


def test_what_a_file_does_not_tell_has_to_be_said(tmp_path, engine, pictures):
    free = write_means(tmp_path / "free.onnx", shape=("n", "c", "h", "w"))
    with pytest.raises(ArgumentError, match=r"distill\.layout to nchw or nhwc"):
        open_onnx(free, engine=engine)
    with pytest.raises(ArgumentError, match=r"any size. Set distill\.size"):
        open_onnx(free, engine=engine, layout="nchw")
    file = open_onnx(free, engine=engine, layout="nchw", size=8, precision="float32")
    expected = pictures.mean(axis=(1, 2)) @ TO_CLASSES
    np.testing.assert_allclose(file.run(pictures), expected, atol=2e-5)


def test_what_contradicts_the_file_is_refused(tmp_path, engine):
    file = write_means(tmp_path / "a.onnx")
    with pytest.raises(ArgumentError, match="layout is nhwc"):
        open_onnx(file, engine=engine, layout="nhwc")
    with pytest.raises(ArgumentError, match=r"distill\.size is 16"):
        open_onnx(file, engine=engine, size=16)


def test_files_that_take_no_coloured_pictures_are_refused(tmp_path, engine):
    grey = write_means(tmp_path / "g.onnx", shape=("n", 1, 8, 8), matrix=TO_CLASSES[:1])
    with pytest.raises(ArgumentError, match="without an axis of three colours"):
        open_onnx(grey, engine=engine)
    pixels = write_means(tmp_path / "p.onnx", kind="UINT8")
    with pytest.raises(ArgumentError, match="float32 pictures"):
        open_onnx(pixels, engine=engine)


def test_one_of_several_outputs_is_named(tmp_path, engine):
    file = write_means(tmp_path / "a.onnx", outputs=("logits", "other"))
    with pytest.raises(ArgumentError, match=r"distill\.output: logits, other"):
        open_onnx(file, engine=engine)
    with pytest.raises(UnknownNameError, match="Did you mean 'other'"):
        open_onnx(file, engine=engine, output="othr")
    assert open_onnx(file, engine=engine, output="other").width == 2


def test_files_that_are_damaged_or_missing_are_refused(tmp_path, engine):
    whole = write_means(tmp_path / "a.onnx").read_bytes()
    damaged = tmp_path / "b.onnx"
    for content in (whole[: len(whole) // 2], b"", b"no protocol buffer"):
        damaged.write_bytes(content)
        with pytest.raises(ArgumentError, match=r"b\.onnx"):
            open_onnx(damaged, engine=engine)
    with pytest.raises(ArgumentError, match="no file"):
        open_onnx(tmp_path / "c.onnx", engine=engine)


def test_engines_and_precisions_are_those_there_are(tmp_path):
    pytest.importorskip("onnxruntime")
    file = write_means(tmp_path / "a.onnx")
    with pytest.raises(UnknownNameError, match="engine"):
        open_onnx(file, engine="keras")
    with pytest.raises(UnknownNameError, match="precision"):
        open_onnx(file, engine="onnxruntime", precision="bfloat16")


def test_the_metadata_of_a_file_is_read(tmp_path, engine):
    file = write_means(tmp_path / "a.onnx", metadata={"convnext.labels": '["red", "blue"]'})
    assert open_onnx(file, engine=engine).metadata["convnext.labels"] == '["red", "blue"]'
