"""Export a model to a file for another runtime, and compare their outputs.

    report = convnext.export("convnext_tiny.fb_in1k", "tiny.onnx")

`formats` is the table of formats; `onnx_files`, `openvino_files`, `saved_model`, `litert`,
`keras_files` and `safetensors_files` write and run one format each; `verify` compares the outputs.
"""

from convnext.exports.exporting import ExportReport, export
from convnext.exports.formats import FORMATS

__all__ = ["FORMATS", "ExportReport", "export"]
