"""Inference graphs built from weights, without a training framework.

`network` describes the network; `openvino` and `onnx` build its graph for one runtime each.
"""
