"""Post-training quantisation to int8, for OpenVINO and LiteRT.

`rounding` is common to both. `levels`, `calibration` and `openvino` are for OpenVINO; `litert`,
which alone imports a framework, quantises a Keras model's LiteRT file.
"""
