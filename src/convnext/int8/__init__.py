"""Post-training quantisation to int8, for OpenVINO, ONNX and LiteRT.

`rounding` is common to all. `levels` and `calibration` are for OpenVINO and ONNX, whose graphs
`openvino` and `onnx` round; `litert`, which alone imports a framework, quantises a Keras model's
LiteRT file.
"""
