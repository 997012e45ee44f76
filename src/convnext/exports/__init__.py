"""The ways out: a model as a file that other runtimes open, checked before anyone relies on it.

    report = convnext.export("convnext_tiny.fb_in1k", "tiny.onnx")

`formats` says what there is, one file each writes and runs one kind (`onnx_files`,
`openvino_files`, `saved_model`, `litert`, `keras_files`), `verify` compares with the model, and
`exporting` puts it together. The room is not called `export`, because that is the function.
"""

from convnext.exports.exporting import ExportReport, export
from convnext.exports.formats import FORMATS

__all__ = ["FORMATS", "ExportReport", "export"]
